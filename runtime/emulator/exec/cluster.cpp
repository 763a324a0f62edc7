// Clusters: their barrier, and addresses in the shared memory of their blocks.
#include <fmt/format.h>

#include "runtime/emulator/exec/handlers.h"
#include "runtime/emulator/exec/shared_window.h"
#include "runtime/emulator/races/group_races.h"

namespace gdnjit::emulator {
namespace {

// The phase ends when no thread is left that has neither arrived nor exited.
void end_phase_if_complete(Cluster& cluster) {
  for (const Block& block : cluster.blocks) {
    for (std::uint32_t number = 0; number < block.launch->warps; ++number) {
      const Warp& warp = block.warps[number];
      if ((warp.live & ~warp.cluster_arrived) != 0) return;
    }
  }
  for (Block& block : cluster.blocks) {
    for (std::uint32_t number = 0; number < block.launch->warps; ++number) block.warps[number].cluster_arrived = 0;
  }
  ++cluster.phase;
  if (GroupRaces* races = cluster.blocks.front().races) races->end_phase(GroupRaces::object(&cluster));
}

void check_aligned(const Warp& warp, const Instruction& in) {
  const std::uint32_t missing = warp.live & ~warp.mask;
  if ((in.flags & kClusterAligned) == 0 || missing == 0) return;
  fault(warp, in, std::countr_zero(warp.mask),
        fmt::format("divergent cluster barrier: lanes 0x{:08x} of the warp are here, lanes 0x{:08x} are not", warp.mask,
                    missing));
}

void execute_arrive(Warp& warp, const Instruction& in) {
  check_aligned(warp, in);
  const std::uint32_t twice = warp.mask & warp.cluster_owed;
  if (twice != 0)
    fault(warp, in, std::countr_zero(twice), "arrives at the cluster's barrier again without having waited");
  warp.cluster_owed |= warp.mask;
  warp.cluster_arrived |= warp.mask;
  if (warp.block->races != nullptr)
    warp.block->races->arrive(GroupRaces::object(warp.block->cluster), warp, warp.mask,
                              (in.flags & kClusterRelaxed) != 0);
  ++warp.worker->counts.memory.block_barriers;
  end_phase_if_complete(*warp.block->cluster);
}

std::string describe_cluster_wait(const Warp& warp) {
  std::uint32_t arrived = 0;
  std::uint32_t live = 0;
  for (const Block& block : warp.block->cluster->blocks) {
    for (std::uint32_t number = 0; number < block.launch->warps; ++number) {
      arrived +=
          static_cast<std::uint32_t>(std::popcount(block.warps[number].cluster_arrived & block.warps[number].live));
      live += static_cast<std::uint32_t>(std::popcount(block.warps[number].live));
    }
  }
  return fmt::format("the cluster's barrier ({} of {} threads have arrived)", arrived, live);
}

void execute_wait(Warp& warp, const Instruction& in) {
  check_aligned(warp, in);
  const std::uint32_t early = warp.mask & ~warp.cluster_owed;
  if (early != 0) fault(warp, in, std::countr_zero(early), "waits at the cluster's barrier without having arrived");
  end_phase_if_complete(*warp.block->cluster);  // others may have exited since
  if ((warp.mask & warp.cluster_arrived) != 0) return suspend(warp, in, describe_cluster_wait);
  warp.cluster_owed &= ~warp.mask;
  if (warp.block->races != nullptr)
    warp.block->races->observe(GroupRaces::object(warp.block->cluster), warp, warp.mask);
}

std::uint32_t checked_rank(const Warp& warp, const Instruction& in, int lane, std::uint32_t rank) {
  const std::size_t blocks = warp.block->cluster->blocks.size();
  if (rank >= blocks) fault(warp, in, lane, fmt::format("names block {} of a cluster of {}", rank, blocks));
  return rank;
}

// mapa d, address, rank: the same place in another block. T: what addresses are; kGeneric: of the generic space.
template <typename T, bool kGeneric>
void execute_mapa(Warp& warp, const Instruction& in) {
  const T* address = warp.values<T>(in.a);
  const auto* ranks = warp.values<std::uint32_t>(in.b);
  T* destination = warp.values<T>(in.dst);
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    const std::uint32_t rank = checked_rank(warp, in, lane, ranks[lane]);
    const SharedPlace place =
        kGeneric ? shared_place_of_generic(*warp.block, address[lane]) : shared_place_of(*warp.block, address[lane]);
    if (place.block == nullptr)
      fault(warp, in, lane, fmt::format("maps 0x{:x}, which is no address of shared memory", address[lane]));
    if constexpr (kGeneric) {
      destination[lane] = reinterpret_cast<T>(warp.block->cluster->blocks[rank].shared) + place.offset;
    } else {
      destination[lane] = cluster_address(rank, place.offset);
    }
  }
}

template <typename T, bool kGeneric>
void execute_getctarank(Warp& warp, const Instruction& in) {
  const T* address = warp.values<T>(in.a);
  auto* destination = warp.values<std::uint32_t>(in.dst);
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    const SharedPlace place =
        kGeneric ? shared_place_of_generic(*warp.block, address[lane]) : shared_place_of(*warp.block, address[lane]);
    if (place.block == nullptr)
      fault(warp, in, lane, fmt::format("asks for the block of 0x{:x}, no address of shared memory", address[lane]));
    destination[lane] = place.block->rank;
  }
}

}  // namespace

Handler find_cluster(const OpKey& key) {
  const bool generic = key.space == Space::generic;
  const bool wide = key.wide_address;
  switch (key.op) {
    case Opcode::cluster_arrive: return execute_arrive;
    case Opcode::cluster_wait: return execute_wait;
    case Opcode::mapa:
      if (generic) return wide ? execute_mapa<std::uint64_t, true> : nullptr;
      return wide ? execute_mapa<std::uint64_t, false> : execute_mapa<std::uint32_t, false>;
    case Opcode::getctarank:
      if (generic) return wide ? execute_getctarank<std::uint64_t, true> : nullptr;
      return wide ? execute_getctarank<std::uint64_t, false> : execute_getctarank<std::uint32_t, false>;
    default: return nullptr;
  }
}

}  // namespace gdnjit::emulator

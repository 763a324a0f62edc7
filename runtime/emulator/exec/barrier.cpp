// Block barriers: bar.sync, bar.arrive, bar.red, and the membership check of warp-level instructions.
#include <fmt/format.h>

#include "runtime/emulator/exec/handlers.h"
#include "runtime/emulator/races/group_races.h"

namespace gdnjit::emulator {
namespace {

// The barrier's number and thread count must be the same in all lanes.
std::uint32_t uniform(Warp& warp, const Instruction& at, Slot slot, const char* what) {
  const auto* values = warp.values<std::uint32_t>(slot);
  const std::uint32_t first = values[std::countr_zero(warp.mask)];
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    if (values[lane] != first)
      fault(warp, at, lane,
            fmt::format("names another {} than lane {} ({} and {})", what, std::countr_zero(warp.mask), values[lane],
                        first));
  }
  return first;
}

void check_whole_warp(const Warp& warp, const Instruction& at) {
  const std::uint32_t missing = warp.live & ~warp.mask;
  if (missing != 0) {
    fault(warp, at, std::countr_zero(warp.mask == 0 ? missing : warp.mask),
          fmt::format("divergent barrier: lanes 0x{:08x} of the warp are here, lanes 0x{:08x} are not", warp.mask,
                      missing));
  }
  const std::uint32_t gone = warp.threads & ~warp.live;
  if (gone != 0) {
    fault(warp, at, std::countr_zero(warp.mask),
          fmt::format("waits at a barrier that lanes 0x{:08x} of its warp left by exiting", gone));
  }
}

void release(Block& block, Barrier& barrier) {
  if (block.races != nullptr) block.races->end_phase(GroupRaces::object(&barrier));
  for (std::uint32_t rest = barrier.waiting; rest != 0; rest &= rest - 1) {
    Warp& warp = block.warps[std::countr_zero(rest)];
    const Instruction& at = warp.program->instructions[warp.pc - 1];
    if ((at.flags & kBarrierReduces) != 0) {
      const Slot destination = at.dst;
      if (at.count == kReducePopc) {
        auto* values = warp.values<std::uint32_t>(destination);
        for (std::uint32_t lanes = warp.active; lanes != 0; lanes &= lanes - 1)
          values[std::countr_zero(lanes)] = barrier.popc;
      } else {
        const bool outcome = at.count == kReduceAnd ? barrier.conjunction : barrier.disjunction;
        std::uint32_t& predicate = warp.predicates[destination.offset];
        predicate = outcome ? predicate | warp.active : predicate & ~warp.active;
      }
      warp.written[destination.id] |= warp.active;
    }
    if (block.races != nullptr) block.races->observe(GroupRaces::object(&barrier), warp, warp.live);
    warp.state = WarpState::yielded;
  }
  barrier = Barrier{};
}

Barrier& arrive(Warp& warp, const Instruction& at) {
  check_whole_warp(warp, at);
  Block& block = *warp.block;
  const std::uint32_t number = uniform(warp, at, at.a, "barrier");
  if (number >= kBarriers)
    fault(warp, at, -1, fmt::format("barrier {} does not exist; there are {}", number, kBarriers));
  Barrier& barrier = block.barriers[number];
  const bool counted = (at.flags & kBarrierCounts) != 0;
  std::uint32_t expected = block.launch->warps * kLanes;
  if (counted) {
    expected = uniform(warp, at, at.b, "thread count");
    if (expected == 0 || expected % kLanes != 0)
      fault(warp, at, -1, fmt::format("a barrier of {} threads: must be a multiple of 32", expected));
  }
  if (barrier.arrived_threads != 0 && barrier.expected_threads != expected) {
    fault(warp, at, -1,
          fmt::format("barrier {} is expected by {} threads here and by {} at {}", number, expected,
                      barrier.expected_threads, warp.program->describe(barrier.instruction)));
  }
  if (barrier.arrived_threads == 0) barrier.instruction = at.index;
  barrier.expected_threads = expected;
  barrier.all_threads = !counted;
  barrier.arrived_threads += kLanes;
  warp.barrier = number;
  if (block.races != nullptr) block.races->arrive(GroupRaces::object(&barrier), warp, warp.mask);
  ++warp.worker->counts.memory.block_barriers;
  return barrier;
}

void wait_or_release(Warp& warp, Barrier& barrier, bool waits) {
  if (waits) {
    barrier.waiting |= 1U << warp.number;
    warp.state = WarpState::at_barrier;
  }
  if (barrier.arrived_threads >= barrier.expected_threads) release(*warp.block, barrier);
}

}  // namespace

void arrive_at_barrier(Warp& warp, const Instruction& at, bool waits) {
  Barrier& barrier = arrive(warp, at);
  wait_or_release(warp, barrier, waits);
}

void reduce_at_barrier(Warp& warp, const Instruction& at) {
  const std::uint32_t predicate = warp.predicates[at.c.offset] ^ ((at.flags & kNegateThird) != 0 ? ~0U : 0U);
  Barrier& barrier = arrive(warp, at);
  barrier.popc += static_cast<std::uint32_t>(std::popcount(predicate & warp.mask));
  barrier.conjunction = barrier.conjunction && (predicate & warp.mask) == warp.mask;
  barrier.disjunction = barrier.disjunction || (predicate & warp.mask) != 0;
  wait_or_release(warp, barrier, true);
}

void check_members(const Warp& warp, const Instruction& at, int lane, std::uint32_t members) {
  if ((members >> lane & 1U) == 0)
    fault(warp, at, lane, fmt::format("is not a member of its own mask 0x{:08x}", members));
  const std::uint32_t absent = members & warp.live & ~warp.mask;
  if (absent != 0) {
    fault(warp, at, lane,
          fmt::format("names lanes 0x{:08x} in its mask 0x{:08x}, but they are elsewhere (here: 0x{:08x})", absent,
                      members, warp.mask));
  }
}

}  // namespace gdnjit::emulator

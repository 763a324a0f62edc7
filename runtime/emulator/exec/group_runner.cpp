#include "runtime/emulator/exec/group_runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "runtime/emulator/exec/async.h"
#include "runtime/emulator/exec/divergence.h"

namespace gdnjit::emulator {
namespace {

// Warps take turns after this many instructions, so that a warp that waits for another in a loop lets it go on.
constexpr std::uint32_t kQuantum = 1U << 16;
// The same where blocks wait for each other.
constexpr std::uint32_t kGroupQuantum = 1U << 12;
constexpr int kPoison = 0xff;  // NaN in every floating-point format

std::size_t round_up(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

void AlignedFree::operator()(std::byte* memory) const { std::free(memory); }

AlignedBytes allocate_aligned(std::size_t bytes) {
  auto* memory =
      static_cast<std::byte*>(std::aligned_alloc(4096, (std::max<std::size_t>(bytes, 1) + 4095) / 4096 * 4096));
  if (memory == nullptr) throw std::bad_alloc();
  return AlignedBytes(memory);
}

std::uint64_t group_blocks(const LaunchState& launch) {
  if (!launch.cooperative) return launch.cluster_blocks;
  return static_cast<std::uint64_t>(launch.grid[0]) * launch.grid[1] * launch.grid[2];
}

std::uint64_t group_count(const LaunchState& launch) {
  const std::uint64_t blocks = static_cast<std::uint64_t>(launch.grid[0]) * launch.grid[1] * launch.grid[2];
  return blocks / group_blocks(launch);
}

GroupRunner::GroupRunner(const LaunchState& launch, const ExecutionSet& set)
    : launch_(launch), set_(set), quantum_(group_blocks(launch) > 1 ? kGroupQuantum : kQuantum) {
  const std::size_t instructions = launch.program->instructions.size();
  worker_.counts.issued.resize(instructions);
  worker_.counts.lanes.resize(instructions);
  if (launch.profiled) worker_.counts.traffic.resize(instructions);
  worker_.range_hints.resize(instructions);
  worker_.counts.range_sectors_read.resize(launch.ranges->ranges().size());
  worker_.counts.range_sectors_written.resize(launch.ranges->ranges().size());
  blocks_ = std::vector<Block>(group_blocks(launch));
  memory_ = std::vector<BlockMemory>(blocks_.size());
  clusters_ = std::vector<Cluster>(blocks_.size() / launch.cluster_blocks);
  for (std::size_t number = 0; number < blocks_.size(); ++number) make_block(blocks_[number], memory_[number]);
  for (std::size_t number = 0; number < clusters_.size(); ++number) {
    clusters_[number].blocks = std::span(blocks_).subspan(number * launch.cluster_blocks, launch.cluster_blocks);
    for (std::uint32_t rank = 0; rank < launch.cluster_blocks; ++rank) {
      clusters_[number].blocks[rank].cluster = &clusters_[number];
      clusters_[number].blocks[rank].rank = rank;
    }
  }
  if (launch.races == nullptr) return;
  races_ = std::make_unique<GroupRaces>(*launch.races, blocks_);
  for (Block& block : blocks_) block.races = races_.get();
}

void GroupRunner::make_block(Block& block, BlockMemory& memory) {
  const LaunchState& launch = launch_;
  const Program& program = *launch.program;
  const std::size_t register_bytes = round_up(program.lane_bytes);
  memory.registers = allocate_aligned(register_bytes * launch.warps);
  memory.written.resize(static_cast<std::size_t>(program.ids) * launch.warps);
  memory.predicates.resize(memory.written.size());
  memory.shared = allocate_aligned(launch.shared_bytes);
  block.launch = &launch;
  block.shared = memory.shared.get();
  block.shared_written = ShadowBits(launch.shared_bytes);
  block.local_bytes = program.local_bytes;
  if (program.local_bytes != 0) {
    const std::size_t bytes = static_cast<std::size_t>(program.local_bytes) * launch.warps * kLanes;
    memory.local = allocate_aligned(bytes);
    block.local = memory.local.get();
    block.local_written = ShadowBits(bytes);
  }
  memory.warps.resize(launch.warps);
  block.warps = memory.warps.data();
  for (std::uint32_t number = 0; number < launch.warps; ++number) {
    Warp& warp = memory.warps[number];
    warp.lanes = memory.registers.get() + register_bytes * number;
    warp.written = memory.written.data() + static_cast<std::size_t>(program.ids) * number;
    warp.predicates = memory.predicates.data() + static_cast<std::size_t>(program.ids) * number;
    warp.number = number;
    warp.first_thread = number * kLanes;
    const std::uint32_t threads =
        std::min(launch.block_threads - warp.first_thread, static_cast<std::uint32_t>(kLanes));
    warp.threads = threads == kLanes ? kAllLanes : (1U << threads) - 1;
    warp.block = &block;
    warp.worker = &worker_;
    warp.program = &program;
    // Registers hold NaN until written. Constants are never overwritten, so they are set once for all blocks.
    std::memset(warp.lanes, kPoison, register_bytes);
    for (const ConstantSlot& slot : program.constants) {
      if (slot.wide) {
        std::fill_n(reinterpret_cast<std::uint64_t*>(warp.lanes + slot.offset), kLanes, slot.value);
      } else {
        std::fill_n(reinterpret_cast<std::uint32_t*>(warp.lanes + slot.offset), kLanes,
                    static_cast<std::uint32_t>(slot.value));
      }
    }
  }
}

std::uint64_t GroupRunner::special_value(const Warp& warp, Special special, std::uint32_t lane) const {
  const std::uint32_t thread = warp.first_thread + lane;
  const std::uint32_t* size = launch_.block;
  const std::uint32_t own = 1U << lane;
  const Block& block = *warp.block;
  const std::uint32_t* cluster = launch_.cluster;
  switch (special) {
    case Special::tid_x: return thread % size[0];
    case Special::tid_y: return thread / size[0] % size[1];
    case Special::tid_z: return thread / size[0] / size[1];
    case Special::ntid_x: return size[0];
    case Special::ntid_y: return size[1];
    case Special::ntid_z: return size[2];
    case Special::ctaid_x: return block.ctaid[0];
    case Special::ctaid_y: return block.ctaid[1];
    case Special::ctaid_z: return block.ctaid[2];
    case Special::nctaid_x: return launch_.grid[0];
    case Special::nctaid_y: return launch_.grid[1];
    case Special::nctaid_z: return launch_.grid[2];
    case Special::cluster_ctaid_x: return block.ctaid[0] % cluster[0];
    case Special::cluster_ctaid_y: return block.ctaid[1] % cluster[1];
    case Special::cluster_ctaid_z: return block.ctaid[2] % cluster[2];
    case Special::cluster_nctaid_x: return cluster[0];
    case Special::cluster_nctaid_y: return cluster[1];
    case Special::cluster_nctaid_z: return cluster[2];
    case Special::clusterid_x: return block.cluster->number[0];
    case Special::clusterid_y: return block.cluster->number[1];
    case Special::clusterid_z: return block.cluster->number[2];
    case Special::nclusterid_x: return launch_.grid[0] / cluster[0];
    case Special::nclusterid_y: return launch_.grid[1] / cluster[1];
    case Special::nclusterid_z: return launch_.grid[2] / cluster[2];
    case Special::cluster_ctarank: return block.rank;
    case Special::cluster_nctarank: return launch_.cluster_blocks;
    case Special::laneid: return lane;
    case Special::warpid: return warp.number;
    case Special::nwarpid: return launch_.warps;
    case Special::smid: return block.number % static_cast<std::uint64_t>(launch_.sm_count);
    case Special::nsmid: return static_cast<std::uint64_t>(launch_.sm_count);
    case Special::lanemask_eq: return own;
    case Special::lanemask_lt: return own - 1;
    case Special::lanemask_le: return own | (own - 1);
    case Special::lanemask_ge: return ~(own - 1) & kAllLanes;
    case Special::lanemask_gt: return ~(own | (own - 1)) & kAllLanes;
    case Special::dynamic_smem_size: return launch_.dynamic_shared_bytes;
    case Special::total_smem_size:
    case Special::aggr_smem_size: return launch_.program->static_shared_bytes + launch_.dynamic_shared_bytes;
    case Special::zero: return 0;
  }
  return 0;
}

void GroupRunner::fill_special(Warp& warp, const SpecialSlot& slot) {
  for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
    const std::uint64_t value = special_value(warp, slot.special, lane);
    if (slot.wide) {
      reinterpret_cast<std::uint64_t*>(warp.lanes + slot.offset)[lane] = value;
    } else {
      reinterpret_cast<std::uint32_t*>(warp.lanes + slot.offset)[lane] = static_cast<std::uint32_t>(value);
    }
  }
}

void GroupRunner::start_warp(Warp& warp) {
  const std::uint32_t ids = launch_.program->ids;
  std::fill_n(warp.written, ids, 0U);
  std::fill_n(warp.predicates, ids, 0U);
  warp.written[kConstantId] = kAllLanes;
  warp.written[kFalseId] = kAllLanes;
  warp.predicates[kConstantId] = kAllLanes;
  for (const SpecialSlot& slot : launch_.program->specials) fill_special(warp, slot);
  warp.live = warp.threads;
  warp.active = warp.threads;
  warp.pc = 0;
  warp.stop_pc = ~0U;
  warp.waiting.clear();
  warp.cluster_arrived = 0;
  warp.cluster_owed = 0;
  std::fill(warp.origin.begin(), warp.origin.end(), 0U);
  warp.wgmma.reset();
  warp.state = WarpState::yielded;
}

// Blocks of a cluster count x first, as clusters of a grid and blocks of a grid do.
void GroupRunner::place_block(Block& block, std::uint64_t cluster, std::uint32_t rank) {
  const std::uint32_t* size = launch_.cluster;
  const std::uint64_t across = launch_.grid[0] / size[0];
  const std::uint64_t down = launch_.grid[1] / size[1];
  block.cluster->number[0] = static_cast<std::uint32_t>(cluster % across);
  block.cluster->number[1] = static_cast<std::uint32_t>(cluster / across % down);
  block.cluster->number[2] = static_cast<std::uint32_t>(cluster / across / down);
  const std::uint32_t inside[3] = {rank % size[0], rank / size[0] % size[1], rank / size[0] / size[1]};
  for (int axis = 0; axis < 3; ++axis) block.ctaid[axis] = block.cluster->number[axis] * size[axis] + inside[axis];
  block.number = block.ctaid[0] + static_cast<std::uint64_t>(launch_.grid[0]) *
                                      (block.ctaid[1] + static_cast<std::uint64_t>(launch_.grid[1]) * block.ctaid[2]);
}

void GroupRunner::start_block(Block& block) {
  block.instructions = 0;
  std::fill(std::begin(block.barriers), std::end(block.barriers), Barrier{});
  block.warpgroups.reset();
  if (launch_.shared_bytes != 0) {
    std::memset(block.shared, kPoison, launch_.shared_bytes);
    block.shared_written.clear();
  }
  if (block.local_bytes != 0) {
    std::memset(block.local, kPoison, block.local_written.bytes());
    block.local_written.clear();
  }
  for (std::uint32_t number = 0; number < launch_.warps; ++number) start_warp(block.warps[number]);
}

bool GroupRunner::take_turns(Block& block, bool& progress) {
  bool unfinished = false;
  for (std::uint32_t number = 0; number < launch_.warps; ++number) {
    Warp& warp = block.warps[number];
    if (warp.state == WarpState::yielded || warp.state == WarpState::waiting) {
      if (set_.run_warp(warp, quantum_) != 0) progress = true;
    }
    unfinished = unfinished || warp.state != WarpState::finished;
  }
  if (!unfinished) finish_async(block);
  if (block.instructions > launch_.instruction_limit && unfinished) report_endless(block);
  return unfinished;
}

void GroupRunner::run(std::uint64_t group) {
  for (std::size_t number = 0; number < clusters_.size(); ++number) {
    clusters_[number].phase = 0;
    for (Block& block : clusters_[number].blocks) place_block(block, group * clusters_.size() + number, block.rank);
  }
  for (Block& block : blocks_) start_block(block);
  if (races_ != nullptr) races_->start(group);
  bool unfinished = true;
  int fruitless = 0;  // turns in a row; a warp has up to 32 groups of lanes
  while (unfinished) {
    unfinished = false;
    bool progress = false;
    for (Block& block : blocks_) unfinished = take_turns(block, progress) || unfinished;
    fruitless = progress ? 0 : fruitless + 1;
    if (unfinished && !progress && (fruitless > kLanes || !turn_to_other_lanes())) report_deadlock();
  }
  worker_.counts.memory.blocks += blocks_.size();
  worker_.counts.memory.warps += blocks_.size() * launch_.warps;
}

bool GroupRunner::turn_to_other_lanes() {
  bool found = false;
  for (Block& block : blocks_) {
    for (std::uint32_t number = 0; number < launch_.warps; ++number) {
      Warp& warp = block.warps[number];
      if (warp.state != WarpState::waiting || warp.waiting.empty()) continue;
      resume_other(warp);
      found = true;
    }
  }
  return found;
}

void GroupRunner::report_endless(Block& block) {
  Warp* warp = block.warps;
  while (warp->state == WarpState::finished) ++warp;
  fault(*warp, launch_.program->instructions[warp->pc], -1,
        fmt::format("the block has issued {} instructions and does not end", block.instructions));
}

namespace {

std::string describe_wait(const Warp& warp) {
  if (warp.state == WarpState::waiting)
    return fmt::format("waits for {}, {}", warp.describe_wait(warp), warp.program->describe(warp.pc));
  const Barrier& barrier = warp.block->barriers[warp.barrier];
  return fmt::format("waits at barrier {} ({} of {} threads are there), {}", warp.barrier, barrier.arrived_threads,
                     barrier.expected_threads, warp.program->describe(warp.pc - 1));
}

}  // namespace

// Nobody can go on: every warp has finished or waits.
void GroupRunner::report_deadlock() {
  constexpr std::uint32_t kMostListed = 64;
  std::string waits;
  std::uint32_t finished = 0;
  std::uint32_t listed = 0;
  std::uint32_t waiting = 0;
  Warp* first = nullptr;
  for (Block& block : blocks_) {
    for (std::uint32_t number = 0; number < launch_.warps; ++number) {
      Warp& warp = block.warps[number];
      if (warp.state == WarpState::finished) {
        ++finished;
        continue;
      }
      ++waiting;
      if (first == nullptr) first = &warp;
      if (++listed > kMostListed) continue;
      const std::string where =
          blocks_.size() == 1 ? "" : fmt::format("block ({},{},{}), ", block.ctaid[0], block.ctaid[1], block.ctaid[2]);
      waits += fmt::format("\n  {}warp {} {}", where, number, describe_wait(warp));
    }
  }
  if (listed > kMostListed) waits += fmt::format("\n  and {} more", listed - kMostListed);
  const bool at_barriers = first->state == WarpState::at_barrier;
  const std::string why =
      finished != 0 ? fmt::format("deadlock: {} of {} warps have exited, {}", finished, finished + waiting,
                                  at_barriers ? "before a barrier where others wait" : "and the others wait for ever")
      : at_barriers ? "deadlock: every warp waits at a barrier"
                    : "deadlock: every warp waits";
  const std::uint32_t at = at_barriers ? first->pc - 1 : first->pc;
  fault(*first, launch_.program->instructions[at], -1, why + waits);
}

}  // namespace gdnjit::emulator

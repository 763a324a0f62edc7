#include "runtime/emulator/exec/block_runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <new>

namespace gdnjit::emulator {
namespace {

// Warps take turns after this many instructions, so that a warp that waits for another in a loop lets it go on.
constexpr std::uint32_t kQuantum = 1U << 16;
// A block that issues more is taken to hang.
constexpr std::uint64_t kMaxInstructions = 1ULL << 31;
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

BlockRunner::BlockRunner(const LaunchState& launch, const ExecutionSet& set) : launch_(launch), set_(set) {
  const Program& program = *launch.program;
  const std::size_t instructions = program.instructions.size();
  worker_.counts.issued.resize(instructions);
  worker_.counts.lanes.resize(instructions);
  worker_.range_hints.resize(instructions);
  worker_.counts.range_sectors_read.resize(launch.ranges->ranges().size());
  worker_.counts.range_sectors_written.resize(launch.ranges->ranges().size());
  const std::size_t register_bytes = round_up(program.lane_bytes);
  registers_ = allocate_aligned(register_bytes * launch.warps);
  written_.resize(static_cast<std::size_t>(program.ids) * launch.warps);
  predicates_.resize(written_.size());
  shared_ = allocate_aligned(launch.shared_bytes);
  block_.launch = &launch;
  block_.shared = shared_.get();
  block_.shared_written = ShadowBits(launch.shared_bytes);
  block_.local_bytes = program.local_bytes;
  if (program.local_bytes != 0) {
    const std::size_t bytes = static_cast<std::size_t>(program.local_bytes) * launch.warps * kLanes;
    local_ = allocate_aligned(bytes);
    block_.local = local_.get();
    block_.local_written = ShadowBits(bytes);
  }
  warps_.resize(launch.warps);
  block_.warps = warps_.data();
  for (std::uint32_t number = 0; number < launch.warps; ++number) {
    Warp& warp = warps_[number];
    warp.lanes = registers_.get() + register_bytes * number;
    warp.written = written_.data() + static_cast<std::size_t>(program.ids) * number;
    warp.predicates = predicates_.data() + static_cast<std::size_t>(program.ids) * number;
    warp.number = number;
    warp.first_thread = number * kLanes;
    const std::uint32_t threads =
        std::min(launch.block_threads - warp.first_thread, static_cast<std::uint32_t>(kLanes));
    warp.threads = threads == kLanes ? kAllLanes : (1U << threads) - 1;
    warp.block = &block_;
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

std::uint64_t BlockRunner::special_value(const Warp& warp, Special special, std::uint32_t lane) const {
  const std::uint32_t thread = warp.first_thread + lane;
  const std::uint32_t* size = launch_.block;
  const std::uint32_t own = 1U << lane;
  switch (special) {
    case Special::tid_x: return thread % size[0];
    case Special::tid_y: return thread / size[0] % size[1];
    case Special::tid_z: return thread / size[0] / size[1];
    case Special::ntid_x: return size[0];
    case Special::ntid_y: return size[1];
    case Special::ntid_z: return size[2];
    case Special::ctaid_x: return block_.ctaid[0];
    case Special::ctaid_y: return block_.ctaid[1];
    case Special::ctaid_z: return block_.ctaid[2];
    case Special::nctaid_x: return launch_.grid[0];
    case Special::nctaid_y: return launch_.grid[1];
    case Special::nctaid_z: return launch_.grid[2];
    case Special::laneid: return lane;
    case Special::warpid: return warp.number;
    case Special::nwarpid: return launch_.warps;
    case Special::smid: return block_.number % static_cast<std::uint64_t>(launch_.sm_count);
    case Special::nsmid: return static_cast<std::uint64_t>(launch_.sm_count);
    case Special::lanemask_eq: return own;
    case Special::lanemask_lt: return own - 1;
    case Special::lanemask_le: return own | (own - 1);
    case Special::lanemask_ge: return ~(own - 1) & kAllLanes;
    case Special::lanemask_gt: return ~(own | (own - 1)) & kAllLanes;
    case Special::dynamic_smem_size: return launch_.dynamic_shared_bytes;
    case Special::total_smem_size: return launch_.shared_bytes;
  }
  return 0;
}

void BlockRunner::fill_special(Warp& warp, const SpecialSlot& slot) {
  for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
    const std::uint64_t value = special_value(warp, slot.special, lane);
    if (slot.wide) {
      reinterpret_cast<std::uint64_t*>(warp.lanes + slot.offset)[lane] = value;
    } else {
      reinterpret_cast<std::uint32_t*>(warp.lanes + slot.offset)[lane] = static_cast<std::uint32_t>(value);
    }
  }
}

void BlockRunner::start_warp(std::uint32_t number) {
  Warp& warp = warps_[number];
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
  std::fill(warp.origin.begin(), warp.origin.end(), 0U);
  warp.state = WarpState::yielded;
}

void BlockRunner::start_block(std::uint64_t block_number) {
  block_.number = block_number;
  block_.ctaid[0] = static_cast<std::uint32_t>(block_number % launch_.grid[0]);
  block_.ctaid[1] = static_cast<std::uint32_t>(block_number / launch_.grid[0] % launch_.grid[1]);
  block_.ctaid[2] = static_cast<std::uint32_t>(block_number / launch_.grid[0] / launch_.grid[1]);
  block_.instructions = 0;
  std::fill(std::begin(block_.barriers), std::end(block_.barriers), Barrier{});
  if (launch_.shared_bytes != 0) {
    std::memset(block_.shared, kPoison, launch_.shared_bytes);
    block_.shared_written.clear();
  }
  if (block_.local_bytes != 0) {
    std::memset(block_.local, kPoison, block_.local_written.bytes());
    block_.local_written.clear();
  }
  for (std::uint32_t number = 0; number < launch_.warps; ++number) start_warp(number);
}

void BlockRunner::run(std::uint64_t block_number) {
  start_block(block_number);
  bool unfinished = true;
  while (unfinished) {
    unfinished = false;
    bool progress = false;
    for (Warp& warp : warps_) {
      if (warp.state == WarpState::yielded) {
        set_.run_warp(warp, kQuantum);
        progress = true;
      }
      unfinished = unfinished || warp.state != WarpState::finished;
    }
    if (unfinished && !progress) report_deadlock();
    if (block_.instructions > kMaxInstructions) {
      Warp& warp =
          *std::find_if(warps_.begin(), warps_.end(), [](const Warp& w) { return w.state != WarpState::finished; });
      fault(warp, launch_.program->instructions[warp.pc], -1,
            fmt::format("the block has issued {} instructions and does not end", block_.instructions));
    }
  }
  worker_.counts.memory.blocks += 1;
  worker_.counts.memory.warps += launch_.warps;
}

// Nobody can go on: every warp has finished or waits at a barrier.
void BlockRunner::report_deadlock() {
  std::string waits;
  std::uint32_t finished = 0;
  Warp* first = nullptr;
  for (Warp& warp : warps_) {
    if (warp.state == WarpState::finished) {
      ++finished;
      continue;
    }
    if (first == nullptr) first = &warp;
    const Barrier& barrier = block_.barriers[warp.barrier];
    waits += fmt::format("\n  warp {} waits at barrier {} ({} of {} threads are there), {}", warp.number, warp.barrier,
                         barrier.arrived_threads, barrier.expected_threads, launch_.program->describe(warp.pc - 1));
  }
  const std::string why = finished != 0
                              ? fmt::format("deadlock: {} of {} warps have exited, before a barrier where others wait",
                                            finished, launch_.warps)
                              : "deadlock: every warp waits at a barrier";
  fault(*first, launch_.program->instructions[first->pc - 1], -1, why + waits);
}

}  // namespace gdnjit::emulator

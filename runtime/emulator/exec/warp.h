// The state of execution that instruction handlers work on: a warp of 32 lanes, its block, its launch.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/counters.h"
#include "runtime/emulator/memory/ranges.h"
#include "runtime/emulator/memory/shadow.h"
#include "runtime/emulator/program.h"

namespace gdnjit::emulator {

struct Block;
struct WgmmaQueue;
struct WarpgroupLogs;
struct Cluster;
struct Worker;
class GroupRaces;
class LaunchRaces;
struct AsyncState;

// waiting: at an instruction that cannot complete yet and is tried again (suspend). at_barrier: until the barrier
// releases it.
enum class WarpState : std::uint8_t { running, at_barrier, waiting, yielded, finished };

// Lanes that left the common path wait here at their pc until the rest gets there.
struct LaneGroup {
  std::uint32_t pc = 0;
  std::uint32_t lanes = 0;
  std::uint32_t depth = 0;  // of calls
};

// The calls that a warp's lanes are in.
struct CallStack {
  // By depth: the call that brought each lane there, as an index of Program::calls.
  std::vector<std::array<std::uint32_t, kLanes>> sites;
  // By lane: registers that recursive calls have put aside.
  std::array<std::vector<std::byte>, kLanes> saved;
};

struct Warp {
  std::byte* lanes = nullptr;           // the register file, structure of arrays: 32 values a register
  std::uint32_t* written = nullptr;     // by id: lanes that hold a value
  std::uint32_t* predicates = nullptr;  // by id: lanes where the predicate is true

  std::uint32_t mask = 0;       // lanes that execute the current instruction
  std::uint32_t undefined = 0;  // those of them whose operands are undefined
  std::uint32_t active = 0;     // lanes at pc
  std::uint32_t live = 0;       // lanes that have not exited
  std::uint32_t pc = 0;
  std::uint32_t stop_pc = ~0U;  // the lowest pc where other lanes wait
  WarpState state = WarpState::finished;
  std::uint32_t number = 0;  // in the block
  std::uint32_t first_thread = 0;
  std::uint32_t threads = 0;                            // lanes that exist, as a mask
  std::uint32_t barrier = 0;                            // waited for
  std::string (*describe_wait)(const Warp&) = nullptr;  // of a waiting warp, for the report of a deadlock
  std::uint32_t cluster_arrived = 0;  // lanes that have arrived at the cluster's barrier in its present phase
  std::uint32_t cluster_owed = 0;     // lanes that have arrived and not waited yet
  Block* block = nullptr;
  Worker* worker = nullptr;
  const Program* program = nullptr;
  std::uint32_t depth = 0;         // calls that the active lanes are in
  std::vector<LaneGroup> waiting;  // other lanes; the next to run comes last
  CallStack calls;
  // By id: the instruction, plus one, that first made this register undefined by using an unwritten one.
  std::vector<std::uint32_t> origin;
  std::shared_ptr<WgmmaQueue> wgmma;  // in flight; null until the first wgmma

  template <typename T>
  T* values(Slot slot) {
    return reinterpret_cast<T*>(lanes + slot.offset);
  }
};

// Memory traffic of one instruction.
struct InstructionTraffic {
  std::uint64_t sectors_read = 0;
  std::uint64_t sectors_written = 0;
  std::uint64_t shared_wavefronts = 0;
  std::uint64_t shared_wavefronts_ideal = 0;
  std::uint64_t tensor_core_macs = 0;
};

// Counts of one worker thread; summed at the end of a launch.
struct Counts {
  std::vector<std::uint64_t> issued;                 // by instruction
  std::vector<std::uint64_t> lanes;                  // by instruction: active lanes
  LaunchCounters memory;                             // only what is not derived from `issued`
  std::vector<std::uint64_t> range_sectors_read;     // by range
  std::vector<std::uint64_t> range_sectors_written;  // by range
  std::vector<InstructionTraffic> traffic;           // by instruction; empty unless the launch is profiled
};

struct Barrier {
  std::uint32_t waiting = 0;  // warps, as a mask
  std::uint32_t arrived_threads = 0;
  std::uint32_t expected_threads = 0;
  std::uint32_t instruction = 0;  // the first arrival's
  std::uint32_t popc = 0;         // of the predicate, for barrier.red
  bool all_threads = true;        // no thread count given
  bool conjunction = true;
  bool disjunction = false;
};

inline constexpr int kBarriers = 16;

// A launch as the workers see it; constant while it runs.
struct LaunchState {
  const Program* program = nullptr;
  std::uint32_t grid[3] = {1, 1, 1};
  std::uint32_t cluster[3] = {1, 1, 1};
  std::uint32_t cluster_blocks = 1;
  bool explicit_cluster = false;            // clusters were asked for
  bool cooperative = false;                 // all blocks of the grid take turns
  bool profiled = false;                    // traffic is counted by instruction
  std::uint64_t instruction_limit = ~0ULL;  // a block that issues more is taken to hang
  std::uint32_t block[3] = {1, 1, 1};
  std::uint32_t block_threads = 1;
  std::uint32_t warps = 1;
  std::uint32_t shared_bytes = 0;  // static and dynamic, with the gaps between variables
  std::uint32_t dynamic_shared_bytes = 0;
  int sm_count = 1;
  const std::byte* parameters = nullptr;
  RangeTable* ranges = nullptr;
  LaunchRaces* races = nullptr;  // nullptr: races are not looked for
};

struct Block {
  const LaunchState* launch = nullptr;
  std::uint64_t number = 0;
  std::uint32_t ctaid[3] = {0, 0, 0};
  std::byte* shared = nullptr;
  ShadowBits shared_written;
  std::byte* local = nullptr;  // local_bytes for each thread
  ShadowBits local_written;
  std::uint32_t local_bytes = 0;
  Barrier barriers[kBarriers];
  Warp* warps = nullptr;
  std::uint64_t instructions = 0;  // issued so far
  GroupRaces* races = nullptr;     // nullptr: races are not looked for
  Cluster* cluster = nullptr;
  std::uint32_t rank = 0;                     // in the cluster
  std::shared_ptr<AsyncState> async;          // asynchronous operations and mbarriers; nullptr before the first
  std::shared_ptr<WarpgroupLogs> warpgroups;  // null until the first wgmma
};

// Blocks that can reach each other's shared memory; a block without a cluster is one of its own.
struct Cluster {
  std::span<Block> blocks;
  std::uint32_t number[3] = {0, 0, 0};  // %clusterid
  std::uint64_t phase = 0;              // of its barrier
};

// What belongs to one worker thread during a launch.
struct Worker {
  Counts counts;
  std::vector<std::uint32_t> range_hints;  // by instruction: the range of its last access
};

// For an instruction that cannot complete yet and has had no effect: the warp stays at it and others run; later it is
// tried again. `describe` says what the warp waits for.
inline void suspend(Warp& warp, const Instruction& at, std::string (*describe)(const Warp&)) {
  warp.pc = at.index;
  warp.state = WarpState::waiting;
  warp.describe_wait = describe;
}

// Throws the report of a fault of `lane` (or of the whole warp, lane < 0) at the current instruction.
[[noreturn]] void fault(const Warp& warp, const Instruction& at, int lane, const std::string& what);

// The report of a critical instruction that uses an undefined register: where it came from.
[[noreturn]] void fault_undefined(const Warp& warp, const Instruction& at, std::uint32_t lanes, std::uint16_t id);
// Remembers where a register became undefined.
void note_undefined(Warp& warp, const Instruction& at);

}  // namespace gdnjit::emulator

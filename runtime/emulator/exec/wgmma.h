// wgmma: what is in flight, and the checks around it. The products themselves are in exec/lanes/tensor.cpp.
//
// An operation happens late, at the wait_group that completes its group: only then shared memory is read and the
// accumulators change. From issue to wait the accumulators count as unwritten. Each warp of a warpgroup computes its 16
// rows at its own wait; what the four warps issue is compared instruction by instruction.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "runtime/emulator/exec/handlers.h"
#include "runtime/emulator/semantics/tensor_layout.h"

namespace gdnjit::emulator {

struct WgmmaOperation {
  std::uint32_t instruction = 0;
  MatrixDescriptor a;  // unless A is in registers
  MatrixDescriptor b;
  bool accumulate = false;  // scale-d
  std::uint32_t stamp = 0;  // of the race detector
};

// Of one warp; made by its first wgmma instruction.
struct WgmmaQueue {
  std::deque<WgmmaOperation> pending;  // oldest first
  std::deque<std::size_t> groups;      // committed and not completed: how many of the pending ones each has
  std::size_t uncommitted = 0;
  bool fenced = false;  // by a wgmma.fence, ever
  // By id, for registers that some wgmma of the program uses: the instruction, plus one, ...
  std::vector<std::uint32_t> writer;  // ... other than wgmma that wrote it since the last fence
  std::vector<std::uint32_t> user;    // ... of the latest pending wgmma that has it as accumulator or A
  std::uint64_t entries = 0;          // of the warpgroup's log that this warp has made
};

// What a warpgroup has issued, until all four warps have.
struct WarpgroupLog {
  struct Entry {
    std::uint32_t instruction = 0;
    std::uint32_t first_warp = 0;
    std::uint32_t warps = 0;  // that have come here
    std::uint64_t a = 0;
    std::uint64_t b = 0;
    bool accumulate = false;
  };
  std::deque<Entry> entries;
  std::uint64_t first = 0;  // number of entries.front()
};
struct WarpgroupLogs {
  std::vector<WarpgroupLog> groups;
};

// For instructions that all 32 lanes must execute together.
void need_all_lanes(const Warp& warp, const Instruction& at);

// Each throws a report if the instruction may not be issued here.
void fence_wgmma(Warp& warp, const Instruction& at);
void issue_wgmma(Warp& warp, const Instruction& at);
void commit_wgmma(Warp& warp, const Instruction& at);
void check_setmaxnreg(Warp& warp, const Instruction& at);
void begin_wgmma_wait(Warp& warp, const Instruction& at);

// The next operation that a wait must complete, leaving `keep` groups in flight; nullptr: no more.
const WgmmaOperation* next_wgmma(Warp& warp, std::uint32_t keep);
// Its accumulators have been computed.
void complete_wgmma(Warp& warp);

// Reads a matrix from shared memory: every operand byte passes here. K-major: 32 bytes for each of the warp's 16 rows
// of A or of the columns of B. MN-major: for each 8 rows or columns, 16 bytes for each k.
enum class WgmmaMatrix : std::uint8_t { a, b };
void read_wgmma_matrix(Warp& warp, const WgmmaOperation& operation, WgmmaMatrix matrix, std::uint32_t* out);

// When the warp's last lane exits: nothing may be in flight. REQUIRES: the block has used wgmma (Block::warpgroups).
void check_wgmma_exit(const Warp& warp, const Instruction& at);

// Stands for an instruction that writes registers which a wgmma of the program uses (Program::guarded_writes).
void execute_guarded(Warp& warp, const Instruction& in);

}  // namespace gdnjit::emulator

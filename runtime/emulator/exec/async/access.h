// The bytes that asynchronous operations read and write. Every one of them passes async_read, async_write or
// async_update; every operation announces itself and its end. A checker that watches memory hooks in here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "runtime/emulator/exec/handlers.h"
#include "runtime/emulator/exec/warp.h"

namespace gdnjit::emulator {

// Who issued an operation. Reports of what goes wrong later name this thread and instruction.
struct AsyncIssue {
  Warp* warp = nullptr;
  const Instruction* at = nullptr;
  int lane = 0;

  std::uint32_t thread() const { return warp->first_thread + static_cast<std::uint32_t>(lane); }
};

// Global memory (block is nullptr, a host address) or a block's shared memory (an offset).
struct AsyncPlace {
  Block* block = nullptr;
  std::uint64_t address = 0;
};

enum class AsyncAccess : std::uint8_t { read, write, update };

// What an update does to each element.
struct Reduction {
  AtomicOp op = AtomicOp::add;
  Type type = Type::none;  // none: no reduction
};
// Whether PTX has this reduction in global memory, or in shared memory.
bool reduction_exists(const Reduction& reduction, bool global);

// Bounds and permission, when an operation is issued. Throws the report of a fault.
void check_async(const AsyncIssue& issue, AsyncAccess access, const AsyncPlace& place, std::uint64_t bytes);

// The bytes change hands. A read checks that they have been written, the others mark them. REQUIRES: check_async
// passed.
void async_read(const AsyncIssue& issue, const AsyncPlace& from, std::uint64_t bytes, std::byte* into);
void async_write(const AsyncIssue& issue, const AsyncPlace& to, std::uint64_t bytes, const std::byte* from);
void async_update(const AsyncIssue& issue, const AsyncPlace& to, std::uint64_t bytes, const std::byte* operands,
                  const Reduction& reduction);

// Until the operation completes, what it will write counts as unwritten.
void expect_async_write(const AsyncPlace& to, std::uint64_t bytes);

// Counts the 32-byte sectors of runs of global memory, in the order of their addresses as far as that is known; a
// sector shared by one run and the next counts once.
struct AsyncRun {
  std::uint64_t begin = 0;
  std::uint64_t bytes = 0;
};
void count_async_sectors(const AsyncIssue& issue, AsyncAccess access, std::span<const AsyncRun> runs);
// Bulk operations move 128 bytes of shared memory at a time, without conflicts.
void count_async_wavefronts(const AsyncIssue& issue, std::uint64_t bytes);

}  // namespace gdnjit::emulator

// What a block's asynchronous operations have left to do. Operations are carried out late, when somebody waits for
// them, so that a missing wait shows.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/emulator/exec/async/access.h"
#include "runtime/emulator/exec/shared_window.h"
#include "runtime/emulator/semantics/tensor_box.h"

namespace gdnjit::emulator {

// cp.async of one thread: up to 16 bytes to the block's shared memory; behind source_bytes come zeros.
struct SmallCopy {
  AsyncIssue issue;
  std::uint64_t from = 0;
  std::uint32_t to = 0;
  std::uint8_t bytes = 0;
  std::uint8_t source_bytes = 0;
  std::uint32_t stamp = 0;  // of the race detector
};

// The cp.async operations of a thread that are not done, oldest first, and where its groups end.
struct SmallCopies {
  std::deque<SmallCopy> pending;
  std::uint64_t done = 0;                // operations carried out
  std::uint32_t done_stamp = 0;          // of the last of them
  std::deque<std::uint64_t> group_ends;  // counted from the thread's first operation

  std::uint64_t issued() const { return done + pending.size(); }
};

// A bulk or bulk tensor copy or reduction.
struct BulkCopy {
  AsyncIssue issue;
  AsyncPlace from, to;
  std::uint64_t bytes = 0;
  Reduction reduction;
  std::shared_ptr<const TensorBox> box;  // of tensor copies; its side has no address of its own
  std::uint32_t stamp = 0;               // of the race detector
  bool has_read = false;
  std::vector<std::byte> data;  // between reading and writing
};

// cp.async.mbarrier.arrive: an arrival that happens after the first `operations` cp.async of a thread.
struct LateArrival {
  AsyncIssue issue;
  std::uint64_t operations = 0;
};

// What signals an mbarrier when it is done.
struct Signal {
  std::optional<BulkCopy> copy;  // its bytes leave the transaction count
  LateArrival arrival;           // if there is no copy

  const AsyncIssue& issue() const { return copy ? copy->issue : arrival.issue; }
};

struct MBarrier {
  std::uint32_t expected = 0;  // arrivals of a phase
  std::uint32_t pending = 0;   // of the present phase
  std::int64_t bytes = 0;      // transaction count
  std::uint64_t phase = 0;
  std::uint32_t init = 0;  // the instruction that made it
  std::deque<Signal> signals;
};

// Bulk groups of one thread.
struct BulkGroups {
  std::uint32_t read_stamp = 0;  // of the race detector: the last operation that a wait has found to have read,
  std::uint32_t done_stamp = 0;  // and to be complete
  std::vector<BulkCopy> open;
  std::deque<std::vector<BulkCopy>> groups;
};

struct AsyncState {
  std::map<std::uint64_t, MBarrier> barriers;  // by offset
  std::unordered_map<std::uint32_t, SmallCopies> copies;
  std::unordered_map<std::uint32_t, BulkGroups> bulk;
};

// Made when first needed.
AsyncState& async_state(Block& block);

// ---- cp.async (small_copy.cpp)
// Carries out the thread's operations up to the given number.
void run_small_copies(Block& block, std::uint32_t thread, std::uint64_t operations);

// ---- bulk copies (bulk_copy.cpp)
void issue_bulk_copy(BulkCopy copy, const SharedPlace* mbarrier);  // nullptr: joins the thread's open bulk group
void read_bulk_copy(BulkCopy& copy);
void run_bulk_copy(BulkCopy& copy);

// What a copy that signals writes in one block. A multicast goes to the same offsets in every block that its mask
// names.
struct Receiver {
  AsyncPlace to;
  SharedPlace mbarrier;
};
std::vector<Receiver> receivers_of(const AsyncIssue& issue, const AsyncPlace& to, const SharedPlace& mbarrier,
                                   bool multicast, std::uint16_t mask);

// ---- bulk tensor copies (tensor_copy.cpp)
// Between copy.data and the tensor or the box.
void read_tensor_copy(BulkCopy& copy);
void write_tensor_copy(BulkCopy& copy);

// ---- races (watch.cpp)
// Tells the race detector of an operation that is being issued; sets copy.stamp.
void watch_bulk_copy(BulkCopy& copy, const SharedPlace* mbarrier);
// What a lane's bulk wait has found complete.
void watch_bulk_wait(const Warp& warp, int lane, const BulkGroups& groups);

// ---- mbarriers (mbarrier.cpp)
// The live mbarrier there. Throws the report if there is none, or if something has been written over it.
MBarrier& mbarrier_at(const AsyncIssue& issue, const SharedPlace& place);
void signal_later(const AsyncIssue& issue, const SharedPlace& place, Signal signal);
// Carries out signals that `block` has issued.
void run_signals_of(Block& block);

// "offset 8 of 'full'", with the block's rank if it is in a cluster.
std::string shared_name(const Block& block, std::uint64_t offset);

}  // namespace gdnjit::emulator

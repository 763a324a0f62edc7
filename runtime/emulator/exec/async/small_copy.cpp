// cp.async: each thread copies 4, 8 or 16 bytes from global to its block's shared memory, in groups that the thread
// waits for. The copy is carried out at that wait.
#include <fmt/format.h>

#include <algorithm>

#include "runtime/emulator/exec/async/handlers.h"
#include "runtime/emulator/exec/async/spec.h"
#include "runtime/emulator/exec/async/state.h"
#include "runtime/emulator/exec/banks.h"
#include "runtime/emulator/races/group_races.h"

namespace gdnjit::emulator {
namespace {

void check_multiple(const AsyncIssue& issue, const char* what, std::uint64_t address, std::uint64_t of) {
  if (address % of != 0)
    fault(*issue.warp, *issue.at, issue.lane,
          fmt::format("copies {} bytes {} 0x{:x}, an address that {} does not divide", of, what, address, of));
}

std::uint8_t source_bytes(const AsyncOperands& operands, const AsyncIssue& issue) {
  constexpr int kOptional = 4;  // behind two addresses
  const AsyncSpec& spec = operands.spec;
  if ((spec.options & kIgnoreSource) != 0) {
    const bool ignore = operands.predicate(kOptional, issue.lane) != ((spec.options & kNegated) != 0);
    return ignore ? 0 : spec.size;
  }
  if ((spec.options & kSourceSize) == 0) return spec.size;
  const std::uint32_t bytes = operands.narrow(kOptional, issue.lane);
  if (bytes > spec.size)
    fault(*issue.warp, *issue.at, issue.lane,
          fmt::format("reads {} bytes to copy {}: the source may not be longer", bytes, spec.size));
  return static_cast<std::uint8_t>(bytes);
}

SharedPlace own_shared(Warp& warp, const Instruction& in, int lane, Space space, std::uint64_t address) {
  const SharedPlace place = find_shared(warp, in, lane, space, address);
  if (place.block != warp.block) fault(warp, in, lane, "copies into the shared memory of another block");
  return place;
}

void run_one(Block& block, const SmallCopy& copy) {
  std::byte data[16] = {};
  if (copy.source_bytes != 0) async_read(copy.issue, {nullptr, copy.from}, copy.source_bytes, data);
  async_write(copy.issue, {&block, copy.to}, copy.bytes, data);
}

}  // namespace

void execute_cp_async(Warp& warp, const Instruction& in) {
  const AsyncOperands operands(warp, in);
  const std::uint8_t bytes = operands.spec.size;
  AsyncState& state = async_state(*warp.block);
  std::uint64_t offsets[kLanes] = {};
  std::uint64_t sources[kLanes] = {};
  std::uint32_t reading = 0;
  AsyncRun runs[kLanes] = {};
  for_each_lane(warp, [&](int lane) {
    const AsyncIssue issue{&warp, &in, lane};
    SmallCopy copy{issue, operands.address(1, lane), 0, bytes, source_bytes(operands, issue)};
    const SharedPlace to = own_shared(warp, in, lane, operands.spec.to, operands.address(0, lane));
    check_multiple(issue, "to shared memory at", to.offset, bytes);
    check_async(issue, AsyncAccess::write, {to.block, to.offset}, bytes);
    if (copy.source_bytes != 0) {
      check_multiple(issue, "from", copy.from, bytes);
      check_async(issue, AsyncAccess::read, {nullptr, copy.from}, copy.source_bytes);
    }
    copy.to = static_cast<std::uint32_t>(to.offset);
    offsets[lane] = to.offset;
    sources[lane] = copy.from;
    if (copy.source_bytes != 0) reading |= 1U << lane;
    runs[lane] = {copy.from, copy.source_bytes};
    expect_async_write({to.block, to.offset}, bytes);
    state.copies[issue.thread()].pending.push_back(copy);
  });
  if (GroupRaces* races = warp.block->races) {
    const std::uint32_t stamp = races->copy(warp, in, offsets, sources, bytes, reading);
    for_each_lane(warp, [&](int lane) {
      state.copies[warp.first_thread + static_cast<std::uint32_t>(lane)].pending.back().stamp = stamp;
    });
  }
  const AsyncIssue issue{&warp, &in, std::countr_zero(warp.mask)};
  std::sort(std::begin(runs), std::end(runs), [](const AsyncRun& a, const AsyncRun& b) { return a.begin < b.begin; });
  count_async_sectors(issue, AsyncAccess::read, runs);
  count_wavefronts(warp.worker->counts.memory, offsets, warp.mask, bytes);
}

void run_small_copies(Block& block, std::uint32_t thread, std::uint64_t operations) {
  SmallCopies& copies = async_state(block).copies[thread];
  while (copies.done < operations && !copies.pending.empty()) {
    run_one(block, copies.pending.front());
    copies.done_stamp = copies.pending.front().stamp;
    copies.pending.pop_front();
    ++copies.done;
  }
  while (!copies.group_ends.empty() && copies.group_ends.front() <= copies.done) copies.group_ends.pop_front();
}

void execute_cp_async_commit(Warp& warp, const Instruction&) {
  AsyncState& state = async_state(*warp.block);
  for_each_lane(warp, [&](int lane) {
    SmallCopies& copies = state.copies[warp.first_thread + static_cast<std::uint32_t>(lane)];
    copies.group_ends.push_back(copies.issued());
  });
}

// Waits until all but the newest groups of each thread are done; .wait_all also for operations without a group.
void execute_cp_async_wait(Warp& warp, const Instruction& in) {
  const auto spec = std::bit_cast<AsyncSpec>(in.immediate);
  const std::uint32_t left = in.target;  // groups that may stay
  AsyncState& state = async_state(*warp.block);
  for_each_lane(warp, [&](int lane) {
    const std::uint32_t thread = warp.first_thread + static_cast<std::uint32_t>(lane);
    const SmallCopies& copies = state.copies[thread];
    if ((spec.options & kWaitAll) != 0) {
      run_small_copies(*warp.block, thread, copies.issued());
    } else if (copies.group_ends.size() > left) {
      run_small_copies(*warp.block, thread, copies.group_ends[copies.group_ends.size() - 1 - left]);
    }
    if (warp.block->races != nullptr) warp.block->races->copied(warp, lane, copies.done_stamp);
  });
}

// cp.async.mbarrier.arrive [mbarrier]: the thread arrives when the cp.async it has issued so far are done. Without
// .noinc the phase waits for one more arrival, so that this one is not counted against those expected.
void execute_cp_async_arrive(Warp& warp, const Instruction& in) {
  const AsyncOperands operands(warp, in);
  AsyncState& state = async_state(*warp.block);
  for_each_lane(warp, [&](int lane) {
    const AsyncIssue issue{&warp, &in, lane};
    const SharedPlace place = own_shared(warp, in, lane, operands.spec.to, operands.address(0, lane));
    if ((operands.spec.options & kNoIncrement) == 0) {
      MBarrier& barrier = mbarrier_at(issue, place);
      if (++barrier.pending > kMaxArrivals) fault(warp, in, lane, "makes an mbarrier wait for too many arrivals");
    }
    const std::uint64_t operation_count = state.copies[issue.thread()].issued();
    signal_later(issue, place, {std::nullopt, {issue, operation_count}});
  });
}

}  // namespace gdnjit::emulator

// Bulk copies and reductions of contiguous bytes, and what all bulk operations share: bulk groups, reading, writing.
#include <fmt/format.h>

#include <algorithm>

#include "runtime/emulator/exec/async/handlers.h"
#include "runtime/emulator/exec/async/spec.h"
#include "runtime/emulator/exec/async/state.h"

namespace gdnjit::emulator {
namespace {

constexpr std::uint64_t kUnit = 16;  // what sizes and addresses are multiples of

void check_multiple(const AsyncIssue& issue, const char* what, std::uint64_t value) {
  if (value % kUnit != 0)
    fault(*issue.warp, *issue.at, issue.lane, fmt::format("{} 0x{:x}, which {} does not divide", what, value, kUnit));
}

AsyncPlace place_of(const AsyncOperands& operands, const AsyncIssue& issue, Space space, int address) {
  const std::uint64_t value = operands.address(address, issue.lane);
  check_multiple(issue, "copies in bulk at", value);
  if (space == Space::global) return {nullptr, value};
  const SharedPlace place = find_shared(*issue.warp, *issue.at, issue.lane, space, value);
  return {place.block, place.offset};
}

void issue_one(BulkCopy copy, const SharedPlace* mbarrier) {
  const AsyncAccess access = copy.reduction.type == Type::none ? AsyncAccess::write : AsyncAccess::update;
  check_async(copy.issue, access, copy.to, copy.bytes);
  if (copy.to.block == nullptr) {
    const AsyncRun run{copy.to.address, copy.bytes};
    count_async_sectors(copy.issue, access, {&run, 1});
  } else {
    count_async_wavefronts(copy.issue, copy.bytes);
    if (access == AsyncAccess::write) expect_async_write(copy.to, copy.bytes);
  }
  issue_bulk_copy(std::move(copy), mbarrier);
}

void issue_lane(const AsyncIssue& issue, const AsyncOperands& operands) {
  const AsyncSpec& spec = operands.spec;
  const bool signals = (spec.options & kSignals) != 0;
  const int values = signals ? 6 : 4;
  BulkCopy copy;
  copy.issue = issue;
  copy.bytes = operands.narrow(values, issue.lane);
  copy.reduction = {spec.op, spec.type};
  check_multiple(issue, "copies in bulk a number of bytes,", copy.bytes);
  copy.to = place_of(operands, issue, spec.to, 0);
  copy.from = place_of(operands, issue, spec.from, 1);
  if (copy.from.block != nullptr && copy.from.block != issue.warp->block)
    fault(*issue.warp, *issue.at, issue.lane, "copies in bulk from the shared memory of another block");
  check_async(issue, AsyncAccess::read, copy.from, copy.bytes);
  if (copy.from.block == nullptr) {
    const AsyncRun run{copy.from.address, copy.bytes};
    count_async_sectors(issue, AsyncAccess::read, {&run, 1});
  } else {
    count_async_wavefronts(issue, copy.bytes);
  }
  if (!signals) return issue_one(std::move(copy), nullptr);
  const SharedPlace mbarrier =
      find_shared(*issue.warp, *issue.at, issue.lane, spec.to, operands.address(2, issue.lane));
  const bool multicast = (spec.options & kMulticast) != 0;
  for (const Receiver& receiver :
       receivers_of(issue, copy.to, mbarrier, multicast, multicast ? operands.half(values + 1, issue.lane) : 0)) {
    BulkCopy one = copy;
    one.to = receiver.to;
    issue_one(std::move(one), &receiver.mbarrier);
  }
}

}  // namespace

std::vector<Receiver> receivers_of(const AsyncIssue& issue, const AsyncPlace& to, const SharedPlace& mbarrier,
                                   bool multicast, std::uint16_t mask) {
  if (!multicast) {
    if (mbarrier.block != to.block)
      fault(*issue.warp, *issue.at, issue.lane,
            fmt::format("copies to block {} of the cluster and signals an mbarrier of block {}", to.block->rank,
                        mbarrier.block->rank));
    return {{to, mbarrier}};
  }
  const std::span<Block> blocks = issue.warp->block->cluster->blocks;
  if (mask == 0 || std::bit_width(mask) > blocks.size())
    fault(*issue.warp, *issue.at, issue.lane,
          fmt::format("copies to the blocks 0x{:x} of a cluster of {}", mask, blocks.size()));
  std::vector<Receiver> receivers;
  for (std::uint32_t rank = 0; rank < blocks.size(); ++rank) {
    if ((mask >> rank & 1) != 0) receivers.push_back({{&blocks[rank], to.address}, {&blocks[rank], mbarrier.offset}});
  }
  return receivers;
}

void issue_bulk_copy(BulkCopy copy, const SharedPlace* mbarrier) {
  const AsyncIssue issue = copy.issue;
  watch_bulk_copy(copy, mbarrier);
  if (mbarrier != nullptr) return signal_later(issue, *mbarrier, {std::move(copy), {}});
  async_state(*issue.warp->block).bulk[issue.thread()].open.push_back(std::move(copy));
}

void read_bulk_copy(BulkCopy& copy) {
  if (copy.has_read) return;
  copy.has_read = true;
  copy.data.resize(copy.bytes);
  if (copy.box != nullptr) return read_tensor_copy(copy);
  async_read(copy.issue, copy.from, copy.bytes, copy.data.data());
}

void run_bulk_copy(BulkCopy& copy) {
  read_bulk_copy(copy);
  if (copy.box != nullptr) {
    write_tensor_copy(copy);
  } else if (copy.reduction.type != Type::none) {
    async_update(copy.issue, copy.to, copy.bytes, copy.data.data(), copy.reduction);
  } else {
    async_write(copy.issue, copy.to, copy.bytes, copy.data.data());
  }
}

void execute_bulk_copy(Warp& warp, const Instruction& in) {
  const AsyncOperands operands(warp, in);
  for_each_lane(warp, [&](int lane) { issue_lane({&warp, &in, lane}, operands); });
}

void execute_bulk_commit(Warp& warp, const Instruction&) {
  AsyncState& state = async_state(*warp.block);
  for_each_lane(warp, [&](int lane) {
    BulkGroups& bulk = state.bulk[warp.first_thread + static_cast<std::uint32_t>(lane)];
    bulk.groups.push_back(std::move(bulk.open));
    bulk.open.clear();
  });
}

void execute_bulk_wait(Warp& warp, const Instruction& in) {
  const auto spec = std::bit_cast<AsyncSpec>(in.immediate);
  const std::size_t left = in.target;  // groups that may stay
  AsyncState& state = async_state(*warp.block);
  for_each_lane(warp, [&](int lane) {
    BulkGroups& bulk = state.bulk[warp.first_thread + static_cast<std::uint32_t>(lane)];
    const std::size_t due = bulk.groups.size() > left ? bulk.groups.size() - left : 0;
    for (std::size_t group = 0; group < due; ++group) {
      if ((spec.options & kReadOnly) != 0) {
        for (BulkCopy& copy : bulk.groups[group]) {
          read_bulk_copy(copy);
          bulk.read_stamp = std::max(bulk.read_stamp, copy.stamp);
        }
      } else {
        for (BulkCopy& copy : bulk.groups.front()) {
          run_bulk_copy(copy);
          bulk.done_stamp = bulk.read_stamp = std::max(bulk.read_stamp, copy.stamp);
        }
        bulk.groups.pop_front();
      }
    }
    watch_bulk_wait(warp, lane, bulk);
  });
}

// A hint: the rules for sizes and addresses hold, the memory is not touched.
void execute_bulk_prefetch(Warp& warp, const Instruction& in) {
  const AsyncOperands operands(warp, in);
  for_each_lane(warp, [&](int lane) {
    const AsyncIssue issue{&warp, &in, lane};
    check_multiple(issue, "prefetches in bulk at", operands.address(0, lane));
    check_multiple(issue, "prefetches in bulk a number of bytes,", operands.narrow(2, lane));
  });
}

}  // namespace gdnjit::emulator

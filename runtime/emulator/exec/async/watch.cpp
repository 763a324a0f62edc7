// Bulk operations as the race detector sees them: accesses at issue, by an agent whose end somebody must observe.
#include "runtime/emulator/exec/async/state.h"
#include "runtime/emulator/races/group_races.h"

namespace gdnjit::emulator {
namespace {

void touch(GroupRaces& races, const GroupRaces::AsyncOperation& operation, const AsyncPlace& place,
           std::uint64_t address, std::uint64_t bytes, bool writes) {
  if (bytes == 0) return;
  if (place.block == nullptr) return races.async_global(operation, address, bytes, writes);
  races.async_shared(operation, *place.block, address, bytes, writes);
}

// One side of a copy; the tensor's side of a box has its rows.
void touch_side(GroupRaces& races, const GroupRaces::AsyncOperation& operation, const BulkCopy& copy, bool writes) {
  const AsyncPlace& place = writes ? copy.to : copy.from;
  if (copy.box == nullptr || place.block != nullptr)
    return touch(races, operation, place, place.address, copy.bytes, writes);
  for (std::uint64_t number = 0; number < copy.box->rows(); ++number) {
    if (const auto row = copy.box->row(number)) touch(races, operation, place, row->address, row->bytes, writes);
  }
}

}  // namespace

void watch_bulk_copy(BulkCopy& copy, const SharedPlace* mbarrier) {
  const AsyncIssue& issue = copy.issue;
  GroupRaces* const races = issue.warp->block->races;
  if (races == nullptr) return;
  GroupRaces::AsyncOperation operation{.warp = issue.warp, .at = issue.at, .lane = issue.lane};
  operation.stamp = copy.stamp = races->begin_operation();
  operation.atomic = copy.reduction.type != Type::none;
  // With an mbarrier, reading ends with the phase too; without, a wait may ask for the reads alone.
  const std::uint64_t signal = mbarrier != nullptr ? GroupRaces::object(mbarrier->block->shared + mbarrier->offset) : 0;
  const GroupRaces::Object warp = GroupRaces::object(issue.warp);
  operation.agent =
      mbarrier != nullptr ? races->agent(AgentKind::mbarrier, signal) : races->agent(AgentKind::bulk_read, warp);
  touch_side(*races, operation, copy, false);
  if (mbarrier == nullptr) operation.agent = races->agent(AgentKind::bulk_write, warp);
  touch_side(*races, operation, copy, true);
}

void watch_bulk_wait(const Warp& warp, int lane, const BulkGroups& groups) {
  GroupRaces* const races = warp.block->races;
  if (races == nullptr) return;
  const GroupRaces::Object issuer = GroupRaces::object(&warp);
  races->complete(warp, 1U << lane, races->agent(AgentKind::bulk_read, issuer), lane, groups.read_stamp);
  races->complete(warp, 1U << lane, races->agent(AgentKind::bulk_write, issuer), lane, groups.done_stamp);
}

}  // namespace gdnjit::emulator

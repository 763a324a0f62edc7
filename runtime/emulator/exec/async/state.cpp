#include "runtime/emulator/exec/async/state.h"

#include <fmt/format.h>

#include "runtime/emulator/exec/async.h"

namespace gdnjit::emulator {
namespace {

bool covers(std::uint64_t begin, std::uint64_t bytes, std::uint64_t offset) { return offset - begin < bytes; }

std::string issued_by(const char* what, const AsyncIssue& issue) {
  return fmt::format(", {} into it is pending\n  issued by thread {} at {}", what, issue.thread(),
                     issue.warp->program->describe(issue.at->index));
}

void finish_groups(AsyncState& state) {
  for (auto& [thread, bulk] : state.bulk) {
    for (std::vector<BulkCopy>& group : bulk.groups) {
      for (BulkCopy& copy : group) run_bulk_copy(copy);
    }
    for (BulkCopy& copy : bulk.open) run_bulk_copy(copy);
  }
  state.bulk.clear();
}

}  // namespace

AsyncState& async_state(Block& block) {
  if (block.async == nullptr) block.async = std::make_shared<AsyncState>();
  return *block.async;
}

std::string shared_name(const Block& block, std::uint64_t offset) {
  std::string name = fmt::format("offset {}", offset);
  for (const NamedRange& variable : block.launch->program->shared_variables) {
    if (!covers(variable.begin, variable.bytes, offset)) continue;
    name = fmt::format("offset {} of '{}'", offset - variable.begin, variable.label);
    break;
  }
  if (block.launch->cluster_blocks > 1) name += fmt::format(" in block {} of the cluster", block.rank);
  return name;
}

std::string describe_unwritten(const Block& block, std::uint64_t offset) {
  if (block.async == nullptr) return "";
  for (const auto& [thread, copies] : block.async->copies) {
    for (const SmallCopy& copy : copies.pending) {
      if (covers(copy.to, copy.bytes, offset)) return issued_by("a cp.async", copy.issue);
    }
  }
  for (const auto& [place, barrier] : block.async->barriers) {
    if (covers(place, 8, offset)) return ", it is part of an mbarrier, which is opaque";
    for (const Signal& signal : barrier.signals) {
      if (signal.copy && covers(signal.copy->to.address, signal.copy->bytes, offset))
        return issued_by("a bulk copy", signal.copy->issue);
    }
  }
  return "";
}

void finish_async(Block& block) {
  run_signals_of(block);
  if (block.async == nullptr) return;
  for (const auto& [place, barrier] : block.async->barriers) {
    if (barrier.signals.empty()) continue;
    const AsyncIssue& issue = barrier.signals.front().issue();
    fault(*issue.warp, *issue.at, issue.lane,
          fmt::format("copies into the shared memory of block {} of its cluster, which exits without waiting for it",
                      block.rank));
  }
  for (const auto& [thread, copies] : block.async->copies) run_small_copies(block, thread, copies.issued());
  finish_groups(*block.async);
  block.async.reset();
}

}  // namespace gdnjit::emulator

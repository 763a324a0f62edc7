// Times several plans of one problem against each other on a device.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "runtime/plan.h"
#include "tests/reference/workload.h"

namespace gdnjit::autotune {

struct TimingOptions {
  bool cold_l2 = true;  // rotate copies of the tensors until they exceed twice the L2
  bool graph = true;    // as deployed: launches replayed from a graph, or issued on a stream one by one
  int rounds = 9;
};

// Microseconds per launch: one sample a round for each plan. Rounds are interleaved, so that a drifting clock or
// temperature meets all plans alike, and each round starts with another plan. `running` is told the index of the
// plan about to run. Throws Error(device_failed) if a launch fails.
std::vector<std::vector<double>> time_plans(const std::vector<std::shared_ptr<const OperatorPlan>>& plans,
                                            const reference::Workload& workload, const TimingOptions& options,
                                            const std::function<void(std::size_t)>& running = {});

// How many copies of tensors with `bytes` the rotation needs to leave nothing in the L2.
std::size_t rotation_copies(std::size_t bytes, std::int64_t l2_bytes, bool cold_l2);

}  // namespace gdnjit::autotune

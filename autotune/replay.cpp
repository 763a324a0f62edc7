#include "autotune/replay.h"

#include <algorithm>
#include <utility>

#include "autotune/device_tensors.h"

namespace gdnjit::autotune {

bool Comparison::passed() const {
  return std::all_of(errors.begin(), errors.end(), [](const auto& error) { return error.passed(); });
}

ReplayResult replay(const OperatorPlan& plan, const reference::CallWorkload& workload, std::span<const Basis> bases) {
  ReplayResult result;
  const auto judge = [&](const std::vector<reference::HostTensor>& results) {
    std::vector<reference::OutputError> all;
    for (const Basis& basis : bases) {
      Comparison comparison{.against = basis.name, .errors = {}};
      comparison.errors =
          basis.others == nullptr ? workload.compare(results) : workload.compare_with(*basis.others, results);
      all.insert(all.end(), comparison.errors.begin(), comparison.errors.end());
      result.comparisons.push_back(std::move(comparison));
    }
    return all;
  };
  result.run = check(plan, workload.tensors(), judge);
  return result;
}

std::vector<reference::HostTensor> run_once(const OperatorPlan& plan, const reference::CallWorkload& workload) {
  DeviceTensors tensors(plan.device(), workload.tensors(), 0);
  tensors.upload(workload.tensors(), nullptr);
  plan.run(tensors.views(), nullptr);
  plan.device().synchronize(nullptr);
  return tensors.download(nullptr);
}

}  // namespace gdnjit::autotune

#include "autotune/checker.h"

#include <algorithm>

#include "autotune/device_tensors.h"
#include "runtime/support/check.h"

namespace gdnjit::autotune {
namespace {

constexpr std::size_t kGuardBytes = 1024;

bool same_bytes(const std::vector<reference::HostTensor>& left, const std::vector<reference::HostTensor>& right) {
  return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                    [](const auto& a, const auto& b) { return a.bytes == b.bytes; });
}

// Puts what the device counts of each launch into `counts`.
LaunchObserver counting(Device& device, std::vector<KernelCounts>& counts) {
  return [&device, &counts](std::size_t kernel) {
    if (const LaunchCounters* counters = device.last_counters()) {
      counts.push_back({kernel, *counters, device.last_traffic(), device.last_profile()});
    }
  };
}

}  // namespace

bool CheckResult::passed() const {
  return guards_intact && repeatable &&
         std::all_of(errors.begin(), errors.end(), [](const auto& e) { return e.passed(); });
}

double CheckResult::worst_rms() const {
  double worst = 0;
  for (const reference::OutputError& error : errors) worst = std::max(worst, error.rms_ratio);
  return worst;
}

std::string CheckResult::text() const {
  std::vector<std::string> pieces;
  for (const reference::OutputError& error : errors) {
    std::string piece = fmt::format("{} rms {:.2g} (tolerance {:.2g}), largest {:.2g}", error.tensor, error.rms_ratio,
                                    error.tolerance, error.max_ratio);
    if (!error.finite) piece += ", not finite or never written";
    pieces.push_back(std::move(piece));
  }
  if (!guards_intact) pieces.push_back(fmt::format("wrote outside of {}", damaged));
  if (!repeatable) pieces.push_back("a second run gave other bits");
  return join(pieces, "; ");
}

CheckResult check(const OperatorPlan& plan, const reference::Workload& workload) {
  return check(plan, workload.tensors(), [&](const auto& results) { return workload.compare(results); });
}

CheckResult check(const OperatorPlan& plan, const std::vector<reference::HostTensor>& inputs, const Judge& judge) {
  Device& device = plan.device();
  const Stream stream = nullptr;
  DeviceTensors tensors(device, inputs, kGuardBytes);
  const auto run = [&](const LaunchObserver* observer) {
    tensors.upload(inputs, stream);
    plan.run(tensors.views(), stream, observer);
    device.synchronize(stream);
    return tensors.download(stream);
  };

  CheckResult result;
  const LaunchObserver observer = counting(device, result.counts);
  const std::vector<reference::HostTensor> first = run(&observer);
  result.damaged = tensors.damaged_guards(stream);
  result.guards_intact = result.damaged.empty();
  result.errors = judge(first);
  result.repeatable = same_bytes(first, run(nullptr));
  return result;
}

}  // namespace gdnjit::autotune

// Runs a plan on a workload and compares every output element with the double-precision reference.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "runtime/plan.h"
#include "tests/reference/workload.h"

namespace gdnjit::autotune {

// What the device counted of one kernel's launch in a call.
struct KernelCounts {
  std::size_t kernel = 0;  // its index in Instance::kernels()
  LaunchCounters counters;
  std::vector<BufferTraffic> traffic;
  std::vector<LineProfile> profile;  // of a device that profiles
};

struct CheckResult {
  std::vector<reference::OutputError> errors;  // one per output, and one per tensor that was written and must not be
  bool guards_intact = true;                   // the bytes around every buffer are what they were
  bool repeatable = true;                      // a second run from the same inputs gave the same bits
  std::string damaged;                         // tensors whose guards are not: "o (after)"
  std::vector<KernelCounts> counts;            // of the first run's launches; none on devices that do not count
  bool passed() const;
  double worst_rms() const;
  std::string text() const;  // "o rms 1.2e-3 (tolerance 3e-3), state_out rms 2e-7 ..."
};

// Allocates the workload's tensors with guard bands, runs twice, and compares. Throws Error(device_failed) if a
// launch fails.
CheckResult check(const OperatorPlan& plan, const reference::Workload& workload);

// The same with a judge of its own for what the first run left in the tensors.
using Judge = std::function<std::vector<reference::OutputError>(const std::vector<reference::HostTensor>& results)>;
CheckResult check(const OperatorPlan& plan, const std::vector<reference::HostTensor>& tensors, const Judge& judge);

}  // namespace gdnjit::autotune

// Runs a saved call and compares what it leaves with several others.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "autotune/checker.h"
#include "runtime/plan.h"
#include "tests/reference/workload.h"

namespace gdnjit::autotune {

// What a replay is compared with.
struct Basis {
  std::string name;                                            // "stored", "reference", "emulator:sm_80"
  const std::vector<reference::HostTensor>* others = nullptr;  // another run's tensors; null: the reference
};

struct Comparison {
  std::string against;
  std::vector<reference::OutputError> errors;
  bool passed() const;
};

struct ReplayResult {
  CheckResult run;  // guards and repeatability; its errors are those of all comparisons
  std::vector<Comparison> comparisons;
};

// Runs twice between guard bands, like check(). Throws Error(device_failed) if a launch fails.
ReplayResult replay(const OperatorPlan& plan, const reference::CallWorkload& workload, std::span<const Basis> bases);

// What one run leaves in the call's tensors, to be compared with.
std::vector<reference::HostTensor> run_once(const OperatorPlan& plan, const reference::CallWorkload& workload);

}  // namespace gdnjit::autotune

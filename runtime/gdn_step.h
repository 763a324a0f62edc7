// What gdn::plan() prepares for a decode step, so that a call only launches.
#pragma once

#include <gdnjit/runtime.h>

#include <memory>

#include "runtime/plan.h"

namespace gdnjit::gdn {

// Immutable and thread-safe.
struct StepPlan::Prepared {
  StepProblem problem;
  std::shared_ptr<const OperatorPlan> plan;
};

}  // namespace gdnjit::gdn

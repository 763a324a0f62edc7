// What gdn::plan() prepares for calls that choose their kernels by T, so that a call only launches.
#pragma once

#include <gdnjit/runtime.h>

#include <memory>

#include "runtime/plan.h"

namespace gdnjit::gdn {

// Immutable and thread-safe.
struct ForwardPlan::Prepared {
  ForwardProblem problem;
  std::shared_ptr<const OperatorPlan> plan;
};

}  // namespace gdnjit::gdn

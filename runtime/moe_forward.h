// What the plans of expert layers and products keep.
#pragma once

#include <gdnjit/moe_forward.h>

#include <memory>

#include "runtime/plan.h"

namespace gdnjit::moe {

// Immutable and thread-safe, all three.
struct ForwardPlan::Prepared {
  ForwardProblem problem;
  std::shared_ptr<const OperatorPlan> plan;
};
struct UpPlan::Prepared {
  ExpertsProblem problem;
  std::shared_ptr<const OperatorPlan> plan;
};
struct DownPlan::Prepared {
  ExpertsProblem problem;
  std::shared_ptr<const OperatorPlan> plan;
};

}  // namespace gdnjit::moe

// What moe::plan() prepares for a router, so that a call only launches.
#pragma once

#include <gdnjit/moe_route.h>

#include <memory>

#include "runtime/plan.h"

namespace gdnjit::moe {

// Immutable and thread-safe.
struct RoutePlan::Prepared {
  RouteProblem problem;
  std::shared_ptr<const OperatorPlan> plan;
};

}  // namespace gdnjit::moe

// What gdn::plan() prepares for a number of tokens known at run time, so that a call only launches.
#pragma once

#include <gdnjit/runtime.h>

#include <memory>

#include "runtime/plan.h"

namespace gdnjit::gdn {

// Immutable and thread-safe.
struct RecurrentPlan::Prepared {
  RecurrentProblem problem;
  std::shared_ptr<const OperatorPlan> plan;
};

}  // namespace gdnjit::gdn

// What moe::plan() prepares for sorting pairs, so that a call only launches.
#pragma once

#include <gdnjit/moe_align.h>

#include <memory>

#include "runtime/plan.h"

namespace gdnjit::moe {

// Immutable and thread-safe.
struct AlignPlan::Prepared {
  AlignProblem problem;
  std::shared_ptr<const OperatorPlan> plan;
};

}  // namespace gdnjit::moe

// What gdn::plan() prepares for chunked prefill, so that a call only launches.
#pragma once

#include <gdnjit/runtime.h>

#include <memory>

#include "runtime/plan.h"

namespace gdnjit::gdn {

// Immutable and thread-safe.
struct ChunkPlan::Prepared {
  ChunkProblem problem;
  std::shared_ptr<const OperatorPlan> plan;
};

}  // namespace gdnjit::gdn

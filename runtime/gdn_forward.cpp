#include "runtime/gdn_forward.h"

#include <array>
#include <optional>

#include "codegen/gdn/chunk_names.h"
#include "codegen/gdn/forward.h"
#include "codegen/registry.h"
#include "runtime/plan_cache.h"
#include "runtime/runtime_impl.h"
#include "runtime/support/check.h"

namespace gdnjit::gdn {

ForwardPlan plan(Runtime& runtime, const ForwardProblem& problem) {
  auto& plans = runtime.impl().plans().forwards();
  if (const auto* found = plans.find(problem)) return ForwardPlan(*found);
  auto made = find_or_make_plan(runtime.impl(), find_operator("gdn.forward"), to_fields(problem));
  return ForwardPlan(
      plans.insert(problem, std::make_shared<ForwardPlan::Prepared>(ForwardPlan::Prepared{problem, made})));
}

void forward(Runtime& runtime, const ForwardProblem& problem, const ForwardArgs& args, void* stream) {
  std::optional<NoTuning> no_tuning;
  if (runtime.impl().device().capturing(stream)) no_tuning.emplace();
  plan(runtime, problem).run(args, stream);
}

void ForwardPlan::run(const ForwardArgs& args, void* stream) const {
  require(prepared_ != nullptr, "ForwardPlan: it is empty; make it with gdnjit::gdn::plan()");
  std::array<TensorView, kMaxChunkTensors> tensors;
  const std::size_t count = gather_forward_args(prepared_->problem, args, tensors);
  prepared_->plan->run(std::span(tensors.data(), count), stream);
}

std::int64_t ForwardPlan::workspace_bytes(std::int64_t sequences, std::int64_t tokens) const {
  require(prepared_ != nullptr, "ForwardPlan: it is empty; make it with gdnjit::gdn::plan()");
  return prepared_->plan->instance().workspace_bytes(sequences, tokens);
}

const PlanInfo& ForwardPlan::info() const {
  require(prepared_ != nullptr, "ForwardPlan: it is empty; make it with gdnjit::gdn::plan()");
  return prepared_->plan->info();
}

}  // namespace gdnjit::gdn

#include "runtime/gdn_step.h"

#include <array>
#include <optional>

#include "codegen/gdn/options_names.h"
#include "codegen/gdn/step.h"
#include "codegen/registry.h"
#include "runtime/plan_cache.h"
#include "runtime/runtime_impl.h"
#include "runtime/support/check.h"

namespace gdnjit::gdn {

StepPlan plan(Runtime& runtime, const StepProblem& problem) {
  auto& plans = runtime.impl().plans().steps();
  if (const auto* found = plans.find(problem)) return StepPlan(*found);
  auto made = find_or_make_plan(runtime.impl(), find_operator("gdn.step"), to_fields(problem));
  return StepPlan(plans.insert(problem, std::make_shared<StepPlan::Prepared>(StepPlan::Prepared{problem, made})));
}

void step(Runtime& runtime, const StepProblem& problem, const StepArgs& args, void* stream) {
  std::optional<NoTuning> no_tuning;
  if (runtime.impl().device().capturing(stream)) no_tuning.emplace();
  plan(runtime, problem).run(args, stream);
}

void StepPlan::run(const StepArgs& args, void* stream) const {
  require(prepared_ != nullptr, "StepPlan: it is empty; make it with gdnjit::gdn::plan()");
  std::array<TensorView, kMaxStepTensors> tensors;
  const std::size_t count = gather_step_args(prepared_->problem, args, tensors);
  prepared_->plan->run(std::span(tensors.data(), count), stream);
}

const PlanInfo& StepPlan::info() const {
  require(prepared_ != nullptr, "StepPlan: it is empty; make it with gdnjit::gdn::plan()");
  return prepared_->plan->info();
}

}  // namespace gdnjit::gdn

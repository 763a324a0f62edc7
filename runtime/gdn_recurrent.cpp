#include "runtime/gdn_recurrent.h"

#include <array>
#include <optional>

#include "codegen/gdn/options_names.h"
#include "codegen/gdn/recurrent.h"
#include "codegen/registry.h"
#include "runtime/plan_cache.h"
#include "runtime/runtime_impl.h"
#include "runtime/support/check.h"

namespace gdnjit::gdn {

RecurrentPlan plan(Runtime& runtime, const RecurrentProblem& problem) {
  auto& plans = runtime.impl().plans().recurrents();
  if (const auto* found = plans.find(problem)) return RecurrentPlan(*found);
  auto made = find_or_make_plan(runtime.impl(), find_operator("gdn.recurrent"), to_fields(problem));
  return RecurrentPlan(
      plans.insert(problem, std::make_shared<RecurrentPlan::Prepared>(RecurrentPlan::Prepared{problem, made})));
}

void recurrent(Runtime& runtime, const RecurrentProblem& problem, const RecurrentArgs& args, void* stream) {
  std::optional<NoTuning> no_tuning;
  if (runtime.impl().device().capturing(stream)) no_tuning.emplace();
  plan(runtime, problem).run(args, stream);
}

void RecurrentPlan::run(const RecurrentArgs& args, void* stream) const {
  require(prepared_ != nullptr, "RecurrentPlan: it is empty; make it with gdnjit::gdn::plan()");
  std::array<TensorView, kMaxRecurrentTensors> tensors;
  const std::size_t count = gather_recurrent_args(prepared_->problem, args, tensors);
  prepared_->plan->run(std::span(tensors.data(), count), stream);
}

const PlanInfo& RecurrentPlan::info() const {
  require(prepared_ != nullptr, "RecurrentPlan: it is empty; make it with gdnjit::gdn::plan()");
  return prepared_->plan->info();
}

}  // namespace gdnjit::gdn

#include "runtime/moe_align.h"

#include <array>
#include <optional>

#include "codegen/moe/align.h"
#include "codegen/moe/options_names.h"
#include "codegen/registry.h"
#include "runtime/plan_cache.h"
#include "runtime/runtime_impl.h"
#include "runtime/support/check.h"

namespace gdnjit::moe {

AlignPlan plan(Runtime& runtime, const AlignProblem& problem) {
  auto& plans = runtime.impl().plans().aligns();
  if (const auto* found = plans.find(problem)) return AlignPlan(*found);
  auto made = find_or_make_plan(runtime.impl(), find_operator("moe.align"), to_fields(problem));
  return AlignPlan(plans.insert(problem, std::make_shared<AlignPlan::Prepared>(AlignPlan::Prepared{problem, made})));
}

void align(Runtime& runtime, const AlignProblem& problem, const AlignArgs& args, void* stream) {
  std::optional<NoTuning> no_tuning;
  if (runtime.impl().device().capturing(stream)) no_tuning.emplace();
  plan(runtime, problem).run(args, stream);
}

void AlignPlan::run(const AlignArgs& args, void* stream) const {
  require(prepared_ != nullptr, "AlignPlan: it is empty; make it with gdnjit::moe::plan()");
  std::array<TensorView, kMaxAlignTensors> tensors;
  const std::size_t count = gather_align_args(prepared_->problem, args, tensors);
  prepared_->plan->run(std::span(tensors.data(), count), stream);
}

const PlanInfo& AlignPlan::info() const {
  require(prepared_ != nullptr, "AlignPlan: it is empty; make it with gdnjit::moe::plan()");
  return prepared_->plan->info();
}

}  // namespace gdnjit::moe

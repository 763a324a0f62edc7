#include "runtime/moe_route.h"

#include <array>
#include <optional>

#include "codegen/moe/options_names.h"
#include "codegen/moe/route.h"
#include "codegen/registry.h"
#include "runtime/plan_cache.h"
#include "runtime/runtime_impl.h"
#include "runtime/support/check.h"

namespace gdnjit::moe {

RoutePlan plan(Runtime& runtime, const RouteProblem& problem) {
  auto& plans = runtime.impl().plans().routes();
  if (const auto* found = plans.find(problem)) return RoutePlan(*found);
  auto made = find_or_make_plan(runtime.impl(), find_operator("moe.route"), to_fields(problem));
  return RoutePlan(plans.insert(problem, std::make_shared<RoutePlan::Prepared>(RoutePlan::Prepared{problem, made})));
}

void route(Runtime& runtime, const RouteProblem& problem, const RouteArgs& args, void* stream) {
  std::optional<NoTuning> no_tuning;
  if (runtime.impl().device().capturing(stream)) no_tuning.emplace();
  plan(runtime, problem).run(args, stream);
}

void RoutePlan::run(const RouteArgs& args, void* stream) const {
  require(prepared_ != nullptr, "RoutePlan: it is empty; make it with gdnjit::moe::plan()");
  std::array<TensorView, kMaxRouteTensors> tensors;
  const std::size_t count = gather_route_args(prepared_->problem, args, tensors);
  prepared_->plan->run(std::span(tensors.data(), count), stream);
}

const PlanInfo& RoutePlan::info() const {
  require(prepared_ != nullptr, "RoutePlan: it is empty; make it with gdnjit::moe::plan()");
  return prepared_->plan->info();
}

}  // namespace gdnjit::moe

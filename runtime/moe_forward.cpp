#include "runtime/moe_forward.h"

#include <array>
#include <optional>

#include "codegen/moe/forward.h"
#include "codegen/moe/options_names.h"
#include "codegen/moe/products.h"
#include "codegen/registry.h"
#include "runtime/plan_cache.h"
#include "runtime/runtime_impl.h"
#include "runtime/support/check.h"

namespace gdnjit::moe {

ForwardPlan plan(Runtime& runtime, const ForwardProblem& problem) {
  auto& plans = runtime.impl().plans().expert_layers();
  if (const auto* found = plans.find(problem)) return ForwardPlan(*found);
  auto made = find_or_make_plan(runtime.impl(), find_operator("moe.forward"), to_fields(problem));
  return ForwardPlan(
      plans.insert(problem, std::make_shared<ForwardPlan::Prepared>(ForwardPlan::Prepared{problem, made})));
}

void forward(Runtime& runtime, const ForwardProblem& problem, const ForwardArgs& args, void* stream) {
  std::optional<NoTuning> no_tuning;
  if (runtime.impl().device().capturing(stream)) no_tuning.emplace();
  plan(runtime, problem).run(args, stream);
}

void ForwardPlan::run(const ForwardArgs& args, void* stream) const {
  require(prepared_ != nullptr, "ForwardPlan: it is empty; make it with gdnjit::moe::plan()");
  std::array<TensorView, kMaxForwardTensors> tensors;
  const std::size_t count = gather_forward_args(prepared_->problem, args, tensors);
  prepared_->plan->run(std::span(tensors.data(), count), stream);
}

std::int64_t ForwardPlan::workspace_bytes(std::int64_t tokens) const {
  require(prepared_ != nullptr, "ForwardPlan: it is empty; make it with gdnjit::moe::plan()");
  return prepared_->plan->instance().workspace_bytes(1, tokens);
}

const PlanInfo& ForwardPlan::info() const {
  require(prepared_ != nullptr, "ForwardPlan: it is empty; make it with gdnjit::moe::plan()");
  return prepared_->plan->info();
}

UpPlan plan_up(Runtime& runtime, const ExpertsProblem& problem) {
  auto& plans = runtime.impl().plans().expert_ups();
  if (const auto* found = plans.find(problem)) return UpPlan(*found);
  auto made = find_or_make_plan(runtime.impl(), find_operator("moe.up"), to_fields(problem));
  return UpPlan(plans.insert(problem, std::make_shared<UpPlan::Prepared>(UpPlan::Prepared{problem, made})));
}

void UpPlan::run(const UpArgs& args, void* stream) const {
  require(prepared_ != nullptr, "UpPlan: it is empty; make it with gdnjit::moe::plan_up()");
  std::array<TensorView, kMaxUpTensors> tensors;
  const std::size_t count = gather_up_args(prepared_->problem, args, tensors);
  prepared_->plan->run(std::span(tensors.data(), count), stream);
}

const PlanInfo& UpPlan::info() const {
  require(prepared_ != nullptr, "UpPlan: it is empty; make it with gdnjit::moe::plan_up()");
  return prepared_->plan->info();
}

DownPlan plan_down(Runtime& runtime, const ExpertsProblem& problem) {
  auto& plans = runtime.impl().plans().expert_downs();
  if (const auto* found = plans.find(problem)) return DownPlan(*found);
  auto made = find_or_make_plan(runtime.impl(), find_operator("moe.down"), to_fields(problem));
  return DownPlan(plans.insert(problem, std::make_shared<DownPlan::Prepared>(DownPlan::Prepared{problem, made})));
}

void DownPlan::run(const DownArgs& args, void* stream) const {
  require(prepared_ != nullptr, "DownPlan: it is empty; make it with gdnjit::moe::plan_down()");
  std::array<TensorView, kMaxDownTensors> tensors;
  const std::size_t count = gather_down_args(prepared_->problem, args, tensors);
  prepared_->plan->run(std::span(tensors.data(), count), stream);
}

const PlanInfo& DownPlan::info() const {
  require(prepared_ != nullptr, "DownPlan: it is empty; make it with gdnjit::moe::plan_down()");
  return prepared_->plan->info();
}

}  // namespace gdnjit::moe

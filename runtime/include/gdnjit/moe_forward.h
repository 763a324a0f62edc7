// A whole layer of experts: router logits, or ids and weights, in, hidden states out.
#pragma once

#include <gdnjit/moe.h>
#include <gdnjit/moe_route.h>
#include <gdnjit/runtime.h>
#include <gdnjit/tensor.h>

#include <concepts>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

namespace gdnjit::moe {

// moe.route, moe.up and moe.down in one call: three launches for few tokens, two if the caller routes. Each part has
// its tiles from its own tuning records. On sm_90 and later moe.down fetches its weights while moe.up still runs. What
// is not said here is as in RouteProblem and ExpertsProblem.
struct ForwardProblem {
  std::int64_t tokens = 1;
  int hidden_size = 2048;
  int intermediate_size = 512;
  int experts = 256;
  int top_k = 8;
  bool route = true;       // logits are given; false: topk_ids and topk_weights
  int router_experts = 0;  // columns of the logits, with an expert_map those of all experts everywhere; 0: experts
  Scoring scoring = Scoring::softmax;
  bool renormalize = true;
  bool selection_bias = false;
  bool router_bias = false;
  int groups = 1;
  int groups_kept = 1;
  GroupScore group_score = GroupScore::max;
  float scaling = 1.0F;
  float softcap = 0.0F;
  DType logits_dtype = DType::f32;
  DType router_bias_dtype = DType::f32;
  DType io_dtype = DType::bf16;
  DType h_dtype = DType::bf16;
  DType output_dtype = DType::bf16;
  DType id_dtype = DType::i32;
  WeightFormat weights = WeightFormat::bf16;
  int group_size = 128;
  DType scale_dtype = DType::bf16;
  ZeroPoint zero_point = ZeroPoint::eight;
  ActivationFormat activations = ActivationFormat::io;
  Activation activation = Activation::silu;
  float swiglu_alpha = 1.702F;
  float swiglu_limit = 7.0F;
  GateOrder gate_order = GateOrder::gate_up;
  bool up_bias = false;
  bool down_bias = false;
  DType bias_dtype = DType::bf16;
  bool expert_map = false;
  int shared_size = 0;
  bool shared_gate = false;
  bool batch_invariant = false;
  bool programmatic = false;  // the call may start while its predecessor in the stream ends

  friend bool operator==(const ForwardProblem&, const ForwardProblem&) = default;
};

template <typename Self, typename Visitor>
requires std::same_as<std::remove_const_t<Self>, ForwardProblem>
constexpr void visit_fields(Self& problem, Visitor&& visit) {
  visit("M", problem.tokens);
  visit("D", problem.hidden_size);
  visit("I", problem.intermediate_size);
  visit("E", problem.experts);
  visit("k", problem.top_k);
  visit("route", problem.route);
  visit("router_experts", problem.router_experts);
  visit("scoring", problem.scoring);
  visit("renormalize", problem.renormalize);
  visit("selection_bias", problem.selection_bias);
  visit("router_bias", problem.router_bias);
  visit("groups", problem.groups);
  visit("groups_kept", problem.groups_kept);
  visit("group_score", problem.group_score);
  visit("scaling", problem.scaling);
  visit("softcap", problem.softcap);
  visit("logits", problem.logits_dtype);
  visit("router_bias_dtype", problem.router_bias_dtype);
  visit("io", problem.io_dtype);
  visit("h", problem.h_dtype);
  visit("output", problem.output_dtype);
  visit("id_dtype", problem.id_dtype);
  visit("weights", problem.weights);
  visit("group_size", problem.group_size);
  visit("scale_dtype", problem.scale_dtype);
  visit("zero_point", problem.zero_point);
  visit("activations", problem.activations);
  visit("activation", problem.activation);
  visit("swiglu_alpha", problem.swiglu_alpha);
  visit("swiglu_limit", problem.swiglu_limit);
  visit("gate_order", problem.gate_order);
  visit("up_bias", problem.up_bias);
  visit("down_bias", problem.down_bias);
  visit("bias_dtype", problem.bias_dtype);
  visit("expert_map", problem.expert_map);
  visit("shared_size", problem.shared_size);
  visit("shared_gate", problem.shared_gate);
  visit("batch_invariant", problem.batch_invariant);
  visit("programmatic", problem.programmatic);
}

struct ForwardArgs {
  TensorView logits{};          // [M, router_experts], route
  TensorView router_bias{};     // [router_experts]
  TensorView selection_bias{};  // [router_experts]
  TensorView topk_ids{};        // [M, k], without route
  TensorView topk_weights{};    // f32 [M, k], without route
  TensorView x{};
  TensorView expert_map{};
  ExpertWeights w1{}, shared_w1{};
  TensorView shared_gate{};
  ExpertWeights w2{}, shared_w2{};
  TensorView workspace{};  // u8, at least ForwardPlan::workspace_bytes(M), 128-byte aligned
  TensorView y{};
};

// Ready to run. Cheap to copy; keeps its kernels loaded.
class ForwardPlan {
 public:
  struct Prepared;  // runtime/moe_forward.h

  ForwardPlan() = default;
  explicit ForwardPlan(std::shared_ptr<const Prepared> prepared) : prepared_(std::move(prepared)) {}
  explicit operator bool() const { return prepared_ != nullptr; }

  // On `stream`; allocates nothing, synchronises nothing, legal inside graph capture: a replay follows the ids that lie
  // there then. M is taken from x; M = 0 is a no-op. Throws invalid_argument before any device work.
  void run(const ForwardArgs& args, void* stream = nullptr) const;
  std::int64_t workspace_bytes(std::int64_t tokens) const;
  const PlanInfo& info() const;

 private:
  std::shared_ptr<const Prepared> prepared_;
};

// As gdn::plan(): may compile, load or tune once; an equal problem is a look-up from then on.
ForwardPlan plan(Runtime& runtime, const ForwardProblem& problem);

// plan(...).run(...). While `stream` is captured nothing is tuned.
void forward(Runtime& runtime, const ForwardProblem& problem, const ForwardArgs& args, void* stream = nullptr);

// The two products by themselves, in the same manner.
class UpPlan {
 public:
  struct Prepared;
  UpPlan() = default;
  explicit UpPlan(std::shared_ptr<const Prepared> prepared) : prepared_(std::move(prepared)) {}
  explicit operator bool() const { return prepared_ != nullptr; }
  void run(const UpArgs& args, void* stream = nullptr) const;
  const PlanInfo& info() const;

 private:
  std::shared_ptr<const Prepared> prepared_;
};
class DownPlan {
 public:
  struct Prepared;
  DownPlan() = default;
  explicit DownPlan(std::shared_ptr<const Prepared> prepared) : prepared_(std::move(prepared)) {}
  explicit operator bool() const { return prepared_ != nullptr; }
  void run(const DownArgs& args, void* stream = nullptr) const;
  const PlanInfo& info() const;

 private:
  std::shared_ptr<const Prepared> prepared_;
};
UpPlan plan_up(Runtime& runtime, const ExpertsProblem& problem);
DownPlan plan_down(Runtime& runtime, const ExpertsProblem& problem);

}  // namespace gdnjit::moe

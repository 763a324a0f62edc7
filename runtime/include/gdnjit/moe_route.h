// moe.route: from the router's logits to the k experts of each token and their weights.
#pragma once

#include <gdnjit/dtype.h>
#include <gdnjit/moe_options.h>
#include <gdnjit/runtime.h>
#include <gdnjit/tensor.h>

#include <concepts>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

namespace gdnjit::moe {

// For each token with logits x[E]:
//   z = softcap tanh(x / softcap) + router_bias               each where there is one
//   s = softmax(z), z or sigmoid(z)                           scoring softmax, topk_softmax or sigmoid
//   c = s + selection_bias                                    by which experts are chosen
//   ids: of the groups_kept best groups (by their largest c, or the sum of their two largest) the k experts with the
//        largest c, the largest first; among equals, experts or groups, the lower number
//   weights: s of the chosen, for topk_softmax softmax over their z; over their sum + 1e-20 if `renormalize`;
//            times `scaling`
// A NaN and -infinity among the z count as the lowest finite number, +infinity as the largest. So every token gets k
// different experts and finite weights; one whose logits are all NaN gets experts 0 .. k - 1 with equal weights (0 for
// sigmoid).
struct RouteProblem {
  std::int64_t tokens = 1;  // M. Selects the tuned tiles; a plan serves every M
  int experts = 256;        // E, up to kMaxExperts
  int top_k = 8;            // k, up to kMaxTopK and E
  Scoring scoring = Scoring::softmax;
  bool renormalize = false;     // topk_softmax is normalised already
  bool selection_bias = false;  // there is one: DeepSeek's e_score_correction_bias
  bool router_bias = false;     // there is one: the router's linear layer has a bias, as in gpt-oss
  int groups = 1;               // of E / groups experts in a row; up to 32
  int groups_kept = 1;
  GroupScore group_score = GroupScore::max;
  float scaling = 1.0F;  // DeepSeek's routed_scaling_factor
  float softcap = 0.0F;  // 0: none
  DType logits_dtype = DType::f32;
  DType bias_dtype = DType::f32;  // of both biases
  DType id_dtype = DType::i32;    // i32 or i64
  bool programmatic = false;      // programmatic dependent launch, sm_90 and later
  int alignment = 16;             // bytes that divide the addresses of logits and biases and the logits' row stride

  friend bool operator==(const RouteProblem&, const RouteProblem&) = default;
};

// Visits every field as visitor(name, member).
template <typename Self, typename Visitor>
requires std::same_as<std::remove_const_t<Self>, RouteProblem>
constexpr void visit_fields(Self& problem, Visitor&& visit) {
  visit("M", problem.tokens);
  visit("E", problem.experts);
  visit("k", problem.top_k);
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
  visit("bias_dtype", problem.bias_dtype);
  visit("id_dtype", problem.id_dtype);
  visit("programmatic", problem.programmatic);
  visit("alignment", problem.alignment);
}

// The tensors of one call. Rows are contiguous, their strides are free. With `programmatic` the kernel before this one
// in the stream must not write the biases, which are read early.
struct RouteArgs {
  TensorView logits{};          // [M,E]
  TensorView router_bias{};     // [E], router_bias
  TensorView selection_bias{};  // [E], selection_bias
  TensorView topk_weights{};    // [M,k] f32
  TensorView topk_ids{};        // [M,k]
};

// Ready to run. Cheap to copy; keeps its kernel loaded.
class RoutePlan {
 public:
  struct Prepared;  // runtime/moe_route.h

  RoutePlan() = default;
  explicit RoutePlan(std::shared_ptr<const Prepared> prepared) : prepared_(std::move(prepared)) {}
  explicit operator bool() const { return prepared_ != nullptr; }

  // One launch on `stream`; allocates nothing, synchronises nothing, legal inside graph capture. M is taken from the
  // tensors; M = 0 is a no-op. Throws invalid_argument before any device work.
  void run(const RouteArgs& args, void* stream = nullptr) const;
  const PlanInfo& info() const;

 private:
  std::shared_ptr<const Prepared> prepared_;
};

// As gdn::plan(): may compile, load or tune once; an equal problem is a look-up from then on.
RoutePlan plan(Runtime& runtime, const RouteProblem& problem);

// plan(...).run(...). While `stream` is captured nothing is tuned.
void route(Runtime& runtime, const RouteProblem& problem, const RouteArgs& args, void* stream = nullptr);

}  // namespace gdnjit::moe

// What shapes a routing kernel: config, tiles, parameter block. Host code includes this file too.
#pragma once

#include <gdnjit/dtype.h>
#include <gdnjit/moe_options.h>

namespace gdnjit::moe {

enum : int {
  kMaxRouteWarps = 16,
  kMaxGroups = 32,  // each has lanes of its own
};

// The signature of a kernel: two kernels with equal configs have equal source.
struct RouteConfig {
  // The problem. Fields that a choice makes meaningless hold their defaults.
  int experts = 256;  // E
  int top_k = 8;      // k
  Scoring scoring = Scoring::softmax;
  bool renormalize = false;
  bool selection_bias = false;
  bool router_bias = false;
  int groups = 1;
  int groups_kept = 1;
  GroupScore group_score = GroupScore::max;
  float scaling = 1.0f;
  float softcap = 0.0f;  // 0: none
  DType logits_dtype = DType::f32;
  DType bias_dtype = DType::f32;
  DType id_dtype = DType::i32;
  bool programmatic = false;
  int vector = 4;  // logits, and biases, of an access; divides lane_experts() and group_experts()
  // Tiles.
  int warps = 1;  // of a block; each has a token

  // A group of experts lies in a power of two of neighbouring lanes, each with lane_experts() of them in a row. So a
  // lower lane has lower ids, and what is best in a group needs no lanes outside of it.
  constexpr int group_experts() const { return experts / groups; }
  constexpr int group_lanes() const {
    int lanes = 32;
    while (lanes * groups > 32) lanes /= 2;
    return lanes;
  }
  constexpr int lane_experts() const { return (group_experts() + group_lanes() - 1) / group_lanes(); }

  // Whether groups are compared by a sum, which only the scores themselves give.
  constexpr bool sums_scores() const { return groups > 1 && group_score == GroupScore::top2_sum; }
  // Whether experts are chosen by their logits. Scores grow with logits, and logits tell apart what rounded scores do
  // not.
  constexpr bool chooses_by_logits() const {
    return !selection_bias && (scoring == Scoring::topk_softmax || !sums_scores());
  }
  // Whether even by the logits as they lie in memory: a soft-cap keeps their order.
  constexpr bool chooses_by_input() const { return chooses_by_logits() && !router_bias && !sums_scores(); }
  // Whether number and expert fit one key: logits of 16 bits are fp32 numbers whose 13 lowest bits are 0, ids have 10.
  constexpr bool packs_ids() const { return chooses_by_input() && dtype_bytes(logits_dtype) == 2; }

  constexpr int threads() const { return warps * 32; }
  constexpr long long grid(long long tokens) const { return (tokens + warps - 1) / warps; }

  // Why the kernel cannot be, or nullptr.
  constexpr const char* fault() const {
    if (experts < 1 || experts > kMaxExperts) return "E must be 1 to 1024";
    if (top_k < 1 || top_k > kMaxTopK || top_k > experts) return "k must be 1 to 32 and at most E";
    if (groups < 1 || groups > kMaxGroups || experts % groups != 0) return "groups must be 1 to 32 and divide E";
    if (groups_kept < 1 || groups_kept > groups || groups_kept * group_experts() < top_k)
      return "groups_kept must be 1 to groups, with k experts in them";
    if (sums_scores() && group_experts() < 2) return "groups of two experts at least have a sum of two";
    if (vector < 1 || lane_experts() % vector != 0 || group_experts() % vector != 0)
      return "vector must divide the experts of a lane and of a group";
    if (warps < 1 || warps > kMaxRouteWarps) return "warps must be 1 to 16";
    return nullptr;
  }
};

// The fields in canonical order; Self is RouteConfig or const RouteConfig.
template <typename Self, typename Visitor>
constexpr void visit_route_config(Self& c, Visitor&& visit) {
  visit("experts", c.experts);
  visit("top_k", c.top_k);
  visit("scoring", c.scoring);
  visit("renormalize", c.renormalize);
  visit("selection_bias", c.selection_bias);
  visit("router_bias", c.router_bias);
  visit("groups", c.groups);
  visit("groups_kept", c.groups_kept);
  visit("group_score", c.group_score);
  visit("scaling", c.scaling);
  visit("softcap", c.softcap);
  visit("logits_dtype", c.logits_dtype);
  visit("bias_dtype", c.bias_dtype);
  visit("id_dtype", c.id_dtype);
  visit("programmatic", c.programmatic);
  visit("vector", c.vector);
  visit("warps", c.warps);
}

// Visits every field under its member name.
template <typename Visitor>
constexpr void visit_fields(RouteConfig& c, Visitor&& visit) {
  visit_route_config(c, visit);
}
template <typename Visitor>
constexpr void visit_fields(const RouteConfig& c, Visitor&& visit) {
  visit_route_config(c, visit);
}

// The kernel's only argument, passed by value. Strides count elements.
struct RouteParams {
  const void* logits;          // [M,E]
  const void* router_bias;     // [E]
  const void* selection_bias;  // [E]
  float* weights;              // [M,k]
  void* ids;                   // [M,k]
  long long logits_row, weights_row, ids_row;
  long long tokens;  // M
};

}  // namespace gdnjit::moe

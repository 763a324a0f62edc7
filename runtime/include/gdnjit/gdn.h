// Gated DeltaNet operators: what a caller says about a layer, and what it hands over in a call.
#pragma once

#include <gdnjit/dtype.h>
#include <gdnjit/gdn_options.h>
#include <gdnjit/tensor.h>

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace gdnjit::gdn {

// The largest T that `step` bakes into a kernel.
inline constexpr int kMaxStepTokens = 16;

// A decode step (T = 1). Everything here is known when a model is loaded; pointers and strides come with the call.
// Shapes: q, k [B,T,H,K]; v, o [B,T,HV,V]; a, b [B,T,HV]; state [B or slots, HV, K, V] (kv) or [.., V, K] (vk).
struct StepProblem {
  std::int64_t batch = 1;            // B. Selects the tuned tiles; a plan serves every B unless exact_batch is set
  bool exact_batch = false;          // bake B into the kernel
  int tokens = 1;                    // T
  int heads_k = 16;                  // H, query and key heads
  int heads_v = 32;                  // HV, a multiple of H
  int head_dim_k = 128;              // K
  int head_dim_v = 128;              // V
  DType io_dtype = DType::bf16;      // q, k, v, a, b (and g, beta)
  DType state_dtype = DType::f32;    // storage of the state; registers are always fp32
  DType output_dtype = DType::bf16;  // o
  DType gate_dtype = DType::bf16;    // a, g or alpha
  DType beta_dtype = DType::bf16;    // b or beta
  DType a_log_dtype = DType::f32;    // A_log
  DType dt_bias_dtype = DType::f32;  // dt_bias
  DType slot_dtype = DType::i32;     // read_slot, write_slot: i32 or i64
  float scale = 0.0F;                // factor on q after the norm; 0 means K^-0.5
  Norm norm = Norm::sumsq_eps;
  float norm_eps = 1e-6F;
  Gate gate = Gate::raw;
  float gate_lower_bound = -5.0F;  // of Gate::channel_sigmoid
  Beta beta = Beta::sigmoid;
  HeadMap head_map = HeadMap::grouped;
  StateLayout state_layout = StateLayout::vk;
  StateStore state_store = StateStore::dense;
  PadSentinel pad_sentinel = PadSentinel::negative;  // of StateStore::pool
  PadPolicy pad_policy = PadPolicy::zero;            // of StateStore::pool
  InputLayout input_layout = InputLayout::separate;
  int state_alignment = 16;  // bytes that divide the state's address and its slot and head strides
  int io_alignment = 16;     // bytes that divide q's and k's addresses and strides

  friend bool operator==(const StepProblem&, const StepProblem&) = default;
};

// Visits every field as visitor(name, member). The names are those of the command line, the tuning records and
// the canonical text; a field left out here does not compile (codegen/fields.h counts them).
template <typename Self, typename Visitor>
requires std::same_as<std::remove_const_t<Self>, StepProblem>
constexpr void visit_fields(Self& problem, Visitor&& visit) {
  visit("B", problem.batch);
  visit("exact_batch", problem.exact_batch);
  visit("T", problem.tokens);
  visit("H", problem.heads_k);
  visit("HV", problem.heads_v);
  visit("K", problem.head_dim_k);
  visit("V", problem.head_dim_v);
  visit("io", problem.io_dtype);
  visit("state", problem.state_dtype);
  visit("output", problem.output_dtype);
  visit("gate_dtype", problem.gate_dtype);
  visit("beta_dtype", problem.beta_dtype);
  visit("a_log_dtype", problem.a_log_dtype);
  visit("dt_bias_dtype", problem.dt_bias_dtype);
  visit("slot_dtype", problem.slot_dtype);
  visit("scale", problem.scale);
  visit("norm", problem.norm);
  visit("norm_eps", problem.norm_eps);
  visit("gate", problem.gate);
  visit("gate_lower_bound", problem.gate_lower_bound);
  visit("beta", problem.beta);
  visit("head_map", problem.head_map);
  visit("state_layout", problem.state_layout);
  visit("state_store", problem.state_store);
  visit("pad_sentinel", problem.pad_sentinel);
  visit("pad_policy", problem.pad_policy);
  visit("input_layout", problem.input_layout);
  visit("state_alignment", problem.state_alignment);
  visit("io_alignment", problem.io_alignment);
}

// The tensors of one call, in the order of the operator's tensor list. Leave out what the problem does not use:
// q, k, v with InputLayout::separate; mixed_qkv [B,T,2 H K + HV V] or qkvz [B,T,H (2K + 2rV)] in `packed`
// (then a and b are separate tensors for mixed_qkv, and ba [B,T,H 2r] goes into `a` for qkvz).
struct StepArgs {
  TensorView q{}, k{}, v{};
  TensorView packed{};
  TensorView a{};          // a, g or alpha: [B,T,HV], per channel [B,T,HV,K]; ba for InputLayout::qkvz
  TensorView b{};          // b or beta: [B,T,HV]
  TensorView a_log{};      // [HV]
  TensorView dt_bias{};    // [HV], per channel [HV,K]
  TensorView state_in{};   // [B or slots, HV, K, V] or [.., V, K]; slot and head strides are free
  TensorView state_out{};  // may be the same memory as state_in
  // [B], StateStore::pool; equal or different. A row whose read_slot is the pad sentinel is padded; one whose
  // write_slot alone is computes its output and stores no state. No row may write a slot that another row of the call
  // reads.
  TensorView read_slot{}, write_slot{};
  TensorView o{};  // [B,T,HV,V]
};

}  // namespace gdnjit::gdn

// Gated DeltaNet operators: what a caller says about a layer, and what it hands over in a call.
#pragma once

#include <gdnjit/dtype.h>
#include <gdnjit/gdn_options.h>
#include <gdnjit/tensor.h>

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace gdnjit::gdn {

// T = 1 is a decode step; T = 2..kMaxStepTokens verifies drafted tokens in one call, one state read and at most one
// write. Everything here is known when a model is loaded; pointers and strides come with the call.
// Shapes: q, k [B,T,H,K]; v, o [B,T,HV,V]; a, b [B,T,HV]; state [B or slots, HV, K, V] (kv) or [.., V, K] (vk).
//
// With an fp32 state the bits of T tokens in one call are those of T calls of one token, as long as both kernels sum
// over K in the same order: default tiles of problems that differ in T alone do; sum_lanes makes tuned ones do it too.
struct StepProblem {
  std::int64_t batch = 1;            // B. Selects the tuned tiles; a plan serves every B unless exact_batch is set
  bool exact_batch = false;          // bake B into the kernel
  int tokens = 1;                    // T, 1..kMaxStepTokens
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
  DType slot_dtype = DType::i32;     // of every slot array: i32 or i64
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
  // Where the state after each token is kept: dense in step_states [B,T,HV,..], or in the pool's rows step_slot[B,T].
  StatePlace state_steps = StatePlace::none;
  // Not none: the initial state is the one after num_accepted[B] tokens of an earlier call, kept densely in
  // accepted_states or in the pool's rows accepted_slot; that of state_in if num_accepted is 0.
  StatePlace num_accepted = StatePlace::none;
  bool tree = false;          // token t continues from the state after token parent[B,T], not from that after t - 1
  bool update_state = true;   // false: frozen verify, no final state is written
  bool write_output = true;   // false: state rebuild, there is no o and no q
  bool programmatic = false;  // programmatic dependent launch, sm_90 and later; see StepArgs
  // The mixer: what stands between the layer's projections, in the same launch. q, k and v may first go through a
  // depthwise causal convolution over the tokens and a SiLU, their channels in the order q H*K | k H*K | v HV*V:
  //   x_t = silu(bias + sum_j weight[channel, j] input_(t + j + 1 - conv_width))
  // whose state is the conv_width - 1 inputs before the call, the oldest first. It lies, is read and is written where
  // the recurrent state is: dense or in the rows of a pool, after each token, after num_accepted tokens, along a tree.
  int conv_width = 0;  // 2, 3 or 4; 0: none
  bool conv_bias = false;
  DType conv_state_dtype = DType::bf16;
  DType conv_dtype = DType::bf16;  // weight and bias
  // And o may become w (o rsqrt(mean(o^2) + eps)) act(z), the mean over V; needs write_output.
  GatedNorm gated_norm = GatedNorm::none;
  float gated_norm_eps = 1e-6F;
  DType gated_norm_dtype = DType::bf16;  // w; z is of io_dtype
  // Lanes that share a column's sum over K: 1, 2, 4, .., 32, or 0 for what the tiles choose. It fixes the order of
  // summation, and with it the bits of the results, over B, T, tiles, devices and gdn.recurrent.
  int sum_lanes = 0;
  int state_alignment = 16;  // bytes that divide the states' addresses and their row, token and head strides
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
  visit("state_steps", problem.state_steps);
  visit("num_accepted", problem.num_accepted);
  visit("tree", problem.tree);
  visit("update_state", problem.update_state);
  visit("write_output", problem.write_output);
  visit("programmatic", problem.programmatic);
  visit("conv_width", problem.conv_width);
  visit("conv_bias", problem.conv_bias);
  visit("conv_state", problem.conv_state_dtype);
  visit("conv_dtype", problem.conv_dtype);
  visit("gated_norm", problem.gated_norm);
  visit("gated_norm_eps", problem.gated_norm_eps);
  visit("gated_norm_dtype", problem.gated_norm_dtype);
  visit("sum_lanes", problem.sum_lanes);
  visit("state_alignment", problem.state_alignment);
  visit("io_alignment", problem.io_alignment);
}

// The tensors of one call, in the order of the operator's tensor list. Leave out what the problem does not use:
// q, k, v with InputLayout::separate; mixed_qkv [B,T,2 H K + HV V] or qkvz [B,T,H (2K + 2rV)] in `packed`
// (then a and b are separate tensors for mixed_qkv, and ba [B,T,H 2r] goes into `a` for qkvz).
//
// With `programmatic` the kernel may start while the one before it in the stream still runs; it waits for that one
// before it reads q, k, v, z, a, b and the convolution's state and before it writes anything. States, slots,
// num_accepted, A_log and dt_bias are read before: the kernel just before in the stream must not write them. Earlier
// ones may.
struct StepArgs {
  TensorView q{}, k{}, v{};  // no q with write_output = false, unless a convolution keeps its inputs
  TensorView packed{};
  TensorView a{};          // a, g or alpha: [B,T,HV], per channel [B,T,HV,K]; ba for InputLayout::qkvz
  TensorView b{};          // b or beta: [B,T,HV]
  TensorView a_log{};      // [HV]
  TensorView dt_bias{};    // [HV], per channel [HV,K]
  TensorView state_in{};   // [B or slots, HV, K, V] or [.., V, K]; slot and head strides are free
  TensorView state_out{};  // dense, update_state: may be the same memory as state_in
  // [B], StateStore::pool; equal or different; no write_slot without update_state. A row whose read_slot is the pad
  // sentinel is padded; one whose write_slot alone is computes its output and stores no final state. No row may write a
  // slot that another row of the call reads.
  TensorView read_slot{}, write_slot{};
  TensorView num_accepted{};     // [B] i32, 0 .. the columns of the next two
  TensorView accepted_states{};  // StatePlace::dense: [B, any, HV, ..]; may be the memory of step_states
  TensorView accepted_slot{};    // StatePlace::pool: [B, any]; may be step_slot. A sentinel makes the row padded
  TensorView parent{};           // [B,T] i32, tree: parent[t] < t; negative for the initial state
  TensorView step_states{};      // StatePlace::dense: [B,T,HV, ..]
  TensorView step_slot{};        // StatePlace::pool: [B,T], no slot twice; the state of a sentinel is not stored
  // The convolution. All strides of its states are free: engines keep the channels or the inputs contiguous.
  TensorView conv_weight{};           // [channels, conv_width], dense
  TensorView conv_bias{};             // [channels]
  TensorView conv_state_in{};         // [B or slots, channels, conv_width - 1]; a pool has as many slots as state_in
  TensorView conv_state_out{};        // dense, update_state: may be the same memory as conv_state_in
  TensorView accepted_conv_states{};  // beside accepted_states: [B, any, channels, conv_width - 1]
  TensorView step_conv_states{};      // beside step_states: [B,T,channels, conv_width - 1]
  // [B,H] i32, if states of the convolution are stored: zeros before the first call, and every call leaves zeros. Calls
  // that may run at the same time need one each.
  TensorView conv_ticket{};
  TensorView z{};            // gated_norm: [B,T,HV,V] of io_dtype; inside `packed` with InputLayout::qkvz
  TensorView norm_weight{};  // gated_norm: [V]
  TensorView o{};            // [B,T,HV,V]
};

// The same layer over any number of tokens, known at run time: short prompts, ragged extends, and the exact path at any
// T. A plan serves every B and every T.
// Shapes as for StepProblem; with `ragged` the sequences lie one after another in tensors of B = 1, and cu_seqlens says
// where. Tokens' bits are those of gdn.step with the same sum_lanes (and by default those of its default tiles).
struct RecurrentProblem {
  std::int64_t batch = 1;    // sequences for which tiles are chosen
  std::int64_t tokens = 64;  // T for which tiles are chosen; of a ragged batch the average
  bool ragged = false;       // cu_seqlens: sequences of different lengths, also of none
  int heads_k = 16;
  int heads_v = 32;
  int head_dim_k = 128;
  int head_dim_v = 128;
  DType io_dtype = DType::bf16;
  DType state_dtype = DType::f32;
  DType output_dtype = DType::bf16;
  DType gate_dtype = DType::bf16;
  DType beta_dtype = DType::bf16;
  DType a_log_dtype = DType::f32;
  DType dt_bias_dtype = DType::f32;
  DType slot_dtype = DType::i32;
  float scale = 0.0F;
  Norm norm = Norm::sumsq_eps;
  float norm_eps = 1e-6F;
  Gate gate = Gate::raw;
  float gate_lower_bound = -5.0F;
  Beta beta = Beta::sigmoid;
  HeadMap head_map = HeadMap::grouped;
  StateLayout state_layout = StateLayout::vk;
  StatePlace initial_state = StatePlace::none;  // none: zeros
  StatePlace final_state = StatePlace::dense;   // none: the state is dropped
  PadSentinel pad_sentinel = PadSentinel::negative;
  PadPolicy pad_policy = PadPolicy::zero;
  InputLayout input_layout = InputLayout::separate;
  bool write_output = true;
  bool programmatic = false;
  int sum_lanes = 0;
  int state_alignment = 16;
  int io_alignment = 16;

  friend bool operator==(const RecurrentProblem&, const RecurrentProblem&) = default;
};

template <typename Self, typename Visitor>
requires std::same_as<std::remove_const_t<Self>, RecurrentProblem>
constexpr void visit_fields(Self& problem, Visitor&& visit) {
  visit("B", problem.batch);
  visit("T", problem.tokens);
  visit("ragged", problem.ragged);
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
  visit("initial_state", problem.initial_state);
  visit("final_state", problem.final_state);
  visit("pad_sentinel", problem.pad_sentinel);
  visit("pad_policy", problem.pad_policy);
  visit("input_layout", problem.input_layout);
  visit("write_output", problem.write_output);
  visit("programmatic", problem.programmatic);
  visit("sum_lanes", problem.sum_lanes);
  visit("state_alignment", problem.state_alignment);
  visit("io_alignment", problem.io_alignment);
}

// The tensors of one call; what is not said here is as in StepArgs.
struct RecurrentArgs {
  TensorView q{}, k{}, v{};  // [B,T,..]; ragged: [1, all tokens, ..]
  TensorView packed{};
  TensorView a{}, b{};
  TensorView a_log{}, dt_bias{};
  TensorView cu_seqlens{};  // [B + 1] i32 on the device, ragged: first token of each sequence, then the end
  TensorView state_in{};    // initial_state: dense, or the pool
  TensorView state_out{};   // final_state: dense (may be state_in's memory) or the pool; none if both are in the pool
  TensorView read_slot{};   // [B], initial_state = pool; the pad sentinel marks a padded row
  TensorView write_slot{};  // [B], final_state = pool; the pad sentinel: the final state is dropped
  TensorView o{};
};

}  // namespace gdnjit::gdn

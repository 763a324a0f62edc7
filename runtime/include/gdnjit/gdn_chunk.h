// Chunked prefill of Gated DeltaNet layers: the same layer over many tokens, 64 at a time through the tensor cores.
#pragma once

#include <gdnjit/gdn.h>

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace gdnjit::gdn {

// A call computes what gdn.recurrent computes, with the products in 16 bits: those of io_dtype, or bf16 if that is f32.
// States between chunks stay fp32. A call is several kernels with a workspace between them; a plan serves every B and
// every T. What is not said here is as in RecurrentProblem.
struct ChunkProblem {
  std::int64_t batch = 1;      // sequences for which tiles are chosen
  std::int64_t tokens = 1024;  // T for which tiles are chosen; of a ragged batch the average
  bool ragged = false;         // cu_seqlens: sequences of different lengths, also of none. Never read on the host
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
  // The states after every checkpoint_every tokens of a sequence, kept densely in checkpoints [B, any, HV, ..] or in
  // the pool's rows checkpoint_slot [B, any]. Checkpoint j is the state after (j + 1) * checkpoint_every tokens; there
  // are as many as fit into the sequence's length and into the columns.
  StatePlace checkpoints = StatePlace::none;
  int checkpoint_every = 64;  // a multiple of 64
  // 0: exact. Else calls with long sequences in few heads may be approximate, which is faster: a sequence is cut into
  // segments that run side by side, and each but the first begins, from zeros, this many tokens ahead of itself
  // (rounded up to whole chunks of 64) - or with the true initial state, and exactly, where the sequence begins no
  // further ahead. Whether a call is cut depends on tiles and shapes alone.
  //
  // The error. With S_w the true state where a segment begins, two states differ behind a token by
  // (I - beta kn kn^T) diag(e^g) times what they differed by before. For |kn| <= 1 and 0 <= beta <= 2 the first factor
  // makes no vector longer, and the second leaves e^g of it, per channel that of the channel that fades least. So
  // behind token t, with G the sum over the tokens w .. t of g (per channel of its largest), for every column v of V
  //   |S'_t[:, v] - S_t[:, v]| <= e^G |S_w[:, v]|    and    |o'_t[v] - o_t[v]| <= e^G |scale qn_t| |S_w[:, v]|
  // in lengths over K, and the same for the Frobenius and the spectral norm of the whole. G is at most its sum over the
  // warm-up: a segment's first token has the largest error, and segments do not add to each other's. With g = -0.1 128
  // tokens leave e^G = 2.8e-6, with g = -0.001 they leave 0.88: how much warm-up is enough depends on the layer's
  // gates, and |S_w| on all that it has seen. The kernel's norms keep |kn| <= 1; callers with norm=none, or who give
  // beta or gates, keep beta |k|^2 <= 2 and g <= 0 themselves.
  int warmup = 0;
  PadSentinel pad_sentinel = PadSentinel::negative;
  PadPolicy pad_policy = PadPolicy::zero;
  InputLayout input_layout = InputLayout::separate;
  bool write_output = true;
  bool programmatic = false;  // programmatic dependent launch of the call's first kernel
  int state_alignment = 16;
  int io_alignment = 16;  // bytes that divide the addresses and strides of q, k, v and o

  friend bool operator==(const ChunkProblem&, const ChunkProblem&) = default;
};

template <typename Self, typename Visitor>
requires std::same_as<std::remove_const_t<Self>, ChunkProblem>
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
  visit("checkpoints", problem.checkpoints);
  visit("checkpoint_every", problem.checkpoint_every);
  visit("warmup", problem.warmup);
  visit("pad_sentinel", problem.pad_sentinel);
  visit("pad_policy", problem.pad_policy);
  visit("input_layout", problem.input_layout);
  visit("write_output", problem.write_output);
  visit("programmatic", problem.programmatic);
  visit("state_alignment", problem.state_alignment);
  visit("io_alignment", problem.io_alignment);
}

// The tensors of one call; what is not said here is as in RecurrentArgs. With `programmatic` nothing that the kernel
// before in the stream writes is read early.
struct ChunkArgs {
  TensorView q{}, k{}, v{};
  TensorView packed{};
  TensorView a{}, b{};
  TensorView a_log{}, dt_bias{};
  TensorView cu_seqlens{};
  TensorView state_in{};
  TensorView state_out{};
  TensorView read_slot{};
  TensorView write_slot{};
  TensorView checkpoints{};      // StatePlace::dense: [B, any, HV, ..]
  TensorView checkpoint_slot{};  // StatePlace::pool: [B, any], no slot twice; the state of a sentinel is not stored
  // [workspace_bytes()] or more, u8, 128-byte aligned. Its contents do not matter, before the call or after; calls that
  // may run at the same time need one each.
  TensorView workspace{};
  TensorView o{};
};

// Bytes of workspace for calls of up to that many sequences and tokens: T of each sequence, or all tokens of a ragged
// batch. Enough for any tiles on any device. Throws invalid_argument for a problem that breaks a rule.
std::int64_t workspace_bytes(const ChunkProblem& problem, std::int64_t sequences, std::int64_t tokens);

}  // namespace gdnjit::gdn

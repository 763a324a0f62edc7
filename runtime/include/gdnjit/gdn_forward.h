// A Gated DeltaNet layer over any number of tokens, by whichever kernels serve that number best.
#pragma once

#include <gdnjit/gdn.h>
#include <gdnjit/gdn_chunk.h>

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace gdnjit::gdn {

// A call is one of gdn.step, gdn.recurrent and gdn.chunk, and which one follows from shapes that the host knows:
//
//   gdn.step       T is 1, or the problem's own T if that is 2 to kMaxStepTokens; dense, and with an initial state that
//                  has a place of the same kind as the final one
//   gdn.chunk      more tokens a sequence than the plan's crossover. Of a ragged batch the average counts
//   gdn.recurrent  otherwise
//
// The crossover comes from the tuning records, or from a default that depends on B * HV (gdn-tune explain shows it).
// Equal calls take the same way, so their bits are equal. What is not said here is as in ChunkProblem.
struct ForwardProblem {
  std::int64_t batch = 1;
  std::int64_t tokens = 1024;  // T for which gdn.chunk's tiles are chosen
  bool ragged = false;
  int heads_k = 16;
  int heads_v = 32;
  int head_dim_k = 128;
  int head_dim_v = 128;
  DType io_dtype = DType::bf16;  // f32: gdn.chunk, which multiplies in 16 bits, runs for checkpoints only
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
  StatePlace initial_state = StatePlace::none;
  StatePlace final_state = StatePlace::dense;
  StatePlace checkpoints = StatePlace::none;  // not none: always gdn.chunk, which alone stores them
  int checkpoint_every = 64;
  int warmup = 0;  // tokens ahead of segments, where gdn.chunk may cut long sequences; not 0: see ChunkProblem::warmup
  PadSentinel pad_sentinel = PadSentinel::negative;
  PadPolicy pad_policy = PadPolicy::zero;
  InputLayout input_layout = InputLayout::separate;
  bool write_output = true;
  bool programmatic = false;
  int sum_lanes = 0;  // not 0: never gdn.chunk, which sums in an order of its own
  int state_alignment = 16;
  int io_alignment = 16;

  friend bool operator==(const ForwardProblem&, const ForwardProblem&) = default;
};

template <typename Self, typename Visitor>
requires std::same_as<std::remove_const_t<Self>, ForwardProblem>
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
  visit("sum_lanes", problem.sum_lanes);
  visit("state_alignment", problem.state_alignment);
  visit("io_alignment", problem.io_alignment);
}

// The tensors of one call. The workspace may be left empty where ForwardPlan::workspace_bytes() asks for none.
using ForwardArgs = ChunkArgs;

}  // namespace gdnjit::gdn

// Mixture-of-experts products: what a caller says about a layer's experts, and what it hands over in a call.
#pragma once

#include <gdnjit/dtype.h>
#include <gdnjit/moe_options.h>
#include <gdnjit/tensor.h>

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace gdnjit::moe {

// The two products of a layer with gated experts (Shazeer et al., 2017; formula in gdnjit/moe_options.h):
//   moe.up    h[m, s] = act(x[m] w1[e]^T) with e the expert of slot s, in fp32 up to the store of h
//   moe.down  y[m] = sum over s of weights[m, s] (h[m, s] w2[e]^T), in the order of the slots, in fp32
// A plan serves every M. An id that is negative or at least E, or that expert_map sends to -1, contributes nothing: its
// row of h stays as it was, and its weights are not read. A token that names an expert twice counts it twice.
//
// Equal calls have equal bits. With batch_invariant a token's bits do not depend on M either.
struct ExpertsProblem {
  std::int64_t tokens = 1;           // M. Selects the tuned tiles and nothing else
  int hidden_size = 2048;            // D, a multiple of 8
  int intermediate_size = 512;       // I, a multiple of 8
  int experts = 256;                 // E, those held here
  int top_k = 8;                     // k, slots of a token
  DType io_dtype = DType::bf16;      // x and shared_gate; f32, bf16 or f16
  DType h_dtype = DType::bf16;       // h: the io dtype or f32
  DType output_dtype = DType::bf16;  // y
  DType id_dtype = DType::i32;       // topk_ids: i32 or i64
  WeightFormat weights = WeightFormat::bf16;
  int group_size = 128;             // gs of int4 and int8: 16 2^n weights of a row share a scale; 0: the whole row
  DType scale_dtype = DType::bf16;  // of int4's and int8's scales and real zeros: f32, bf16 or f16
  ZeroPoint zero_point = ZeroPoint::eight;  // of int4
  // fp8: both products round what they take of x and of h (as stored) to e4m3. D, I and shared_size are multiples of
  // 16. shared_gate's product takes x itself.
  ActivationFormat activations = ActivationFormat::io;
  Activation activation = Activation::silu;
  float swiglu_alpha = 1.702F;  // of Activation::swiglu_oai
  float swiglu_limit = 7.0F;    // of Activation::swiglu_oai
  GateOrder gate_order = GateOrder::gate_up;
  bool up_bias = false;
  bool down_bias = false;
  DType bias_dtype = DType::bf16;
  bool expert_map = false;   // ids are those of all experts everywhere, expert_map says which are here
  int shared_size = 0;       // intermediate size of a shared expert in a slot behind the k others; 0: none
  bool shared_gate = false;  // its weight is sigmoid(x shared_gate), else 1
  bool batch_invariant = false;
  // Programmatic dependent launch, sm_90 and later. moe.up starts while its predecessor ends, and waits before it reads
  // anything. moe.down reads ids, topk_weights and w2 before it waits for h: only moe.up, itself programmatic or not,
  // may be its predecessor.
  bool programmatic = false;

  friend bool operator==(const ExpertsProblem&, const ExpertsProblem&) = default;
};

template <typename Self, typename Visitor>
requires std::same_as<std::remove_const_t<Self>, ExpertsProblem>
constexpr void visit_fields(Self& problem, Visitor&& visit) {
  visit("M", problem.tokens);
  visit("D", problem.hidden_size);
  visit("I", problem.intermediate_size);
  visit("E", problem.experts);
  visit("k", problem.top_k);
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

// The weights of one product of all experts, N rows of K: N = 2 I and K = D of w1 (N = I with Activation::relu2), N = D
// and K = I of w2. An expert's own memory is dense; experts may lie any distance apart. Formats: moe_options.h.
struct ExpertWeights {
  TensorView data{};          // [E, N, K] bf16 or f16; [E, N, K] u8 of int8 and fp8_block; [E, N, K/2] u8 of four bits
  TensorView scale{};         // [E, N, ceil(K/gs)]; fp8_block: f32 [E, ceil(N/128), ceil(K/128)]; mxfp4, nvfp4: u8
  TensorView zero{};          // int4: u8 [E, N/2, ceil(K/gs)] of ZeroPoint::packed, [E, N, ceil(K/gs)] of real
  TensorView global_scale{};  // nvfp4: f32 [E]
  TensorView bias{};          // [E, N]
};

// The tensors of moe.up. Rows of x and h are dense, tokens may lie any distance apart.
struct UpArgs {
  TensorView x{};           // [M, D], 16-byte aligned
  TensorView topk_ids{};    // [M, k]
  TensorView expert_map{};  // i32, any length
  ExpertWeights w1{};
  ExpertWeights shared_w1{};    // the same with E = 1 and I = shared_size
  TensorView shared_gate{};     // [D] in the io dtype
  TensorView h{};               // [M, slots, max(I, shared_size)], slots = k, + 1 with a shared expert; dense
  TensorView shared_weights{};  // f32 [M], written with shared_gate
  // u8, 16-byte aligned: memory between the kernels of plans for many tokens, empty where a plan needs none. Rows of h
  // and y begin at multiples of 16 bytes where it is used.
  TensorView workspace{};
};

struct DownArgs {
  TensorView h{};             // as moe.up wrote it
  TensorView topk_ids{};      // [M, k]
  TensorView topk_weights{};  // f32 [M, k]
  TensorView expert_map{};
  ExpertWeights w2{};
  ExpertWeights shared_w2{};
  TensorView shared_weights{};  // as moe.up wrote it
  TensorView y{};               // [M, D]
  TensorView workspace{};       // as of moe.up
};

}  // namespace gdnjit::moe

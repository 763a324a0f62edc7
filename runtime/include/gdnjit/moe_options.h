// The options of the mixture-of-experts operators. Each one is a compile-time field of the kernels.
// This header has no includes: host code and NVRTC templates read the same text.
//
// The layer, for M tokens x [M, D], E experts of which each token takes k, and an intermediate size I:
//
//   ids, weights = route(logits)
//   h[m, s] = act(x[m] w1[ids[m, s]]^T)                    one row of I numbers for every token and slot
//   y[m]    = sum over s of weights[m, s] (h[m, s] w2[ids[m, s]]^T)
//
// The sum is in the order of the slots. Everything between the weights in memory and a store is fp32.
#pragma once

namespace gdnjit::moe {

// The most slots a token may have, its shared expert not counted, and the most experts.
inline constexpr int kMaxTopK = 32;
inline constexpr int kMaxExperts = 1024;

// How router logits become weights of the chosen experts.
enum class Scoring : unsigned char {
  softmax,       // softmax over all experts, then the k largest                     Qwen, DeepSeek-V2
  topk_softmax,  // the k largest logits, then softmax over those                    Mixtral, gpt-oss
  sigmoid,       // sigmoid, then the k largest                                      DeepSeek-V3, Kimi, GLM
};

// What a group of experts is worth where only some groups are looked at.
enum class GroupScore : unsigned char {
  max,       // its best expert        DeepSeek-V2
  top2_sum,  // its two best together  DeepSeek-V3
};

// How the rows of pairs are ordered for kernels that work through whole experts.
enum class AlignLayout : unsigned char {
  sorted,      // pair numbers by expert, each expert's run padded to a multiple of BLOCK_M
  contiguous,  // the same rows, and for each the expert that it belongs to (DeepGEMM's grouped_layout)
  masked,      // a fixed number of rows for every expert, and how many of them are used (DeepGEMM's masked_m)
};

// Rows that `pairs` pairs of a token and one of its experts take at the most where each expert's are padded to a
// multiple of block_m: what AlignLayout::sorted and contiguous need memory for. A multiple of block_m itself.
constexpr long long align_capacity(long long pairs, int experts, int block_m) {
  const long long used = pairs < experts ? pairs : experts;
  return (pairs + used * (block_m - 1)) / block_m * block_m;
}

// How an expert's matrix lies in memory, row by row, each row along the dimension that is summed over.
enum class WeightFormat : unsigned char {
  bf16,
  f16,
  int4,       // two a byte, the even index in the low nibble: (q - zero) scale, 0 <= q <= 15
  int8,       // two's complement: q scale
  fp8_block,  // e4m3, one fp32 scale for each block of 128 x 128
  mxfp4,      // e2m1, two a byte as int4, one e8m0 scale for 32 of a row
  nvfp4,      // e2m1, one e4m3 scale for 16 of a row and one fp32 scale an expert
};

// The zero of int4 weights.
enum class ZeroPoint : unsigned char {
  eight,   // 8 everywhere
  packed,  // u8 [E, N/2, K/gs]: the even row in the low nibble
  real,    // [E, N, K/gs] in the scale's dtype: (q - 8) scale + zero
};

// What the products take of x and h.
enum class ActivationFormat : unsigned char {
  io,   // the numbers themselves
  fp8,  // e4m3 with a scale for each 128 neighbours of a row: s e4m3(448 x / a), a = max(|x| of the 128, 2^-100),
        // s = a / 448, in fp32, e4m3 to nearest even. Weights are fp8_block
};

// What becomes of gate and up.
enum class Activation : unsigned char {
  silu,        // gate sigmoid(gate) up
  gelu,        // gelu(gate) up, by the error function
  gelu_tanh,   // gelu(gate) up, by tanh
  swiglu_oai,  // (u + 1) g sigmoid(alpha g) with g = min(gate, limit), u = clamp(up, -limit, limit)
  relu2,       // max(up, 0)^2: there is no gate, w1 has I rows
};

// Where gate and up are among the 2 I rows of w1.
enum class GateOrder : unsigned char {
  gate_up,      // gate's rows, then up's   vLLM, Hugging Face
  up_gate,      // up's rows, then gate's   FlashInfer
  interleaved,  // gate 0, up 0, gate 1, .. gpt-oss
};

constexpr bool is_gated(Activation activation) { return activation != Activation::relu2; }

// Bits of one weight.
constexpr int weight_bits(WeightFormat format) {
  switch (format) {
    case WeightFormat::bf16:
    case WeightFormat::f16: return 16;
    case WeightFormat::int8:
    case WeightFormat::fp8_block: return 8;
    case WeightFormat::int4:
    case WeightFormat::mxfp4:
    case WeightFormat::nvfp4: return 4;
  }
  return 0;
}

}  // namespace gdnjit::moe

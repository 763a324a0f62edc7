// The options of the Gated DeltaNet operators. Each one is a compile-time field of the kernels.
// This header has no includes: host code and NVRTC templates read the same text.
//
// The recurrence, per sequence and value head hv with key head h (all in fp32):
//
//   g    = -exp(A_log[hv]) * softplus(a + dt_bias[hv])    log decay, <= 0
//   beta = sigmoid(b)
//   qn, kn = l2norm(q), l2norm(k);   qs = qn * scale
//   S    = exp(g) * S                                      decay first
//   d    = beta * (v - S^T kn)
//   S    = S + kn d^T
//   o    = S^T qs                                          output from the updated state
//
// Source: Yang, Kautz, Hatamizadeh, "Gated Delta Networks" (2024), in the form every public kernel agrees on.
#pragma once

namespace gdnjit::gdn {

// The largest T that gdn.step bakes into a kernel.
inline constexpr int kMaxStepTokens = 16;

// Which key head serves value head hv, with r = HV / H.
enum class HeadMap : unsigned char {
  grouped,  // h = hv / r
  modulo,   // h = hv % H (the order of llama.cpp's GGUF files)
};

// Memory order of one head's state.
enum class StateLayout : unsigned char {
  kv,  // [K, V], V contiguous ("nontranspose", "v last")
  vk,  // [V, K], K contiguous ("pretranspose", "k last")
};

// l2norm of q and k. They differ only on tiny vectors, which padding produces.
enum class Norm : unsigned char {
  none,
  sumsq_eps,  // x * rsqrt(sum x^2 + eps)   FLA, HF, vLLM, SGLang, FlashInfer, AITER, FlashQLA
  max_eps,    // x / max(|x|, eps)          ExecuTorch, llama.cpp
  add_eps,    // x / (|x| + eps)            TensorRT-LLM
};

// Where the decay comes from.
enum class Gate : unsigned char {
  none,             // no decay: plain DeltaNet
  log,              // g [B,T,HV] given
  alpha,            // exp(g) [B,T,HV] given
  raw,              // a [B,T,HV], A_log [HV], dt_bias [HV]
  channel_log,      // g [B,T,HV,K] given per key channel
  channel_raw,      // a [B,T,HV,K], A_log [HV], dt_bias [HV,K]: -exp(A_log) softplus(a + dt_bias)
  channel_sigmoid,  // a, A_log, dt_bias as channel_raw: lower_bound * sigmoid(exp(A_log) (a + dt_bias))
};

// Where the write strength comes from. It stays fp32 throughout.
enum class Beta : unsigned char {
  given,        // beta [B,T,HV]
  sigmoid,      // sigmoid(b)
  two_sigmoid,  // 2 sigmoid(b): negative eigenvalues allowed
  none,         // 1
};

// How q, k and v lie in memory. Kernels take strides, so this is an option of the call, never of the binary.
enum class InputLayout : unsigned char {
  separate,   // q, k [B,T,H,K] and v [B,T,HV,V], strided views
  mixed_qkv,  // one row a token: q H*K | k H*K | v HV*V
  qkvz,       // Qwen3-Next, per key head: q K | k K | v r*V | z r*V; and ba: b r | a r
};

// Where a sequence's state lives.
enum class StateStore : unsigned char {
  dense,  // [B,HV,..]: sequence i owns row i
  pool,   // [slots,HV,..]: read_slot[B] and write_slot[B] name the rows
};

// Where the states of one kind lie: a kind that a problem need not have at all.
enum class StatePlace : unsigned char {
  none,
  dense,  // rows of a tensor of their own, by sequence (and token)
  pool,   // rows of the pool, named by slots
};

// Which slot values mark a padded row of the batch.
enum class PadSentinel : unsigned char {
  negative,  // slot < 0
  zero,      // slot <= 0: slot 0 is the null block
};

// What happens to the output of a padded row. Its state is never touched.
enum class PadPolicy : unsigned char {
  skip,  // output untouched
  zero,  // output zeroed
};

// What happens to the output of a head before it is stored: nothing, or w (o rsqrt(mean(o^2) + eps)) act(z), the mean
// over V.
enum class GatedNorm : unsigned char {
  none,
  silu,     // act(z) = z sigmoid(z)
  sigmoid,  // act(z) = sigmoid(z)
};

constexpr bool gate_is_per_channel(Gate gate) {
  return gate == Gate::channel_log || gate == Gate::channel_raw || gate == Gate::channel_sigmoid;
}

// True if the gate reads A_log and dt_bias.
constexpr bool gate_has_parameters(Gate gate) {
  return gate == Gate::raw || gate == Gate::channel_raw || gate == Gate::channel_sigmoid;
}

}  // namespace gdnjit::gdn

// The weighted sum over a token's slots, y = sum of weights times results, in the order of the slots and in fp32. A
// thread has four neighbouring numbers of y of a token.
//
// grid = tokens x blocks of a token
#pragma once

#include "device/grid.cuh"
#include "moe/grouped_config.cuh"
#include "moe/pairs.cuh"

namespace gdnjit::moe {

// Of MatvecParams: in = the results fp32 [pairs, D], out = y, and what belongs to the tokens.
template <CombineConfig c>
struct Combine {
  static_assert(c.hidden_size % 8 == 0);
  enum : int { kThreads = c.threads() };

  static __device__ __forceinline__ void run(const MatvecParams& p) {
    const int block = static_cast<int>(blockIdx.x), vector = block % c.token_blocks() * kThreads + threadIdx.x;
    if (vector >= c.vectors()) return;
    const int token = block / c.token_blocks(), place = 4 * vector;
    device::wait_for_previous_grid();
    device::let_next_grid_start();

    float y[4] = {};
#pragma unroll
    for (int first = 0; first < c.slots(); first += kBatch) add(p, token, place, first, y);
    device::Word<c.out_dtype> words[device::words_of<c.out_dtype>(4)];
    device::pack<c.out_dtype>(y, words);
    device::store_vector<c.out_dtype, 4, device::CacheHint::normal>(
        device::element<c.out_dtype>(p.out, token * p.out_stride + place), words);
  }

 private:
  // Slots whose results are on their way at once.
  enum : int { kBatch = 8 };

  static __device__ __forceinline__ void add(const MatvecParams& p, int token, int place, int first, float (&y)[4]) {
    bool here[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      here[i] = first + i < c.slots() && expert_of<c>(p, token * c.slots() + first + i) >= 0;
    }
    float results[kBatch][4];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const long long pair = static_cast<long long>(token) * c.slots() + first + i;
      const float* const from = static_cast<const float*>(p.in) + pair * c.hidden_size + place;
      if (here[i]) device::load_words<16, device::CacheHint::streaming>(from, results[i]);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (!here[i]) continue;
      const float weight = weight_of(p, token, first + i);
#pragma unroll
      for (int j = 0; j < 4; ++j) y[j] = fmaf(weight, results[i][j], y[j]);
    }
  }

  static __device__ __forceinline__ float weight_of(const MatvecParams& p, int token, int slot) {
    if (c.shared_size > 0 && slot == c.top_k) return c.shared_gate ? p.shared_weights[token] : 1.0f;
    return p.weights[token * p.weights_stride + slot];
  }
};

}  // namespace gdnjit::moe

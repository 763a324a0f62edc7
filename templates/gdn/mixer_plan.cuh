// A mixer's blocks: which columns of V each of them serves, and what lies in its shared memory.
#pragma once

#include "gdn/step_config.cuh"

namespace gdnjit::gdn {

template <StepConfig c>
struct MixerPlan {
  // This block's number among those of its head, and its first column of V.
  static __device__ __forceinline__ int rank() { return static_cast<int>(blockIdx.x % c.head_blocks()); }
  static __device__ __forceinline__ int first_column() { return rank() * c.block_columns(); }
  // The block's columns that there are.
  static __device__ __forceinline__ int columns() {
    if constexpr (c.head_dim_v % c.block_columns() == 0) return c.block_columns();
    const int rest = c.head_dim_v - first_column();
    return rest < c.block_columns() ? rest : c.block_columns();
  }

  static __device__ __forceinline__ float* memory() {
    extern __shared__ __align__(16) float mixer_memory[];
    return mixer_memory;
  }
  // A token's q, k and v behind the convolution; in it keys lie at StepConfig::staged_place().
  static __device__ __forceinline__ float* staged(int t) { return memory() + t * c.staged_row(); }
  // A token's o of the whole head, before the norm.
  static __device__ __forceinline__ float* kept(int t) {
    return memory() + c.tokens * c.staged_row() + t * c.kept_row();
  }
  // Not 0 if this block stores the state of its key head's channels.
  static __device__ __forceinline__ float* flag() { return kept(c.tokens); }
};

}  // namespace gdnjit::gdn

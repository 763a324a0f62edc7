// What a warp of gdn.chunk's scan holds in registers: 16 rows (columns of V) of S^T, W^T, D^T and o^T, and how they
// come from memory and go there. The rows of mma.sync's m16 tile are also those of a warp in wgmma's m64 tile, so both
// scans use this.
//
// A fragment is float[4 * tiles]: element i of tile n, at 4 n + i, is row value + 8 (i / 2) and column
// 8 n + pair + i % 2, where (value, pair) = (first + lane / 4, 2 (lane % 4)). Columns are keys in S^T and tokens in the
// others.
#pragma once

#include "device/ldmatrix.cuh"
#include "device/memory.cuh"
#include "device/warp.cuh"
#include "gdn/chunk_config.cuh"

namespace gdnjit::gdn {

template <ChunkConfig c>
struct ChunkFragments {
  enum : int {
    kTokenTiles = kChunk / 8,
    kTokenFragment = 4 * kTokenTiles,  // elements of W^T, D^T, o^T
    kStateVector = c.state_layout == StateLayout::vk ? c.state_vector : 1,
    // Elements of a lane's access to o: after an exchange between neighbouring lanes 4 of 16 bits, which makes whole
    // sectors of a warp's 16 columns.
    kOutputVector = c.output_dtype == DType::f32 ? 1
                    : c.io_vector < 4            ? c.io_vector
                                                 : 4,
  };
  enum : bool {
    kMaskV = c.head_dim_v % c.block_v != 0,
    kMaskK = c.head_dim_k % 16 != 0,  // S^T has padded_k columns
  };

  struct Lane {
    int lane;
    int value;  // column of V of the lane's first row; its second is 8 behind
    int pair;   // the lane's first column in each tile of 8
  };
  static __device__ __forceinline__ Lane lane_of(int first_value) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    return {lane, first_value + lane / 4, 2 * (lane % 4)};
  }

  // ---- states --------------------------------------------------------------------------------------------------

  static __device__ __forceinline__ bool value_inside(int value) { return !kMaskV || value < c.head_dim_v; }
  static __device__ __forceinline__ bool key_inside(int key) { return !kMaskK || key < c.head_dim_k; }
  static __device__ __forceinline__ long long state_index(int value, int key) {
    return c.state_layout == StateLayout::vk ? static_cast<long long>(value) * c.head_dim_k + key
                                             : static_cast<long long>(key) * c.head_dim_v + value;
  }

  // Keys first_key .. first_key + 8 * kTiles of S^T from a head's state; zeros outside of K and V.
  template <int kTiles>
  static __device__ __forceinline__ void load_state(const void* head, const Lane& at, int first_key, float* s) {
    const void* start = device::element<c.state_dtype>(head, state_index(at.value, first_key + at.pair));
    using Word = device::Word<c.state_dtype>;
    constexpr int kWords = device::words_of<c.state_dtype>(kStateVector);
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; i += kStateVector) {
        const int value = 8 * (i / 2), key = 8 * n + i % 2;
        Word words[kWords] = {};
        if (value_inside(at.value + value) && key_inside(first_key + at.pair + key)) {
          const void* source = device::element<c.state_dtype>(start, state_index(value, key));
          device::load_vector<c.state_dtype, kStateVector, device::CacheHint::normal>(source, words);
        }
        device::unpack<c.state_dtype, kStateVector>(words, s + 4 * n + i);
      }
    }
  }

  // The same back, rounded once.
  template <int kTiles>
  static __device__ __forceinline__ void store_state(void* head, const Lane& at, int first_key, const float* s) {
    void* start = device::element<c.state_dtype>(head, state_index(at.value, first_key + at.pair));
    using Word = device::Word<c.state_dtype>;
    constexpr int kWords = device::words_of<c.state_dtype>(kStateVector);
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; i += kStateVector) {
        const int value = 8 * (i / 2), key = 8 * n + i % 2;
        if (!value_inside(at.value + value) || !key_inside(first_key + at.pair + key)) continue;
        float numbers[kStateVector];
#pragma unroll
        for (int e = 0; e < kStateVector; ++e) numbers[e] = s[4 * n + i + e];
        Word words[kWords];
        device::pack<c.state_dtype>(numbers, words);
        void* target = device::element<c.state_dtype>(start, state_index(value, key));
        device::store_vector<c.state_dtype, kStateVector, device::CacheHint::normal>(target, words);
      }
    }
  }

  // ---- operands ------------------------------------------------------------------------------------------------

  // Two neighbouring columns of one row, as the products take them.
  static __device__ __forceinline__ unsigned packed(float low, float high) {
    const float pair[2] = {low, high};
    unsigned word[1];
    device::pack<c.operand_dtype()>(pair, word);
    return word[0];
  }

  // The A operand (of mma.cuh) of k-step `step`: columns 16 step .. 16 step + 15 of a fragment.
  static __device__ __forceinline__ void operand(const float* fragment, int step, unsigned (&a)[4]) {
#pragma unroll
    for (int r = 0; r < 4; ++r) a[r] = packed(fragment[8 * step + 2 * r], fragment[8 * step + 2 * r + 1]);
  }

  // A lane's factors of the columns of tile n: `factors` holds one for each token, in shared memory.
  struct Pair {
    float numbers[2];
  };
  static __device__ __forceinline__ Pair factors_of(const float* factors, const Lane& at, int n) {
    const float2 both = *reinterpret_cast<const float2*>(factors + 8 * n + at.pair);
    return {{both.x, both.y}};
  }

  // fragment = columns times factors.
  static __device__ __forceinline__ void scale_columns(float* fragment, const Lane& at, const float* factors) {
#pragma unroll
    for (int n = 0; n < kTokenTiles; ++n) {
      const Pair f = factors_of(factors, at, n);
#pragma unroll
      for (int i = 0; i < 4; ++i) fragment[4 * n + i] *= f.numbers[i % 2];
    }
  }

  // ---- v -------------------------------------------------------------------------------------------------------

  // W^T = v^T - state_factor (k S)^T, in place of (k S)^T. `address(token, value)` is the shared address of an element
  // of the v tile, its columns counted as at.value is (8 from a multiple of 8 on are 16 aligned bytes, for 16-bit v).
  // kFactors false: the factors are part of k.
  template <bool kFactors, typename Address>
  static __device__ __forceinline__ void subtract_from_values(Address address, const Lane& at, const float* factors,
                                                              float* fragment) {
#pragma unroll
    for (int n = 0; n < kTokenTiles; n += 2) {
      float v[8];
      load_values(address, at, 8 * n, v);
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        Pair f = {{1.0f, 1.0f}};
        if constexpr (kFactors) f = factors_of(factors, at, n + m);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& element = fragment[4 * (n + m) + i];
          element = fmaf(-f.numbers[i % 2], element, v[4 * m + i]);
        }
      }
    }
  }

  // Two tiles of v^T, tokens first_token .. first_token + 15.
  template <typename Address>
  static __device__ __forceinline__ void load_values(Address address, const Lane& at, int first_token, float (&v)[8]) {
    if constexpr (c.io_dtype == DType::f32) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int token = first_token + 8 * (i / 4) + at.pair + i % 2;
        asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v[i]) : "r"(address(token, at.value + 8 * (i / 2 % 2))));
      }
    } else {
      // Matrices of 8 tokens by 8 columns, columns first, come transposed.
      const int token = first_token + at.lane % 8 + 8 * (at.lane / 16);
      const int value = at.value - at.lane / 4 + 8 * (at.lane / 8 % 2);
      unsigned matrices[4];
      device::ldmatrix_transposed<4>(matrices, address(token, value));
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        const unsigned word[1] = {matrices[m]};
        device::unpack<c.io_dtype, 2>(word, v + 2 * m);
      }
    }
  }

  // ---- o -------------------------------------------------------------------------------------------------------

  // Stores the first `tokens` columns of o^T. `o` is the element of the chunk's first token and V's first column.
  // Every lane of the warp takes part.
  static __device__ __forceinline__ void store_output(void* o, long long token_stride, const Lane& at, int tokens,
                                                      const float* fragment) {
#pragma unroll
    for (int n = 0; n < kTokenTiles; ++n) store_output_tile(o, token_stride, at, tokens, 8 * n, fragment + 4 * n);
  }

  // One tile of it, the tokens from first_token on.
  static __device__ __forceinline__ void store_output_tile(void* o, long long token_stride, const Lane& at, int tokens,
                                                           int first_token, const float* tile) {
    if constexpr (c.output_dtype == DType::f32) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int token = first_token + at.pair + i % 2, value = at.value + 8 * (i / 2);
        if (token >= tokens || !value_inside(value)) continue;
        device::store_scalar<c.output_dtype>(o, token * token_stride + value, tile[i]);
      }
    } else {
      // Transposed, a lane holds two neighbouring columns of a token, in each half of the rows.
      const float pairs[2][2] = {{tile[0], tile[1]}, {tile[2], tile[3]}};
      unsigned halves[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        unsigned word[1];
        device::pack<c.output_dtype>(pairs[h], word);
        halves[h] = device::transpose_matrix(word[0]);
      }
      const int token = first_token + at.lane / 4;
      const int first_value = at.value - at.lane / 4;
      if constexpr (kOutputVector == 4) {
        // Of two neighbouring lanes the even one takes both parts of the first half, the odd one of the second.
        const bool odd = at.lane % 2 != 0;
        const unsigned other = device::from_lane_xor(odd ? halves[0] : halves[1], 1);
        const unsigned words[2] = {odd ? other : halves[0], odd ? halves[1] : other};
        const int value = first_value + (odd ? 8 : 0) + (at.pair & 4);
        if (token < tokens && value_inside(value)) {
          void* target = device::element<c.output_dtype>(o, token * token_stride + value);
          device::store_vector<c.output_dtype, 4, device::CacheHint::normal>(target, words);
        }
      } else {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
#pragma unroll
          for (int e = 0; e < 2; e += kOutputVector) {
            const int value = first_value + 8 * h + at.pair + e;
            if (token >= tokens || !value_inside(value)) continue;
            void* target = device::element<c.output_dtype>(o, token * token_stride + value);
            const unsigned word[1] = {e == 0 ? halves[h] : halves[h] >> 16};
            device::store_vector<c.output_dtype, kOutputVector, device::CacheHint::normal>(target, word);
          }
        }
      }
    }
  }
};

}  // namespace gdnjit::gdn

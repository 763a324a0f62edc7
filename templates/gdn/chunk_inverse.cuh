// The inverse of a unit lower triangular 64 x 64 matrix by two warps, in 16 x 16 blocks: the diagonal blocks by forward
// substitution in fp32, the others from them by products on the tensor cores.
//
// With N = -L, blocks N_ik, and X = (I - N)^-1:
//   X_ii = (I - N_ii)^-1
//   X_10 = X_11 N_10 X_00                     X_32 likewise
//   [X_20 X_21; X_30 X_31] = [X_22 0; X_32 X_33] [N_20 N_21; N_30 N_31] [X_00 0; X_10 X_11]
// Warp `half` 0 finds X_00, X_11, X_10, X_20, X_30, and half 1 X_22, X_33, X_32, X_21, X_31: 9 and 7 products of
// blocks.
//
// The off-diagonal blocks are found transposed, so that each product is the left operand of the next where it is, in
// registers, and only X_ii, X_32 and N pass through shared memory.
//
// Products are of three tf32 ones, each operand the sum of its upper bits and the rest: 2^-21 of the operands' product.
// One tf32 or bf16 product would lose more than the result's own rounding where columns of X cancel (nearly equal keys,
// beta of 2): there the entries of L X are sums of up to 48 terms of both signs, many times the size of the result.
#pragma once

#include "device/barrier.cuh"
#include "device/mma.cuh"
#include "gdn/chunk_config.cuh"

namespace gdnjit::gdn {

// A 16 x 16 block in the registers of a warp, as mma.sync's D has it: element 4 n + i is row lane / 4 + 8 (i / 2),
// column 8 n + 2 (lane % 4) + i % 2.
struct ChunkBlock {
  float d[8];
};

// A block as an operand: its upper bits, which tf32 keeps, and the rest. Left operands are blocks as they are; right
// operands are given transposed. The contraction runs over the blocks' columns, in an order that is the same for both:
// 2 t is k = t and 2 t + 1 is k = t + 4.
struct ChunkOperand {
  unsigned upper[8], lower[8];

  __device__ __forceinline__ explicit ChunkOperand(const ChunkBlock& block) {
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      upper[e] = __float_as_uint(block.d[e]) & 0xffffe000u;
      lower[e] = __float_as_uint(block.d[e] - __uint_as_float(upper[e]));
    }
  }
};

// sum += left right, `right` given transposed.
__device__ __forceinline__ void multiply_tf32(ChunkBlock& sum, const unsigned (&left)[8], const unsigned (&right)[8]) {
#pragma unroll
  for (int m = 0; m < 2; ++m) {
    float d[4] = {sum.d[4 * m], sum.d[4 * m + 1], sum.d[4 * m + 2], sum.d[4 * m + 3]};
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      const unsigned a[4] = {left[4 * step], left[4 * step + 2], left[4 * step + 1], left[4 * step + 3]};
      const unsigned b[2] = {right[4 * step + 2 * m], right[4 * step + 2 * m + 1]};
      device::mma_m16n8k8_tf32(d, a, b);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) sum.d[4 * m + i] = d[i];
  }
}
__device__ __forceinline__ void multiply(ChunkBlock& sum, const ChunkOperand& left, const ChunkOperand& right) {
  multiply_tf32(sum, left.lower, right.upper);
  multiply_tf32(sum, left.upper, right.lower);
  multiply_tf32(sum, left.upper, right.upper);
}
__device__ __forceinline__ ChunkBlock product(const ChunkOperand& left, const ChunkOperand& right) {
  ChunkBlock sum = {};
  multiply(sum, left, right);
  return sum;
}

// A 16 x 16 block in shared memory, rows of 16 words in groups of four that are exchanged by row: a row's groups meet
// the same banks as those of every other row with the same `exchange` and parity.
struct ChunkSharedBlock {
  enum : int { kWords = 260 };  // 4 more than it holds: two neighbouring blocks are read in different banks
  static __device__ __forceinline__ constexpr int exchange(int row) { return (row & 2) | (row >> 2 & 1); }
  static __device__ __forceinline__ constexpr int word(int row, int column) {
    return 16 * row + 4 * (column / 4 ^ exchange(row)) + column % 4;
  }

  // Rows and columns of the block to those of the registers.
  static __device__ __forceinline__ ChunkBlock load(const float* block, int lane) {
    ChunkBlock result;
#pragma unroll
    for (int e = 0; e < 8; e += 2) {
      const float2 pair =
          *reinterpret_cast<const float2*>(block + word(lane / 4 + 8 * (e / 2 % 2), 8 * (e / 4) + 2 * (lane % 4)));
      result.d[e] = pair.x;
      result.d[e + 1] = pair.y;
    }
    return result;
  }
  static __device__ __forceinline__ void store(float* block, int lane, const ChunkBlock& value) {
#pragma unroll
    for (int e = 0; e < 8; e += 2) {
      *reinterpret_cast<float2*>(block + word(lane / 4 + 8 * (e / 2 % 2), 8 * (e / 4) + 2 * (lane % 4))) =
          make_float2(value.d[e], value.d[e + 1]);
    }
  }
  // Rows of the block to columns of the registers.
  static __device__ __forceinline__ ChunkBlock load_transposed(const float* block, int lane) {
    ChunkBlock result;
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      result.d[e] = block[word(8 * (e / 4) + 2 * (lane % 4) + e % 2, lane / 4 + 8 * (e / 2 % 2))];
    }
    return result;
  }
};

struct ChunkInverse {
  // Scratch of a pair of warps, in words: the diagonal blocks of X, transposed, and X_32, transposed.
  enum : int {
    kLast = 4 * ChunkSharedBlock::kWords,
    kScratchWords = 5 * ChunkSharedBlock::kWords,
  };

  // What a warp ends with; block() of scratch holds the diagonal blocks.
  struct Half {
    ChunkBlock near;    // X_10 or X_32, transposed
    ChunkBlock far[2];  // X_20 and X_30 or X_21 and X_31, transposed
  };

  static __device__ __forceinline__ float* block(float* scratch, int d) {
    return scratch + d * ChunkSharedBlock::kWords;
  }

  // Block d of X for a half of the warp, from N_dd in its place in scratch (only what is below the diagonal counts); X
  // takes this place, transposed. A lane owns a column.
  static __device__ __forceinline__ void invert_diagonal(float* n, int lane) {
    const int column = lane % 16;
    float x[16];
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      x[i] = i == column ? 1.0f : 0.0f;
#pragma unroll
      for (int j = 0; j < i; j += 4) {
        const float4 row = *reinterpret_cast<const float4*>(n + ChunkSharedBlock::word(i, j));
        const float numbers[4] = {row.x, row.y, row.z, row.w};
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          if (j + e < i) x[i] = fmaf(numbers[e], x[j + e], x[i]);
        }
      }
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 16; i += 4) {
      *reinterpret_cast<float4*>(n + ChunkSharedBlock::word(column, i)) =
          make_float4(x[i], x[i + 1], x[i + 2], x[i + 3]);
    }
    __syncwarp();
  }

  // All of the inverse. load_n(i, k) loads N_ik; barrier `id` is the pair's. Behind it the diagonal blocks of both
  // warps are in scratch.
  template <typename LoadN>
  static __device__ __forceinline__ Half run(float* scratch, int lane, int half, int id, LoadN load_n) {
    const int d = 2 * half;
    ChunkSharedBlock::store(block(scratch, d), lane, load_n(d, d));
    ChunkSharedBlock::store(block(scratch, d + 1), lane, load_n(d + 1, d + 1));
    __syncwarp();
    invert_diagonal(block(scratch, d + lane / 16), lane);

    Half result;
    const ChunkOperand upper(ChunkSharedBlock::load(block(scratch, d), lane));
    const ChunkOperand lower(ChunkSharedBlock::load_transposed(block(scratch, d + 1), lane));
    result.near = product(ChunkOperand(product(upper, ChunkOperand(load_n(d + 1, d)))), lower);
    if (half == 1) ChunkSharedBlock::store(scratch + kLast, lane, result.near);
    device::sync_threads<64>(id);

    // The rows of [N_20 N_21; N_30 N_31] times the columns of X that belong to block column `half`.
    const ChunkOperand own(ChunkSharedBlock::load(block(scratch, half), lane));
    ChunkBlock rows[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) rows[i] = product(own, ChunkOperand(load_n(2 + i, half)));
    if (half == 0) {
      const ChunkOperand near(result.near);
#pragma unroll
      for (int i = 0; i < 2; ++i) multiply(rows[i], near, ChunkOperand(load_n(2 + i, 1)));
    }
    const ChunkOperand first(rows[0]);
    result.far[0] = product(first, ChunkOperand(ChunkSharedBlock::load_transposed(block(scratch, 2), lane)));
    result.far[1] = product(first, ChunkOperand(ChunkSharedBlock::load_transposed(scratch + kLast, lane)));
    multiply(result.far[1], ChunkOperand(rows[1]),
             ChunkOperand(ChunkSharedBlock::load_transposed(block(scratch, 3), lane)));
    return result;
  }
};

}  // namespace gdnjit::gdn

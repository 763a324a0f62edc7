// The inverse of a chunk by two warps, in blocks of 16 x 16: the diagonal blocks by forward substitution in fp32, those
// below by products on the tensor cores. What is wanted is B = (diag(1 / beta) + M)^-1 with M the keys' products below
// the diagonal, that is (I + diag(beta) M)^-1 diag(beta) where a beta is 0. With N = -M, which all value heads of a key
// head share:
//   B_ii   column by column: b_i = beta_i ([i is the column] + sum_j N_ij b_j)
//   B_10 = B_11 N_10 B_00                     B_32 likewise
//   [B_20 B_21; B_30 B_31] = [B_22 0; B_32 B_33] [N_20 N_21; N_30 N_31] [B_00 0; B_10 B_11]
// Warp 0 finds B_00, B_11, B_10, B_20, B_21 (7 products of blocks), warp 1 B_22, B_33, B_32, B_30, B_31 (9). A
// product's left operand is the result of the one before, in registers; right operands are in shared memory.
//
// An operand of a product is the sum of two fp16 numbers, and three of the four products of these are taken: 2^-22 of
// the operands' product, or 2^-25 for operands below 1/8. One product would lose more than the rounding of A where
// columns of B cancel (nearly equal keys, beta of 2): entries of N B are sums of up to 48 terms of both signs, many
// times the size of the result. Entries beyond 65504 become infinite; a recurrence with unit keys and beta up to 2 has
// none beyond 4.
#pragma once

#include "device/ldmatrix.cuh"
#include "device/memory.cuh"
#include "device/mma.cuh"
#include "gdn/chunk_config.cuh"

namespace gdnjit::gdn {

// A block in the registers of a warp, as mma.sync's D has it: element 4 n + i is row lane / 4 + 8 (i / 2), column 8 n +
// 2 (lane % 4) + i % 2.
struct ChunkBlock {
  float d[8];
};

// A block as two fp16 ones. As a left operand register r holds elements 2 r and 2 r + 1 of ChunkBlock; as a right one,
// registers 2 m and 2 m + 1 are columns 8 m .. 8 m + 7.
struct ChunkSplit {
  unsigned upper[4], lower[4];
};
template <int kElements>
__device__ __forceinline__ void split_f16(const float (&x)[kElements], unsigned (&upper)[kElements / 2],
                                          unsigned (&lower)[kElements / 2]) {
  device::pack<DType::f16>(x, upper);
  float rest[kElements];
  device::unpack<DType::f16, kElements>(upper, rest);
#pragma unroll
  for (int e = 0; e < kElements; ++e) rest[e] = x[e] - rest[e];
  device::pack<DType::f16>(rest, lower);
}
__device__ __forceinline__ ChunkSplit split(const ChunkBlock& block) {
  ChunkSplit result;
  split_f16(block.d, result.upper, result.lower);
  return result;
}
// What a left operand holds.
__device__ __forceinline__ ChunkBlock joined(const ChunkSplit& block) {
  ChunkBlock result;
  float lower[8];
  device::unpack<DType::f16, 8>(block.upper, result.d);
  device::unpack<DType::f16, 8>(block.lower, lower);
#pragma unroll
  for (int e = 0; e < 8; ++e) result.d[e] += lower[e];
  return result;
}

// sum += left right.
__device__ __forceinline__ void multiply(ChunkBlock& sum, const ChunkSplit& left, const ChunkSplit& right) {
#pragma unroll
  for (int m = 0; m < 2; ++m) {
    float d[4] = {sum.d[4 * m], sum.d[4 * m + 1], sum.d[4 * m + 2], sum.d[4 * m + 3]};
    const unsigned upper[2] = {right.upper[2 * m], right.upper[2 * m + 1]};
    const unsigned lower[2] = {right.lower[2 * m], right.lower[2 * m + 1]};
    device::mma_m16n8k16<device::Element::f16>(d, left.lower, upper);
    device::mma_m16n8k16<device::Element::f16>(d, left.upper, lower);
    device::mma_m16n8k16<device::Element::f16>(d, left.upper, upper);
#pragma unroll
    for (int i = 0; i < 4; ++i) sum.d[4 * m + i] = d[i];
  }
}
__device__ __forceinline__ ChunkBlock product(const ChunkSplit& left, const ChunkSplit& right) {
  ChunkBlock sum = {};
  multiply(sum, left, right);
  return sum;
}

// A ChunkSplit in shared memory: its upper part, then the lower; each is four matrices of 8 x 8, by rows, a matrix's
// rows one behind the other.
struct ChunkSplitPlace {
  enum : int { kPart = 512, kBytes = 2 * kPart };

  // A block by its rows, and by its columns: a lane gives column lane % 16 of the block it looks after.
  static __device__ __forceinline__ void store(unsigned char* place, int lane, const ChunkSplit& block) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int matrix = 2 * (r % 2) + r / 2;
      reinterpret_cast<unsigned*>(place + 128 * matrix)[lane] = block.upper[r];
      reinterpret_cast<unsigned*>(place + kPart + 128 * matrix)[lane] = block.lower[r];
    }
  }
  static __device__ __forceinline__ void store_column(unsigned char* place, int column, const float (&x)[16]) {
    unsigned upper[8], lower[8];
    split_f16(x, upper, lower);
    unsigned char* row = place + 256 * (column / 8) + 16 * (column % 8);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      *reinterpret_cast<uint4*>(row + 128 * h) =
          make_uint4(upper[4 * h], upper[4 * h + 1], upper[4 * h + 2], upper[4 * h + 3]);
      *reinterpret_cast<uint4*>(row + kPart + 128 * h) =
          make_uint4(lower[4 * h], lower[4 * h + 1], lower[4 * h + 2], lower[4 * h + 3]);
    }
  }

  // A right operand, stored by rows.
  static __device__ __forceinline__ ChunkSplit right(const unsigned char* place, int lane) {
    const int matrix = lane / 8, exchanged = 2 * (matrix % 2) + matrix / 2;
    const unsigned address = device::shared_address(place) + 128 * exchanged + 16 * (lane % 8);
    ChunkSplit result;
    device::ldmatrix_transposed<4>(result.upper, address);
    device::ldmatrix_transposed<4>(result.lower, address + kPart);
    return result;
  }
  // Operands stored by columns.
  static __device__ __forceinline__ ChunkSplit right_by_columns(const unsigned char* place, int lane) {
    const unsigned address = device::shared_address(place) + 16 * lane;
    ChunkSplit result;
    device::ldmatrix<4>(result.upper, address);
    device::ldmatrix<4>(result.lower, address + kPart);
    return result;
  }
  static __device__ __forceinline__ ChunkSplit left_by_columns(const unsigned char* place, int lane) {
    const unsigned address = device::shared_address(place) + 16 * lane;
    ChunkSplit result;
    device::ldmatrix_transposed<4>(result.upper, address);
    device::ldmatrix_transposed<4>(result.lower, address + kPart);
    return result;
  }
};

// N of a chunk in shared memory.
struct ChunkNegated {
  enum : int { kRowWords = 20 };                       // of a diagonal block: its rows are read by four words
  alignas(16) float diagonal[4][16 * kRowWords + 16];  // 16 words more: two neighbouring blocks are read together
  alignas(16) unsigned char below[6][ChunkSplitPlace::kBytes];

  static constexpr int index(int i, int j) { return i * (i - 1) / 2 + j; }

  // Block (i, j). Of diagonal blocks only what is below the diagonal counts.
  __device__ __forceinline__ void store(int i, int j, int lane, const ChunkBlock& block) {
    if (i != j) return ChunkSplitPlace::store(below[index(i, j)], lane, split(block));
#pragma unroll
    for (int e = 0; e < 8; e += 2) {
      const int row = lane / 4 + 8 * (e / 2 % 2), column = 8 * (e / 4) + 2 * (lane % 4);
      *reinterpret_cast<float2*>(diagonal[i] + row * kRowWords + column) = make_float2(block.d[e], block.d[e + 1]);
    }
  }
  __device__ __forceinline__ ChunkSplit right(int i, int j, int lane) const {
    return ChunkSplitPlace::right(below[index(i, j)], lane);
  }
};

// A block's way into a triangle of the record, rounded to the operands' type.
template <ChunkConfig c>
struct ChunkTriangleWriter {
  // The two neighbouring elements of each lane in rows 8 h .. and columns 8 n .. of block (i, j): 128 bytes.
  static __device__ __forceinline__ void store(unsigned char* triangle, int i, int j, int h, int n, int lane, float low,
                                               float high) {
    const float pair[2] = {low, high};
    unsigned word[1];
    device::pack<c.operand_dtype()>(pair, word);
    unsigned char* place = triangle + ChunkTriangle::offset(16 * i + 8 * h, 16 * j + 8 * n) + 4 * lane;
    *reinterpret_cast<unsigned*>(place) = word[0];
  }
  // All of block (i, j); of one on the diagonal the elements with row - column >= kFrom, zeros for the others.
  template <int kFrom>
  static __device__ __forceinline__ void store(unsigned char* triangle, int i, int j, int lane,
                                               const ChunkBlock& block) {
#pragma unroll
    for (int e = 0; e < 8; e += 2) {
      const int n = e / 4, h = e / 2 % 2;
      const int below = lane / 4 + 8 * h - (8 * n + 2 * (lane % 4));  // of the first element
      const float low = i != j || below >= kFrom ? block.d[e] : 0.0f;
      const float high = i != j || below - 1 >= kFrom ? block.d[e + 1] : 0.0f;
      store(triangle, i, j, h, n, lane, low, high);
    }
  }
};

// Shared memory of a pair of warps.
struct ChunkInverse {
  alignas(16) unsigned char diagonal[4][ChunkSplitPlace::kBytes];  // B_dd, by columns
  alignas(16) unsigned char near[ChunkSplitPlace::kBytes];         // B_10, by rows

  // What warp `half` of the pair finds.
  struct Half {
    ChunkBlock near;    // B_10 or B_32
    ChunkBlock far[2];  // B_20 and B_21, or B_30 and B_31
  };
  // The diagonal blocks, afterwards.
  __device__ __forceinline__ ChunkBlock diagonal_block(int d, int lane) const {
    return joined(ChunkSplitPlace::left_by_columns(diagonal[d], lane));
  }

  // B_dd, one column for each lane of a half of the warp; `strength` holds beta of the block's tokens.
  __device__ __forceinline__ void invert_diagonal(const ChunkNegated& n, const float* strength, int d, int column) {
    float x[16];
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      x[i] = i == column ? 1.0f : 0.0f;
#pragma unroll
      for (int j = 0; j < i; j += 4) {
        const float4 row = *reinterpret_cast<const float4*>(n.diagonal[d] + i * ChunkNegated::kRowWords + j);
        const float numbers[4] = {row.x, row.y, row.z, row.w};
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          if (j + e < i) x[i] = fmaf(numbers[e], x[j + e], x[i]);
        }
      }
      x[i] *= strength[i];
    }
    ChunkSplitPlace::store_column(diagonal[d], column, x);
  }

  // All that is below the diagonal; meet() is a barrier of the pair.
  template <typename Meet>
  __device__ __forceinline__ Half run(const ChunkNegated& n, const float* strength, int lane, int half, Meet meet) {
    const int d = 2 * half, own = d + lane / 16;
    invert_diagonal(n, strength + 16 * own, own, lane % 16);
    __syncwarp();

    Half result;
    const ChunkSplit lower = ChunkSplitPlace::left_by_columns(diagonal[d + 1], lane);
    const ChunkSplit first = ChunkSplitPlace::right_by_columns(diagonal[d], lane);
    result.near = product(split(product(lower, n.right(d + 1, d, lane))), first);
    const ChunkSplit near_left = split(result.near);
    if (half == 0) ChunkSplitPlace::store(near, lane, near_left);
    meet();

    // Block row 2 or 3 of [B_22 0; B_32 B_33] [N_20 N_21; N_30 N_31].
    ChunkBlock rows[2];
    if (half == 0) {
      const ChunkSplit left = ChunkSplitPlace::left_by_columns(diagonal[2], lane);
#pragma unroll
      for (int j = 0; j < 2; ++j) rows[j] = product(left, n.right(2, j, lane));
    } else {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        rows[j] = product(near_left, n.right(2, j, lane));
        multiply(rows[j], lower, n.right(3, j, lane));
      }
    }
    const ChunkSplit left = split(rows[0]), right = split(rows[1]);
    result.far[0] = product(left, ChunkSplitPlace::right_by_columns(diagonal[0], lane));
    multiply(result.far[0], right, ChunkSplitPlace::right(near, lane));
    result.far[1] = product(right, ChunkSplitPlace::right_by_columns(diagonal[1], lane));
    return result;
  }
};

}  // namespace gdnjit::gdn

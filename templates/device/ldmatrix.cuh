// ldmatrix and stmatrix: 8 x 8 matrices of 16-bit elements between shared memory and the registers of a warp.
//
// Lane 8 i + r names the address (of shared_address) of row r of matrix i: 16 bytes, aligned to 16. Of each matrix,
// lane 4 g + t holds (g, 2 t) in the low and (g, 2 t + 1) in the high half of a register; transposed: (2 t, g) and
// (2 t + 1, g). Eight rows are one wavefront if their 16 bytes lie in different banks: a row pitch of 16 (mod 32)
// bytes, or a swizzle. fp8 and tf32 fragments are loaded by the same instructions, as pairs of bytes or halves of
// words, untransposed.
#pragma once

#include "device/shared.cuh"

namespace gdnjit::device {

// Where a lane's row begins, in elements, for the fragments of mma.cuh. Tiles are stored by rows.
//   a: a 16 x 16 tile of A (row, k), loaded with ldmatrix<4>.
//   a from a tile stored (k, row): loaded with ldmatrix_transposed<4>; row and column count in the stored tile.
//   b: two 8-column tiles of B, stored (column, k), 16 x 16, with ldmatrix<4>: registers {0, 1} and {2, 3}.
//   b from a tile stored (k, column), 16 x 16: loaded with ldmatrix_transposed<4>.
struct LdmatrixPlace {
  int row;
  int column;
};
constexpr LdmatrixPlace ldmatrix_a(int lane) { return {lane % 16, 8 * (lane / 16)}; }
constexpr LdmatrixPlace ldmatrix_a_transposed(int lane) { return {lane % 8 + 8 * (lane / 16), 8 * (lane / 8 % 2)}; }
constexpr LdmatrixPlace ldmatrix_b(int lane) { return {lane % 8 + 8 * (lane / 16), 8 * (lane / 8 % 2)}; }
constexpr LdmatrixPlace ldmatrix_b_transposed(int lane) { return {lane % 16, 8 * (lane / 16)}; }

#define GDNJIT_MATRIX_LOAD(trans)                                                            \
  static_assert(kMatrices == 1 || kMatrices == 2 || kMatrices == 4);                         \
  if constexpr (kMatrices == 1) {                                                            \
    asm volatile("ldmatrix.sync.aligned.m8n8.x1" trans ".shared.b16 {%0}, [%1];"             \
                 : "=r"(r[0])                                                                \
                 : "r"(address)                                                              \
                 : "memory");                                                                \
  } else if constexpr (kMatrices == 2) {                                                     \
    asm volatile("ldmatrix.sync.aligned.m8n8.x2" trans ".shared.b16 {%0, %1}, [%2];"         \
                 : "=r"(r[0]), "=r"(r[1])                                                    \
                 : "r"(address)                                                              \
                 : "memory");                                                                \
  } else {                                                                                   \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4" trans ".shared.b16 {%0, %1, %2, %3}, [%4];" \
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])                            \
                 : "r"(address)                                                              \
                 : "memory");                                                                \
  }

#define GDNJIT_MATRIX_STORE(trans)                                                                              \
  static_assert(kMatrices == 1 || kMatrices == 2 || kMatrices == 4);                                            \
  if constexpr (kMatrices == 1) {                                                                               \
    asm volatile("stmatrix.sync.aligned.m8n8.x1" trans ".shared.b16 [%0], {%1};" ::"r"(address), "r"(r[0])      \
                 : "memory");                                                                                   \
  } else if constexpr (kMatrices == 2) {                                                                        \
    asm volatile("stmatrix.sync.aligned.m8n8.x2" trans ".shared.b16 [%0], {%1, %2};" ::"r"(address), "r"(r[0]), \
                 "r"(r[1])                                                                                      \
                 : "memory");                                                                                   \
  } else {                                                                                                      \
    asm volatile("stmatrix.sync.aligned.m8n8.x4" trans ".shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),    \
                 "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])                                                     \
                 : "memory");                                                                                   \
  }

template <int kMatrices>
__device__ __forceinline__ void ldmatrix(unsigned (&r)[kMatrices], unsigned address) {
  GDNJIT_MATRIX_LOAD("")
}
template <int kMatrices>
__device__ __forceinline__ void ldmatrix_transposed(unsigned (&r)[kMatrices], unsigned address) {
  GDNJIT_MATRIX_LOAD(".trans")
}
// sm_90 and later.
template <int kMatrices>
__device__ __forceinline__ void stmatrix(unsigned address, const unsigned (&r)[kMatrices]) {
  GDNJIT_MATRIX_STORE("")
}
template <int kMatrices>
__device__ __forceinline__ void stmatrix_transposed(unsigned address, const unsigned (&r)[kMatrices]) {
  GDNJIT_MATRIX_STORE(".trans")
}

#undef GDNJIT_MATRIX_LOAD
#undef GDNJIT_MATRIX_STORE

// The transpose of an 8 x 8 matrix in registers.
__device__ __forceinline__ unsigned transpose_matrix(unsigned matrix) {
  unsigned result;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(matrix));
  return result;
}

}  // namespace gdnjit::device

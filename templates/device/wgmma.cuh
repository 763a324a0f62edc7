// wgmma: D = A B or D += A B by a warpgroup (128 threads), D 64 x kN in registers, B in shared memory, A in shared
// memory or registers, 32 bytes of k an instruction. sm_90a. The products are in wgmma_bf16.cuh, wgmma_f16.cuh,
// wgmma_tf32.cuh, wgmma_e4m3.cuh and wgmma_s8.cuh; a kernel includes what it uses.
//
// A step of a pipeline:
//   wgmma_fence(d);                             // after d, or A in registers, was written
//   wgmma_bf16<kN>(d, a, b, accumulate);        // any number of them into d
//   wgmma_commit();
//   wgmma_wait<kGroupsThatMayStay>(d);          // now d may be used, and A and B overwritten
// Data that threads stored into shared memory is visible to wgmma behind fence_async_shared() and a barrier.
//
// Element i of d is row 16 (warp % 4) + lane / 4 + 8 (i / 2 % 2), column 8 (i / 4) + 2 (lane % 4) + i % 2. A in
// registers is, in each warp, the A of mma.cuh for its 16 rows.
#pragma once

#include "device/element.cuh"
#include "device/fence.cuh"
#include "device/shared.cuh"

namespace gdnjit::device {

// ---- shared-memory tiles

// Rows of 128, 64 or 32 bytes whose 16-byte units are exchanged within 8, 4 or 2 rows of 128 bytes; the values are
// those of the descriptor. Tiles begin at a multiple of 1024, 512 or 256 bytes.
enum class Swizzle : unsigned char { none = 0, bytes128 = 1, bytes64 = 2, bytes32 = 3 };

constexpr int swizzle_row_bytes(Swizzle swizzle) {
  return swizzle == Swizzle::none ? 16 : 256 >> static_cast<int>(swizzle);
}

// Where byte `offset` of a tile is stored.
template <Swizzle kSwizzle>
__device__ __forceinline__ constexpr unsigned swizzled(unsigned offset) {
  return offset ^ (offset >> 7 & (swizzle_row_bytes(kSwizzle) / 16 - 1)) << 4;
}

// The dimension along which the elements of a row of the tile follow each other.
enum class Major : unsigned char { k = 0, mn = 1 };

using MatrixDescriptor = unsigned long long;

// A tile of A (M = rows) or B (M = columns) at a shared-memory address. Offsets in bytes, multiples of 16:
//   K-major, no swizzle:  16-byte units of 8 M follow each other; stride to the next 8 M, leading to the next unit of k
//   K-major, swizzled:    8 rows follow each other; stride to the next 8 M; leading is not used
//   MN-major, no swizzle: 16-byte units (8 M) of 8 k follow each other; leading to the next 8 k, stride to the next 8 M
//   MN-major, swizzled:   a row holds swizzle_row_bytes of M at one k, 8 k follow each other; leading to the next M,
//                         stride to the next 8 k
template <Swizzle kSwizzle>
__device__ __forceinline__ MatrixDescriptor matrix_descriptor(unsigned address, unsigned leading_bytes,
                                                              unsigned stride_bytes) {
  return static_cast<MatrixDescriptor>((address & 0x3ffff) >> 4) |
         static_cast<MatrixDescriptor>((leading_bytes & 0x3ffff) >> 4) << 16 |
         static_cast<MatrixDescriptor>((stride_bytes & 0x3ffff) >> 4) << 32 |
         static_cast<MatrixDescriptor>(kSwizzle) << 62;
}

// Of a K-major tile, swizzled, with its rows one behind the other.
template <Swizzle kSwizzle>
__device__ __forceinline__ MatrixDescriptor k_major_descriptor(unsigned address) {
  static_assert(kSwizzle != Swizzle::none, "without a swizzle, give both offsets to matrix_descriptor");
  return matrix_descriptor<kSwizzle>(address, 16, 8 * swizzle_row_bytes(kSwizzle));
}

// The same tile `bytes` further on: the next 32 bytes of k in a K-major row, or any multiple of the pattern.
__device__ __forceinline__ MatrixDescriptor advance(MatrixDescriptor descriptor, unsigned bytes) {
  return descriptor + (bytes >> 4);
}

// What the instruction exists for: only 16-bit elements can be MN-major, integers have no sign and fewer widths.
constexpr bool wgmma_exists(Element element, int n, Major major_a, Major major_b, int sign) {
  const bool k_major = major_a == Major::k && major_b == Major::k;
  return n % 8 == 0 && n >= 8 && n <= 256 && (sign == 1 || sign == -1) && (element_bits(element) == 16 || k_major) &&
         (!is_int8(element) || (sign == 1 && (n <= 32 || n % 16 == 0)));
}

// ---- order

// Keeps the compiler from moving uses of these registers across this place. Four an asm statement spare compile time.
#define GDNJIT_HOLD(Type, c)                                                                       \
  template <int kCount>                                                                            \
  __device__ __forceinline__ void hold(Type(&d)[kCount]) {                                         \
    static_assert(kCount % 4 == 0);                                                                \
    _Pragma("unroll") for (int i = 0; i < kCount; i += 4) {                                        \
      asm volatile("" : "+" c(d[i]), "+" c(d[i + 1]), "+" c(d[i + 2]), "+" c(d[i + 3])::"memory"); \
    }                                                                                              \
  }
GDNJIT_HOLD(float, "f")
GDNJIT_HOLD(int, "r")
GDNJIT_HOLD(unsigned, "r")
#undef GDNJIT_HOLD

// Orders the threads' writes of these registers (accumulators, or A) before the wgmmas that follow.
template <typename... Registers>
__device__ __forceinline__ void wgmma_fence(Registers&... registers) {
  (hold(registers), ...);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

// Closes a group: the wgmmas since the last one.
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most kPending of the latest groups are unfinished. Name the accumulators that are finished then.
template <int kPending, typename... Registers>
__device__ __forceinline__ void wgmma_wait(Registers&... registers) {
  static_assert(kPending >= 0 && kPending < 8);
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
  (hold(registers), ...);
}

// ---- registers of the threads of a warpgroup

// Gives registers back, or waits until there are so many more. Every warp of the warpgroup.
template <int kRegisters>
__device__ __forceinline__ void decrease_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void increase_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace gdnjit::device

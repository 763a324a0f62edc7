// Operations over the lanes of a warp. Every lane of the warp takes part.
#pragma once

namespace gdnjit::device {

enum : int { kWarpLanes = 32 };

// The value of the lane whose number differs in the bits of `offset`. (The intrinsic takes integers: two moves a call.)
__device__ __forceinline__ float from_lane_xor(float value, int offset) {
  float other;
  asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 0x1f, 0xffffffff;" : "=f"(other) : "f"(value), "r"(offset));
  return other;
}
__device__ __forceinline__ unsigned from_lane_xor(unsigned value, int offset) {
  unsigned other;
  asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 0x1f, 0xffffffff;" : "=r"(other) : "r"(value), "r"(offset));
  return other;
}

// Sum over the kLanes lanes whose numbers differ in multiples of kStride (both powers of two); all get the sum.
// The order of additions is fixed, so repeats are bit-identical.
template <int kLanes, int kStride>
__device__ __forceinline__ float sum_over_lanes(float value) {
  static_assert(kLanes * kStride <= kWarpLanes);
#pragma unroll
  for (int offset = kStride; offset < kLanes * kStride; offset *= 2) {
    value += from_lane_xor(value, offset);
  }
  return value;
}

}  // namespace gdnjit::device

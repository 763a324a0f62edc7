// Operations over the lanes of a warp. Every lane of the warp takes part.
#pragma once

namespace gdnjit::device {

inline constexpr int kWarpLanes = 32;

// Sum over the kLanes lanes whose numbers differ in multiples of kStride (both powers of two); all get the sum.
// The order of additions is fixed, so repeats are bit-identical.
template <int kLanes, int kStride>
__device__ __forceinline__ float sum_over_lanes(float value) {
  static_assert(kLanes * kStride <= kWarpLanes);
#pragma unroll
  for (int offset = kStride; offset < kLanes * kStride; offset *= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  }
  return value;
}

}  // namespace gdnjit::device

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

// The number of the calling warp in its block. The compiler sees that it is the same for all lanes, so branches on it
// cost nothing around instructions that a whole warp must reach together.
__device__ __forceinline__ int warp_of_block() {
  int warp = static_cast<int>(threadIdx.x / kWarpLanes);
  asm("shfl.sync.idx.b32 %0, %0, 0, 0x1f, 0xffffffff;" : "+r"(warp));
  return warp;
}

// The value of lane `lane`.
__device__ __forceinline__ float from_lane(float value, int lane) {
  float other;
  asm volatile("shfl.sync.idx.b32 %0, %1, %2, 0x1f, 0xffffffff;" : "=f"(other) : "f"(value), "r"(lane));
  return other;
}

__device__ __forceinline__ unsigned from_lane(unsigned value, int lane) {
  unsigned other;
  asm volatile("shfl.sync.idx.b32 %0, %1, %2, 0x1f, 0xffffffff;" : "=r"(other) : "r"(value), "r"(lane));
  return other;
}

// The largest value of all lanes, in one instruction.
__device__ __forceinline__ unsigned max_over_lanes(unsigned value) {
  unsigned largest;
  asm volatile("redux.sync.max.u32 %0, %1, 0xffffffff;" : "=r"(largest) : "r"(value));
  return largest;
}

// A bit for each lane that has this lane's value.
__device__ __forceinline__ unsigned lanes_with_same(unsigned value) {
  unsigned lanes;
  asm volatile("match.any.sync.b32 %0, %1, 0xffffffff;" : "=r"(lanes) : "r"(value));
  return lanes;
}

// A bit for each lane below this one.
__device__ __forceinline__ unsigned lanes_below() {
  unsigned lanes;
  asm("mov.u32 %0, %%lanemask_lt;" : "=r"(lanes));
  return lanes;
}

// A bit for each lane: whether its `condition` holds.
__device__ __forceinline__ unsigned lanes_where(bool condition) {
  unsigned lanes;
  asm volatile("{\n .reg .pred p;\n setp.ne.u32 p, %1, 0;\n vote.sync.ballot.b32 %0, p, 0xffffffff;\n}"
               : "=r"(lanes)
               : "r"(static_cast<unsigned>(condition)));
  return lanes;
}

// Sum over the lanes up to this one.
__device__ __forceinline__ float prefix_sum(float value) {
#pragma unroll
  for (int offset = 1; offset < kWarpLanes; offset *= 2) {
    // A lane without a partner gets its own value, and leaves it out.
    asm volatile(
        "{\n .reg .pred p;\n .reg .f32 other;\n shfl.sync.up.b32 other|p, %0, %1, 0, 0xffffffff;\n"
        " @p add.f32 %0, %0, other;\n}"
        : "+f"(value)
        : "r"(offset));
  }
  return value;
}

// The same of whole numbers.
__device__ __forceinline__ unsigned prefix_sum(unsigned value) {
#pragma unroll
  for (int offset = 1; offset < kWarpLanes; offset *= 2) {
    asm volatile(
        "{\n .reg .pred p;\n .reg .u32 other;\n shfl.sync.up.b32 other|p, %0, %1, 0, 0xffffffff;\n"
        " @p add.u32 %0, %0, other;\n}"
        : "+r"(value)
        : "r"(offset));
  }
  return value;
}

// Sum over the kLanes lanes whose numbers differ in multiples of kStride (both powers of two); all get the sum.
// The order of additions is fixed, so repeats are bit-identical.
template <int kLanes, int kStride>
__device__ __forceinline__ float sum_over_lanes(float value) {
  static_assert(kLanes * kStride <= kWarpLanes);
#pragma unroll
  for (int lanes = 1; lanes < kLanes; lanes *= 2) value += from_lane_xor(value, lanes * kStride);
  return value;
}

}  // namespace gdnjit::device

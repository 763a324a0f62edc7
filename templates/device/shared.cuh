// Addresses of shared memory.
#pragma once

namespace gdnjit::device {

// Shared-memory address of a pointer, as PTX wants it: the offset in the block's shared memory.
__device__ __forceinline__ unsigned shared_address(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

// Loads kElements numbers from shared memory in one access. `source`, derived from a shared array, is aligned to it.
template <int kElements>
__device__ __forceinline__ void load_shared(const void* source, float (&numbers)[kElements]) {
  static_assert(kElements == 1 || kElements == 2 || kElements == 4);
  if constexpr (kElements == 1) {
    numbers[0] = *static_cast<const float*>(source);
  } else if constexpr (kElements == 2) {
    const float2 pair = *static_cast<const float2*>(source);
    numbers[0] = pair.x, numbers[1] = pair.y;
  } else {
    const float4 four = *static_cast<const float4*>(source);
    numbers[0] = four.x, numbers[1] = four.y, numbers[2] = four.z, numbers[3] = four.w;
  }
}

// One number at a shared-memory address.
__device__ __forceinline__ float load_shared(unsigned address) {
  float number;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(number) : "r"(address) : "memory");
  return number;
}

}  // namespace gdnjit::device

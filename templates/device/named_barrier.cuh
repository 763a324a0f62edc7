// Barriers for some warps of a block.
#pragma once

namespace gdnjit::device {

// Waits until kThreads threads (whole warps) have come to barrier `id`, 1 to 15; 0 is that of __syncthreads().
template <int kThreads>
__device__ __forceinline__ void named_barrier(int id) {
  static_assert(kThreads % 32 == 0);
  asm volatile("bar.sync %0, %1;" ::"r"(id), "n"(kThreads) : "memory");
}

}  // namespace gdnjit::device

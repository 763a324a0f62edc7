// Barriers of some of a block's warps.
#pragma once

namespace gdnjit::device {

// The kThreads threads (whole warps) that name barrier `id`, 1 to 15 (0 is __syncthreads), meet here; shared memory
// that one of them wrote before is seen by the others behind it.
template <int kThreads>
__device__ __forceinline__ void sync_threads(int id) {
  static_assert(kThreads % 32 == 0);
  asm volatile("bar.sync %0, %1;" ::"r"(id), "n"(kThreads) : "memory");
}

}  // namespace gdnjit::device

// Fences between the two ways to memory: ordinary loads and stores (the generic proxy), and bulk copies and wgmma (the
// async proxy). sm_90 and later.
#pragma once

namespace gdnjit::device {

// What this thread has written to shared memory (or read from it) comes before asynchronous operations that are issued
// later, by any thread that a barrier orders behind this fence. So: write, fence, barrier, then one thread stores the
// tile with a bulk copy, or a warpgroup multiplies it.
__device__ __forceinline__ void fence_async_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// The same for global memory.
__device__ __forceinline__ void fence_async_global() { asm volatile("fence.proxy.async.global;" ::: "memory"); }

// After one thread has initialised mbarriers: bulk copies and other blocks of the cluster see them behind the barrier
// (of the block, or of the cluster) that follows.
__device__ __forceinline__ void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

}  // namespace gdnjit::device

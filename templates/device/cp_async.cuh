// Copies from global to shared memory that run beside the computation (sm_80 and later). Each thread copies its own
// bytes in groups, and waits for its own groups:
//
//   for each stage:  cp_async<16>(...); ...; cp_async_commit();
//   cp_async_wait<kStages - 1>();  // the oldest group is there, for this thread
//   __syncthreads();               // and for the others
//
// Shared addresses are 32-bit offsets, as shared_address() gives them.
#pragma once

#include "device/shared.cuh"

namespace gdnjit::device {

// Copies kBytes (4, 8 or 16); both addresses are multiples of kBytes. 16 bytes bypass the L1 cache.
template <int kBytes>
__device__ __forceinline__ void cp_async(unsigned shared, const void* global) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(shared), "l"(global), "n"(kBytes) : "memory");
  }
}

// Copies the first `bytes` (0 to kBytes) and fills the rest with zeros. With 0 the global address is not read.
template <int kBytes>
__device__ __forceinline__ void cp_async_or_zeros(unsigned shared, const void* global, int bytes) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global), "r"(bytes) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared), "l"(global), "n"(kBytes), "r"(bytes)
                 : "memory");
  }
}

// What this thread has copied since the last commit becomes a group, even if that is nothing.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until all but the kGroups newest groups of this thread are complete. Other threads see them after a barrier.
template <int kGroups>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

// Waits for everything that this thread has copied, committed or not.
__device__ __forceinline__ void cp_async_wait_all() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// This thread arrives at the mbarrier when its copies so far are complete. The mbarrier expects this arrival: it counts
// as one of those it was initialised for.
__device__ __forceinline__ void cp_async_arrive(unsigned mbarrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(mbarrier) : "memory");
}

}  // namespace gdnjit::device

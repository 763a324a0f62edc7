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

// Group `group` of kGroups, kThreads threads each, meets at barrier 1 + group. The ids are constants in the code: a
// kernel whose id is a number of the warp is taken to use all 16 barriers, which an SM has to find for each block.
template <int kThreads, int kGroups, int kGroup = 0>
__device__ __forceinline__ void sync_group(int group) {
  static_assert(kThreads % 32 == 0 && kGroups >= 1 && kGroups <= 15);
  if constexpr (kGroup + 1 < kGroups) {
    if (group != kGroup) return sync_group<kThreads, kGroups, kGroup + 1>(group);
  }
  asm volatile("bar.sync %0, %1;" ::"n"(1 + kGroup), "n"(kThreads) : "memory");
}

}  // namespace gdnjit::device

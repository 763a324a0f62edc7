// Sorting networks in the registers of a thread. All indices are constants, so no key is ever in memory.
#pragma once

namespace gdnjit::device {

// The larger of two keys first. Beyond the last there is nothing.
template <int kKeys>
__device__ __forceinline__ void order_two(unsigned (&keys)[kKeys], int low, int high) {
  if (high >= kKeys) return;
  const unsigned larger = keys[low] > keys[high] ? keys[low] : keys[high];
  keys[high] = keys[low] > keys[high] ? keys[high] : keys[low];
  keys[low] = larger;
}

// Batcher's odd-even merge: two sorted halves of every kStep-th of kCount keys from kFirst on become one run.
template <int kFirst, int kCount, int kStep, int kKeys>
__device__ __forceinline__ void merge_halves(unsigned (&keys)[kKeys]) {
  if constexpr (2 * kStep < kCount) {
    merge_halves<kFirst, kCount, 2 * kStep>(keys);
    merge_halves<kFirst + kStep, kCount, 2 * kStep>(keys);
#pragma unroll
    for (int low = kFirst + kStep; low + kStep < kFirst + kCount; low += 2 * kStep) order_two(keys, low, low + kStep);
  } else {
    order_two(keys, kFirst, kFirst + kStep);
  }
}

// Sorts kCount keys, a power of two or what is there of it, from kFirst on, the largest first.
template <int kFirst, int kCount, int kKeys>
__device__ __forceinline__ void sort_descending(unsigned (&keys)[kKeys]) {
  if constexpr (kCount > 1 && kFirst + 1 < kKeys) {
    sort_descending<kFirst, kCount / 2>(keys);
    sort_descending<kFirst + kCount / 2, kCount / 2>(keys);
    merge_halves<kFirst, kCount, 1>(keys);
  }
}

}  // namespace gdnjit::device

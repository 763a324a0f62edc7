// Counting across blocks: who comes last.
#pragma once

namespace gdnjit::device {

// Orders what this thread did, and what it knows that others did, before what follows, for every thread of the GPU that
// synchronises with it.
__device__ __forceinline__ void fence_gpu() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }

// Adds one to *count, or sets it to 0 if it is `last`; returns what it was. What this thread did before is seen by a
// thread that reads a later value and then fences.
__device__ __forceinline__ unsigned count_released(unsigned* count, unsigned last) {
  unsigned before;
  asm volatile("atom.release.gpu.global.inc.u32 %0, [%1], %2;" : "=r"(before) : "l"(count), "r"(last) : "memory");
  return before;
}

}  // namespace gdnjit::device

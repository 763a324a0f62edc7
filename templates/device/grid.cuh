// Programmatic dependent launch, sm_90 and later: a grid that starts while the one before it in the stream ends.
// Both are no-ops in a launch without the attribute, and on older architectures.
#pragma once

namespace gdnjit::device {

// Returns when the grid before this one in the stream is complete and its writes are visible. Nothing that it wrote may
// be read, and nothing that it reads may be written, before.
__device__ __forceinline__ void wait_for_previous_grid() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the next grid of the stream start once every block of this one has said so or ended.
__device__ __forceinline__ void let_next_grid_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

}  // namespace gdnjit::device

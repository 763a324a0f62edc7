// Addresses of shared memory.
#pragma once

namespace gdnjit::device {

// Shared-memory address of a pointer, as PTX wants it: the offset in the block's shared memory.
__device__ __forceinline__ unsigned shared_address(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

}  // namespace gdnjit::device

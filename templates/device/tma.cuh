// Bulk copies between global and shared memory (sm_90 and later). One thread issues a copy of a whole tile.
//
// Loads complete at an mbarrier: announce the bytes with mbarrier_arrive_expect(), wait with mbarrier_wait(). Stores
// complete in groups of the thread that issued them: bulk_commit(), then bulk_wait() or bulk_wait_read().
// What threads wrote to shared memory is stored only behind fence_async_shared() and a barrier.
//
// Addresses are multiples of 16 bytes, and so are sizes; a box in shared memory begins at a multiple of 128 bytes, with
// a swizzle best at a multiple of its pattern (256, 512, 1024 bytes), so that the pattern starts with the box.
#pragma once

#include "device/mbarrier.cuh"
#include "device/tensor_map.cuh"

namespace gdnjit::device {

// Fetches the map ahead of its first use. One thread.
__device__ __forceinline__ void prefetch_map(const TensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

// Where a box begins in the tensor, in elements, dimension 0 (the innermost) first. It may begin or end outside: loads
// fill with the map's value there, stores leave out.
struct Corner1 {
  int x;
};
struct Corner2 {
  int x, y;
};
struct Corner3 {
  int x, y, z;
};
struct Corner4 {
  int x, y, z, w;
};
struct Corner5 {
  int x, y, z, w, u;
};

// ---- contiguous bytes

__device__ __forceinline__ void bulk_load(unsigned shared, const void* global, unsigned bytes, Mbarrier barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared),
               "l"(global), "r"(bytes), "r"(barrier)
               : "memory");
}
// To the same offset in every block of the cluster whose bit is set in `blocks`; the mbarrier at the same offset in
// each of them counts the bytes.
__device__ __forceinline__ void bulk_load_multicast(unsigned shared, const void* global, unsigned bytes,
                                                    Mbarrier barrier, unsigned short blocks) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], "
      "%4;" ::"r"(shared),
      "l"(global), "r"(bytes), "r"(barrier), "h"(blocks)
      : "memory");
}
__device__ __forceinline__ void bulk_store(void* global, unsigned shared, unsigned bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(global), "r"(shared), "r"(bytes)
               : "memory");
}
// Adds fp32 elements to global memory, each by itself atomic.
__device__ __forceinline__ void bulk_add_f32(void* global, unsigned shared, unsigned bytes) {
  asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(global), "r"(shared),
               "r"(bytes)
               : "memory");
}

// ---- boxes of a tensor

__device__ __forceinline__ void tensor_load(unsigned shared, const TensorMap& map, Corner1 at, Mbarrier barrier) {
  asm volatile(
      "cp.async.bulk.tensor.1d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2}], [%3];" ::"r"(
          shared),
      "l"(&map), "r"(at.x), "r"(barrier)
      : "memory");
}
__device__ __forceinline__ void tensor_load(unsigned shared, const TensorMap& map, Corner2 at, Mbarrier barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::
          "r"(shared),
      "l"(&map), "r"(at.x), "r"(at.y), "r"(barrier)
      : "memory");
}
__device__ __forceinline__ void tensor_load(unsigned shared, const TensorMap& map, Corner3 at, Mbarrier barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], "
      "[%5];" ::"r"(shared),
      "l"(&map), "r"(at.x), "r"(at.y), "r"(at.z), "r"(barrier)
      : "memory");
}

__device__ __forceinline__ void tensor_load(unsigned shared, const TensorMap& map, Corner4 at, Mbarrier barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], "
      "[%6];" ::"r"(shared),
      "l"(&map), "r"(at.x), "r"(at.y), "r"(at.z), "r"(at.w), "r"(barrier)
      : "memory");
}
__device__ __forceinline__ void tensor_load(unsigned shared, const TensorMap& map, Corner5 at, Mbarrier barrier) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5, "
      "%6}], [%7];" ::"r"(shared),
      "l"(&map), "r"(at.x), "r"(at.y), "r"(at.z), "r"(at.w), "r"(at.u), "r"(barrier)
      : "memory");
}

// To every block of the cluster whose bit is set, as bulk_load_multicast. Every one of them announces the bytes of the
// boxes that it receives, whoever issues the copy.
__device__ __forceinline__ void tensor_load_multicast(unsigned shared, const TensorMap& map, Corner2 at,
                                                      Mbarrier barrier, unsigned short blocks) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
      " [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared),
      "l"(&map), "r"(at.x), "r"(at.y), "r"(barrier), "h"(blocks)
      : "memory");
}
__device__ __forceinline__ void tensor_load_multicast(unsigned shared, const TensorMap& map, Corner3 at,
                                                      Mbarrier barrier, unsigned short blocks) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
      " [%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(shared),
      "l"(&map), "r"(at.x), "r"(at.y), "r"(at.z), "r"(barrier), "h"(blocks)
      : "memory");
}

__device__ __forceinline__ void tensor_load_multicast(unsigned shared, const TensorMap& map, Corner4 at,
                                                      Mbarrier barrier, unsigned short blocks) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
      " [%0], [%1, {%2, %3, %4, %5}], [%6], %7;" ::"r"(shared),
      "l"(&map), "r"(at.x), "r"(at.y), "r"(at.z), "r"(at.w), "r"(barrier), "h"(blocks)
      : "memory");
}

__device__ __forceinline__ void tensor_store(const TensorMap& map, Corner1 at, unsigned shared) {
  asm volatile("cp.async.bulk.tensor.1d.global.shared::cta.tile.bulk_group [%0, {%1}], [%2];" ::"l"(&map), "r"(at.x),
               "r"(shared)
               : "memory");
}
__device__ __forceinline__ void tensor_store(const TensorMap& map, Corner2 at, unsigned shared) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%1, %2}], [%3];" ::"l"(&map),
               "r"(at.x), "r"(at.y), "r"(shared)
               : "memory");
}
__device__ __forceinline__ void tensor_store(const TensorMap& map, Corner3 at, unsigned shared) {
  asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3}], [%4];" ::"l"(&map),
               "r"(at.x), "r"(at.y), "r"(at.z), "r"(shared)
               : "memory");
}
__device__ __forceinline__ void tensor_store(const TensorMap& map, Corner4 at, unsigned shared) {
  asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3, %4}], [%5];" ::"l"(&map),
               "r"(at.x), "r"(at.y), "r"(at.z), "r"(at.w), "r"(shared)
               : "memory");
}
// Adds the box to the tensor, element by element in the map's type.
__device__ __forceinline__ void tensor_add(const TensorMap& map, Corner2 at, unsigned shared) {
  asm volatile(
      "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group [%0, {%1, %2}], [%3];" ::"l"(&map),
      "r"(at.x), "r"(at.y), "r"(shared)
      : "memory");
}

// ---- groups of stores

// What this thread has stored since the last commit becomes a group.
__device__ __forceinline__ void bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

// Waits until all but the kGroups newest groups of this thread have read their shared memory, which may then be
// written again. Before the block exits, or the memory serves another purpose.
template <int kGroups>
__device__ __forceinline__ void bulk_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kGroups) : "memory");
}
// Waits until all but the kGroups newest groups of this thread are in global memory.
template <int kGroups>
__device__ __forceinline__ void bulk_wait() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kGroups) : "memory");
}

}  // namespace gdnjit::device

// mbarriers: barriers in shared memory for threads and bulk copies together (sm_90 and later).
//
// A phase of an mbarrier ends when as many arrivals as it was initialised for, and all bytes that were announced, have
// come; the next phase begins at once. A waiting thread names the phase's parity: 0 for the first, third, ... phase, 1
// for the others. A ring of stages therefore needs one bit that flips at every wrap-around:
//
//   full[stage]   count 1: the producer announces bytes, the copies bring them, consumers wait for parity phase
//   empty[stage]  count of consumers: each arrives when done with the stage, the producer waits for parity phase ^ 1,
//                 which is true at once in the first round
#pragma once

#include "device/shared.cuh"

namespace gdnjit::device {

// 8 bytes of shared memory, aligned to 8, touched by the functions below only. Given as its 32-bit shared address.
using Mbarrier = unsigned;

// One thread; then fence_mbarrier_init() and a barrier before anybody else uses it. `arrivals` per phase: 1 to 2^20
// - 1.
__device__ __forceinline__ void mbarrier_init(Mbarrier barrier, unsigned arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
// Ends the object's life, so that its bytes can serve another purpose. One thread, after the last use.
__device__ __forceinline__ void mbarrier_invalidate(Mbarrier barrier) {
  asm volatile("mbarrier.inval.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

// The calling thread arrives; what it did before is seen by those who wait for this phase.
__device__ __forceinline__ void mbarrier_arrive(Mbarrier barrier) {
  asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// The same at the mbarrier of another block of the cluster; `barrier` comes from in_cluster().
__device__ __forceinline__ void mbarrier_arrive_cluster(unsigned barrier) {
  asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// Announces the bytes that bulk copies will bring in this phase, and arrives. At most 2^20 - 1 bytes are outstanding.
__device__ __forceinline__ void mbarrier_arrive_expect(Mbarrier barrier, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

// Whether the phase with this parity has ended; does not wait. Only the present and the previous phase can be asked
// for.
__device__ __forceinline__ bool mbarrier_test(Mbarrier barrier, unsigned parity) {
  unsigned done;
  asm volatile(
      "{\n  .reg .pred p;\n"
      "  mbarrier.test_wait.parity.acquire.cta.shared::cta.b64 p, [%1], %2;\n"
      "  selp.u32 %0, 1, 0, p;\n}"
      : "=r"(done)
      : "r"(barrier), "r"(parity)
      : "memory");
  return done != 0;
}
// Waits until the phase with this parity has ended. Every thread that reads what the phase brought waits itself, or
// passes a barrier behind one that has.
__device__ __forceinline__ void mbarrier_wait(Mbarrier barrier, unsigned parity) {
  unsigned done;
  do {
    asm volatile(
        "{\n  .reg .pred p;\n"
        "  mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 p, [%1], %2;\n"
        "  selp.u32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
  } while (done == 0);
}
// The same where arrivals come from other blocks of the cluster.
__device__ __forceinline__ void mbarrier_wait_cluster(Mbarrier barrier, unsigned parity) {
  unsigned done;
  do {
    asm volatile(
        "{\n  .reg .pred p;\n"
        "  mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
        "  selp.u32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
  } while (done == 0);
}

}  // namespace gdnjit::device

// Kernels that are right, each with marked places where one change plants one bug. The kernels take
// (const int* in, int* out); see race_fixture.h. Several take `out` as both result and scratch.
#pragma once

#include <string>
#include <vector>

#include "tests/emulator/race_fixture.h"

namespace gdnjit::tests {

struct Sample {
  std::string name;
  std::string source;
  Trial trial;
};

// ---- barriers and warps

// A sum of 64 numbers by halving in shared memory.
inline const std::string kTreeReduction = R"(extern "C" __global__ void test(const int* in, int* out) {
  __shared__ int part[64];
  int i = threadIdx.x;
  part[i] = in[i];
  __syncthreads();
  for (int half = 32; half > 0; half /= 2) {
    if (i < half) part[i] += part[i + half];
    __syncthreads();
  }
  if (i == 0) out[0] = part[0];
}
)";

// Numbers are changed in place and turned round, twice.
inline const std::string kTurnRound = R"(extern "C" __global__ void test(const int* in, int* out) {
  __shared__ int tile[64];
  int i = threadIdx.x;
  tile[i] = in[i];
  __syncthreads();
  tile[i] += 1;
  __syncthreads();
  int value = tile[63 - i];
  __syncthreads();
  tile[i] = value;
  __syncthreads();
  out[i] = tile[63 - i];
}
)";

// Each lane hands its number to its neighbour, twice through the same words.
inline const std::string kWarpExchange = R"(extern "C" __global__ void test(const int* in, int* out) {
  __shared__ int slot[2][32];
  int lane = threadIdx.x % 32;
  int* own = slot[threadIdx.x / 32];
  int value = in[threadIdx.x];
  for (int step = 0; step < 2; ++step) {
    own[lane] = value;
    __syncwarp();
    value += own[(lane + 1) % 32];
    __syncwarp();
  }
  out[threadIdx.x] = value;
}
)";

// ---- cp.async

inline const std::string kDoubleBuffering = R"(#include "device/cp_async.cuh"
#include "device/shared.cuh"
using namespace gdnjit::device;
extern "C" __global__ void test(const int* in, int* out) {
  __shared__ __align__(16) int stage[2][256];
  int i = threadIdx.x;
  unsigned base = shared_address(&stage[0][0]);
  cp_async<16>(base + i * 16, in + i * 4);
  cp_async_commit();
  int sum = 0;
  for (int tile = 0; tile < 8; ++tile) {
    if (tile < 7) cp_async<16>(base + (tile + 1) % 2 * 1024 + i * 16, in + (tile + 1) * 256 + i * 4);
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    for (int k = 0; k < 4; ++k) sum += stage[tile % 2][(i + 17) % 64 * 4 + k];
    __syncthreads();
  }
  out[i] = sum;
}
)";

// ---- mbarriers and bulk copies

// Warp 0 loads, warps 1 and 2 add up; a ring of two stages.
inline const std::string kProducerConsumer = R"(#include "device/tma.cuh"
#include "device/fence.cuh"
#include "device/shared.cuh"
using namespace gdnjit::device;
extern "C" __global__ void test(const int* in, int* out) {
  __shared__ __align__(128) int stage[2][256];
  __shared__ __align__(8) unsigned long long full[2], empty[2];
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (threadIdx.x == 0) {
    for (int s = 0; s < 2; ++s) {
      mbarrier_init(shared_address(&full[s]), 1);
      mbarrier_init(shared_address(&empty[s]), 2);
    }
    fence_mbarrier_init();
  }
  __syncthreads();
  if (warp == 0) {
    if (lane == 0) {
      for (int tile = 0; tile < 6; ++tile) {
        int s = tile % 2, round = tile / 2;
        mbarrier_wait(shared_address(&empty[s]), (round & 1) ^ 1);
        mbarrier_arrive_expect(shared_address(&full[s]), 1024);
        bulk_load(shared_address(stage[s]), in + tile * 256, 1024, shared_address(&full[s]));
      }
    }
  } else {
    int sum = 0;
    for (int tile = 0; tile < 6; ++tile) {
      int s = tile % 2, round = tile / 2;
      mbarrier_wait(shared_address(&full[s]), round & 1);
      for (int k = 0; k < 4; ++k) sum += stage[s][(warp - 1) * 128 + k * 32 + lane];
      __syncwarp();
      if (lane == 0) mbarrier_arrive(shared_address(&empty[s]));
    }
    out[threadIdx.x - 32] = sum;
  }
}
)";

// A tile is written by all threads and stored by one; then the tile is used again.
inline const std::string kBulkStore = R"(#include "device/tma.cuh"
#include "device/fence.cuh"
#include "device/shared.cuh"
using namespace gdnjit::device;
extern "C" __global__ void test(const int* in, int* out) {
  __shared__ __align__(128) int tile[64];
  int i = threadIdx.x;
  for (int step = 0; step < 3; ++step) {
    tile[i] = in[i] + step;
    fence_async_shared();
    __syncthreads();
    if (i == 0) {
      bulk_store(out + step * 64, shared_address(tile), 256);
      bulk_commit();
      bulk_wait_read<0>();
    }
    __syncthreads();
  }
  if (i == 0) bulk_wait<0>();
}
)";

// ---- wgmma

// D = A B twice, the operands of the second product written over those of the first.
inline const std::string kWgmmaTiles = R"(#include "device/wgmma_bf16.cuh"
#include "device/fence.cuh"
#include "device/shared.cuh"
using namespace gdnjit::device;
extern "C" __global__ void test(const int* in, int* out) {
  __shared__ __align__(1024) unsigned short a[64 * 16];
  __shared__ __align__(1024) unsigned short b[8 * 16];
  int i = threadIdx.x;
  float d[4] = {0, 0, 0, 0};
  for (int step = 0; step < 2; ++step) {
    for (int k = i; k < 64 * 16; k += 128) a[k] = 0x3f80;
    if (i < 128) b[i] = 0x4000;
    fence_async_shared();
    __syncthreads();
    wgmma_fence(d);
    wgmma_bf16<8>(d, matrix_descriptor<Swizzle::none>(shared_address(a), 128, 256),
                  matrix_descriptor<Swizzle::none>(shared_address(b), 128, 256), true);
    wgmma_commit();
    wgmma_wait<0>(d);
    __syncthreads();
  }
  for (int k = 0; k < 4; ++k) out[k * 128 + i] = int(d[k]);
}
)";

// ---- between blocks

// The block that arrives last adds up what all have written.
inline const std::string kLastBlock = R"(extern "C" __global__ void test(const int* in, int* out) {
  __shared__ bool last;
  int i = threadIdx.x;
  out[256 + blockIdx.x * 64 + i] = in[i];
  __threadfence();
  __syncthreads();
  if (i == 0) last = atomicAdd(&out[0], 1) == gridDim.x - 1;
  __syncthreads();
  if (last) {
    __threadfence();
    int sum = 0;
    for (int block = 0; block < gridDim.x; ++block) sum += out[256 + block * 64 + i];
    out[64 + i] = sum;
  }
}
)";

// Blocks add their share to one tile in turn.
inline const std::string kSplitSemaphore = R"(extern "C" __global__ void test(const int* in, int* out) {
  volatile int* turn = out;
  int i = threadIdx.x;
  if (i == 0) {
    while (*turn != blockIdx.x) {}
    __threadfence();
  }
  __syncthreads();
  out[64 + i] += in[i];
  __syncthreads();
  if (i == 0) {
    __threadfence();
    *turn = blockIdx.x + 1;
  }
}
)";

// The same with acquire and release.
inline const std::string kSplitAcquireRelease = R"(extern "C" __global__ void test(const int* in, int* out) {
  int i = threadIdx.x;
  if (i == 0) {
    int turn;
    do {
      asm volatile("ld.acquire.gpu.global.b32 %0, [%1];" : "=r"(turn) : "l"(out) : "memory");
    } while (turn != blockIdx.x);
  }
  __syncthreads();
  out[64 + i] += in[i];
  __syncthreads();
  if (i == 0) asm volatile("st.release.gpu.global.b32 [%0], %1;" ::"l"(out), "r"(blockIdx.x + 1) : "memory");
}
)";

// Each block of a cluster reads its neighbour's shared memory.
inline const std::string kClusterExchange = R"(extern "C" __global__ void test(const int* in, int* out) {
  __shared__ int box[64];
  unsigned rank, size;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  box[threadIdx.x] = in[threadIdx.x] + rank;
  asm volatile("barrier.cluster.arrive.aligned;\n barrier.cluster.wait.aligned;" ::: "memory");
  unsigned own = (unsigned)__cvta_generic_to_shared(&box[63 - threadIdx.x]), other;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(other) : "r"(own), "r"((rank + 1) % size));
  int value;
  asm volatile("ld.shared::cluster.b32 %0, [%1];" : "=r"(value) : "r"(other) : "memory");
  asm volatile("barrier.cluster.arrive.aligned;\n barrier.cluster.wait.aligned;" ::: "memory");
  box[threadIdx.x] = 0;
  out[blockIdx.x * 64 + threadIdx.x] = value;
}
)";

inline std::vector<Sample> correct_kernels() {
  return {
      {"a tree reduction", kTreeReduction, {}},
      {"turning round in place", kTurnRound, {}},
      {"an exchange within warps", kWarpExchange, {}},
      {"double buffering with cp.async", kDoubleBuffering, {.arch = "sm_80"}},
      {"a producer and consumers", kProducerConsumer, {.threads = 96}},
      {"bulk stores of a tile", kBulkStore, {}},
      {"wgmma", kWgmmaTiles, {.threads = 128}},
      {"the last block", kLastBlock, {.blocks = 16}},
      {"a semaphore with fences", kSplitSemaphore, {.blocks = 8}},
      {"a semaphore with acquire and release", kSplitAcquireRelease, {.blocks = 8}},
      {"an exchange in a cluster", kClusterExchange, {.blocks = 4, .cluster = 2}},
  };
}

}  // namespace gdnjit::tests

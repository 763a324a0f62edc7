// moe.align: the pairs (token, slot) in the order of their experts, so that a kernel can work through whole experts.
//
// One launch of one block, or of one cluster: every warp counts its run of pairs for each expert, the counts become
// each warp's first row with each expert, and every warp deals its pairs out in order. What a pair's row is depends on
// nothing but the ids, so repeats are bit-identical. Blocks of a cluster read each other's counts from shared memory:
// there is no memory between them to be cleared before or after, and no host in between.
#pragma once

#include "device/cluster.cuh"
#include "device/grid.cuh"
#include "device/memory.cuh"
#include "device/shared.cuh"
#include "device/warp.cuh"
#include "moe/align_config.cuh"

namespace gdnjit::moe {

// Which expert of this device a pair belongs to; -1: none. `ids` below 0 or from `known_ids` on are nobody's and are
// not looked up.
template <DType kIdDtype, bool kMapped, int kExperts>
__device__ __forceinline__ int local_expert(const void* ids, long long pair, const int* expert_map, int known_ids) {
  const long long id = device::load_index<kIdDtype>(ids, pair);
  if (id < 0 || id >= known_ids) return -1;
  int expert = static_cast<int>(id);
  if constexpr (kMapped) expert = expert_map[expert];
  return expert >= 0 && expert < kExperts ? expert : -1;
}

// Where a lane stands among the lanes of its warp with the same expert, and how many they are.
struct StableRank {
  int before;  // lanes below with the same expert
  int count;
};
__device__ __forceinline__ StableRank rank_in_warp(int expert) {
  const unsigned same = device::lanes_with_same(static_cast<unsigned>(expert));
  return {__popc(static_cast<int>(same & device::lanes_below())), __popc(static_cast<int>(same))};
}

template <AlignConfig c>
struct Align {
  static_assert(c.fault() == nullptr, "the tiles do not fit the problem");
  enum : int {
    kThreads = c.threads(),
    kExperts = c.experts,
    kThreadExperts = c.thread_experts(),
    kFlight = 4,  // ids of a lane that are on their way at once
  };
  static constexpr bool kMasked = c.layout == AlignLayout::masked;

  struct SharedMemoryPlan {
    unsigned counts[c.warps][kExperts];  // a warp's pairs of an expert; then those before it; then its next row
    unsigned block_counts[kExperts];     // of this block
    unsigned totals[kExperts];           // of all blocks
    unsigned starts[kExperts];           // an expert's first row
    unsigned bases[kExperts];            // its first row of this block
  };
  static_assert(sizeof(SharedMemoryPlan) == c.shared_bytes(), "host and device disagree on shared memory");

  // Where this warp works. Whole warps have the same.
  struct Place {
    int warp, lane, block;
    long long first, last;  // pairs
  };

  static __device__ __forceinline__ Place locate(const AlignParams& p) {
    Place at;
    at.warp = device::warp_of_block();
    at.lane = static_cast<int>(threadIdx.x % device::kWarpLanes);
    at.block = static_cast<int>(blockIdx.x);
    const long long run = c.warp_pairs(p.pairs);
    at.first = (static_cast<long long>(at.block) * c.warps + at.warp) * run;
    at.last = at.first + run < p.pairs ? at.first + run : p.pairs;
    return at;
  }

  // Calls use(pair, expert) for the warp's pairs in order, all lanes together; lanes beyond the last have expert -1.
  template <typename Use>
  static __device__ __forceinline__ void each_pair(const AlignParams& p, const Place& at, Use use) {
    for (long long begin = at.first; begin < at.last; begin += kFlight * device::kWarpLanes) {
      int experts[kFlight];
#pragma unroll
      for (int i = 0; i < kFlight; ++i) {
        const long long pair = begin + i * device::kWarpLanes + at.lane;
        experts[i] = pair < at.last
                         ? local_expert<c.id_dtype, c.expert_map, kExperts>(p.ids, pair, p.expert_map, p.known_ids)
                         : -1;
      }
#pragma unroll
      for (int i = 0; i < kFlight; ++i) use(begin + i * device::kWarpLanes + at.lane, experts[i]);
    }
  }

  // Which pairs are counted first does not matter, so lanes simply add.
  static __device__ __forceinline__ void count(const AlignParams& p, const Place& at, SharedMemoryPlan& shared) {
    unsigned* const own = shared.counts[at.warp];
    for (int expert = at.lane; expert < kExperts; expert += device::kWarpLanes) own[expert] = 0;
    __syncwarp();
    each_pair(p, at, [&](long long, int expert) {
      if (expert >= 0) atomicAdd(&own[expert], 1u);
    });
  }

  // Rows that an expert's pairs take.
  static __device__ __forceinline__ unsigned padded(unsigned pairs) {
    return (pairs + c.block_m - 1) / c.block_m * c.block_m;
  }

  // A thread sees to experts in a row. Turns counts into first rows; returns the rows that all experts take.
  static __device__ __forceinline__ unsigned place(const Place& at, SharedMemoryPlan& shared) {
    __shared__ unsigned warp_rows[device::kWarpLanes];
    const int first = static_cast<int>(threadIdx.x) * kThreadExperts;
    for (int expert = first; expert < first + kThreadExperts && expert < kExperts; ++expert) {
      unsigned sum = 0;
#pragma unroll 8
      for (int warp = 0; warp < c.warps; ++warp) {
        const unsigned own = shared.counts[warp][expert];
        shared.counts[warp][expert] = sum;
        sum += own;
      }
      shared.block_counts[expert] = sum;
    }
    if constexpr (c.cluster > 1) device::cluster_sync();

    unsigned rows = 0;
    for (int expert = first; expert < first + kThreadExperts && expert < kExperts; ++expert) {
      unsigned before = 0;
      unsigned total = 0;
#pragma unroll
      for (int block = 0; block < c.cluster; ++block) {
        unsigned theirs = 0;
        if constexpr (c.cluster > 1) {
          const unsigned address = device::shared_address(&shared.block_counts[expert]);
          theirs = device::load_cluster_word(device::in_cluster(address, static_cast<unsigned>(block)));
        } else {
          theirs = shared.block_counts[expert];
        }
        if (block < at.block) before += theirs;
        total += theirs;
      }
      shared.totals[expert] = total;
      shared.starts[expert] = rows;
      shared.bases[expert] = before;
      rows += padded(total);
    }
    // Nobody leaves while others may still read its counts: see run().
    if constexpr (c.cluster > 1) device::cluster_arrive();

    const unsigned up_to = device::prefix_sum(rows);
    if (at.lane == device::kWarpLanes - 1) warp_rows[at.warp] = up_to;
    __syncthreads();
    unsigned start = up_to - rows;
    unsigned all = 0;
#pragma unroll 8
    for (int warp = 0; warp < c.warps; ++warp) {
      if (warp < at.warp) start += warp_rows[warp];
      all += warp_rows[warp];
    }
    for (int expert = first; expert < first + kThreadExperts && expert < kExperts; ++expert) {
      shared.starts[expert] += start;
      if constexpr (!kMasked) shared.bases[expert] += shared.starts[expert];
    }
    __syncthreads();
    return all;
  }

  // Deals the warp's pairs out in order.
  static __device__ __forceinline__ void scatter(const AlignParams& p, const Place& at, SharedMemoryPlan& shared) {
    unsigned* const own = shared.counts[at.warp];
    each_pair(p, at, [&](long long pair, int expert) {
      const StableRank rank = rank_in_warp(expert);
      if (expert >= 0) {
        const unsigned row = shared.bases[expert] + own[expert] + static_cast<unsigned>(rank.before);
        if constexpr (kMasked) {
          if (row < static_cast<unsigned>(p.max_rows)) {
            p.pair_ids[static_cast<long long>(expert) * p.max_rows + row] = static_cast<int>(pair);
          }
        } else {
          p.pair_ids[row] = static_cast<int>(pair);
          if constexpr (c.layout == AlignLayout::contiguous) p.grouped_layout[row] = expert;
        }
      }
      __syncwarp();
      if (expert >= 0 && rank.before == 0) own[expert] += static_cast<unsigned>(rank.count);
      __syncwarp();
    });
  }

  static __device__ __forceinline__ void pad_row(const AlignParams& p, long long row) {
    p.pair_ids[row] = static_cast<int>(p.pairs);
    if constexpr (c.layout == AlignLayout::contiguous) p.grouped_layout[row] = -1;
  }

  // What no pair fills: the rest of each expert's rows, one warp an expert, and what lies behind the last.
  static __device__ __forceinline__ void pad(const AlignParams& p, const Place& at, const SharedMemoryPlan& shared,
                                             unsigned rows) {
    for (int expert = at.block * c.warps + at.warp; expert < kExperts; expert += c.cluster * c.warps) {
      const unsigned start = shared.starts[expert];
      const unsigned total = shared.totals[expert];
      const unsigned end = padded(total);
      for (unsigned row = total + at.lane; row < end; row += device::kWarpLanes) pad_row(p, start + row);
      for (unsigned block = at.lane; block < end / c.block_m; block += device::kWarpLanes) {
        p.expert_ids[start / c.block_m + block] = expert;
      }
    }
    const long long thread = static_cast<long long>(at.block) * kThreads + threadIdx.x;
    for (long long row = rows + thread; row < p.capacity; row += c.cluster * kThreads) pad_row(p, row);
    for (long long block = rows / c.block_m + thread; block < p.capacity / c.block_m; block += c.cluster * kThreads) {
      p.expert_ids[block] = -1;
    }
    if (thread == 0) p.total_padded[0] = static_cast<int>(rows);
  }

  // The same for a fixed number of rows an expert. `dropped` is the sum of what did not fit.
  static __device__ __forceinline__ void pad_masked(const AlignParams& p, const Place& at,
                                                    const SharedMemoryPlan& shared) {
    const unsigned most = static_cast<unsigned>(p.max_rows);
    for (int expert = at.block * c.warps + at.warp; expert < kExperts; expert += c.cluster * c.warps) {
      const unsigned total = shared.totals[expert];
      const unsigned used = total < most ? total : most;
      int* const rows = p.pair_ids + static_cast<long long>(expert) * p.max_rows;
      for (unsigned row = used + at.lane; row < most; row += device::kWarpLanes) rows[row] = static_cast<int>(p.pairs);
      if (at.lane == 0) p.masked_m[expert] = static_cast<int>(used);
    }
    if (at.block != 0 || at.warp != 0) return;
    unsigned dropped = 0;
    for (int expert = at.lane; expert < kExperts; expert += device::kWarpLanes) {
      const unsigned total = shared.totals[expert];
      dropped += total > most ? total - most : 0u;
    }
    dropped = device::prefix_sum(dropped);
    if (at.lane == device::kWarpLanes - 1) p.dropped[0] = static_cast<int>(dropped);
  }

  static __device__ __forceinline__ void run(const AlignParams& p) {
    extern __shared__ __align__(16) unsigned char memory[];
    SharedMemoryPlan& shared = *reinterpret_cast<SharedMemoryPlan*>(memory);
    if constexpr (c.programmatic) {
      device::let_next_grid_start();
      device::wait_for_previous_grid();
    }
    const Place at = locate(p);
    count(p, at, shared);
    __syncthreads();
    const unsigned rows = place(at, shared);
    scatter(p, at, shared);
    if constexpr (kMasked) {
      pad_masked(p, at, shared);
    } else {
      pad(p, at, shared, rows);
    }
    if constexpr (c.cluster > 1) device::cluster_wait();
  }
};

}  // namespace gdnjit::moe

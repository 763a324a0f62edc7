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

// Which expert of this device an id names; -1: none. Ids below 0 or from `known_ids` on are nobody's and are not looked
// up.
template <bool kMapped, int kExperts>
__device__ __forceinline__ int local_expert(long long id, const int* expert_map, int known_ids) {
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
    unsigned bases[kExperts];            // an expert's first row of this block
  };
  static_assert(sizeof(SharedMemoryPlan) == c.shared_bytes(), "host and device disagree on shared memory");

  // The ids of kFlight pairs of each lane, on their way at once, and the experts that they name. A warp's first are
  // kept from counting to scattering: all that a warp has of up to 128 pairs.
  using Ids = long long[kFlight];
  using Batch = int[kFlight];

  // Where this warp works. Whole warps have the same.
  struct Place {
    int warp, lane, block;
    unsigned first, last;  // pairs; numbers of pairs and rows stay below 2^31
  };

  static __device__ __forceinline__ Place locate(const AlignParams& p) {
    Place at;
    at.warp = device::warp_of_block();
    at.lane = static_cast<int>(threadIdx.x % device::kWarpLanes);
    at.block = static_cast<int>(blockIdx.x);
    const unsigned pairs = static_cast<unsigned>(p.pairs);
    const unsigned run = c.warp_pairs(pairs);
    at.first = static_cast<unsigned>(at.block * c.warps + at.warp) * run;
    at.last = at.first + run < pairs ? at.first + run : pairs;
    return at;
  }

  // Where a pair's id lies.
  static __device__ __forceinline__ long long place_of(const AlignParams& p, unsigned pair) {
    if (p.ids_stride == p.top_k) return pair;
    const unsigned slots = static_cast<unsigned>(p.top_k);
    return static_cast<long long>(pair / slots) * p.ids_stride + pair % slots;
  }

  // The warp's pairs from `begin` on, in order; those beyond its last have an id of nobody.
  static __device__ __forceinline__ void load(const AlignParams& p, const Place& at, unsigned begin, Ids& ids) {
#pragma unroll
    for (int i = 0; i < kFlight; ++i) {
      const unsigned pair = begin + i * device::kWarpLanes + at.lane;
      ids[i] = -1;
      if (pair < at.last) ids[i] = device::load_index<c.id_dtype>(p.ids, place_of(p, pair));
    }
  }
  static __device__ __forceinline__ void look_up(const AlignParams& p, const Ids& ids, Batch& experts) {
#pragma unroll
    for (int i = 0; i < kFlight; ++i) {
      experts[i] = local_expert<c.expert_map, kExperts>(ids[i], p.expert_map, p.known_ids);
    }
  }

  // Calls use(pair, expert) for the warp's pairs in order, all lanes together. `first` has the first of them.
  template <typename Use>
  static __device__ __forceinline__ void each_pair(const AlignParams& p, const Place& at, const Batch& first, Use use) {
    Batch experts;
#pragma unroll
    for (int i = 0; i < kFlight; ++i) experts[i] = first[i];
    for (unsigned begin = at.first; begin < at.last; begin += kFlight * device::kWarpLanes) {
      if (begin > at.first) {
        Ids ids;
        load(p, at, begin, ids);
        look_up(p, ids, experts);
      }
#pragma unroll
      for (int i = 0; i < kFlight; ++i) use(begin + i * device::kWarpLanes + at.lane, experts[i]);
    }
  }

  // What no pair will fill, in all rows: those that are filled come later, behind a barrier of all blocks.
  static __device__ __forceinline__ void clear(const AlignParams& p, const Place& at) {
    const unsigned thread = static_cast<unsigned>(at.block) * kThreads + threadIdx.x;
    const unsigned rows = static_cast<unsigned>(p.capacity);
    for (unsigned row = thread; row < rows; row += c.cluster * kThreads) {
      p.pair_ids[row] = static_cast<int>(p.pairs);
      if constexpr (c.layout == AlignLayout::contiguous) p.grouped_layout[row] = -1;
    }
    if constexpr (!kMasked) {
      for (unsigned block = thread; block < rows / c.block_m; block += c.cluster * kThreads) p.expert_ids[block] = -1;
    }
  }

  // Which pairs are counted first does not matter, so lanes simply add. Rows are cleared while ids are on their way.
  static __device__ __forceinline__ void count(const AlignParams& p, const Place& at, SharedMemoryPlan& shared,
                                               Batch& first) {
    Ids ids;
    load(p, at, at.first, ids);
    clear(p, at);
    look_up(p, ids, first);
    unsigned* const own = shared.counts[at.warp];
    for (int expert = at.lane; expert < kExperts; expert += device::kWarpLanes) own[expert] = 0;
    __syncwarp();
    each_pair(p, at, first, [&](unsigned, int expert) {
      if (expert >= 0) atomicAdd(&own[expert], 1u);
    });
  }

  // Rows that an expert's pairs take.
  static __device__ __forceinline__ unsigned padded(unsigned pairs) {
    return (pairs + c.block_m - 1) / c.block_m * c.block_m;
  }

  // A thread sees to experts in a row. Turns counts into first rows. Returns the rows that all experts take or, masked,
  // the pairs that have none.
  static __device__ __forceinline__ unsigned place(const AlignParams& p, const Place& at, SharedMemoryPlan& shared) {
    __shared__ unsigned warp_sums[device::kWarpLanes];
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

    unsigned sum_before = 0;
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
      shared.bases[expert] = kMasked ? before : before + sum_before;
      if constexpr (kMasked) {
        const unsigned most = static_cast<unsigned>(p.max_rows);
        if (at.block == 0) p.masked_m[expert] = static_cast<int>(total < most ? total : most);
        sum_before += total < most ? 0u : total - most;
      } else {
        sum_before += padded(total);
      }
    }
    // Nobody leaves while others may still read its counts: see run().
    if constexpr (c.cluster > 1) device::cluster_arrive();

    const unsigned up_to = device::prefix_sum(sum_before);
    if (at.lane == device::kWarpLanes - 1) warp_sums[at.warp] = up_to;
    __syncthreads();
    unsigned start = up_to - sum_before;
    unsigned all = 0;
#pragma unroll 8
    for (int warp = 0; warp < c.warps; ++warp) {
      if (warp < at.warp) start += warp_sums[warp];
      all += warp_sums[warp];
    }
    if constexpr (!kMasked) {
      for (int expert = first; expert < first + kThreadExperts && expert < kExperts; ++expert) {
        shared.bases[expert] += start;
      }
    }
    __syncthreads();
    return all;
  }

  // Deals the warp's pairs out in order. The pair in a block's first row names the block's expert.
  static __device__ __forceinline__ void scatter(const AlignParams& p, const Place& at, SharedMemoryPlan& shared,
                                                 const Batch& first) {
    unsigned* const own = shared.counts[at.warp];
    each_pair(p, at, first, [&](unsigned pair, int expert) {
      const StableRank rank = rank_in_warp(expert);
      if (expert >= 0) {
        const unsigned row = shared.bases[expert] + own[expert] + static_cast<unsigned>(rank.before);
        if constexpr (kMasked) {
          if (row < static_cast<unsigned>(p.max_rows)) {
            p.pair_ids[static_cast<unsigned>(expert) * p.max_rows + row] = static_cast<int>(pair);
          }
        } else {
          p.pair_ids[row] = static_cast<int>(pair);
          if constexpr (c.layout == AlignLayout::contiguous) p.grouped_layout[row] = expert;
          if (row % c.block_m == 0) p.expert_ids[row / c.block_m] = expert;
        }
      }
      __syncwarp();
      if (expert >= 0 && rank.before == 0) own[expert] += static_cast<unsigned>(rank.count);
      __syncwarp();
    });
  }

  static __device__ __forceinline__ void run(const AlignParams& p) {
    extern __shared__ __align__(16) unsigned char memory[];
    SharedMemoryPlan& shared = *reinterpret_cast<SharedMemoryPlan*>(memory);
    if constexpr (c.programmatic) {
      device::let_next_grid_start();
      device::wait_for_previous_grid();
    }
    const Place at = locate(p);
    Batch first;
    count(p, at, shared, first);
    __syncthreads();
    const unsigned sum = place(p, at, shared);
    scatter(p, at, shared, first);
    if (at.block == 0 && threadIdx.x == 0) *(kMasked ? p.dropped : p.total_padded) = static_cast<int>(sum);
    if constexpr (c.cluster > 1) device::cluster_wait();
  }
};

}  // namespace gdnjit::moe

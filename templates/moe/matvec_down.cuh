// The second expert product for few tokens and the weighted sum over a token's slots, y = sum of weights (h w2^T): a
// block takes block_n numbers of y of a chunk of tokens. Its warps go through the groups of pairs that share an expert,
// one stream of weights a warp; the next group's loads are on their way before the last one's sums are done. Every
// pair's result is kept, and added up in the order of the slots, so a token's bits do not depend on its neighbours.
//
// grid = (tiles of y, chunks of tokens)
#pragma once

#include "device/grid.cuh"
#include "moe/product.cuh"

namespace gdnjit::moe {

template <MatvecConfig c>
struct MatvecDown {
  static_assert(c.down && c.fault() == nullptr, "the tiles do not fit the problem");
  using P = Product<c>;
  enum : int { kThreads = c.threads(), kGroupTokens = c.group_tokens() };

  // Of a chunk of `pairs` pairs.
  struct SharedMemory {
    unsigned char* rings;  // [warps][ring_bytes]; before them the tables of find_groups()
    float* sums;           // [warps_k][pairs][block_n]
    int* experts;          // [pairs]; -1: no expert
    int* places;           // [pairs]: of a pair among those with its expert
    int* group_of;         // [groups]: the expert
    int* counts;           // [groups]
    int* members;          // [groups][group_tokens]
    int* groups;           // their number

    __device__ __forceinline__ SharedMemory(unsigned char* bytes, int pairs) {
      rings = bytes;
      sums = reinterpret_cast<float*>(bytes + c.front_bytes(pairs));
      experts = reinterpret_cast<int*>(sums + c.warps_k * pairs * c.block_n());
      places = experts + pairs;
      group_of = places + pairs;
      counts = group_of + pairs;
      members = counts + pairs;
      groups = members + pairs * kGroupTokens;
    }
  };

  // Where a warp is in its stream: a step of a group.
  struct Cursor {
    int group, step, in, steps;
  };

  static __device__ __forceinline__ void run(const MatvecParams& p) {
    extern __shared__ __align__(16) unsigned char shared_bytes[];
    const int first_token = static_cast<int>(blockIdx.y) * c.chunk_tokens();
    const int tokens = p.tokens - first_token < c.chunk_tokens() ? p.tokens - first_token : c.chunk_tokens();
    const int pairs = tokens * c.slots();
    const SharedMemory shared(shared_bytes, pairs);
    const int groups = find_groups(p, first_token * c.slots(), pairs, shared);
    multiply(p, first_token * c.slots(), pairs, groups, shared);
    __syncthreads();
    combine(p, first_token, tokens, pairs, shared);
  }

 private:
  static __device__ __forceinline__ int first_row() { return static_cast<int>(blockIdx.x) * c.block_n(); }

  // Phase 1: the groups. Returns their number. A warp takes 32 pairs: how many of them have each expert goes into a
  // table, from which everybody sees how many pairs before its own have its expert. group_tokens() of them make a
  // group. An expert's first pair takes the numbers of its groups from a counter; so the order of groups is not always
  // the same, but nothing that is stored depends on it.
  static __device__ __forceinline__ int find_groups(const MatvecParams& p, int first_pair, int pairs,
                                                    const SharedMemory& shared) {
    const int thread = static_cast<int>(threadIdx.x), lane = thread % device::kWarpLanes;
    const int spans = (pairs + device::kWarpLanes - 1) / device::kWarpLanes;
    // The tables lie where weights will: by expert its first group, by span and expert the number of pairs.
    unsigned short* const first_groups = reinterpret_cast<unsigned short*>(shared.rings);
    unsigned char* const numbers = shared.rings + 2 * c.expert_slots();
    const auto expert_at = [&](int pair) { return pair < pairs ? expert_of<c>(p, first_pair + pair) : -1; };
    int own = expert_at(thread);
    for (int i = thread; i < spans * c.expert_slots() / 2; i += kThreads) {
      reinterpret_cast<unsigned short*>(numbers)[i] = 0;
    }
    if (thread == 0) *shared.groups = 0;
    __syncthreads();
    for (int pair = thread; pair < spans * device::kWarpLanes; pair += kThreads) {
      if (pair != thread) own = expert_at(pair);
      const unsigned same = __match_any_sync(0xffffffffu, own);
      const int before = __popc(same & ((1u << lane) - 1u));
      if (pair < pairs) {
        shared.experts[pair] = own;
        shared.places[pair] = before;
        if (own >= 0 && before == 0) {
          numbers[pair / device::kWarpLanes * c.expert_slots() + own] = static_cast<unsigned char>(__popc(same));
        }
      }
    }
    __syncthreads();
    for (int pair = thread; pair < pairs; pair += kThreads) {
      const int expert = shared.experts[pair];
      if (expert < 0) continue;
      int place = shared.places[pair];
      for (int span = 0; span < pair / device::kWarpLanes; ++span) place += numbers[span * c.expert_slots() + expert];
      shared.places[pair] = place;
      if (place != 0) continue;
      int count = 0;
      for (int span = 0; span < spans; ++span) count += numbers[span * c.expert_slots() + expert];
      int group = atomicAdd(shared.groups, (count + kGroupTokens - 1) / kGroupTokens);
      first_groups[expert] = static_cast<unsigned short>(group);
      for (; count > 0; count -= kGroupTokens, ++group) {
        shared.group_of[group] = expert;
        shared.counts[group] = count < kGroupTokens ? count : kGroupTokens;
      }
    }
    __syncthreads();
    for (int pair = thread; pair < pairs; pair += kThreads) {
      const int expert = shared.experts[pair], place = shared.places[pair];
      if (expert < 0) continue;
      const int group = first_groups[expert] + place / kGroupTokens;
      shared.members[group * kGroupTokens + place % kGroupTokens] = pair;
    }
    __syncthreads();
    return *shared.groups;
  }

  // Phase 2: every pair's product, into shared memory.
  static __device__ __forceinline__ void multiply(const MatvecParams& p, int first_pair, int pairs, int groups,
                                                  const SharedMemory& shared) {
    const int warp = device::warp_of_block(), warp_k = warp % c.warps_k;
    float* const sums_here = shared.sums + static_cast<long long>(warp_k) * pairs * c.block_n();

    // Three places in the warp's stream: whose weights are copied next, whose scales and inputs are loaded next, and
    // what is multiplied now.
    Cursor ahead = at_group(warp / c.warps_k, groups, shared), next = ahead, now = ahead;
    typename P::Rows rows;
    typename P::ScaleRows scale_rows;
    typename P::Columns columns, columns_now;
    typename P::Aside aside;
    typename P::Ring ring(shared.rings, warp);
    const auto copy = [&](int slot) {
      P::copy_weights(rows, ahead.group < groups ? ahead.in : 0, ahead.step, ring, slot);
      if (advance(ahead, groups, shared)) set_rows(p, ahead, groups, shared, rows);
    };
    set_rows(p, ahead, groups, shared, rows);
#pragma unroll
    for (int s = 0; s < c.stages; ++s) copy(s);
    set_scale_rows(p, next, groups, shared, scale_rows);
    if (next.group < groups) P::load_scales(scale_rows, next.in, next.step, aside);
    // The weights do not depend on what the kernel before wrote.
    if constexpr (c.programmatic) {
      device::wait_for_previous_grid();
      device::let_next_grid_start();
    }
    set_columns(p, first_pair, next, groups, shared, columns);
    columns_now = columns;
    if (next.group < groups) P::load_inputs(columns, next.in, next.step, aside);

    typename P::Sums sums = {};
    while (now.group < groups) {
      const typename P::Aside aside_now = aside;
      if (advance(next, groups, shared)) {
        set_scale_rows(p, next, groups, shared, scale_rows);
        set_columns(p, first_pair, next, groups, shared, columns);
      }
      if (next.group < groups) {
        P::load_scales(scale_rows, next.in, next.step, aside);
        P::load_inputs(columns, next.in, next.step, aside);
      }
      P::accumulate(ring, aside_now, columns_now, now.in, now.step, sums);
      copy(ring.slot);
      ring.advance();
      if (next.group != now.group) {
        keep(now.group, sums, shared, sums_here);
        columns_now = columns;
      }
      now = next;
    }
  }

  // The warp's first step of a group. A step behind the rows' end is one of zeros.
  static __device__ __forceinline__ Cursor at_group(int group, int groups, const SharedMemory& shared) {
    Cursor cursor{group, device::warp_of_block() % c.warps_k, c.in_features(false), P::steps(c.in_features(false))};
    if (c.shared_size > 0 && group < groups && shared.group_of[group] == c.experts) {
      cursor.in = c.in_features(true);
      cursor.steps = P::steps(c.in_features(true));
    }
    return cursor;
  }

  // True if that led to another group.
  static __device__ __forceinline__ bool advance(Cursor& cursor, int groups, const SharedMemory& shared) {
    cursor.step += c.warps_k;
    if (cursor.step < cursor.steps) return false;
    cursor = at_group(cursor.group + c.warps_n, groups, shared);
    return true;
  }

  // The lane's rows of the cursor's expert, each given to `set`.
  template <typename Set>
  static __device__ __forceinline__ void for_rows(const MatvecParams& p, const Cursor& cursor, int groups,
                                                  const SharedMemory& shared, Set&& set) {
    if (cursor.group >= groups) return;
    const ExpertMatrix matrix = matrix_of<c>(p, shared.group_of[cursor.group]);
#pragma unroll
    for (int tile = 0; tile < P::kTiles; ++tile) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = first_row() + tile * kTileRows + P::lane() / 4 + 8 * half;
        set(matrix, row < c.hidden_size ? row : c.hidden_size - 1, tile, half);
      }
    }
  }
  static __device__ __forceinline__ void set_rows(const MatvecParams& p, const Cursor& cursor, int groups,
                                                  const SharedMemory& shared, typename P::Rows& rows) {
    for_rows(p, cursor, groups, shared, [&](const ExpertMatrix& matrix, int row, int tile, int half) {
      P::set_row(matrix, cursor.in, row, tile, half, rows);
    });
  }
  static __device__ __forceinline__ void set_scale_rows(const MatvecParams& p, const Cursor& cursor, int groups,
                                                        const SharedMemory& shared, typename P::ScaleRows& rows) {
    for_rows(p, cursor, groups, shared, [&](const ExpertMatrix& matrix, int row, int tile, int half) {
      P::set_scale_row(matrix, cursor.in, row, tile, half, rows);
    });
  }

  static __device__ __forceinline__ void set_columns(const MatvecParams& p, int first_pair, const Cursor& cursor,
                                                     int groups, const SharedMemory& shared,
                                                     typename P::Columns& columns) {
    if (cursor.group >= groups) return;
    const int* const members = shared.members + cursor.group * kGroupTokens;
    P::set_columns(
        shared.counts[cursor.group],
        [&](int place) {
          const long long row = first_pair + members[place];
          return static_cast<const unsigned char*>(p.in) + row * p.in_stride * dtype_bytes(c.in_dtype);
        },
        columns);
  }

  // The sums of a group's pairs, groups of weights added up; then the sums are 0 again.
  static __device__ __forceinline__ void keep(int group, typename P::Sums& sums, const SharedMemory& shared,
                                              float* sums_here) {
    const int lane = P::lane(), count = shared.counts[group];
#pragma unroll
    for (int tile = 0; tile < P::kTiles; ++tile) {
#pragma unroll
      for (int column = 0; column < P::kColumnTiles; ++column) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          // A token's columns lie in one lane, or in two neighbours.
          float sum = sums[tile][column][i];
          if constexpr (c.group_columns() > 1) {
            if (i % 2 != 0) continue;
            sum += sums[tile][column][i + 1 < 4 ? i + 1 : i];
          }
          if constexpr (c.group_columns() == 4) sum += device::from_lane_xor(sum, 1);
          const int d_column = device::mma_d_column(lane, i);
          const int place = (column * kTileColumns + d_column) / c.group_columns();
          if (place >= count || d_column % c.group_columns() != 0) continue;
          const int pair = shared.members[group * kGroupTokens + place];
          sums_here[pair * c.block_n() + tile * kTileRows + device::mma_d_row(lane, i)] = sum;
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[tile][column][i] = 0.0f;
      }
    }
  }

  // Phase 3: a thread a number of y.
  static __device__ __forceinline__ void combine(const MatvecParams& p, int first_token, int tokens, int pairs,
                                                 const SharedMemory& shared) {
    for (int i = static_cast<int>(threadIdx.x); i < tokens * c.block_n(); i += kThreads) {
      const int token = i / c.block_n(), n = i % c.block_n(), row = first_row() + n;
      if (row >= c.hidden_size) continue;
      float y = 0.0f;
      for (int slot = 0; slot < c.slots(); ++slot) {
        const int pair = token * c.slots() + slot, expert = shared.experts[pair];
        if (expert < 0) continue;
        float sum = 0.0f;
#pragma unroll
        for (int k = 0; k < c.warps_k; ++k) sum += shared.sums[(k * pairs + pair) * c.block_n() + n];
        y = fmaf(weight_of(p, first_token + token, slot), with_expert(p, expert, row, sum), y);
      }
      device::store_scalar<c.out_dtype>(p.out, (first_token + token) * p.out_stride + row, y);
    }
  }

  static __device__ __forceinline__ float with_expert(const MatvecParams& p, int expert, int row, float sum) {
    if constexpr (c.weights == WeightFormat::nvfp4 || c.bias) {
      const ExpertMatrix matrix = matrix_of<c>(p, expert);
      if constexpr (c.weights == WeightFormat::nvfp4) sum *= *matrix.global_scales;
      if constexpr (c.bias) sum += device::load_scalar<c.bias_dtype>(matrix.bias, row);
    }
    return sum;
  }

  static __device__ __forceinline__ float weight_of(const MatvecParams& p, int token, int slot) {
    if (c.shared_size > 0 && slot == c.top_k) return c.shared_gate ? p.shared_weights[token] : 1.0f;
    return p.weights[token * p.weights_stride + slot];
  }
};

}  // namespace gdnjit::moe

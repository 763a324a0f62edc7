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
    float* sums;    // [warps_k][pairs][block_n]
    int* experts;   // [pairs]; -1: no expert
    int* leads;     // [pairs]: whether a pair is the first of a group
    int* group_of;  // [groups]: the expert
    int* counts;    // [groups]
    int* members;   // [groups][group_tokens]
    int* leaders;   // [32]: of every warp's share, their number

    __device__ __forceinline__ SharedMemory(unsigned char* bytes, int pairs) {
      sums = reinterpret_cast<float*>(bytes);
      experts = reinterpret_cast<int*>(sums + c.warps_k * pairs * c.block_n());
      leads = experts + pairs;
      group_of = leads + pairs;
      counts = group_of + pairs;
      members = counts + pairs;
      leaders = members + pairs * kGroupTokens;
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

  // Phase 1: the groups, in the order of their first pairs. Returns their number. Each thread looks at a pair: how
  // many before it have its expert, and, if that makes it the first of a group, who is in it.
  static __device__ __forceinline__ int find_groups(const MatvecParams& p, int first_pair, int pairs,
                                                    const SharedMemory& shared) {
    const int thread = static_cast<int>(threadIdx.x);
    for (int pair = thread; pair < pairs; pair += kThreads) shared.experts[pair] = expert_of<c>(p, first_pair + pair);
    __syncthreads();
    for (int pair = thread; pair < pairs; pair += kThreads) {
      const int expert = shared.experts[pair];
      int before = 0;
      for (int other = 0; other < pair; ++other) before += shared.experts[other] == expert ? 1 : 0;
      shared.leads[pair] = expert >= 0 && before % kGroupTokens == 0 ? 1 : 0;
    }
    __syncthreads();
    int groups = 0;
    for (int from = 0; from < pairs; from += kThreads) {
      const int pair = from + thread, lane = thread % device::kWarpLanes;
      const bool leads = pair < pairs && shared.leads[pair] != 0;
      const unsigned leaders = device::lanes_where(leads);
      if (lane == 0) shared.leaders[thread / device::kWarpLanes] = __popc(leaders);
      __syncthreads();
      int group = groups + __popc(leaders & ((1u << lane) - 1u));
      for (int warp = 0; warp < c.warps(); ++warp) {
        if (warp < thread / device::kWarpLanes) group += shared.leaders[warp];
        groups += shared.leaders[warp];
      }
      if (leads) list_members(pair, pairs, group, shared);
      __syncthreads();
    }
    return groups;
  }

  static __device__ __forceinline__ void list_members(int leader, int pairs, int group, const SharedMemory& shared) {
    const int expert = shared.experts[leader];
    int count = 0;
    for (int pair = leader; pair < pairs && count < kGroupTokens; ++pair) {
      if (shared.experts[pair] == expert) shared.members[group * kGroupTokens + count++] = pair;
    }
    shared.group_of[group] = expert;
    shared.counts[group] = count;
  }

  // Phase 2: every pair's product, into shared memory.
  static __device__ __forceinline__ void multiply(const MatvecParams& p, int first_pair, int pairs, int groups,
                                                  const SharedMemory& shared) {
    const int warp = device::warp_of_block(), warp_k = warp % c.warps_k;
    float* const sums_here = shared.sums + static_cast<long long>(warp_k) * pairs * c.block_n();

    Cursor ahead = at_group(warp / c.warps_k, groups, shared), now = ahead, inputs = ahead;
    typename P::Rows rows;
    typename P::Columns columns;
    typename P::Stage stages[c.stages];
    set_rows(p, ahead, groups, shared, rows);
#pragma unroll
    for (int s = 0; s < c.stages; ++s) {
      if (ahead.group >= groups) break;
      P::load_weights(rows, ahead.in, ahead.step, stages[s]);
      if (advance(ahead, groups, shared)) set_rows(p, ahead, groups, shared, rows);
    }
    // The weights do not depend on what the kernel before wrote.
    if constexpr (c.programmatic) {
      device::wait_for_previous_grid();
      device::let_next_grid_start();
    }
    set_columns(p, first_pair, inputs, groups, shared, columns);
    typename P::Columns columns_now = columns;
#pragma unroll
    for (int s = 0; s < c.stages; ++s) {
      if (inputs.group >= groups) break;
      P::load_inputs_ahead(columns, inputs.in, inputs.step, stages[s]);
      if (advance(inputs, groups, shared)) set_columns(p, first_pair, inputs, groups, shared, columns);
    }

    typename P::Sums sums = {};
    while (now.group < groups) {
#pragma unroll
      for (int s = 0; s < c.stages; ++s) {
        if (now.group >= groups) break;
        P::accumulate(stages[s], columns_now, now.in, now.step, sums);
        if (ahead.group < groups) {
          P::load_weights(rows, ahead.in, ahead.step, stages[s]);
          P::load_inputs_ahead(columns, ahead.in, ahead.step, stages[s]);
          if (advance(ahead, groups, shared)) {
            set_rows(p, ahead, groups, shared, rows);
            set_columns(p, first_pair, ahead, groups, shared, columns);
          }
        }
        const int group = now.group;
        if (advance(now, groups, shared)) {
          keep(group, sums, shared, sums_here);
          set_columns(p, first_pair, now, groups, shared, columns_now);
        }
      }
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

  static __device__ __forceinline__ void set_rows(const MatvecParams& p, const Cursor& cursor, int groups,
                                                  const SharedMemory& shared, typename P::Rows& rows) {
    if (cursor.group >= groups) return;
    const ExpertMatrix matrix = matrix_of<c>(p, shared.group_of[cursor.group]);
#pragma unroll
    for (int tile = 0; tile < P::kTiles; ++tile) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = first_row() + tile * kTileRows + P::lane() / 4 + 8 * half;
        P::set_row(matrix, cursor.in, row < c.hidden_size ? row : c.hidden_size - 1, tile, half, rows);
      }
    }
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

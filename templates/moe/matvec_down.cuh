// The second expert product for few tokens and the weighted sum over a token's slots, y = sum of weights (h w2^T): a
// cluster of blocks takes warp_rows() numbers of y of a chunk of tokens, and the teams of its blocks go through the
// groups of pairs that share an expert. Every pair's result is kept, in the block that adds up its row, in the order of
// the slots: so a token's bits do not depend on its neighbours.
//
// grid = (tiles of y times cluster, chunks of tokens)
#pragma once

#include "device/cluster.cuh"
#include "moe/stream.cuh"

namespace gdnjit::moe {

template <MatvecConfig c>
struct MatvecDown {
  static_assert(c.down && c.fault() == nullptr, "the tiles do not fit the problem");
  using P = Product<c>;
  enum : int { kThreads = c.threads() };

  static __device__ __forceinline__ int first_row() { return static_cast<int>(blockIdx.x) / c.cluster * c.warp_rows(); }
  static __device__ __forceinline__ int rank() { return c.cluster == 1 ? 0 : static_cast<int>(blockIdx.x) % c.cluster; }

  struct Items {
    const MatvecParams& p;
    int first_pair, groups;
    __device__ __forceinline__ int count() const { return groups; }
    __device__ __forceinline__ int stride() const { return c.cluster * c.warps_n; }
    __device__ __forceinline__ int group(int item) const { return item; }
    __device__ __forceinline__ int first_output(int) const { return first_row(); }
    __device__ __forceinline__ const unsigned char* inputs(int pair) const {
      const long long row = first_pair + pair;
      return static_cast<const unsigned char*>(p.in) + row * p.in_stride * dtype_bytes(c.in_dtype);
    }
  };

  static __device__ __forceinline__ void run(const MatvecParams& p) {
    extern __shared__ __align__(16) unsigned char shared_bytes[];
    const int first_token = static_cast<int>(blockIdx.y) * c.chunk_tokens();
    const int tokens = p.tokens - first_token < c.chunk_tokens() ? p.tokens - first_token : c.chunk_tokens();
    const int first_pair = first_token * c.slots(), pairs = tokens * c.slots();
    const int warp = device::warp_of_block();
    unsigned char* const table = shared_bytes + c.front_bytes(pairs);
    float* const sums = reinterpret_cast<float*>(table + c.group_table_bytes(pairs));  // [warps_k][pairs][block_rows]

    if constexpr (c.cluster > 1) device::cluster_arrive_relaxed();
    const PairGroups<c> groups(table, pairs);
    groups.find(p, first_pair, pairs, shared_bytes);
    const Items items{p, first_pair, *groups.count};
    const Stream<c, Items> stream{p, groups, items};
    if constexpr (c.cluster > 1) device::cluster_wait();  // the others have begun, and may be written to
    stream.run(
        warp / c.warps_k * c.cluster + rank(), shared_bytes,
        [] {
          // The weights do not depend on what the kernel before wrote.
          if constexpr (c.programmatic) {
            device::wait_for_previous_grid();
            device::let_next_grid_start();
          }
        },
        [&](int group, const typename P::Sums& own) {
          keep(own, groups.members + group * c.group_tokens(), groups.sizes[group],
               sums + warp % c.warps_k * pairs * c.block_rows());
        });
    if constexpr (c.cluster > 1) {
      device::cluster_sync();
    } else {
      __syncthreads();
    }
    combine(p, first_token, tokens, pairs, groups.experts, sums);
  }

 private:
  // The sums of a group's pairs, to the blocks that add up their rows.
  static __device__ __forceinline__ void keep(const typename P::Sums& own, const unsigned short* members, int count,
                                              float* sums) {
#pragma unroll
    for (int column = 0; column < P::kColumnTiles; ++column) {
#pragma unroll
      for (int side = 0; side < 2; ++side) {  // of this lane's two columns
        const int place = P::token_at(column, side);
        if (place < 0 || place >= count) continue;
        float* const of_pair = sums + members[place] * c.block_rows() + P::lane() / 4;
#pragma unroll
        for (int half = 0; half < 2 * P::kTiles; ++half) {  // eights of rows
          const int row = half * 8, block = row / c.block_rows();
          put(of_pair + row % c.block_rows(), block, own[half / 2][column][half % 2 * 2 + side]);
        }
      }
    }
  }

  // To the place of `to` in block `block` of the cluster.
  static __device__ __forceinline__ void put(float* to, int block, float sum) {
    if constexpr (c.cluster > 1) {
      device::store_cluster(device::in_cluster(device::shared_address(to), static_cast<unsigned>(block)), sum);
    } else {
      *to = sum;
    }
  }

  // A thread a number of y.
  static __device__ __forceinline__ void combine(const MatvecParams& p, int first_token, int tokens, int pairs,
                                                 const short* experts, const float* sums) {
    for (int i = static_cast<int>(threadIdx.x); i < tokens * c.block_rows(); i += kThreads) {
      const int token = i / c.block_rows(), n = i % c.block_rows(), row = first_row() + rank() * c.block_rows() + n;
      if (row >= c.hidden_size) continue;
      float y = 0.0f;
      for (int slot = 0; slot < c.slots(); ++slot) {
        const int pair = token * c.slots() + slot, expert = experts[pair];
        if (expert < 0) continue;
        float sum = 0.0f;
#pragma unroll
        for (int k = 0; k < c.warps_k; ++k) sum += sums[(k * pairs + pair) * c.block_rows() + n];
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

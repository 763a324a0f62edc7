// The first expert product for few tokens, h = act(x w1^T). An item is a group of pairs that share an expert and
// warp_rows() numbers of their h; teams of warps_k warps take items in turn, over all blocks.
//
// grid = (blocks, chunks of tokens)
#pragma once

#include "device/barrier.cuh"
#include "moe/activation.cuh"
#include "moe/stream.cuh"

namespace gdnjit::moe {

template <MatvecConfig c>
struct MatvecUp {
  static_assert(!c.down && c.fault() == nullptr, "the tiles do not fit the problem");
  using P = Product<c>;
  enum : int { kThreads = c.threads(), kGates = P::kGates, kTeam = c.warps_k * device::kWarpLanes };

  // Tiles of one group follow each other: its weights are one run of memory.
  struct Items {
    const MatvecParams& p;
    int first_pair, groups;
    __device__ __forceinline__ int count() const { return groups * c.tiles_n(); }
    __device__ __forceinline__ int stride() const { return static_cast<int>(gridDim.x) * c.warps_n; }
    __device__ __forceinline__ int group(int item) const { return item / c.tiles_n(); }
    __device__ __forceinline__ int first_output(int item) const { return item % c.tiles_n() * c.warp_rows(); }
    __device__ __forceinline__ const unsigned char* inputs(int pair) const {
      const long long token = (first_pair + pair) / c.slots();
      return static_cast<const unsigned char*>(p.in) + token * p.in_stride * dtype_bytes(c.in_dtype);
    }
  };

  static __device__ __forceinline__ void run(const MatvecParams& p) {
    extern __shared__ __align__(16) unsigned char shared_bytes[];
    const int first_token = static_cast<int>(blockIdx.y) * c.chunk_tokens();
    const int tokens = p.tokens - first_token < c.chunk_tokens() ? p.tokens - first_token : c.chunk_tokens();
    const int first_pair = first_token * c.slots(), pairs = tokens * c.slots();
    const int warp = device::warp_of_block(), team = warp / c.warps_k, warp_k = warp % c.warps_k;
    unsigned char* const table = shared_bytes + c.front_bytes(pairs);
    float* const team_sums =
        reinterpret_cast<float*>(table + c.group_table_bytes(pairs)) + (c.warps_k > 1 ? team * 2 * c.item_sums() : 0);

    if constexpr (c.programmatic) {
      device::wait_for_previous_grid();
      device::let_next_grid_start();
    }
    const PairGroups<c> groups(table, pairs);
    groups.find(p, first_pair, pairs, shared_bytes);
    const Items items{p, first_pair, *groups.count};
    const Stream<c, Items> stream{p, groups, items};
    int turn = 0;
    stream.run(
        static_cast<int>(blockIdx.x) * c.warps_n + team, shared_bytes, [] {},
        [&](int item, const typename P::Sums& sums) {
          const int group = items.group(item), expert = groups.expert_of_group[group];
          const bool is_shared = c.shared_size > 0 && expert == c.experts;
          const Done done{p,
                          matrix_of<c>(p, expert),
                          groups.members + group * c.group_tokens(),
                          first_pair,
                          groups.sizes[group],
                          items.first_output(item),
                          c.out_features(is_shared)};
          if constexpr (c.warps_k == 1) {
            store_own(done, sums);
          } else {
            // Two places in turn: who is through with the barrier may be an item ahead of others, and no more.
            float* const shares = team_sums + turn * c.item_sums();
            turn ^= 1;
            keep(sums, done.count, shares + warp_k * (c.item_sums() / c.warps_k));
            device::sync_group<kTeam, c.warps_n>(team);
            add_and_store(done, shares);
          }
          if (c.shared_gate && is_shared && done.first_output == 0) weigh_shared(done, warp_k);
        });
  }

 private:
  // An item whose sums are there.
  struct Done {
    const MatvecParams& p;
    ExpertMatrix matrix;
    const unsigned short* members;
    int first_pair, count, first_output, outputs;
  };

  // Activation and store of one number of h. `numbers` are gate and up, or without a gate the only one.
  static __device__ __forceinline__ void store(const Done& done, int place, int n, float (&numbers)[kGates]) {
    const int output = done.first_output + n;
    if (!P::kFullRows && output >= done.outputs) return;
#pragma unroll
    for (int which = 0; which < kGates; ++which) {
      if constexpr (c.weights == WeightFormat::nvfp4) numbers[which] *= *done.matrix.global_scales;
      if constexpr (c.bias) {
        numbers[which] += device::load_scalar<c.bias_dtype>(done.matrix.bias, matrix_row(output, which, done.outputs));
      }
    }
    const float h = activate<c.activation>(numbers[0], numbers[kGates - 1], c.swiglu_alpha, c.swiglu_limit);
    const long long row = done.first_pair + done.members[place];
    device::store_scalar<c.out_dtype>(done.p.out, row * done.p.out_stride + output, h);
  }

  // The row of w1 that makes gate or up of number `output` of h.
  static __device__ __forceinline__ int matrix_row(int output, int which, int outputs) {
    if (!c.gated()) return output;
    if (c.gate_order == GateOrder::interleaved) return 2 * output + which;
    return (c.gate_order == GateOrder::gate_up ? which : 1 - which) * outputs + output;
  }

  // Of a team of one warp: gate and up of a number are in the same lane.
  static __device__ __forceinline__ void store_own(const Done& done, const typename P::Sums& sums) {
    const int lane = P::lane();
#pragma unroll
    for (int tile = 0; tile < P::kTiles; tile += kGates) {
#pragma unroll
      for (int column = 0; column < P::kColumnTiles; ++column) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int place = P::token_at(column, i);
          if (place < 0 || place >= done.count) continue;
          float numbers[kGates];
#pragma unroll
          for (int which = 0; which < kGates; ++which) numbers[which] = sums[tile + which][column][i];
          store(done, place, tile / kGates * kTileRows + device::mma_d_row(lane, i), numbers);
        }
      }
    }
  }

  // This warp's shares of the item's sums, [tile][place][row].
  static __device__ __forceinline__ void keep(const typename P::Sums& sums, int count, float* shares) {
#pragma unroll
    for (int tile = 0; tile < P::kTiles; ++tile) {
#pragma unroll
      for (int column = 0; column < P::kColumnTiles; ++column) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int place = P::token_at(column, i);
          if (place < 0 || place >= count) continue;
          shares[(tile * c.group_tokens() + place) * kSumsPitch + device::mma_d_row(P::lane(), i)] =
              sums[tile][column][i];
        }
      }
    }
  }

  // The team's warps' shares in their order, a thread a number of h.
  static __device__ __forceinline__ void add_and_store(const Done& done, const float* shares) {
    const int thread = static_cast<int>(threadIdx.x) % kTeam;
#pragma unroll 1
    for (int i = thread; i < done.count * c.warp_rows(); i += kTeam) {
      const int place = i / c.warp_rows(), n = i % c.warp_rows();
      float numbers[kGates];
#pragma unroll
      for (int which = 0; which < kGates; ++which) {
        const int tile = n / kTileRows * kGates + which;
        const float* const own = shares + (tile * c.group_tokens() + place) * kSumsPitch + n % kTileRows;
        numbers[which] = own[0];
#pragma unroll
        for (int k = 1; k < c.warps_k; ++k) numbers[which] += own[k * (c.item_sums() / c.warps_k)];
      }
      store(done, place, n, numbers);
    }
  }

  // The weights of the shared expert, sigmoid(x w): a warp of the team a token.
  static __device__ __forceinline__ void weigh_shared(const Done& done, int warp_k) {
    const MatvecParams& p = done.p;
    for (int place = warp_k; place < done.count; place += c.warps_k) {
      const long long token = (done.first_pair + done.members[place]) / c.slots();
      const void* const x = static_cast<const unsigned char*>(p.in) + token * p.in_stride * dtype_bytes(c.in_dtype);
      float sum = 0.0f;
      for (int k = P::lane() * 8; k < c.hidden_size; k += device::kWarpLanes * 8) {
        float inputs[8], w[8];
        device::load_elements<c.in_dtype, 16 / dtype_bytes(c.in_dtype), 8>(x, k, inputs);
        device::load_elements<c.in_dtype, 16 / dtype_bytes(c.in_dtype), 8>(p.shared_gate, k, w);
#pragma unroll
        for (int i = 0; i < 8; ++i) sum = fmaf(inputs[i], w[i], sum);
      }
      sum = device::sum_over_lanes<device::kWarpLanes, 1>(sum);
      if (P::lane() == 0) p.shared_weights[token] = device::sigmoid(sum);
    }
  }
};

}  // namespace gdnjit::moe

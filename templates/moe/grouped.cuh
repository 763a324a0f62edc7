// An expert product for many tokens with mma.sync: a block takes block_m rows of one expert, in the order that
// moe.align gave them, and block_n outputs. The first product ends with the activation and h, the second with the
// results of every pair in fp32, which moe/combine.cuh adds up.
//
// grid = blocks of rows x tiles of outputs, see GroupedRows::locate()
#pragma once

#include "moe/grouped_tile.cuh"

namespace gdnjit::moe {

template <GroupedConfig c>
struct Grouped {
  static_assert(c.fault() == nullptr, "the tiles do not fit the problem");
  using Rows = GroupedRows<c>;
  using Tile = GroupedTile<c>;
  enum : int { kThreads = c.threads() };

  static __device__ __forceinline__ void run(const GroupedParams& p) {
    extern __shared__ __align__(128) unsigned char shared_bytes[];
    int* const pairs = reinterpret_cast<int*>(shared_bytes + c.stages * c.stage_bytes());
    device::wait_for_previous_grid();
    device::let_next_grid_start();
    typename Rows::Part part;
    const int tile = static_cast<int>(blockIdx.x);
    if (tile >= Rows::tiles(p) || !Rows::locate(p, tile, part)) return;
    for (int row = static_cast<int>(threadIdx.x); row < c.block_m; row += kThreads) {
      pairs[row] = Rows::pair_of(p, part, row);
    }
    __syncthreads();

    const int warp = device::warp_of_block();
    typename Tile::Sums sums = {};
    Tile::multiply(p, part, pairs, warp, shared_bytes, sums);
    store(p, part, pairs, warp, sums);
    if constexpr (c.shared_gate && !c.down) {
      if (!part.is_shared || part.first_output != 0) return;
      for (int row = warp; row < c.block_m; row += c.warps) {
        if (pairs[row] >= 0) Rows::weigh_shared(p, pairs[row]);
      }
    }
  }

 private:
  static __device__ __forceinline__ void store(const GroupedParams& p, const typename Rows::Part& part,
                                               const int* pairs, int warp, const typename Tile::Sums& sums) {
    const int lane = Tile::lane();
#pragma unroll
    for (int n = 0; n < Tile::kTilesN; ++n) {
      const int output =
          part.first_output + Tile::warp_output(warp) + n * kGroupedColumns + device::mma_d_column(lane, 0);
      if (output >= part.outputs) continue;
      const typename Rows::Column column = Rows::column_of(part, output);
#pragma unroll
      for (int i = 0; i < 2 * Tile::kTilesM; ++i) {
        const int m = i / 2, half = i % 2;
        const int pair = pairs[Tile::warp_row(warp) + m * kGroupedRows + device::mma_d_row(lane, 2 * half)];
        if (pair < 0) continue;
        float own[c.gates()][2];
#pragma unroll
        for (int which = 0; which < c.gates(); ++which) {
          own[which][0] = sums[which][m][n][2 * half];
          own[which][1] = sums[which][m][n][2 * half + 1];
        }
        Rows::store(p, pair, output, column, own);
      }
    }
  }
};

}  // namespace gdnjit::moe

// Rows of x or h to e4m3, with one scale for each 128 neighbours: s = a / 448 with a the largest magnitude among them,
// at least 2^-100, so that no quotient overflows. A block has a row, half a warp 128 of its numbers.
//
// grid = tokens, or pairs of token and slot. Pairs without an expert have nothing in h and are left out.
#pragma once

#include "device/convert_e4m3.cuh"
#include "device/grid.cuh"
#include "device/memory.cuh"
#include "device/warp.cuh"
#include "moe/grouped_config.cuh"
#include "moe/pairs.cuh"

namespace gdnjit::moe {

template <QuantizeConfig c>
struct Quantize {
  enum : int { kThreads = c.threads(), kEach = 8, kLanes = kQuantizedGroup / kEach };

  static __device__ __forceinline__ void run(const QuantizeParams& p) {
    device::wait_for_previous_grid();
    device::let_next_grid_start();
    const int row = static_cast<int>(blockIdx.x), columns = columns_of(p.call, row);
    const int lane = static_cast<int>(threadIdx.x) % device::kWarpLanes;
    // Whole warps: all lanes take part in the search for the largest.
    for (int first = static_cast<int>(threadIdx.x) - lane; first * kEach < columns; first += kThreads) {
      quantize(p, row, (first + lane) * kEach, columns);
    }
  }

 private:
  // Numbers in a row; none if nobody asks for it.
  static __device__ __forceinline__ int columns_of(const MatvecParams& p, int row) {
    if constexpr (!c.down) return c.hidden_size;
    const int expert = expert_of<c>(p, row);
    return expert < 0 ? 0 : expert == c.experts ? c.shared_size : c.intermediate_size;
  }

  // Eight numbers from `column` on, zeros behind the last.
  static __device__ __forceinline__ void quantize(const QuantizeParams& p, int row, int column, int columns) {
    float x[kEach] = {};
    if (column < columns) {
      device::load_elements<c.in_dtype, 16 / dtype_bytes(c.in_dtype), kEach>(p.call.in, row * p.call.in_stride + column,
                                                                             x);
    }
    float largest = 0x1p-100f;
#pragma unroll
    for (int i = 0; i < kEach; ++i) largest = fmaxf(largest, fabsf(x[i]));
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2) {
      largest = fmaxf(largest, device::from_lane_xor(largest, offset));
    }
    if (column >= quantized_row(columns)) return;
    const float factor = 448.0f / largest;
#pragma unroll
    for (int i = 0; i < kEach; ++i) x[i] *= factor;
    const unsigned words[2] = {device::pack_e4m3(x[0], x[1], x[2], x[3]), device::pack_e4m3(x[4], x[5], x[6], x[7])};
    const long long begin = static_cast<long long>(row) * c.row();
    device::store_words<8, device::CacheHint::normal>(p.out.numbers + begin + column, words);
    if (column % kQuantizedGroup == 0) p.out.scales[(begin + column) / kQuantizedGroup] = largest / 448.0f;
  }
};

}  // namespace gdnjit::moe

// What the kernels of the grouped class share whatever multiplies: which rows, expert and outputs a block has, where a
// row's inputs lie, and what becomes of its sums.
#pragma once

#include "device/grid.cuh"
#include "device/memory.cuh"
#include "moe/activation.cuh"
#include "moe/grouped_config.cuh"
#include "moe/pairs.cuh"
#include "moe/weights.cuh"

namespace gdnjit::moe {

template <GroupedConfig c>
struct GroupedRows {
  // A block's part of the product. Its pairs are in shared memory: one for each row, -1 for padding.
  struct Part {
    int expert;
    bool is_shared;
    int block;  // of rows, counted in all experts
    int in, outputs, first_output;
    ExpertMatrix matrix;
  };

  // Tiles of the whole product. The blocks of a grid may be more.
  static __device__ __forceinline__ int tiles(const GroupedParams& p) {
    return (shared_blocks(p) + *p.total_padded / c.block_m) * c.tiles_n();
  }

  // Tile `index`. Blocks of rows pass all outputs in groups of group_m, so that tiles at work at the same time have few
  // weights and few rows between them. False if there is nothing to do; the same for all threads.
  static __device__ __forceinline__ bool locate(const GroupedParams& p, int index, Part& part) {
    const int blocks_m = tiles(p) / c.tiles_n();
    const int first = index / (c.group_m * c.tiles_n()) * c.group_m;
    const int members = blocks_m - first < c.group_m ? blocks_m - first : c.group_m;
    const int place = index - first * c.tiles_n();
    part.block = first + place % members;
    part.first_output = place / members * c.block_n;

    const int row = (part.block - shared_blocks(p)) * c.block_m;
    part.is_shared = row < 0;
    part.expert = part.is_shared ? c.experts : p.expert_ids[row / c.block_m];
    part.in = c.in_features(part.is_shared);
    part.outputs = c.out_features(part.is_shared);
    if (part.first_output >= part.outputs) return false;
    part.matrix = matrix_of<c>(p.call, part.expert);
    return true;
  }

  // The pair of a row of the block, or -1.
  static __device__ __forceinline__ int pair_of(const GroupedParams& p, const Part& part, int row) {
    if (part.is_shared) {
      const int token = part.block * c.block_m + row;
      return token < p.call.tokens ? token * c.slots() + c.top_k : -1;
    }
    const int pair = p.pair_ids[(part.block - shared_blocks(p)) * c.block_m + row];
    if (pair >= p.call.tokens * c.top_k) return -1;
    return c.slots() == c.top_k ? pair : pair / c.top_k * c.slots() + pair % c.top_k;
  }

  // A pair's row among the inputs.
  static __device__ __forceinline__ long long input_row(int pair) { return c.down ? pair : pair / c.slots(); }

  static __device__ __forceinline__ const unsigned char* inputs_of(const GroupedParams& p, int pair) {
    return static_cast<const unsigned char*>(p.call.in) + input_row(pair) * p.call.in_stride * dtype_bytes(c.in_dtype);
  }

  // The row of the matrix that makes number `output` of h or y: gate's, or without a gate its only one, and up's.
  static __device__ __forceinline__ int matrix_row(const Part& part, int output, int which) {
    if (!c.gated()) return output;
    if (c.gate_order == GateOrder::interleaved) return 2 * output + which;
    return (c.gate_order == GateOrder::gate_up ? which : 1 - which) * part.outputs + output;
  }

  // What belongs to two neighbouring outputs whatever the row.
  struct Column {
    float scale;
    float bias[c.gates()][2];
  };
  static __device__ __forceinline__ Column column_of(const Part& part, int output) {
    Column column{1.0f, {}};
    if constexpr (c.weights == WeightFormat::nvfp4) column.scale = *part.matrix.global_scales;
    if constexpr (c.bias) {
#pragma unroll
      for (int i = 0; i < 2 * c.gates(); ++i) {
        const int row = matrix_row(part, output + i % 2, i / 2);
        column.bias[i / 2][i % 2] = device::load_scalar<c.bias_dtype>(part.matrix.bias, row);
      }
    }
    return column;
  }

  // Two neighbouring outputs of a pair from their sums.
  static __device__ __forceinline__ void store(const GroupedParams& p, int pair, int output, const Column& column,
                                               const float (&sums)[c.gates()][2]) {
    float numbers[c.gates()][2];
#pragma unroll
    for (int i = 0; i < 2 * c.gates(); ++i) {
      numbers[i / 2][i % 2] = sums[i / 2][i % 2];
      if constexpr (c.weights == WeightFormat::nvfp4) numbers[i / 2][i % 2] *= column.scale;
      if constexpr (c.bias) numbers[i / 2][i % 2] += column.bias[i / 2][i % 2];
    }
    if constexpr (c.down) {
      const long long place = static_cast<long long>(pair) * c.hidden_size + output;
      device::store_words<8, device::CacheHint::normal>(static_cast<float*>(p.call.out) + place, numbers[0]);
    } else {
      float h[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        h[i] = activate<c.activation>(numbers[0][i], numbers[c.gates() - 1][i], c.swiglu_alpha, c.swiglu_limit);
      }
      device::Word<c.out_dtype> words[device::words_of<c.out_dtype>(2)];
      device::pack<c.out_dtype>(h, words);
      const long long place = pair * p.call.out_stride + output;
      device::store_vector<c.out_dtype, 2, device::CacheHint::normal>(device::element<c.out_dtype>(p.call.out, place),
                                                                      words);
    }
  }

  // The weight of the shared expert in the sum of a pair's token, sigmoid(x w). A whole warp.
  static __device__ __forceinline__ void weigh_shared(const GroupedParams& p, int pair) {
    const int lane = static_cast<int>(threadIdx.x) % device::kWarpLanes;
    float sum = 0.0f;
    for (int k = lane * 8; k < c.hidden_size; k += device::kWarpLanes * 8) {
      float x[8], w[8];
      device::load_elements<c.in_dtype, 16 / dtype_bytes(c.in_dtype), 8>(inputs_of(p, pair), k, x);
      device::load_elements<c.in_dtype, 16 / dtype_bytes(c.in_dtype), 8>(p.call.shared_gate, k, w);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum = fmaf(x[i], w[i], sum);
    }
    sum = device::sum_over_lanes<device::kWarpLanes, 1>(sum);
    if (lane == 0) p.call.shared_weights[pair / c.slots()] = device::sigmoid(sum);
  }

 private:
  static __device__ __forceinline__ int shared_blocks(const GroupedParams& p) {
    return c.shared_size > 0 ? (p.call.tokens + c.block_m - 1) / c.block_m : 0;
  }
};

}  // namespace gdnjit::moe

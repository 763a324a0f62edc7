// The first expert product for few tokens, h = act(x w1^T): a block takes block_n numbers of h of one group of pairs
// that share an expert. Blocks whose pair leads no group end at once.
//
// grid = (tiles of h, pairs of a chunk, chunks of tokens)
#pragma once

#include "device/grid.cuh"
#include "moe/activation.cuh"
#include "moe/product.cuh"

namespace gdnjit::moe {

template <MatvecConfig c>
struct MatvecUp {
  static_assert(!c.down && c.fault() == nullptr, "the tiles do not fit the problem");
  using P = Product<c>;
  enum : int { kThreads = c.threads(), kGates = c.gated() ? 2 : 1 };

  struct SharedMemory {
    unsigned char rings[c.warps()][c.ring_bytes()];
    float sums[c.warps()][c.product_tiles()][kTileRows][c.sums_pitch()];
    int members[c.warps()][kTileColumns];  // every warp finds its group by itself
  };

  static __device__ __forceinline__ void run(const MatvecParams& p) {
    static_assert(sizeof(SharedMemory) == c.shared_bytes(0), "host and device disagree on shared memory");
    extern __shared__ __align__(16) unsigned char shared_bytes[];
    SharedMemory& shared = *reinterpret_cast<SharedMemory*>(shared_bytes);
    const int warp = device::warp_of_block();
    const int first_token = static_cast<int>(blockIdx.z) * c.chunk_tokens();
    const int tokens = p.tokens - first_token < c.chunk_tokens() ? p.tokens - first_token : c.chunk_tokens();

    if constexpr (c.programmatic) {
      device::wait_for_previous_grid();
      device::let_next_grid_start();
    }
    const int pair = static_cast<int>(blockIdx.y), first_pair = first_token * c.slots();
    if (pair >= tokens * c.slots()) return;
    int* const members = shared.members[warp];
    const PairGroup group = group_led_by<c>(p, first_pair, tokens * c.slots(), pair, members);
    if (group.expert < 0) return;
    const bool is_shared = c.shared_size > 0 && group.expert == c.experts;
    const int first_output = static_cast<int>(blockIdx.x) * c.block_n(), outputs = c.out_features(is_shared);
    if (first_output >= outputs) return;
    const ExpertMatrix matrix = matrix_of<c>(p, group.expert);

    multiply(p, matrix, outputs, first_output, first_pair, group, members, warp, shared);
    if (c.shared_gate && is_shared && blockIdx.x == 0) weigh_shared(p, first_pair, group, members, warp);
    __syncthreads();
    store(p, matrix, outputs, first_output, first_pair, group, members, shared);
  }

 private:
  // The rows of w1 that make number `output` of h: gate's, or without a gate its only one, and up's.
  static __device__ __forceinline__ int matrix_row(int output, int which, int outputs) {
    if (!c.gated()) return output;
    if (c.gate_order == GateOrder::interleaved) return 2 * output + which;
    return (c.gate_order == GateOrder::gate_up ? which : 1 - which) * outputs + output;
  }

  static __device__ __forceinline__ const unsigned char* input_of(const MatvecParams& p, int pair) {
    const long long token = pair / c.slots();
    return static_cast<const unsigned char*>(p.in) + token * p.in_stride * dtype_bytes(c.in_dtype);
  }

  // Phase 1: the warp's sums over its steps, into shared memory.
  static __device__ __forceinline__ void multiply(const MatvecParams& p, const ExpertMatrix& matrix, int outputs,
                                                  int first_output, int first_pair, const PairGroup& group,
                                                  const int* members, int warp, SharedMemory& shared) {
    constexpr int kIn = c.in_features(false), kSteps = P::steps(kIn);
    const int lane = P::lane(), warp_n = warp / c.warps_k, warp_k = warp % c.warps_k;

    typename P::Rows rows;
    typename P::ScaleRows scale_rows;
#pragma unroll
    for (int tile = 0; tile < P::kTiles; ++tile) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int output = first_output + warp_n * c.warp_rows() + tile / kGates * kTileRows + lane / 4 + 8 * half;
        // Rows behind the last are read as the last and not stored.
        const int row = matrix_row(output < outputs ? output : outputs - 1, tile % kGates, outputs);
        P::set_row(matrix, kIn, row, tile, half, rows);
        P::set_scale_row(matrix, kIn, row, tile, half, scale_rows);
      }
    }
    typename P::Ring ring(shared.rings[0], warp);
    const auto copy = [&](int step, int slot) { P::copy_weights(rows, step < kSteps ? kIn : 0, step, ring, slot); };
#pragma unroll
    for (int s = 0; s < c.stages; ++s) copy(warp_k + s * c.warps_k, s);

    typename P::Columns columns;
    P::set_columns(
        group.count, [&](int place) { return input_of(p, first_pair + members[place]); }, columns);
    typename P::Aside next;
    P::load_scales(scale_rows, kIn, warp_k, next);
    P::load_inputs(columns, kIn, warp_k, next);
    typename P::Sums sums = {};
    for (int step = warp_k; step < kSteps; step += c.warps_k) {
      const typename P::Aside now = next;
      P::load_scales(scale_rows, kIn, step + c.warps_k, next);
      P::load_inputs(columns, kIn, step + c.warps_k, next);
      P::accumulate(ring, now, columns, kIn, step, sums);
      copy(step + c.stages * c.warps_k, ring.slot);
      ring.advance();
    }
#pragma unroll
    for (int tile = 0; tile < P::kTiles; ++tile) {
#pragma unroll
      for (int column = 0; column < P::kColumnTiles; ++column) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          shared.sums[warp][tile][device::mma_d_row(lane, i)][column * kTileColumns + device::mma_d_column(lane, i)] =
              sums[tile][column][i];
        }
      }
    }
  }

  // Phase 2: activation and store, a thread a number of h.
  static __device__ __forceinline__ void store(const MatvecParams& p, const ExpertMatrix& matrix, int outputs,
                                               int first_output, int first_pair, const PairGroup& group,
                                               const int* members, const SharedMemory& shared) {
    for (int i = static_cast<int>(threadIdx.x); i < group.count * c.block_n(); i += kThreads) {
      const int place = i / c.block_n(), n = i % c.block_n(), output = first_output + n;
      if (output >= outputs) continue;
      float numbers[kGates];
#pragma unroll
      for (int which = 0; which < kGates; ++which) {
        numbers[which] = total(matrix, matrix_row(output, which, outputs), n, which, place, shared);
      }
      const float h = activate<c.activation>(numbers[0], numbers[kGates - 1], c.swiglu_alpha, c.swiglu_limit);
      const long long row = first_pair + members[place];
      device::store_scalar<c.out_dtype>(p.out, row * p.out_stride + output, h);
    }
  }

  // The sum of number n's gate or up over warps and groups, in this order, with what belongs to the whole expert.
  static __device__ __forceinline__ float total(const ExpertMatrix& matrix, int row, int n, int which, int place,
                                                const SharedMemory& shared) {
    const int warp = n / c.warp_rows() * c.warps_k, tile = n % c.warp_rows() / kTileRows * kGates + which;
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < c.warps_k; ++k) {
#pragma unroll
      for (int group = 0; group < c.group_columns(); ++group) {
        sum += shared.sums[warp + k][tile][n % kTileRows][place * c.group_columns() + group];
      }
    }
    if constexpr (c.weights == WeightFormat::nvfp4) sum *= *matrix.global_scales;
    if constexpr (c.bias) sum += device::load_scalar<c.bias_dtype>(matrix.bias, row);
    return sum;
  }

  // The weights of the shared expert, sigmoid(x w): a warp a token.
  static __device__ __forceinline__ void weigh_shared(const MatvecParams& p, int first_pair, const PairGroup& group,
                                                      const int* members, int warp) {
    for (int place = warp; place < group.count; place += c.warps()) {
      const int pair = first_pair + members[place];
      float sum = 0.0f;
      for (int k = P::lane() * 8; k < c.hidden_size; k += device::kWarpLanes * 8) {
        float x[8], w[8];
        device::load_elements<c.in_dtype, 16 / dtype_bytes(c.in_dtype), 8>(input_of(p, pair), k, x);
        device::load_elements<c.in_dtype, 16 / dtype_bytes(c.in_dtype), 8>(p.shared_gate, k, w);
#pragma unroll
        for (int i = 0; i < 8; ++i) sum = fmaf(x[i], w[i], sum);
      }
      sum = device::sum_over_lanes<device::kWarpLanes, 1>(sum);
      if (P::lane() == 0) p.shared_weights[pair / c.slots()] = device::sigmoid(sum);
    }
  }
};

}  // namespace gdnjit::moe

// gdn.chunk, first kernel, for gates per key channel (Kimi Delta Attention). The decay from token j to token i is a
// number for each channel, so it belongs inside the products:
//   M_ij = beta_i sum_k kn_i kn_j e^(G_i - G_j)     P_ij = sum_k qs_i kn_j e^(G_i - G_j)
// and into k and q, of which the scan reads copies with it (ChunkTiles::value_head). A block of four warps for each
// (chunk, value head), over slabs of 32 channels:
//   1. kn, qs and the sums of log2 decays from the start of each sub-chunk of 16 tokens, l, to shared memory, fp32
//   2. warp I adds the slab's part of block row I of M and P: e^(G_i - G_j) = e^(l_i) e^(R_I - R_J - l_j), R the sums
//   at
//      the sub-chunks' starts. For J < I both exponents are <= 0. For J = I the second is >= 0: up to 2^120 it is a
//      factor like others (products are tf32, which has fp32's range; gates bounded by e^-5 stay below 2^109); a
//      sub-chunk that decays further in any channel of the slab takes differences, which are <= 0, element by element
//   3. the copies of k and q
// Then a pair of warps inverts (chunk_inverse.cuh).
#pragma once

#include "device/barrier.cuh"
#include "device/grid.cuh"
#include "gdn/chunk_inverse.cuh"
#include "gdn/chunk_place.cuh"

namespace gdnjit::gdn {

template <ChunkConfig c>
struct ChunkPrepareChannel {
  static_assert(c.per_channel() && c.tiles == ChunkTiles::value_head);
  using Place = ChunkPlace<c>;
  using Writer = ChunkTriangleWriter<c>;

  enum : bool { kQuery = c.write_output };
  enum : int {
    kThreads = 128,
    kMinBlocks = 4,
    kSlab = 32,  // channels
    kSlabs = (c.padded_k() + kSlab - 1) / kSlab,
    kPitch = kSlab + 8,  // words of a row: half a warp's pairs of four rows are in different banks
    kBlocks = kChunk / 16,
    kDecaysAhead = 8,  // loads of gates in flight
  };
  // What e^(-l) may be, log2.
  static __device__ __forceinline__ float largest_bits() { return 120.0f; }

  struct Rows {
    float k[kChunk][kPitch];  // with the norms' factors
    float q[kChunk][kPitch];
    float decay[kChunk][kPitch];       // l
    float starts[kBlocks + 1][kSlab];  // R, then G_last
  };
  struct Plan {
    union {
      Rows rows;
      struct {
        ChunkNegated n;
        ChunkInverse inverse;
      } heads;
    };
    float key_norm[kChunk];  // rk, and rq with the scale; 0 past the end
    float query_norm[kChunk];
    float strength[kChunk];  // beta
  };

  struct Warp {
    int warp, lane;
  };
  // Where the block works.
  struct Task {
    Place place;
    int chunk, valid;
    long long slot;
    long long first;  // token of the sequence
    unsigned char* record;
  };

  // ---- norms, write strengths
  // ----------------------------------------------------------------------------------------

  // A warp takes a row at a time.
  static __device__ __forceinline__ void find_norms(const void* source, long long stride, int valid, float scale,
                                                    const Warp& at, float* norms) {
    constexpr int kVector = c.io_vector;
#pragma unroll 2
    for (int row = at.warp; row < kChunk; row += kThreads / 32) {
      float sum = 0.0f;
      if constexpr (c.norm != Norm::none) {
#pragma unroll
        for (int unit = at.lane; unit < (c.head_dim_k / kVector + 31) / 32 * 32; unit += 32) {
          float x[kVector] = {};
          if (row < valid && unit * kVector < c.head_dim_k) {
            device::load_elements<c.io_dtype, kVector, kVector>(source, row * stride + unit * kVector, x);
          }
#pragma unroll
          for (int e = 0; e < kVector; ++e) sum = fmaf(x[e], x[e], sum);
        }
        sum = device::sum_over_lanes<32, 1>(sum);
      }
      if (at.lane == 0) norms[row] = row < valid ? norm_factor<c>(sum) * scale : 0.0f;
    }
  }

  static __device__ __forceinline__ void find_strengths(const ChunkParams& p, const Task& task, Plan& plan) {
    const int token = static_cast<int>(threadIdx.x);
    if (token >= kChunk) return;
    float strength = 0.0f;
    if (token < task.valid) {
      float x = 0.0f;
      if constexpr (c.beta != Beta::none) {
        x = device::load_scalar<c.beta_dtype>(p.beta, task.place.value_head_offset(p.beta_strides, task.first + token));
      }
      strength = write_strength<c>(x);
    }
    plan.strength[token] = strength;
    float* factors = reinterpret_cast<float*>(task.record + ChunkRecord::kFactors);
    factors[ChunkFactors::kStrength / 4 + token] = strength;
    factors[ChunkFactors::kState / 4 + token] = 1.0f;  // what they scale is in the copies
    factors[ChunkFactors::kQuery / 4 + token] = 1.0f;
    factors[ChunkFactors::kKey / 4 + token] = 1.0f;
  }

  // ---- phase 1: a slab ---------------------------------------------------------------------------------------------

  static __device__ __forceinline__ void load_rows(const void* source, long long stride, int valid, int slab,
                                                   const float* norms, float (*rows)[kPitch]) {
    constexpr int kVector = c.io_vector, kUnits = kSlab / kVector;
#pragma unroll 2
    for (int i = static_cast<int>(threadIdx.x); i < kChunk * kUnits; i += kThreads) {
      const int row = i / kUnits, channel = i % kUnits * kVector, key = slab * kSlab + channel;
      float x[kVector] = {};
      if (row < valid && key < c.head_dim_k) {
        device::load_elements<c.io_dtype, kVector, kVector>(source, row * stride + key, x);
      }
#pragma unroll
      for (int e = 0; e < kVector; ++e) rows[row][channel + e] = x[e] * norms[row];
    }
  }

  // l of a sub-chunk and a channel for each thread, and the sums at the sub-chunks' starts. Below -128 a token's decay
  // is 0 in fp32, and so is every product with it: see decay_log2 of chunk_prepare.cuh.
  static __device__ __forceinline__ void load_decays(const ChunkParams& p, const Task& task, int slab,
                                                     const GateParameters& gate, const Warp& at, Rows& rows) {
    constexpr float kLog2e = 1.4426950408889634f;
    const int key = slab * kSlab + at.lane;
    float bias = 0.0f;
    if (gate_has_parameters(c.gate) && key < c.head_dim_k) {
      bias = device::load_scalar<c.dt_bias_dtype>(p.dt_bias,
                                                  static_cast<long long>(task.place.head.hv) * c.head_dim_k + key);
    }
    const long long start = task.place.value_head_offset(p.gate_strides, task.first + 16 * at.warp) + key;
    const int count = key < c.head_dim_k ? task.valid - 16 * at.warp : 0;
    float sum = 0.0f;
#pragma unroll 1
    for (int first = 0; first < 16; first += kDecaysAhead) {
      device::Word<c.gate_dtype> words[kDecaysAhead][1];
#pragma unroll
      for (int i = 0; i < kDecaysAhead; ++i) {
        words[i][0] = 0;
        if (first + i < count) {
          const void* from = device::element<c.gate_dtype>(p.gate, start + (first + i) * p.gate_strides.token);
          device::load_vector<c.gate_dtype, 1, device::CacheHint::normal>(from, words[i]);
        }
      }
#pragma unroll
      for (int i = 0; i < kDecaysAhead; ++i) {
        float x[1];
        device::unpack<c.gate_dtype, 1>(words[i], x);
        const float log2 = log_decay<c>(x[0], gate.rate, bias) * kLog2e;
        sum += first + i < count ? (log2 < -128.0f ? -128.0f : log2) : 0.0f;
        rows.decay[16 * at.warp + first + i][at.lane] = sum;
      }
    }
    rows.starts[at.warp + 1][at.lane] = sum;
  }
  // From the sub-chunks' sums; one warp.
  static __device__ __forceinline__ void sum_starts(int lane, Rows& rows) {
    float sum = 0.0f;
    rows.starts[0][lane] = 0.0f;
#pragma unroll
    for (int i = 1; i <= kBlocks; ++i) {
      sum += rows.starts[i][lane];
      rows.starts[i][lane] = sum;
    }
  }

  // ---- phase 2: products -------------------------------------------------------------------------------------------

  struct Products {
    ChunkBlock kk[kBlocks], qk[kBlocks];  // of the warp's block row
  };

  static __device__ __forceinline__ float2 pair_at(const float* numbers) {
    return *reinterpret_cast<const float2*>(numbers);
  }

  // tf32 operands over eight channels: channel 2 t is k = t, 2 t + 1 is k = t + 4.
  struct Left {
    unsigned k[4], q[4];
  };
  static __device__ __forceinline__ Left left_operand(const Rows& rows, int row, int channel) {
    Left result;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float2 decay = pair_at(&rows.decay[row + 8 * h][channel]);
      const float2 k = pair_at(&rows.k[row + 8 * h][channel]);
      const float weights[2] = {device::exp2_approx(decay.x), device::exp2_approx(decay.y)};
      result.k[h] = device::round_tf32(k.x * weights[0]);
      result.k[2 + h] = device::round_tf32(k.y * weights[1]);
      if constexpr (kQuery) {
        const float2 q = pair_at(&rows.q[row + 8 * h][channel]);
        result.q[h] = device::round_tf32(q.x * weights[0]);
        result.q[2 + h] = device::round_tf32(q.y * weights[1]);
      }
    }
    return result;
  }

  // Adds a block's part of eight channels; `shift` is R_I - R_J.
  static __device__ __forceinline__ void multiply(const Rows& rows, const Left& left, int column, int channel,
                                                  float2 shift, ChunkBlock& kk, ChunkBlock& qk) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      const float2 decay = pair_at(&rows.decay[column + 8 * m][channel]);
      const float2 k = pair_at(&rows.k[column + 8 * m][channel]);
      const unsigned right[2] = {device::round_tf32(k.x * device::exp2_approx(shift.x - decay.x)),
                                 device::round_tf32(k.y * device::exp2_approx(shift.y - decay.y))};
      add(kk, m, left.k, right);
      if constexpr (kQuery) add(qk, m, left.q, right);
    }
  }
  static __device__ __forceinline__ void add(ChunkBlock& sum, int m, const unsigned (&a)[4], const unsigned (&b)[2]) {
    float d[4] = {sum.d[4 * m], sum.d[4 * m + 1], sum.d[4 * m + 2], sum.d[4 * m + 3]};
    device::mma_m16n8k8_tf32(d, a, b);
#pragma unroll
    for (int i = 0; i < 4; ++i) sum.d[4 * m + i] = d[i];
  }

  // A block on the diagonal, each lane its own elements: for decays that leave the range of a factor.
  static __device__ __forceinline__ void multiply_differences(const Rows& rows, int first, int lane, ChunkBlock& kk,
                                                              ChunkBlock& qk) {
#pragma unroll 1
    for (int channel = 0; channel < kSlab; ++channel) {
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        const int i = first + lane / 4 + 8 * (e / 2 % 2), j = first + 8 * (e / 4) + 2 * (lane % 4) + e % 2;
        // Above the diagonal nothing is looked at.
        const float weight = device::exp2_approx(fminf(rows.decay[i][channel] - rows.decay[j][channel], 0.0f));
        const float k = rows.k[j][channel] * weight;
        kk.d[e] = fmaf(rows.k[i][channel], k, kk.d[e]);
        if constexpr (kQuery) qk.d[e] = fmaf(rows.q[i][channel], k, qk.d[e]);
      }
    }
  }

  // The slab's part of block row `warp`.
  static __device__ __forceinline__ void multiply_slab(const Rows& rows, const Warp& at, Products& sums) {
    const int row = 16 * at.warp + at.lane / 4;
    const float sum = rows.starts[at.warp + 1][at.lane] - rows.starts[at.warp][at.lane];  // of the sub-chunk
    const bool factors = device::lanes_where(sum < -largest_bits()) == 0;
#pragma unroll 1
    for (int step = 0; step < kSlab / 8; ++step) {
      const int channel = 8 * step + 2 * (at.lane % 4);
      const Left left = left_operand(rows, row, channel);
      const float2 start = pair_at(&rows.starts[at.warp][channel]);
#pragma unroll
      for (int j = 0; j < kBlocks; ++j) {
        if (j > at.warp || (j == at.warp && !factors)) continue;
        const float2 other = pair_at(&rows.starts[j][channel]);
        multiply(rows, left, 16 * j + at.lane / 4, channel, {start.x - other.x, start.y - other.y}, sums.kk[j],
                 sums.qk[j]);
      }
    }
    if (factors) return;
#pragma unroll
    for (int j = 0; j < kBlocks; ++j) {
      if (j == at.warp) multiply_differences(rows, 16 * at.warp, at.lane, sums.kk[j], sums.qk[j]);
    }
  }

  // ---- phase 3: copies ---------------------------------------------------------------------------------------------

  // k e^G rk, q e^G rq and k e^(G_last - G) rk of a slab, and the state's decay.
  static __device__ __forceinline__ void store_copies(const ChunkParams& p, const Task& task, int slab,
                                                      const Rows& rows) {
    unsigned char* tiles = Place::tile(p, task.slot, task.place.head, 0);
    constexpr int kTileBytes = 2 * kChunk * c.padded_k();
#pragma unroll 1
    for (int i = 0; i < kChunk * kSlab / 8; i += kThreads) {
      const int unit = i + static_cast<int>(threadIdx.x), row = unit / (kSlab / 8), channel = unit % (kSlab / 8) * 8;
      const int key = slab * kSlab + channel;
      if (c.padded_k() % kSlab != 0 && key >= c.padded_k()) continue;
      float decayed_k[8], decayed_q[8], next_k[8];
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        const float g = rows.starts[row / 16][channel + e] + rows.decay[row][channel + e];
        const float k = rows.k[row][channel + e], decay = device::exp2_approx(g);
        decayed_k[e] = k * decay;
        decayed_q[e] = kQuery ? rows.q[row][channel + e] * decay : 0.0f;
        next_k[e] = k * device::exp2_approx(fminf(rows.starts[kBlocks][channel + e] - g, 0.0f));
      }
      unsigned char* place = tiles + 2 * (row * c.padded_k() + key);
      store_unit(place, decayed_k);
      if constexpr (kQuery) store_unit(place + kTileBytes, decayed_q);
      store_unit(place + 2 * kTileBytes, next_k);
    }
    const int key = slab * kSlab + static_cast<int>(threadIdx.x);
    if (threadIdx.x < kSlab && key < c.padded_k()) {
      reinterpret_cast<float*>(task.record + ChunkRecord::kFactors + ChunkFactors::kDecay)[key] =
          device::exp2_approx(rows.starts[kBlocks][threadIdx.x]);
    }
  }
  static __device__ __forceinline__ void store_unit(unsigned char* place, const float (&numbers)[8]) {
    unsigned words[4];
    device::pack<c.operand_dtype()>(numbers, words);
    *reinterpret_cast<uint4*>(place) = make_uint4(words[0], words[1], words[2], words[3]);
  }

  // ---- the inverse -------------------------------------------------------------------------------------------------

  static __device__ __forceinline__ void invert(const Task& task, const Warp& at, Plan& plan) {
    const auto meet = [] { device::sync_threads<64>(1); };
    ChunkInverse& inverse = plan.heads.inverse;
    const ChunkInverse::Half x = inverse.run(plan.heads.n, plan.strength, at.lane, at.warp, meet);
    unsigned char* a = task.record + ChunkRecord::kA;
    const int d = 2 * at.warp;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      Writer::template store<1>(a, d + n, d + n, at.lane, inverse.diagonal_block(d + n, at.lane));
      Writer::template store<1>(a, 2 + at.warp, n, at.lane, x.far[n]);
    }
    Writer::template store<1>(a, d + 1, d, at.lane, x.near);
  }

  // ---- the kernel --------------------------------------------------------------------------------------------------

  static __device__ __forceinline__ void run(const ChunkParams& p) {
    __shared__ alignas(16) Plan plan;
    if constexpr (c.programmatic) device::wait_for_previous_grid();
    device::let_next_grid_start();  // it waits for this one's end before it looks at the workspace

    Task task;
    task.slot = blockIdx.x / c.heads_v;
    task.chunk = task.place.set_slot(p, static_cast<unsigned>(task.slot), kChunk);
    if (task.chunk < 0 || task.place.tokens == 0) return;
    task.place.head = value_head<c>(static_cast<int>(blockIdx.x % c.heads_v));
    const int hv = task.place.head.hv, rest = task.place.tokens - task.chunk * kChunk;
    task.valid = rest < kChunk ? rest : kChunk;
    task.first = static_cast<long long>(task.chunk) * kChunk;
    task.record = p.workspace + (task.slot * c.heads_v + hv) * ChunkRecord::bytes(c);
    const Warp at{device::warp_of_block(), static_cast<int>(threadIdx.x % 32)};
    const void* k = device::element<c.io_dtype>(p.k, task.place.key_head_offset(p.k_strides, task.first));
    const void* q = kQuery ? device::element<c.io_dtype>(p.q, task.place.key_head_offset(p.q_strides, task.first)) : k;

    find_strengths(p, task, plan);
    find_norms(k, p.k_strides.token, task.valid, 1.0f, at, plan.key_norm);
    if constexpr (kQuery) find_norms(q, p.q_strides.token, task.valid, c.scale, at, plan.query_norm);
    const GateParameters gate = gate_parameters<c>(p, hv);
    __syncthreads();

    Products sums;
#pragma unroll
    for (int j = 0; j < kBlocks; ++j) sums.kk[j] = sums.qk[j] = {};
#pragma unroll 1
    for (int slab = 0; slab < kSlabs; ++slab) {
      load_rows(k, p.k_strides.token, task.valid, slab, plan.key_norm, plan.rows.k);
      if constexpr (kQuery) load_rows(q, p.q_strides.token, task.valid, slab, plan.query_norm, plan.rows.q);
      load_decays(p, task, slab, gate, at, plan.rows);
      __syncthreads();
      if (at.warp == 0) sum_starts(at.lane, plan.rows);
      __syncthreads();
      multiply_slab(plan.rows, at, sums);
      store_copies(p, task, slab, plan.rows);
      __syncthreads();
    }

#pragma unroll
    for (int j = 0; j < kBlocks; ++j) {
      if (j > at.warp) continue;
      if constexpr (kQuery) {
        Writer::template store<0>(task.record + ChunkRecord::kP, at.warp, j, at.lane, sums.qk[j]);
      }
#pragma unroll
      for (float& element : sums.kk[j].d) element = -element;
      plan.heads.n.store(at.warp, j, at.lane, sums.kk[j]);
    }
    __syncthreads();
    if (at.warp < 2) invert(task, at, plan);
  }
};

}  // namespace gdnjit::gdn

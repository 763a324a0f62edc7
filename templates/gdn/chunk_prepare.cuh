// gdn.chunk, first kernel: everything about a chunk that does not depend on the state (see chunk_config.cuh). A block
// of four warps for each (chunk, key head):
//   1. rows of q and k to shared memory, in slabs of keys; with tiles = key_head their copies to the workspace
//   2. k k^T and q k^T below the diagonal, by blocks of 16 x 16: warp w takes block row w of one and 3 - w of the
//   other,
//      five blocks. Sums of squares are the diagonals of k k^T and q q^T
//   3. for each value head of the group, by a pair of warps: gates, the inverse (chunk_inverse.cuh), A, P and factors
// The blocks of phase 2 take the place of the rows in shared memory, with the norms' factors applied.
#pragma once

#include "device/barrier.cuh"
#include "device/cp_async.cuh"
#include "device/grid.cuh"
#include "device/ldmatrix.cuh"
#include "gdn/chunk_inverse.cuh"
#include "gdn/chunk_place.cuh"

namespace gdnjit::gdn {

template <ChunkConfig c>
struct ChunkPrepare {
  static_assert(c.tiles != ChunkTiles::value_head, "gates per channel have a kernel of their own");
  static_assert(!c.per_channel());
  static_assert(c.tiles == ChunkTiles::key_head || !chunk_needs_copies(c.io_dtype, c.norm, c.norm_eps),
                "fp32 inputs, and fp16 keys that this norm may stretch far, need copies: tiles = key_head");
  using Place = ChunkPlace<c>;
  using Writer = ChunkTriangleWriter<c>;

  enum : bool {
    kQuery = c.write_output,
    kCopies = c.tiles == ChunkTiles::key_head,
    kNorm = c.norm != Norm::none,
    // Squares are summed before fp32 is rounded to the operands' type; 16-bit inputs are the operands.
    kNormFromInput = c.norm != Norm::none && c.io_dtype == DType::f32,
    kHeadGate = c.gate != Gate::none,
    kScaled = chunk_scales_keys(c),
  };
  enum : int {
    kWarps = 4,
    kThreads = 32 * kWarps,
    kMinBlocks =
        4,  // of an SM: for __launch_bounds__. ptxas takes twice the registers if it may, and hides less with them
    kPairs = kWarps / 2,
    kGroup = c.heads_v / c.heads_k,
    kSlab = c.padded_k() < 128 ? c.padded_k() : 128,  // keys of a slab
    kSlabs = (c.padded_k() + kSlab - 1) / kSlab,
    kPitch = 2 * kSlab + 16,  // bytes of a row: eight rows are in different banks
    kTileBytes = kChunk * kPitch,
    kBlocks = 10,  // of 16 x 16 on and below the diagonal
    kBlockFloats = 256,
  };

  // What a pair of warps knows of a value head's tokens. Decays are running sums of log2.
  struct HeadTokens {
    float decay[kChunk];     // G_i
    float row[kChunk];       // e^(G_i - G_r), with r the last token before i's block of 16
    float columns[16 * 6];   // e^(G_r - G_j) for all j <= r, for r = 15, 31, 47
    float strength[kChunk];  // beta
  };
  static constexpr int columns_of(int block_row) { return 8 * block_row * (block_row - 1); }

  struct Plan {
    union {
      struct {
        unsigned char k[kTileBytes];
        unsigned char q[kTileBytes];
      } rows;
      struct {
        ChunkNegated kk;
        float qk[kBlocks * kBlockFloats];
        ChunkInverse inverse[kPairs];
        HeadTokens tokens[kPairs];
      } heads;
    };
    float key_norm[kChunk];  // rk, and rq with the scale; 0 past the end
    float query_norm[kChunk];
    float key_length[kScaled ? kChunk : 1];  // rounded down to a power of two, by which copies of k are divided
  };

  // Where a warp works, and what its lanes hold of its pair's next value head: tokens lane and lane + 32.
  struct Warp {
    int warp, lane, pair, half;
  };
  static __device__ __forceinline__ void meet(const Warp& at) { device::sync_group<64, kPairs>(at.pair); }

  struct GateInputs {
    device::Word<c.gate_dtype> gate[2][1];
    device::Word<c.beta_dtype> beta[2][1];
  };

  // ---- phase 1: rows ---------------------------------------------------------------------------------------------

  // 16-bit rows as they are, copied asynchronously. Past the sequence's end and past K come zeros.
  static __device__ __forceinline__ void copy_rows(const void* source, long long stride, int valid, int slab,
                                                   unsigned target) {
    constexpr int kUnits = kSlab / 8, kRows = kThreads / kUnits;  // of a round
    const int first_row = static_cast<int>(threadIdx.x / kUnits), unit = static_cast<int>(threadIdx.x % kUnits);
    if (kThreads % kUnits != 0 && first_row >= kRows) return;
    const int key = slab * kSlab + unit * 8;
    const int rows = key < c.head_dim_k ? valid : 0;
    const void* from = device::element<c.io_dtype>(source, first_row * stride + key);
    unsigned place = target + first_row * kPitch + unit * 16;
#pragma unroll
    for (int row = 0; row < kChunk; row += kRows) {
      if (kChunk % kRows != 0 && first_row + row >= kChunk) break;
      device::cp_async_or_zeros<16>(place, from, first_row + row < rows ? 16 : 0);
      place += kRows * kPitch;
      from = device::element<c.io_dtype>(from, kRows * stride);
    }
  }

  // The lengths of the rows of k, for copies that are scaled.
  static __device__ __forceinline__ void find_lengths(const void* source, long long stride, int valid, float* lengths) {
    const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll 4
    for (int row = warp; row < kChunk; row += kWarps) {
      float squares = 0.0f;
#pragma unroll 4
      for (int key = lane; key < c.head_dim_k; key += 32) {
        const float x = row < valid ? device::load_scalar<c.io_dtype>(source, row * stride + key) : 0.0f;
        squares = fmaf(x, x, squares);
      }
      squares = device::sum_over_lanes<32, 1>(squares);
      const int exponent = static_cast<int>(__float_as_uint(squares) >> 23) - 127;
      if (lane == 0) lengths[row] = __uint_as_float(static_cast<unsigned>((exponent >> 1) + 127) << 23);
    }
  }

  // Rows of any type and alignment, through registers: a warp takes a row at a time. `squares` gathers their sums;
  // `lengths` is null or divides the rows.
  static __device__ __forceinline__ void load_rows(const void* source, long long stride, int valid, int slab,
                                                   unsigned char* target, float* squares, const float* lengths) {
    constexpr int kVector = c.io_vector;
    constexpr int kVectors = kSlab / kVector;
    const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll 4
    for (int row = warp; row < kChunk; row += kWarps) {
      float sum = 0.0f;
#pragma unroll
      for (int i = 0; i < kVectors; i += 32) {
        const int unit = i + lane;
        const int key = slab * kSlab + unit * kVector;
        if (kVectors % 32 != 0 && unit >= kVectors) continue;
        device::Word<c.io_dtype> words[device::words_of<c.io_dtype>(kVector)] = {};
        if (row < valid && key < c.head_dim_k) {
          device::load_vector<c.io_dtype, kVector, device::CacheHint::normal>(
              device::element<c.io_dtype>(source, row * stride + key), words);
        }
        float numbers[kVector];
        device::unpack<c.io_dtype, kVector>(words, numbers);
        if (lengths != nullptr) {
          const float factor = device::reciprocal_approx(lengths[row]);  // of a power of two: exact
#pragma unroll
          for (int e = 0; e < kVector; ++e) numbers[e] *= factor;
        }
        unsigned operands[device::words_of<c.operand_dtype()>(kVector)];
        device::pack<c.operand_dtype()>(numbers, operands);
        unsigned char* place = target + row * kPitch + unit * kVector * 2;
        if constexpr (kVector == 1) {
          *reinterpret_cast<unsigned short*>(place) = static_cast<unsigned short>(operands[0]);
        } else {
#pragma unroll
          for (int w = 0; w < kVector / 2; ++w) reinterpret_cast<unsigned*>(place)[w] = operands[w];
        }
        if constexpr (kNormFromInput) {
#pragma unroll
          for (int e = 0; e < kVector; ++e) sum = fmaf(numbers[e], numbers[e], sum);
        }
      }
      if constexpr (kNormFromInput) {
        sum = device::sum_over_lanes<32, 1>(sum);
        if (lane == 0) squares[row] = slab == 0 ? sum : squares[row] + sum;
      }
    }
  }

  // A slab of rows from shared memory to a tile of the workspace.
  static __device__ __forceinline__ void store_rows(const unsigned char* rows, int slab, unsigned char* tile) {
    constexpr int kUnits = kSlab / 8;
#pragma unroll
    for (int i = 0; i < kChunk * kUnits; i += kThreads) {
      const unsigned unit = i + threadIdx.x;
      const int row = static_cast<int>(unit / kUnits), key = slab * kSlab + static_cast<int>(unit % kUnits) * 8;
      if (kSlabs * kSlab != c.padded_k() && key >= c.padded_k()) continue;
      const uint4 words = *reinterpret_cast<const uint4*>(rows + row * kPitch + unit % kUnits * 16);
      *reinterpret_cast<uint4*>(tile + (static_cast<long long>(row) * c.padded_k() + key) * 2) = words;
    }
  }

  static __device__ __forceinline__ void load_slab(const ChunkParams& p, const Place& at, int chunk, int valid,
                                                   int slab, Plan& plan) {
    const long long first = static_cast<long long>(chunk) * kChunk;
    const void* k = device::element<c.io_dtype>(p.k, at.key_head_offset(p.k_strides, first));
    const void* q = kQuery ? device::element<c.io_dtype>(p.q, at.key_head_offset(p.q_strides, first)) : nullptr;
    if constexpr (!kCopies) {
      copy_rows(k, p.k_strides.token, valid, slab, device::shared_address(plan.rows.k));
      if constexpr (kQuery) copy_rows(q, p.q_strides.token, valid, slab, device::shared_address(plan.rows.q));
      device::cp_async_wait_all();
      __syncthreads();
    } else {
      if constexpr (kScaled) {
        if (slab == 0) find_lengths(k, p.k_strides.token, valid, plan.key_length);
        __syncwarp();  // a warp loads the rows whose lengths it found
      }
      load_rows(k, p.k_strides.token, valid, slab, plan.rows.k, plan.key_norm, kScaled ? plan.key_length : nullptr);
      if constexpr (kQuery) load_rows(q, p.q_strides.token, valid, slab, plan.rows.q, plan.query_norm, nullptr);
      __syncthreads();
      store_rows(plan.rows.k, slab, Place::tile(p, blockIdx.x / c.heads_k, at.head, 0));
      if constexpr (kQuery) store_rows(plan.rows.q, slab, Place::tile(p, blockIdx.x / c.heads_k, at.head, 1));
    }
  }

  // ---- phase 2: products -----------------------------------------------------------------------------------------

  struct Products {
    ChunkBlock kk[4], qk[4];  // block rows 3 - warp and warp, by block column
    ChunkBlock qq;            // block (warp, warp)

    // (An initialiser of this size becomes a loop over local memory.)
    __device__ __forceinline__ void set_zero() {
#pragma unroll
      for (int j = 0; j < 4; ++j) kk[j] = qk[j] = {};
      qq = {};
    }
  };

  static __device__ __forceinline__ void multiply_add(ChunkBlock& sum, const unsigned (&a)[4], const unsigned (&b)[4]) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      float d[4] = {sum.d[4 * m], sum.d[4 * m + 1], sum.d[4 * m + 2], sum.d[4 * m + 3]};
      const unsigned columns[2] = {b[2 * m], b[2 * m + 1]};
      device::mma_m16n8k16<device::element_of(c.operand_dtype())>(d, a, columns);
#pragma unroll
      for (int i = 0; i < 4; ++i) sum.d[4 * m + i] = d[i];
    }
  }

  static __device__ __forceinline__ void multiply_slab(const Plan& plan, const Warp& at, int slab, Products& sums) {
    const device::LdmatrixPlace a = device::ldmatrix_a(at.lane), b = device::ldmatrix_b(at.lane);
    const unsigned k = device::shared_address(plan.rows.k), q = device::shared_address(plan.rows.q);
    const unsigned query_rows = q + (16 * at.warp + a.row) * kPitch + 2 * a.column;
    const unsigned key_rows = k + (16 * (3 - at.warp) + a.row) * kPitch + 2 * a.column;
    const unsigned key_columns = k + b.row * kPitch + 2 * b.column;
    const unsigned query_columns = q + (16 * at.warp + b.row) * kPitch + 2 * b.column;
    constexpr int kSteps = kSlab / 16;
    const int steps = kSlabs == 1 || slab < kSlabs - 1 ? kSteps : (c.padded_k() - (kSlabs - 1) * kSlab) / 16;
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      unsigned query[4], key[4];
      if constexpr (kQuery) device::ldmatrix<4>(query, query_rows + 32 * step);
      device::ldmatrix<4>(key, key_rows + 32 * step);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const bool in_query = kQuery && j <= at.warp, in_key = j <= 3 - at.warp;
        if (!in_query && !in_key) continue;
        unsigned columns[4];
        device::ldmatrix<4>(columns, key_columns + 16 * j * kPitch + 32 * step);
        if (in_query) multiply_add(sums.qk[j], query, columns);
        if (in_key) multiply_add(sums.kk[j], key, columns);
      }
      if constexpr (kQuery && kNorm && !kNormFromInput) {
        unsigned columns[4];
        device::ldmatrix<4>(columns, query_columns + 32 * step);
        multiply_add(sums.qq, query, columns);
      }
    }
  }

  // The factors of 16 rows from the diagonal of their products with themselves.
  static __device__ __forceinline__ void norms_from_diagonal(const ChunkBlock& block, int lane, int first, int valid,
                                                             float scale, const float* lengths, float* factors) {
    const int row = lane / 4, e = row % 2;
    if (lane % 4 != row / 2) return;
    const float squares[2] = {e == 0 ? block.d[0] : block.d[1], e == 0 ? block.d[6] : block.d[7]};
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int token = first + row + 8 * h;
      const float length = lengths != nullptr ? lengths[token] : 1.0f;
      const float factor = norm_factor<c>(squares[h] * length * length) * (length * scale);
      factors[token] = token < valid ? factor : 0.0f;
    }
  }

  // rk and rq, for phase 3; behind a barrier of the block.
  static __device__ __forceinline__ void find_norms(const Warp& at, const Products& sums, int valid, Plan& plan) {
    if constexpr (kNorm && !kNormFromInput) {
      // sums.kk[3 - warp], without an index that only the warp knows: that would put the sums into memory.
      ChunkBlock diagonal = sums.kk[3];
#pragma unroll
      for (int j = 0; j < 3; ++j) {
#pragma unroll
        for (int e = 0; e < 8; ++e) diagonal.d[e] = j + at.warp == 3 ? sums.kk[j].d[e] : diagonal.d[e];
      }
      norms_from_diagonal(diagonal, at.lane, 16 * (3 - at.warp), valid, 1.0f, kScaled ? plan.key_length : nullptr,
                          plan.key_norm);
      if constexpr (kQuery)
        norms_from_diagonal(sums.qq, at.lane, 16 * at.warp, valid, c.scale, nullptr, plan.query_norm);
    } else {
      const int token = static_cast<int>(threadIdx.x);
      if (token < kChunk) {
        float rk = 1.0f, rq = 1.0f;
        if constexpr (kNormFromInput) {
          rk = norm_factor<c>(plan.key_norm[token]);
          if constexpr (kQuery) rq = norm_factor<c>(plan.query_norm[token]);
        }
        plan.key_norm[token] = token < valid ? rk : 0.0f;
        plan.query_norm[token] = token < valid ? rq * c.scale : 0.0f;
      }
    }
  }

  // Block (i, j) of q k^T in shared memory: four floats a lane, twice.
  static __device__ __forceinline__ int block_start(int i, int j, int lane) {
    return (i * (i + 1) / 2 + j) * kBlockFloats + 4 * lane;
  }
  static __device__ __forceinline__ ChunkBlock load_block(const float* blocks, int i, int j, int lane) {
    const float* place = blocks + block_start(i, j, lane);
    const float4 left = *reinterpret_cast<const float4*>(place), right = *reinterpret_cast<const float4*>(place + 128);
    return {{left.x, left.y, left.z, left.w, right.x, right.y, right.z, right.w}};
  }

  // Row i of blocks with the norms' factors, by store(j, block).
  template <typename Store>
  static __device__ __forceinline__ void store_products(const ChunkBlock (&sums)[4], int i, int lane, float sign,
                                                        const float* row_norm, const float* key_norm, Store store) {
    const float rows[2] = {sign * row_norm[16 * i + lane / 4], sign * row_norm[16 * i + lane / 4 + 8]};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (j > i) continue;
      ChunkBlock block;
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const float2 columns = *reinterpret_cast<const float2*>(key_norm + 16 * j + 8 * n + 2 * (lane % 4));
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          block.d[4 * n + e] = sums[j].d[4 * n + e] * rows[e / 2] * (e % 2 == 0 ? columns.x : columns.y);
        }
      }
      store(j, block);
    }
  }

  // ---- phase 3: a value head ---------------------------------------------------------------------------------------

  // Half 0 of a pair looks after the gates, half 1 after the write strengths.
  static __device__ __forceinline__ void load_gates(const ChunkParams& p, const Place& at, int chunk, int valid,
                                                    const Warp& warp, GateInputs& inputs) {
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      inputs.gate[n][0] = 0;
      inputs.beta[n][0] = 0;
      const int token = warp.lane + 32 * n;
      if (token >= valid) continue;
      const long long t = static_cast<long long>(chunk) * kChunk + token;
      if (warp.half == 0) {
        if constexpr (kHeadGate) {
          device::load_vector<c.gate_dtype, 1, device::CacheHint::normal>(
              device::element<c.gate_dtype>(p.gate, at.value_head_offset(p.gate_strides, t)), inputs.gate[n]);
        }
      } else if constexpr (c.beta != Beta::none) {
        device::load_vector<c.beta_dtype, 1, device::CacheHint::normal>(
            device::element<c.beta_dtype>(p.beta, at.value_head_offset(p.beta_strides, t)), inputs.beta[n]);
      }
    }
  }

  // log2 of a token's decay. Below -128 a token's decay is 0 in fp32, and so is every product with it: a bound there
  // changes nothing, keeps the sums finite (a decay of 0 is 2^-infinity) and small enough to be subtracted.
  static __device__ __forceinline__ float decay_log2(float x, const GateParameters& gate) {
    constexpr float kLog2e = 1.4426950408889634f;
    float log2;
    if constexpr (c.gate == Gate::none) {
      return 0.0f;
    } else if constexpr (c.gate == Gate::alpha) {
      log2 = device::log2_near_one(x);
    } else {
      log2 = log_decay<c>(x, gate.rate, gate.bias) * kLog2e;
    }
    return log2 < -128.0f ? -128.0f : log2;
  }

  static __device__ __forceinline__ void find_decays(const ChunkParams& p, int hv, int valid, int lane,
                                                     const GateInputs& inputs, HeadTokens& tokens) {
    const GateParameters gate = gate_parameters<c>(p, hv);
    float g[2];
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      float x[1];
      device::unpack<c.gate_dtype, 1>(inputs.gate[n], x);
      g[n] = lane + 32 * n < valid ? decay_log2(x[0], gate) : 0.0f;
      g[n] = device::prefix_sum(g[n]);
    }
    // G at the ends of the blocks of 16.
    const float at_15 = device::from_lane(g[0], 15), at_31 = device::from_lane(g[0], 31);
    g[1] += at_31;
    const float at_47 = device::from_lane(g[1], 15);

    const bool upper = lane >= 16;
    tokens.row[lane] = upper ? device::exp2_approx(g[0] - at_15) : 1.0f;
    tokens.row[lane + 32] = device::exp2_approx(g[1] - (upper ? at_47 : at_31));
    if (!upper) tokens.columns[columns_of(1) + lane] = device::exp2_approx(at_15 - g[0]);
    tokens.columns[columns_of(2) + lane] = device::exp2_approx(at_31 - g[0]);
    tokens.columns[columns_of(3) + lane] = device::exp2_approx(at_47 - g[0]);
    if (!upper) tokens.columns[columns_of(3) + lane + 32] = device::exp2_approx(at_47 - g[1]);

    tokens.decay[lane] = g[0];
    tokens.decay[lane + 32] = g[1];
  }

  // The factors of a head's tokens and the state's decay, into its record.
  static __device__ __forceinline__ void store_factors(int lane, const Plan& plan, const HeadTokens& tokens,
                                                       unsigned char* record) {
    float* factors = reinterpret_cast<float*>(record + ChunkRecord::kFactors);
    const float last = tokens.decay[kChunk - 1];
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const int token = lane + 32 * n;
      const float g = tokens.decay[token], decay = device::exp2_approx(g), key_norm = plan.key_norm[token];
      factors[ChunkFactors::kState / 4 + token] = decay * key_norm;
      // (Bulk copies take all factors, with or without an output.)
      factors[ChunkFactors::kQuery / 4 + token] = kQuery ? decay * plan.query_norm[token] : 0.0f;
      factors[ChunkFactors::kKey / 4 + token] = device::exp2_approx(last - g) * key_norm;
      factors[ChunkFactors::kStrength / 4 + token] = tokens.strength[token];
    }
    if (lane < 4) factors[ChunkFactors::kDecay / 4 + lane] = device::exp2_approx(last);  // all that is copied
  }

  static __device__ __forceinline__ void find_strengths(int valid, int lane, const GateInputs& inputs,
                                                        HeadTokens& tokens) {
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      float x[1];
      device::unpack<c.beta_dtype, 1>(inputs.beta[n], x);
      tokens.strength[lane + 32 * n] = lane + 32 * n < valid ? write_strength<c>(x[0]) : 0.0f;
    }
  }

  static __device__ __forceinline__ float2 pair_at(const float* numbers, int lane) {
    return *reinterpret_cast<const float2*>(numbers + 2 * (lane % 4));
  }

  // Diagonal block d of A, from B_dd, and of P. Decays are differences here; above the diagonal they are not looked at.
  static __device__ __forceinline__ void store_diagonal(const Plan& plan, const HeadTokens& tokens, const ChunkBlock& x,
                                                        int d, int lane, unsigned char* record) {
    const ChunkBlock qk = kQuery ? load_block(plan.heads.qk, d, d, lane) : ChunkBlock{};
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const float2 decay_j = pair_at(tokens.decay + 16 * d + 8 * n, lane);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int row = lane / 4 + 8 * h, column = 8 * n + 2 * (lane % 4);
        const float decay_i = tokens.decay[16 * d + row];
        const float weights[2] = {column <= row ? device::exp2_approx(decay_i - decay_j.x) : 0.0f,
                                  column + 1 <= row ? device::exp2_approx(decay_i - decay_j.y) : 0.0f};
        const float below[2] = {column < row ? weights[0] : 0.0f, column + 1 < row ? weights[1] : 0.0f};
        const int e = 4 * n + 2 * h;
        Writer::store(record + ChunkRecord::kA, d, d, h, n, lane, x.d[e] * below[0], x.d[e + 1] * below[1]);
        if constexpr (kQuery) {
          Writer::store(record + ChunkRecord::kP, d, d, h, n, lane, qk.d[e] * weights[0], qk.d[e + 1] * weights[1]);
        }
      }
    }
  }

  // Block (i, j) of A, from B_ij, and of P; decays are products of a row's and a column's.
  static __device__ __forceinline__ void store_below(const Plan& plan, const HeadTokens& tokens, const ChunkBlock& x,
                                                     int i, int j, int lane, unsigned char* record) {
    const ChunkBlock qk = kQuery ? load_block(plan.heads.qk, i, j, lane) : ChunkBlock{};
    const float* rows = tokens.row + 16 * i + lane / 4;
    const float* columns = tokens.columns + columns_of(i) + 16 * j;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const float2 column = pair_at(columns + 8 * n, lane);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float weights[2] = {rows[8 * h] * column.x, rows[8 * h] * column.y};
        const int e = 4 * n + 2 * h;
        Writer::store(record + ChunkRecord::kA, i, j, h, n, lane, x.d[e] * weights[0], x.d[e + 1] * weights[1]);
        if constexpr (kQuery) {
          Writer::store(record + ChunkRecord::kP, i, j, h, n, lane, qk.d[e] * weights[0], qk.d[e + 1] * weights[1]);
        }
      }
    }
  }

  static __device__ __forceinline__ void process_head(const ChunkParams& p, const ValueHead& head, int valid,
                                                      const Warp& at, const GateInputs& inputs, Plan& plan) {
    HeadTokens& tokens = plan.heads.tokens[at.pair];
    unsigned char* record =
        p.workspace + (static_cast<long long>(blockIdx.x / c.heads_k) * c.heads_v + head.hv) * ChunkRecord::bytes(c);
    if (at.half == 0) {
      find_decays(p, head.hv, valid, at.lane, inputs, tokens);
    } else {
      find_strengths(valid, at.lane, inputs, tokens);
    }
    meet(at);
    if (at.half == 1) store_factors(at.lane, plan, tokens, record);

    const ChunkInverse::Half x =
        plan.heads.inverse[at.pair].run(plan.heads.kk, tokens.strength, at.lane, at.half, [&] { meet(at); });
    const int d = 2 * at.half;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      store_diagonal(plan, tokens, plan.heads.inverse[at.pair].diagonal_block(d + n, at.lane), d + n, at.lane, record);
    }
    store_below(plan, tokens, x.near, d + 1, d, at.lane, record);
#pragma unroll
    for (int n = 0; n < 2; ++n) store_below(plan, tokens, x.far[n], 2 + at.half, n, at.lane, record);
  }

  // ---- the kernel
  // ----------------------------------------------------------------------------------------------------

  static __device__ __forceinline__ void run(const ChunkParams& p) {
    __shared__ alignas(16) Plan plan;
    if constexpr (c.programmatic) device::wait_for_previous_grid();
    device::let_next_grid_start();  // it waits for this one's end before it looks at the workspace

    Place place;
    const int chunk = place.set_slot(p, blockIdx.x / c.heads_k, kChunk);
    if (chunk < 0 || place.tokens == 0) return;
    const int h = static_cast<int>(blockIdx.x % c.heads_k);
    const int rest = place.tokens - chunk * kChunk;
    const int valid = rest < kChunk ? rest : kChunk;
    const int warp_index = device::warp_of_block();
    const Warp at{warp_index, static_cast<int>(threadIdx.x % 32), warp_index / 2, warp_index % 2};

    place.head = value_head_of_group<c>(h, at.pair);
    GateInputs inputs;
    if (at.pair < kGroup) load_gates(p, place, chunk, valid, at, inputs);

    Products sums;
    sums.set_zero();
#pragma unroll 1
    for (int slab = 0; slab < kSlabs; ++slab) {
      load_slab(p, place, chunk, valid, slab, plan);
      multiply_slab(plan, at, slab, sums);
      if (slab + 1 < kSlabs) __syncthreads();
    }
    find_norms(at, sums, valid, plan);
    __syncthreads();
    store_products(sums.kk, 3 - at.warp, at.lane, -1.0f, plan.key_norm, plan.key_norm,
                   [&](int j, const ChunkBlock& n) { plan.heads.kk.store(3 - at.warp, j, at.lane, n); });
    if constexpr (kQuery) {
      store_products(sums.qk, at.warp, at.lane, 1.0f, plan.query_norm, plan.key_norm, [&](int j, const ChunkBlock& x) {
        float* place = plan.heads.qk + block_start(at.warp, j, at.lane);
        *reinterpret_cast<float4*>(place) = make_float4(x.d[0], x.d[1], x.d[2], x.d[3]);
        *reinterpret_cast<float4*>(place + 128) = make_float4(x.d[4], x.d[5], x.d[6], x.d[7]);
      });
    }
    __syncthreads();

#pragma unroll 1
    for (int j = at.pair; j < kGroup; j += kPairs) {
      const ValueHead head = value_head_of_group<c>(h, j);
      const GateInputs now = inputs;
      if (j + kPairs < kGroup) {
        place.head = value_head_of_group<c>(h, j + kPairs);
        load_gates(p, place, chunk, valid, at, inputs);
      }
      if (j != at.pair) meet(at);  // both are done with the head before
      process_head(p, head, valid, at, now, plan);
    }
  }
};

}  // namespace gdnjit::gdn

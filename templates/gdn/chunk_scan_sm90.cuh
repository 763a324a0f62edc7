// The scan of gdn.chunk for sm_90a: TMA in, wgmma, the state in registers. docs/kernels/chunk_sm90.md is its design.
//
// A block serves one (sequence, value head, block of V). One warp loads tiles into a ring; each consumer warpgroup owns
// 64 rows of S^T [V, K]. Everything is transposed, so that each product takes its A operand from registers, where the
// product before it left it, and its B operand from the tiles as they are in memory:
//
//   (k S)^T = S^T k^T            B = k, K-major
//   W^T     = v^T - sf (k S)^T
//   D^T     = W^T A^T            B = A, K-major, its lower triangle only
//   o^T     = qf (S^T q^T) + D^T P^T
//   S^T     = decay S^T + (kf D)^T k    B = k, MN-major
//
// The tensor cores work in the order of issue; between (k S) -> W -> D -> S, which wait for each other, lie halves of
// q S and the last chunk's P D, so that they never wait for the arithmetic in between.
#pragma once

#include "device/fence.cuh"
#include "device/grid.cuh"
#include "device/ldmatrix.cuh"
#include "device/math.cuh"
#include "device/memory.cuh"
#include "device/named_barrier.cuh"
#include "device/tma.cuh"
#include "device/wgmma_bf16.cuh"
#include "device/wgmma_f16.cuh"
#include "gdn/chunk_config.cuh"
#include "gdn/chunk_sm90_config.cuh"

namespace gdnjit::gdn {

template <ChunkConfig c>
struct ChunkScanSm90 {
  static constexpr ChunkSm90Plan kPlan{c};
  static constexpr int kThreads = kPlan.threads;
  static constexpr int kK = c.padded_k();
  static constexpr int kSteps = kK / 16;  // k-steps of the products over K
  static constexpr int kStateTiles = kK / 8;
  static constexpr device::Element kElement = device::element_of(c.operand_dtype());
  static constexpr device::Swizzle kSwizzle = kPlan.row_bytes == 128  ? device::Swizzle::bytes128
                                              : kPlan.row_bytes == 64 ? device::Swizzle::bytes64
                                                                      : device::Swizzle::bytes32;
  static_assert(c.io_dtype == c.operand_dtype() && dtype_bytes(c.output_dtype) == 2);
  static_assert(kK <= 128, "S^T takes K / 2 registers a thread");

  // The mbarriers of a stage.
  static __device__ __forceinline__ int full(int stage) { return kPlan.barriers + 16 * stage; }
  static __device__ __forceinline__ int empty(int stage) { return full(stage) + 8; }
  // And those of a warpgroup's staging tile.
  static __device__ __forceinline__ int output_full(int warpgroup) { return full(c.stages + warpgroup); }
  static __device__ __forceinline__ int output_empty(int warpgroup) { return empty(c.stages + warpgroup); }

  // What this block works on.
  struct Work {
    int sequence, hv, v0;
    int tokens;  // of the sequence
    int chunks;
    long long first_token;  // ragged: in the whole tensor; else 0
    long long slot;         // of the first chunk
  };

  // ---- products ------------------------------------------------------------------------------------------------

  template <int kN, device::Major kMajor = device::Major::k>
  static __device__ __forceinline__ void product(float (&d)[kN / 2], const unsigned (&a)[4], device::MatrixDescriptor b,
                                                 bool accumulate) {
    if constexpr (kElement == device::Element::bf16) {
      device::wgmma_bf16<kN, kMajor>(d, a, b, accumulate);
    } else {
      device::wgmma_f16<kN, kMajor>(d, a, b, accumulate);
    }
  }

  // d (+)= S^T x^T over the k-steps kFirst .. kEnd - 1; `tile` holds x [token, K].
  template <int kFirst, int kEnd>
  static __device__ __forceinline__ void state_product(float (&d)[32], const unsigned (&s)[kSteps][4], unsigned tile) {
#pragma unroll
    for (int step = kFirst; step < kEnd; ++step) {
      const int box = 16 * step / kPlan.box_columns, bytes = 16 * step % kPlan.box_columns * 2;
      const auto b = device::advance(device::k_major_descriptor<kSwizzle>(tile + box * kPlan.box_bytes), bytes);
      product<64>(d, s[step], b, step != 0);
    }
  }

  // d (+)= x^T m^T with m a square of kPlan.square_strip bytes a strip, zeros above its diagonal. (Products with the
  // lower part alone would need accumulators that begin within those of others: ptxas then serialises all of them.)
  template <bool kAccumulate>
  static __device__ __forceinline__ void square_product(float (&d)[32], const unsigned (&x)[4][4], unsigned square) {
#pragma unroll
    for (int strip = 0; strip < 4; ++strip) {
      const auto b = device::matrix_descriptor<device::Swizzle::none>(square + strip * kPlan.strip_bytes, 128, 256);
      product<64>(d, x[strip], b, kAccumulate || strip != 0);
    }
  }

  // S^T += x^T k, with k [token, K].
  static __device__ __forceinline__ void update_product(float (&s)[kK / 2], const unsigned (&x)[4][4], unsigned tile) {
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      const auto b =
          device::matrix_descriptor<kSwizzle>(tile + 16 * step * kPlan.row_bytes, kPlan.box_bytes, 8 * kPlan.row_bytes);
      product<kK, device::Major::mn>(s, x[step], b, true);
    }
  }

  static __device__ __forceinline__ unsigned pack2(float low, float high) {
    const float values[2] = {low, high};
    unsigned words[1];
    device::pack<c.operand_dtype(), 2>(values, words);
    return words[0];
  }
  template <int kTiles>
  static __device__ __forceinline__ void pack_operand(const float (&d)[4 * kTiles], unsigned (&a)[kTiles / 2][4]) {
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i) a[i / 4][i % 4] = pack2(d[2 * i], d[2 * i + 1]);
  }

  // ---- the producer ----------------------------------------------------------------------------------------------

  static __device__ __forceinline__ void load_stage(const ChunkSm90Params& p, const Work& at, int chunk, unsigned stage,
                                                    unsigned full) {
    device::mbarrier_arrive_expect(full, kPlan.load_bytes);
    const int token = static_cast<int>(at.first_token) + kChunk * chunk;
    const int batch = c.ragged ? 0 : at.sequence;
    const int group = c.heads_v / c.heads_k;
    const bool modulo = c.head_map == HeadMap::modulo;
    const int h = modulo ? at.hv % c.heads_k : at.hv / group;
    const int place = modulo ? at.hv / c.heads_k : at.hv % group;
    const long long slot = at.slot + chunk;
#pragma unroll
    for (int box = 0; box < kPlan.boxes; ++box) {
      const int x = box * kPlan.box_columns;
      if constexpr (c.tiles == ChunkTiles::input) {
        device::tensor_load(stage + kPlan.key + box * kPlan.box_bytes, p.k, device::Corner4{x, h, token, batch}, full);
        device::tensor_load(stage + kPlan.query + box * kPlan.box_bytes, p.q, device::Corner4{x, h, token, batch},
                            full);
      } else {
        constexpr int kCount = chunk_tile_count(c.tiles);
        const long long head = c.tiles == ChunkTiles::key_head ? slot * c.heads_k + h : slot * c.heads_v + at.hv;
#pragma unroll
        for (int tile = 0; tile < kCount; ++tile) {
          device::tensor_load(stage + tile * kPlan.query + box * kPlan.box_bytes, p.k,
                              device::Corner2{x, static_cast<int>((head * kCount + tile) * kChunk)}, full);
        }
      }
    }
#pragma unroll
    for (int w = 0; w < kPlan.warpgroups; ++w) {
      device::tensor_load(stage + kPlan.value + w * kPlan.value_bytes, p.v,
                          device::Corner5{at.v0 + 64 * w, place, h, token, batch}, full);
    }
    const unsigned char* record = p.call.workspace + (slot * c.heads_v + at.hv) * ChunkRecord::bytes(c);
#pragma unroll
    for (int strip = 0; strip < 4; ++strip) {
      // The lower part of a strip; above it lie the zeros that clear_squares() left.
      const unsigned place = strip * kPlan.strip_bytes + 16 * strip * 32;
      const int bytes = (kChunk - 16 * strip) * 32, from = ChunkTriangle::strip_offset(strip);
      device::bulk_load(stage + kPlan.square_a + place, record + ChunkRecord::kA + from, bytes, full);
      device::bulk_load(stage + kPlan.square_p + place, record + ChunkRecord::kP + from, bytes, full);
    }
    device::bulk_load(stage + kPlan.factors, record + ChunkRecord::kFactors, kPlan.factor_bytes, full);
  }

  static __device__ __forceinline__ void produce(const ChunkSm90Params& p, const Work& at, unsigned base) {
    device::wait_for_previous_grid();
    for (int chunk = 0; chunk < at.chunks; ++chunk) {
      const int stage = chunk % c.stages;
      device::mbarrier_wait(base + empty(stage), (chunk / c.stages & 1) ^ 1);
      load_stage(p, at, chunk, base + stage * kPlan.stage_bytes, base + full(stage));
    }
  }

  // ---- the storing warp ------------------------------------------------------------------------------------------

  // A whole chunk's tile of o goes by a bulk copy; of the last chunk only the sequence's rows, for behind them lie
  // another's.
  static __device__ __forceinline__ void store_outputs(const ChunkSm90Params& p, const Work& at, unsigned base) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    for (int turn = 0; turn <= at.chunks; ++turn) {
      const int token = kChunk * (turn - 1), valid = at.tokens - token;
#pragma unroll
      for (int w = 0; w < kPlan.warpgroups; ++w) {
        const unsigned staging = base + kPlan.output + w * kPlan.value_bytes;
        device::mbarrier_wait(base + output_full(w), turn & 1);
        if (turn > 0 && valid < kChunk) {
          store_rows(p, at, staging, at.v0 + 64 * w, token, valid, lane);
        } else if (turn > 0 && lane == 0) {
          device::tensor_store(p.o,
                               device::Corner4{at.v0 + 64 * w, at.hv, static_cast<int>(at.first_token) + token,
                                               c.ragged ? 0 : at.sequence},
                               staging);
          device::bulk_commit();
          device::bulk_wait_read<0>();
        }
        if (lane == 0) device::mbarrier_arrive(base + output_empty(w));
      }
    }
  }

  static __device__ __forceinline__ void store_rows(const ChunkSm90Params& p, const Work& at, unsigned staging, int v0,
                                                    int token, int rows, int lane) {
    const HeadStrides& strides = p.call.o_strides;
    const long long start = (c.ragged ? 0 : at.sequence * strides.batch) + at.hv * strides.key_head +
                            (at.first_token + token) * strides.token + v0;
    for (int unit = lane; unit < 8 * rows; unit += 32) {
      const int row = unit / 8, v = unit % 8 * 8;
      if (v0 + v >= c.head_dim_v) continue;
      uint4 words;
      asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                   : "r"(staging + device::swizzled<device::Swizzle::bytes128>(row * 128 + 2 * v)));
      *static_cast<uint4*>(device::element<c.output_dtype>(p.call.o, start + row * strides.token + v)) = words;
    }
  }

  // ---- the consumers ---------------------------------------------------------------------------------------------

  // One warpgroup's view of the block.
  struct Consumer {
    unsigned base;     // shared memory
    unsigned staging;  // its tile of o
    int warpgroup, thread, lane;
    int row;  // of S^T in the block of V: of the thread's accumulators 0 and 1; 2 and 3 lie 8 further

    // Where the lane's row of tokens 16 `pair` .. + 15 begins in a tile [token, 64 V] for ldmatrix and stmatrix,
    // transposed: matrix m of four holds tokens 8 (m / 2) .. and V 8 (m % 2) .. of the warp's 16.
    __device__ __forceinline__ unsigned tile_offset(int pair) const {
      const int token = 16 * pair + lane % 8 + 8 * (lane / 16), v = 16 * (thread / 32) + 8 * (lane / 8 % 2);
      return device::swizzled<device::Swizzle::bytes128>(token * 128 + 2 * v);
    }
  };

  // Factors of the thread's columns 8 i + 2 (lane % 4) and the next. Read ahead of the wait for what they scale: a load
  // takes as long as an instruction of the tensor cores.
  template <int kTiles>
  static __device__ __forceinline__ void load_factors(unsigned row, int lane, float2 (&pairs)[kTiles]) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];"
                   : "=f"(pairs[tile].x), "=f"(pairs[tile].y)
                   : "r"(row + 4 * (8 * tile + lane % 4 * 2)));
    }
  }
  static __device__ __forceinline__ float shared_float(unsigned address) {
    float value;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(address));
    return value;
  }

  // The warpgroup's v^T [V, token], 16 bits, as the accumulators lie: words 2 i and 2 i + 1 are of token tile i.
  static __device__ __forceinline__ void load_values(const Consumer& me, unsigned stage, unsigned (&v)[4][4]) {
    const unsigned tile = stage + kPlan.value + me.warpgroup * kPlan.value_bytes;
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) device::ldmatrix_transposed(v[pair], tile + me.tile_offset(pair));
  }

  // W^T from (k S)^T in place: w = v - sf w.
  static __device__ __forceinline__ void subtract_from_values(const unsigned (&v)[4][4], const float2 (&factors)[8],
                                                              float (&w)[32]) {
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const unsigned word[1] = {v[i / 4][i % 4]};
      float values[2];
      device::unpack<c.operand_dtype(), 2>(word, values);
      w[2 * i] = fmaf(-factors[i / 2].x, w[2 * i], values[0]);
      w[2 * i + 1] = fmaf(-factors[i / 2].y, w[2 * i + 1], values[1]);
    }
  }
  // Zeros in the columns from `valid` on: behind the sequence's end v may hold anything.
  static __device__ __forceinline__ void clear_columns(int valid, int lane, float (&w)[32]) {
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      if (8 * (i / 4) + lane % 4 * 2 + i % 2 >= valid) w[i] = 0.0f;
    }
  }

  template <int kTiles>
  static __device__ __forceinline__ void scale_columns(const float2 (&factors)[kTiles], float (&d)[4 * kTiles]) {
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i) {
      d[2 * i] *= factors[i / 2].x;
      d[2 * i + 1] *= factors[i / 2].y;
    }
  }

  static __device__ __forceinline__ void decay_state(unsigned factor_rows, int lane, float (&s)[kK / 2]) {
    if constexpr (c.per_channel()) {
      float2 decays[kStateTiles];
      load_factors(factor_rows + ChunkFactors::kDecay, lane, decays);
      scale_columns(decays, s);
    } else {
      const float decay = shared_float(factor_rows + ChunkFactors::kDecay);
#pragma unroll
      for (int i = 0; i < kK / 2; ++i) s[i] *= decay;
    }
  }

  static __device__ __forceinline__ void pack_output(const float (&o)[32], unsigned (&words)[4][4]) {
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const float values[2] = {o[2 * i], o[2 * i + 1]};
      unsigned word[1];
      device::pack<c.output_dtype, 2>(values, word);
      words[i / 4][i % 4] = word[0];
    }
  }

  // Puts o^T into the warpgroup's staging tile [token, V] and hands it to the storing warp. `turn` counts from 0.
  static __device__ __forceinline__ void hand_output(const Consumer& me, int turn, const unsigned (&o)[4][4]) {
    device::mbarrier_wait(me.base + output_empty(me.warpgroup), (turn & 1) ^ 1);
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) device::stmatrix_transposed(me.staging + me.tile_offset(pair), o[pair]);
    device::fence_async_shared();
    device::mbarrier_arrive(me.base + output_full(me.warpgroup));
  }

  // Rows of k past the sequence's end may hold anything, NaN too: 0 times them must be 0. All warpgroups.
  static __device__ __forceinline__ void clear_key_tail(const Consumer& me, unsigned stage, int valid) {
    const int first = valid * kPlan.row_bytes / 16, units = kChunk * kPlan.row_bytes / 16;
    for (int box = 0; box < kPlan.boxes; ++box) {
      for (int unit = first + me.warpgroup * 128 + me.thread; unit < units; unit += 128 * kPlan.warpgroups) {
        const unsigned address = stage + kPlan.key + box * kPlan.box_bytes + 16 * unit;  // rows stay rows in a swizzle
        asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(address), "r"(0) : "memory");
      }
    }
    device::fence_async_shared();
    device::named_barrier<128 * kPlan.warpgroups>(7);
  }

  // Waits for a chunk's stage and issues its k S.
  static __device__ __forceinline__ void begin_chunk(const Work& at, const Consumer& me, int chunk, int ring,
                                                     unsigned phase, const unsigned (&operand)[kSteps][4],
                                                     float (&w)[32]) {
    const unsigned stage = me.base + ring * kPlan.stage_bytes;
    device::mbarrier_wait(me.base + full(ring), phase);
    const int valid = at.tokens - kChunk * chunk;
    if (c.tiles == ChunkTiles::input && valid < kChunk) clear_key_tail(me, stage, valid);
    device::wgmma_fence(w);
    state_product<0, kSteps>(w, operand, stage + kPlan.key);
    device::wgmma_commit();
  }

  static __device__ __forceinline__ void consume(const ChunkSm90Params& p, const Work& at, const Consumer& me) {
    float s[kK / 2];              // S^T
    unsigned operand[kSteps][4];  // S^T as an operand
    device::wait_for_previous_grid();
    load_state(p, at, me, s);
    pack_operand<kStateTiles>(s, operand);

    if (at.chunks == 0) {
      store_state(p, at, me, s);
      return;
    }
    float w[32], o[32];
    unsigned output[4][4] = {};
    int ring = 0;  // the chunk's place in the ring
    unsigned phase = 0;
    for (int chunk = 0; chunk < at.chunks; ++chunk) {
      const unsigned stage = me.base + ring * kPlan.stage_bytes;
      begin_chunk(at, me, chunk, ring, phase, operand, w);
      if constexpr (c.write_output) hand_output(me, chunk, output);  // of the chunk before; the first is not stored
      device::wgmma_fence(o);
      state_product<0, kSteps / 2>(o, operand, stage + kPlan.query);
      device::wgmma_commit();
      unsigned x[4][4];
      float2 factors[8];
      load_values(me, stage, x);
      load_factors(stage + kPlan.factors + ChunkFactors::kState, me.lane, factors);
      device::wgmma_wait<1>(w);
      subtract_from_values(x, factors, w);
      if (at.tokens - kChunk * chunk < kChunk) clear_columns(at.tokens - kChunk * chunk, me.lane, w);
      pack_operand<8>(w, x);
      // D, and the other half of q S behind it.
      device::wgmma_fence(w);
      square_product<false>(w, x, stage + kPlan.square_a);
      device::wgmma_commit();
      state_product<kSteps / 2, kSteps>(o, operand, stage + kPlan.query);
      device::wgmma_commit();
      decay_state(stage + kPlan.factors, me.lane, s);
      load_factors(stage + kPlan.factors + ChunkFactors::kKey, me.lane, factors);
      device::wgmma_wait<1>(w);
      unsigned d[4][4];
      pack_operand<8>(w, d);
      scale_columns(factors, w);
      pack_operand<8>(w, x);
      device::wgmma_fence(s);
      update_product(s, x, stage + kPlan.decayed);
      device::wgmma_commit();
      load_factors(stage + kPlan.factors + ChunkFactors::kQuery, me.lane, factors);
      device::wgmma_wait<1>(o);
      scale_columns(factors, o);
      device::wgmma_fence(o);
      square_product<true>(o, d, stage + kPlan.square_p);
      device::wgmma_commit();
      device::wgmma_wait<1>(s);
      pack_operand<kStateTiles>(s, operand);
      device::wgmma_wait<0>(o);
      pack_output(o, output);
      device::mbarrier_arrive(me.base + empty(ring));
      if (++ring == c.stages) {
        ring = 0;
        phase ^= 1;
      }
    }
    if constexpr (c.write_output) hand_output(me, at.chunks, output);
    store_state(p, at, me, s);
  }

  // ---- the state -------------------------------------------------------------------------------------------------

  static __device__ __forceinline__ long long state_index(int v, int k) {
    return c.state_layout == StateLayout::vk ? static_cast<long long>(v) * c.head_dim_k + k
                                             : static_cast<long long>(k) * c.head_dim_v + v;
  }

  static __device__ __forceinline__ void load_state(const ChunkSm90Params& p, const Work& at, const Consumer& me,
                                                    float (&s)[kK / 2]) {
#pragma unroll
    for (int i = 0; i < kK / 2; ++i) {
      s[i] = 0.0f;
      if constexpr (c.initial_state != StatePlace::none) {
        const int v = at.v0 + me.row + 8 * (i / 2 % 2), k = 8 * (i / 4) + me.lane % 4 * 2 + i % 2;
        const StateStrides& strides = p.call.state_in_strides;
        if (v < c.head_dim_v && k < c.head_dim_k) {
          s[i] = device::load_scalar<c.state_dtype>(
              p.call.state_in, at.sequence * strides.row + at.hv * strides.head + state_index(v, k));
        }
      }
    }
  }
  static __device__ __forceinline__ void store_state(const ChunkSm90Params& p, const Work& at, const Consumer& me,
                                                     const float (&s)[kK / 2]) {
    if constexpr (c.final_state != StatePlace::none) {
#pragma unroll
      for (int i = 0; i < kK / 2; ++i) {
        const int v = at.v0 + me.row + 8 * (i / 2 % 2), k = 8 * (i / 4) + me.lane % 4 * 2 + i % 2;
        const StateStrides& strides = p.call.state_out_strides;
        if (v < c.head_dim_v && k < c.head_dim_k) {
          device::store_scalar<c.state_dtype>(
              p.call.state_out, at.sequence * strides.row + at.hv * strides.head + state_index(v, k), s[i]);
        }
      }
    }
  }

  // Zeros everywhere in the squares of all stages: loads leave the part above the diagonal blocks as it is.
  static __device__ __forceinline__ void clear_squares(unsigned base) {
    for (int stage = 0; stage < c.stages; ++stage) {
      const unsigned start = base + stage * kPlan.stage_bytes + kPlan.square_a;
      for (int unit = static_cast<int>(threadIdx.x); unit < 2 * 4 * kPlan.strip_bytes / 16; unit += kThreads) {
        asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(start + 16 * unit), "r"(0) : "memory");
      }
    }
    device::fence_async_shared();
  }

  // ---- the block -------------------------------------------------------------------------------------------------

  static __device__ __forceinline__ Work locate(const ChunkSm90Params& p) {
    constexpr int kBlocksV = (c.head_dim_v + c.block_v - 1) / c.block_v;
    Work at;
    at.v0 = static_cast<int>(blockIdx.x) % kBlocksV * c.block_v;
    at.hv = static_cast<int>(blockIdx.x) / kBlocksV % c.heads_v;
    at.sequence = static_cast<int>(blockIdx.x) / (kBlocksV * c.heads_v);
    at.first_token = 0;
    at.tokens = static_cast<int>(p.call.tokens);
    at.slot = at.sequence * ((p.call.tokens + kChunk - 1) / kChunk);
    if constexpr (c.ragged) {
      at.first_token = device::load_index<DType::i32>(p.call.cu_seqlens.data, at.sequence * p.call.cu_seqlens.row);
      const long long end =
          device::load_index<DType::i32>(p.call.cu_seqlens.data, (at.sequence + 1LL) * p.call.cu_seqlens.row);
      at.tokens = static_cast<int>(end - at.first_token);
      at.slot = at.first_token / kChunk + at.sequence;
    }
    at.chunks = (at.tokens + kChunk - 1) / kChunk;
    return at;
  }

  static __device__ __forceinline__ void run(const ChunkSm90Params& p) {
    extern __shared__ __align__(1024) unsigned char shared[];
    const unsigned base = device::shared_address(shared);
    if (threadIdx.x == 0) {
      for (int stage = 0; stage < c.stages; ++stage) {
        device::mbarrier_init(base + full(stage), 1);
        device::mbarrier_init(base + empty(stage), 128 * kPlan.warpgroups);
      }
      for (int warpgroup = 0; warpgroup < kPlan.warpgroups; ++warpgroup) {
        device::mbarrier_init(base + output_full(warpgroup), 128);
        device::mbarrier_init(base + output_empty(warpgroup), 1);
      }
      device::fence_mbarrier_init();
    }
    clear_squares(base);
    __syncthreads();
    const Work at = locate(p);
    const int warpgroup = static_cast<int>(threadIdx.x) / 128;
    if (warpgroup == kPlan.warpgroups) {
      if constexpr (kPlan.warpgroups > 1) device::decrease_registers<24>();
      const int warp = static_cast<int>(threadIdx.x) % 128 / 32;
      if (warp == 0 && threadIdx.x % 32 == 0) produce(p, at, base);
      if (warp == 1 && c.write_output && at.chunks > 0) store_outputs(p, at, base);
      return;
    }
    if constexpr (kPlan.warpgroups > 1) device::increase_registers<240>();
    const int thread = static_cast<int>(threadIdx.x) % 128;
    consume(p, at,
            Consumer{.base = base,
                     .staging = base + kPlan.output + warpgroup * kPlan.value_bytes,
                     .warpgroup = warpgroup,
                     .thread = thread,
                     .lane = thread % 32,
                     .row = 64 * warpgroup + 16 * (thread / 32) + thread % 32 / 4});
  }
};

}  // namespace gdnjit::gdn

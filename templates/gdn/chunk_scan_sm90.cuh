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

  // ---- the consumers ---------------------------------------------------------------------------------------------

  // One warpgroup's view of the block.
  struct Consumer {
    unsigned base;     // shared memory
    unsigned staging;  // its tile of o
    int warpgroup, thread, lane;
    int row;  // of S^T in the block of V: of the thread's accumulators 0 and 1; 2 and 3 lie 8 further
  };

  static __device__ __forceinline__ float2 factors(unsigned record, int tile, int lane) {
    float2 pair;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];"
                 : "=f"(pair.x), "=f"(pair.y)
                 : "r"(record + 4 * (8 * tile + lane % 4 * 2)));
    return pair;
  }
  static __device__ __forceinline__ float shared_float(unsigned address) {
    float value;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(address));
    return value;
  }

  // W^T from (k S)^T in place: w = v - sf w; tokens from `valid` on are 0.
  static __device__ __forceinline__ void subtract_from_values(const Consumer& me, unsigned stage, int valid,
                                                              float (&w)[32]) {
    const unsigned tile = stage + kPlan.value + me.warpgroup * kPlan.value_bytes;
    // ldmatrix: matrix m of four holds tokens 8 (m / 2) .., V 8 (m % 2) ..
    const int row = me.lane % 8 + 8 * (me.lane / 16);
    const int column = 16 * (me.thread / 32) + 8 * (me.lane / 8 % 2);
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      unsigned words[4];
      device::ldmatrix_transposed(
          words, tile + device::swizzled<device::Swizzle::bytes128>((16 * pair + row) * 128 + 2 * column));
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        const int tile_n = 2 * pair + m / 2;
        const float2 factor = factors(stage + kPlan.factors + ChunkFactors::kState, tile_n, me.lane);
        const unsigned word[1] = {words[m]};
        float v[2];
        device::unpack<c.operand_dtype(), 2>(word, v);
        float& low = w[4 * tile_n + 2 * (m % 2)];
        float& high = w[4 * tile_n + 2 * (m % 2) + 1];
        low = fmaf(-factor.x, low, v[0]);
        high = fmaf(-factor.y, high, v[1]);
        if (valid < kChunk) {
          const int token = 8 * tile_n + me.lane % 4 * 2;
          if (token >= valid) low = 0.0f;
          if (token + 1 >= valid) high = 0.0f;
        }
      }
    }
  }

  static __device__ __forceinline__ void scale_columns(unsigned factor_row, int lane, float (&d)[32]) {
#pragma unroll
    for (int tile = 0; tile < 8; ++tile) {
      const float2 factor = factors(factor_row, tile, lane);
      d[4 * tile] *= factor.x;
      d[4 * tile + 1] *= factor.y;
      d[4 * tile + 2] *= factor.x;
      d[4 * tile + 3] *= factor.y;
    }
  }

  static __device__ __forceinline__ void decay_state(unsigned factor_rows, int lane, float (&s)[kK / 2]) {
    if constexpr (c.per_channel()) {
#pragma unroll
      for (int tile = 0; tile < kStateTiles; ++tile) {
        const float2 decay = factors(factor_rows + ChunkFactors::kDecay, tile, lane);
        s[4 * tile] *= decay.x;
        s[4 * tile + 1] *= decay.y;
        s[4 * tile + 2] *= decay.x;
        s[4 * tile + 3] *= decay.y;
      }
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

  // o^T to the tensor, through the warpgroup's staging tile [token, V]. Chunk -1 goes nowhere.
  static __device__ __forceinline__ void store_output(const ChunkSm90Params& p, const Work& at, const Consumer& me,
                                                      int chunk,
                                                      const unsigned (&o)[4][4]) {
    if (me.thread == 0) device::bulk_wait_read<0>();
    device::named_barrier<128>(1 + me.warpgroup);
    const int row = me.lane % 8 + 8 * (me.lane / 16);
    const int column = 16 * (me.thread / 32) + 8 * (me.lane / 8 % 2);
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      device::stmatrix_transposed(
          me.staging + device::swizzled<device::Swizzle::bytes128>((16 * pair + row) * 128 + 2 * column), o[pair]);
    }
    device::fence_async_shared();
    device::named_barrier<128>(1 + me.warpgroup);
    if (chunk < 0) return;
    const int valid = at.tokens - kChunk * chunk;
    if (valid >= kChunk) {
      if (me.thread == 0) {
        device::tensor_store(
            p.o,
            device::Corner4{at.v0 + 64 * me.warpgroup, at.hv, static_cast<int>(at.first_token) + kChunk * chunk,
                            c.ragged ? 0 : at.sequence},
            me.staging);
        device::bulk_commit();
      }
    } else {
      store_tail(p, at, me, chunk, valid);
    }
  }

  // The rows that the sequence has of its last chunk: behind them lie another sequence's.
  static __device__ __forceinline__ void store_tail(const ChunkSm90Params& p, const Work& at, const Consumer& me,
                                                    int chunk, int valid) {
    const HeadStrides& strides = p.call.o_strides;
    const long long start = (c.ragged ? 0 : at.sequence * strides.batch) + at.hv * strides.key_head;
    const int v0 = at.v0 + 64 * me.warpgroup;
    for (int unit = me.thread; unit < 8 * valid; unit += 128) {
      const int token = unit / 8, column = unit % 8 * 8;
      if (v0 + column >= c.head_dim_v) continue;
      uint4 words;
      asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                   : "r"(me.staging + device::swizzled<device::Swizzle::bytes128>(token * 128 + 2 * column)));
      const long long index = start + (at.first_token + kChunk * chunk + token) * strides.token + v0 + column;
      *static_cast<uint4*>(device::element<c.output_dtype>(p.call.o, index)) = words;
    }
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

  // Issues k S of a chunk.
  static __device__ __forceinline__ void begin_chunk(const Work& at, const Consumer& me, int chunk,
                                                     const unsigned (&operand)[kSteps][4], float (&w)[32]) {
    const unsigned stage = me.base + chunk % c.stages * kPlan.stage_bytes;
    device::mbarrier_wait(me.base + full(chunk % c.stages), chunk / c.stages & 1);
    if (c.tiles == ChunkTiles::input && at.tokens - kChunk * chunk < kChunk) {
      clear_key_tail(me, stage, at.tokens - kChunk * chunk);
    }
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
    unsigned output[4][4];
    for (int chunk = 0; chunk < at.chunks; ++chunk) {
      const unsigned stage = me.base + chunk % c.stages * kPlan.stage_bytes;
      begin_chunk(at, me, chunk, operand, w);
      if constexpr (c.write_output) store_output(p, at, me, chunk - 1, output);
      device::wgmma_fence(o);
      state_product<0, kSteps / 2>(o, operand, stage + kPlan.query);
      device::wgmma_commit();
      device::wgmma_wait<1>(w);
      decay_state(stage + kPlan.factors, me.lane, s);
      subtract_from_values(me, stage, at.tokens - kChunk * chunk, w);
      unsigned x[4][4];
      pack_operand<8>(w, x);
      // D, and the other half of q S behind it.
      device::wgmma_fence(w);
      square_product<false>(w, x, stage + kPlan.square_a);
      device::wgmma_commit();
      state_product<kSteps / 2, kSteps>(o, operand, stage + kPlan.query);
      device::wgmma_commit();
      device::wgmma_wait<1>(w);
      unsigned d[4][4];
      pack_operand<8>(w, d);
      scale_columns(stage + kPlan.factors + ChunkFactors::kKey, me.lane, w);
      pack_operand<8>(w, x);
      device::wgmma_fence(s);
      update_product(s, x, stage + kPlan.decayed);
      device::wgmma_commit();
      device::wgmma_wait<1>(o);
      scale_columns(stage + kPlan.factors + ChunkFactors::kQuery, me.lane, o);
      device::wgmma_fence(o);
      square_product<true>(o, d, stage + kPlan.square_p);
      device::wgmma_commit();
      device::wgmma_wait<1>(s);
      pack_operand<kStateTiles>(s, operand);
      device::wgmma_wait<0>(o);
      pack_output(o, output);
      device::mbarrier_arrive(me.base + empty(chunk % c.stages));
    }
    if constexpr (c.write_output) store_output(p, at, me, at.chunks - 1, output);
    store_state(p, at, me, s);
    if (me.thread == 0) device::bulk_wait_read<0>();
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
      device::fence_mbarrier_init();
    }
    clear_squares(base);
    __syncthreads();
    const Work at = locate(p);
    const int warpgroup = static_cast<int>(threadIdx.x) / 128;
    if (warpgroup == kPlan.warpgroups) {
      if constexpr (kPlan.warpgroups > 1) device::decrease_registers<24>();
      if (threadIdx.x % 128 == 0) produce(p, at, base);
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

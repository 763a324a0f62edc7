// The scan of gdn.chunk for sm_90a: TMA in, wgmma, the state in registers. docs/kernels/chunk_sm90.md is its design.
//
// A block serves one (sequence or segment, value head, block of V). One warp loads tiles into a ring, one stores the
// output's tiles; each consumer warpgroup owns 64 rows of S^T [V, K]. Everything is transposed, so that each product
// takes its A operand from registers, where the product before it left it, and its B operand from the tiles as they are
// in memory:
//
//   (k S)^T = S^T k^T            B = k, K-major
//   W^T     = v^T - sf (k S)^T
//   D^T     = beta W^T + W^T A^T            B = A, K-major; beta W^T is not rounded
//   o^T     = qf (S^T q^T) + D^T P^T
//   S^T     = decay S^T + (kf D)^T k    B = k, MN-major
//
// The tensor cores work in the order of issue; between (k S) -> W -> D -> S, which wait for each other, lie halves of
// q S and the last chunk's P D, so that they have work during the arithmetic in between.
#pragma once

#include "device/barrier.cuh"
#include "device/fence.cuh"
#include "device/grid.cuh"
#include "device/tma.cuh"
#include "gdn/chunk_place.cuh"
#include "gdn/chunk_sm90_products.cuh"

namespace gdnjit::gdn {

template <ChunkConfig c>
struct ChunkScanSm90 : ChunkSm90Products<c> {
  using Base = ChunkSm90Products<c>;
  using Base::kK, Base::kPlan, Base::kState, Base::kStateTiles, Base::kSteps;
  using Place = ChunkPlace<c>;
  using Fragments = ChunkFragments<c>;
  enum : int { kThreads = kPlan.threads };
  enum : bool { kOutput = c.writes_output(), kWarmsUp = c.pass == ChunkPass::warmup };
  static_assert(c.sm90_fault() == nullptr, "the problem or the tiles do not fit this kernel");

  // ---- what the block works on ------------------------------------------------------------------------------------

  struct Work : ChunkSpan<c> {
    int v0;         // first row of S^T
    bool identity;  // pass transfer: rows of M, not of N
  };

  // False if there is nothing to do.
  static __device__ __forceinline__ bool locate(const ChunkParams& p, Work& work) {
    constexpr int kBlocksK = c.pass == ChunkPass::transfer ? (kK + c.block_v - 1) / c.block_v : 0;
    constexpr int kBlocks = kBlocksK + (c.head_dim_v + c.block_v - 1) / c.block_v;
    const int block = static_cast<int>(blockIdx.x) % kBlocks, hv = static_cast<int>(blockIdx.x) / kBlocks % c.heads_v;
    const int unit = static_cast<int>(blockIdx.x) / (kBlocks * c.heads_v);
    work.identity = block < kBlocksK;
    work.v0 = (work.identity ? block : block - kBlocksK) * c.block_v;
    if (!work.locate(p, unit, hv)) return false;
    return c.pass != ChunkPass::transfer || (!work.ends_sequence && !(work.identity && work.starts_sequence));
  }

  // ---- shared memory ----------------------------------------------------------------------------------------------

  // The mbarriers of a stage of the ring, and those of a warpgroup's staging tile.
  static __device__ __forceinline__ int full(int stage) { return kPlan.barriers + 16 * stage; }
  static __device__ __forceinline__ int empty(int stage) { return full(stage) + 8; }
  static __device__ __forceinline__ int output_full(int warpgroup) { return full(c.stages + warpgroup); }
  static __device__ __forceinline__ int output_empty(int warpgroup) { return empty(c.stages + warpgroup); }

  // A place in the ring of stages and the parity of its present round.
  struct Ring {
    int stage = 0;
    unsigned phase = 0;
    __device__ __forceinline__ void advance() {
      if (++stage == c.stages) {
        stage = 0;
        phase ^= 1;
      }
    }
  };

  static __device__ __forceinline__ void clear16(unsigned address) {
    asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(address), "r"(0) : "memory");
  }

  // Zeros everywhere in the squares of all stages: loads leave the part above the diagonal blocks as it is.
  static __device__ __forceinline__ void clear_squares(unsigned base) {
    for (int stage = 0; stage < c.stages; ++stage) {
      const unsigned start = base + stage * kPlan.stage_bytes + kPlan.square_a;
      for (int unit = static_cast<int>(threadIdx.x); unit < 2 * 4 * kPlan.strip_bytes / 16; unit += kThreads) {
        clear16(start + 16 * unit);
      }
    }
    device::fence_async_shared();
  }

  static __device__ __forceinline__ void initialize(unsigned base) {
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
  }

  // ---- the loading warp: one thread -------------------------------------------------------------------------------

  // `own`: the chunk has an output, if there is one at all.
  static __device__ __forceinline__ void load_keys(const ChunkSm90Params& p, const Work& work, int chunk, bool own,
                                                   unsigned stage, unsigned barrier) {
    const Place& at = work.at;
    const int token = static_cast<int>(at.first_token) + kChunk * chunk, batch = c.ragged ? 0 : at.b;
#pragma unroll
    for (int box = 0; box < kPlan.boxes; ++box) {
      const int x = box * kPlan.box_columns, place = box * kPlan.box_bytes;
      if constexpr (c.tiles == ChunkTiles::input) {
        device::tensor_load(stage + kPlan.key + place, p.k, device::Corner4{x, at.head.h, token, batch}, barrier);
        if (kOutput && own) {
          device::tensor_load(stage + kPlan.query + place, p.q, device::Corner4{x, at.head.h, token, batch}, barrier);
        }
      } else {
        constexpr int kCount = chunk_tile_count(c.tiles);
        const bool by_value_head = c.tiles == ChunkTiles::value_head;
        const long long row = (at.first_slot + chunk) * (by_value_head ? c.heads_v : c.heads_k) +
                              (by_value_head ? at.head.hv : at.head.h);
#pragma unroll
        for (int tile = 0; tile < kCount; ++tile) {
          if (!(kOutput && own) && tile == 1) continue;
          device::tensor_load(stage + tile * kPlan.query + place, p.k,
                              device::Corner2{x, static_cast<int>((row * kCount + tile) * kChunk)}, barrier);
        }
      }
    }
  }

  static __device__ __forceinline__ void load_stage(const ChunkSm90Params& p, const Work& work, int chunk,
                                                    unsigned stage, unsigned barrier) {
    const Place& at = work.at;
    const bool own = !kWarmsUp || chunk >= work.first;
    const int left_out = (work.identity ? kPlan.warpgroups * kPlan.value_bytes : 0) +
                         (kOutput && !own ? kPlan.query_bytes + ChunkTriangle::kBytes : 0);
    device::mbarrier_arrive_expect(barrier, kPlan.load_bytes - left_out);
    load_keys(p, work, chunk, own, stage, barrier);
    if (!work.identity) {
      const int token = static_cast<int>(at.first_token) + kChunk * chunk, batch = c.ragged ? 0 : at.b;
#pragma unroll
      for (int w = 0; w < kPlan.warpgroups; ++w) {
        device::tensor_load(stage + kPlan.value + w * kPlan.value_bytes, p.v,
                            device::Corner5{work.v0 + 64 * w, at.head.j, at.head.h, token, batch}, barrier);
      }
    }
    const unsigned char* record = Place::record(p.call, at.first_slot + chunk, at.head.hv);
#pragma unroll
    for (int strip = 0; strip < 4; ++strip) {
      // The lower part of a strip; above it lie zeros.
      const int place = strip * kPlan.strip_bytes + 16 * strip * 32, from = ChunkTriangle::strip_offset(strip);
      const int bytes = (kChunk - 16 * strip) * 32;
      device::bulk_load(stage + kPlan.square_a + place, record + ChunkRecord::kA + from, bytes, barrier);
      if (kOutput && own) {
        device::bulk_load(stage + kPlan.square_p + place, record + ChunkRecord::kP + from, bytes, barrier);
      }
    }
    device::bulk_load(stage + kPlan.factors, record + ChunkRecord::kFactors, kPlan.factor_bytes, barrier);
  }

  static __device__ __forceinline__ void load_chunks(const ChunkSm90Params& p, const Work& work, unsigned base) {
    Ring ring;
    for (int chunk = work.begin; chunk < work.end; ++chunk) {
      device::mbarrier_wait(base + empty(ring.stage), ring.phase ^ 1);
      load_stage(p, work, chunk, base + ring.stage * kPlan.stage_bytes, base + full(ring.stage));
      ring.advance();
    }
  }

  // ---- the storing warp -------------------------------------------------------------------------------------------

  // A whole chunk's tile of o goes by a bulk copy; of the last chunk only the sequence's rows, for behind them lie
  // another's. Consumers hand over a tile ahead of their first chunk too, which goes nowhere.
  static __device__ __forceinline__ void store_outputs(const ChunkSm90Params& p, const Work& work, unsigned base) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    for (int chunk = work.first - 1; chunk < work.end; ++chunk) {
      const int valid = work.at.tokens - kChunk * chunk;
      const unsigned turn = chunk - work.first + 1;
#pragma unroll
      for (int w = 0; w < kPlan.warpgroups; ++w) {
        const unsigned staging = base + kPlan.output + w * kPlan.value_bytes;
        device::mbarrier_wait(base + output_full(w), turn & 1);
        device::fence_async_shared();  // here, not by those who wrote: it takes some 200 clocks
        if (chunk >= work.first && valid < kChunk) {
          store_rows(p.call, work, staging, work.v0 + 64 * w, kChunk * chunk, valid, lane);
        } else if (chunk >= work.first && lane == 0) {
          const int token = static_cast<int>(work.at.first_token) + kChunk * chunk;
          const device::Corner4 corner{work.v0 + 64 * w, work.at.head.hv, token, c.ragged ? 0 : work.at.b};
          device::tensor_store(p.o, corner, staging);
          device::bulk_commit();
          device::bulk_wait_read<0>();
        }
        if (lane == 0) device::mbarrier_arrive(base + output_empty(w));
      }
    }
  }

  static __device__ __forceinline__ void store_rows(const ChunkParams& p, const Work& work, unsigned staging, int v0,
                                                    int token, int rows, int lane) {
    const long long start = work.at.output_offset(p.o_strides, token) + v0;
    for (int unit = lane; unit < 8 * rows; unit += 32) {
      const int row = unit / 8, v = unit % 8 * 8;
      if (v0 + v >= c.head_dim_v) continue;
      unsigned words[4];
      const unsigned source = staging + device::swizzled<device::Swizzle::bytes128>(row * 128 + 2 * v);
      asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                   : "r"(source));
      void* target = device::element<c.output_dtype>(p.o, start + row * p.o_strides.token + v);
      device::store_words<16, device::CacheHint::normal>(target, words);
    }
  }

  // Zeros for the output of a padded row, by the storing warp.
  static __device__ __forceinline__ void store_zeros(const ChunkParams& p, const Work& work) {
    for (int token = kChunk * work.first; token < min(kChunk * work.end, work.at.tokens); ++token) {
      const long long start = work.at.output_offset(p.o_strides, token);
      for (int v = work.v0 + 8 * (static_cast<int>(threadIdx.x) % 32); v < min(work.v0 + c.block_v, c.head_dim_v);
           v += 8 * 32) {
        const unsigned zeros[4] = {};
        device::store_words<16, device::CacheHint::normal>(device::element<c.output_dtype>(p.o, start + v), zeros);
      }
    }
  }

  // ---- the consumers ----------------------------------------------------------------------------------------------

  // A thread's view of its warpgroup.
  struct Consumer {
    unsigned base;     // shared memory
    unsigned staging;  // the warpgroup's tile of o
    int warpgroup, thread, lane;

    // Where the lane's row of tokens 16 `pair` .. + 15 begins in a tile [token, 64 V] for ldmatrix and stmatrix,
    // transposed: matrix m of four holds tokens 8 (m / 2) .. and V 8 (m % 2) .. of the warp's 16.
    __device__ __forceinline__ unsigned tile_offset(int pair) const {
      const int token = 16 * pair + lane % 8 + 8 * (lane / 16), v = 16 * (thread / 32) + 8 * (lane / 8 % 2);
      return device::swizzled<device::Swizzle::bytes128>(token * 128 + 2 * v);
    }
  };

  // The warpgroup's v^T as 16-bit words in the accumulators' order.
  static __device__ __forceinline__ void load_values(const Consumer& me, unsigned stage, bool zeros,
                                                     unsigned (&v)[4][4]) {
    const unsigned tile = stage + kPlan.value + me.warpgroup * kPlan.value_bytes;
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      if (c.pass == ChunkPass::transfer && zeros) {
#pragma unroll
        for (int m = 0; m < 4; ++m) v[pair][m] = 0;
      } else {
        device::ldmatrix_transposed(v[pair], tile + me.tile_offset(pair));
      }
    }
  }

  // Puts o^T into the warpgroup's staging tile [token, V] and hands it to the storing warp. `turn` counts from 0.
  static __device__ __forceinline__ void hand_output(const Consumer& me, int turn, const unsigned (&o)[4][4]) {
    device::mbarrier_wait(me.base + output_empty(me.warpgroup), (turn & 1) ^ 1);
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) device::stmatrix_transposed(me.staging + me.tile_offset(pair), o[pair]);
    device::mbarrier_arrive(me.base + output_full(me.warpgroup));
  }

  // Rows of k past the sequence's end may hold anything, NaN too: 0 times them must be 0. All warpgroups.
  static __device__ __forceinline__ void clear_key_tail(const Consumer& me, unsigned stage, int valid) {
    const int first = valid * kPlan.row_bytes / 16, units = kChunk * kPlan.row_bytes / 16;
    for (int box = 0; box < kPlan.boxes; ++box) {
      for (int unit = first + me.warpgroup * 128 + me.thread; unit < units; unit += 128 * kPlan.warpgroups) {
        clear16(stage + kPlan.key + box * kPlan.box_bytes + 16 * unit);  // a swizzle leaves rows in their place
      }
    }
    device::fence_async_shared();
    device::sync_threads<128 * kPlan.warpgroups>(1);
  }

  // Waits for a chunk's stage and issues its k S.
  static __device__ __forceinline__ void begin_chunk(const Consumer& me, const Ring& ring, int valid,
                                                     const unsigned (&operand)[kSteps][4], float (&w)[32]) {
    const unsigned stage = me.base + ring.stage * kPlan.stage_bytes;
    device::mbarrier_wait(me.base + full(ring.stage), ring.phase);
    if (c.tiles == ChunkTiles::input && valid < kChunk) clear_key_tail(me, stage, valid);
    device::wgmma_fence(w);
    Base::template state_product<0, kSteps>(w, operand, stage + kPlan.key);
    device::wgmma_commit();
  }

  // Over the block's own chunks, or over those that warm its state up.
  template <bool kOwn>
  static __device__ __forceinline__ void walk(const ChunkSm90Params& p, const Work& work, const Consumer& me,
                                              Ring& ring, float (&s)[kState]) {
    constexpr bool kWrites = kOutput && kOwn;
    unsigned operand[kSteps][4];  // S^T
    Base::template pack_operand<kStateTiles>(s, operand);
    float w[32], o[32];
    unsigned output[4][4] = {};
    const int first = kOwn ? work.first : work.begin, end = kOwn ? work.end : work.first;
    for (int chunk = first; chunk < end; ++chunk) {
      const unsigned stage = me.base + ring.stage * kPlan.stage_bytes, factor_rows = stage + kPlan.factors;
      const int valid = work.at.tokens - kChunk * chunk;
      begin_chunk(me, ring, valid, operand, w);
      if constexpr (kWrites) {
        hand_output(me, chunk - work.first, output);  // of the chunk before
        device::wgmma_fence(o);
        Base::template state_product<0, kSteps / 2>(o, operand, stage + kPlan.query);
        device::wgmma_commit();
      }
      // W.
      unsigned x[4][4];
      float2 factors[8], strengths[8];
      load_values(me, stage, work.identity, x);
      Base::load_factors(factor_rows + ChunkFactors::kState, me.lane, factors);
      device::wgmma_wait<kWrites>(w);
      Base::subtract_from_values(x, factors, w);
      Base::load_factors(factor_rows + ChunkFactors::kStrength, me.lane, strengths);
      if (valid < kChunk) Base::clear_columns(valid, me.lane, w);  // behind the end v may hold anything
      Base::template pack_operand<8>(w, x);
      Base::scale_columns(strengths, w);
      // D, and the other half of q S behind it.
      device::wgmma_fence(w);
      Base::square_product(w, x, stage + kPlan.square_a);
      device::wgmma_commit();
      if constexpr (kWrites) {
        Base::template state_product<kSteps / 2, kSteps>(o, operand, stage + kPlan.query);
        device::wgmma_commit();
      }
      Base::decay_state(factor_rows, me.lane, s);
      Base::load_factors(factor_rows + ChunkFactors::kKey, me.lane, factors);
      device::wgmma_wait<kWrites>(w);
      unsigned d[4][4];
      if constexpr (kWrites) Base::template pack_operand<8>(w, d);
      Base::scale_columns(factors, w);
      Base::template pack_operand<8>(w, x);
      // S, and P D behind it.
      device::wgmma_fence(s);
      Base::update_product(s, x, stage + kPlan.decayed);
      device::wgmma_commit();
      if constexpr (kWrites) {
        Base::load_factors(factor_rows + ChunkFactors::kQuery, me.lane, factors);
        device::wgmma_wait<1>(o);
        Base::scale_columns(factors, o);
        device::wgmma_fence(o);
        Base::square_product(o, d, stage + kPlan.square_p);
        device::wgmma_commit();
      }
      device::wgmma_wait<kWrites>(s);
      Base::template pack_operand<kStateTiles>(s, operand);
      if constexpr (kWrites) {
        device::wgmma_wait<0>(o);
        Base::pack_output(o, output);
      }
      device::mbarrier_arrive(me.base + empty(ring.stage));
      ring.advance();
      if constexpr (kOwn && c.checkpoints != StatePlace::none && c.pass != ChunkPass::transfer) {
        if (void* place = work.at.checkpoint(p.call, chunk + 1)) {
          Fragments::template store_state<kStateTiles>(place, lane_of(work, me), 0, s);
        }
      }
    }
    if constexpr (kWrites) hand_output(me, work.end - work.first, output);
  }

  // ---- states -----------------------------------------------------------------------------------------------------

  static __device__ __forceinline__ typename Fragments::Lane lane_of(const Work& work, const Consumer& me) {
    return {me.lane, work.v0 + 64 * me.warpgroup + 16 * (me.thread / 32) + me.lane / 4, 2 * (me.lane % 4)};
  }

  // States in the workspace: fp32 [rows, padded_k].
  using Starts = ChunkFragments<chunk_start_config(c, c.head_dim_v)>;
  using Identity = ChunkFragments<chunk_start_config(c, kK)>;

  static __device__ __forceinline__ void load_state(const ChunkParams& p, const Work& work, const Consumer& me,
                                                    float (&s)[kState]) {
    const auto lane = lane_of(work, me);
#pragma unroll
    for (int i = 0; i < kState; ++i) {
      const bool diagonal = lane.value + 8 * (i / 2 % 2) == 8 * (i / 4) + lane.pair + i % 2;
      s[i] = c.pass == ChunkPass::transfer && work.identity && diagonal ? 1.0f : 0.0f;
    }
    if (c.pass == ChunkPass::transfer && work.identity) return;
    if (kWarmsUp && work.begin > 0) return;
    if (c.pass == ChunkPass::segment || (kWarmsUp && work.initial_state_is_kept())) {
      const void* start = work.start(p, kWarmsUp ? work.sequence : work.slot);
      Starts::template load_state<kStateTiles>(start, {lane.lane, lane.value, lane.pair}, 0, s);
    } else if ((kWarmsUp || work.starts_sequence) && work.at.state_in != nullptr) {
      Fragments::template load_state<kStateTiles>(work.at.state_in, lane, 0, s);
    }
  }

  static __device__ __forceinline__ void store_state(const ChunkParams& p, const Work& work, const Consumer& me,
                                                     const float (&s)[kState]) {
    const auto lane = lane_of(work, me);
    if constexpr (c.pass == ChunkPass::transfer) {
      const long long index = work.slot * c.heads_v + work.at.head.hv;
      unsigned char* transfer = p.workspace + p.transfers_offset + index * ChunkSegments::transfer_bytes(c);
      if (work.identity) {
        Identity::template store_state<kStateTiles>(transfer, {lane.lane, lane.value, lane.pair}, 0, s);
      } else {
        Starts::template store_state<kStateTiles>(transfer + 4LL * kK * kK, {lane.lane, lane.value, lane.pair}, 0, s);
      }
    } else if (work.ends_sequence && work.at.state_out != nullptr) {
      Fragments::template store_state<kStateTiles>(work.at.state_out, lane, 0, s);
    }
  }

  static __device__ __forceinline__ void consume(const ChunkSm90Params& p, const Work& work, const Consumer& me) {
    float s[kState];  // S^T
    load_state(p.call, work, me, s);
    Ring ring;
    if constexpr (kWarmsUp) {
      if (work.begin < work.first) walk<false>(p, work, me, ring, s);
    }
    if (work.first < work.end) walk<true>(p, work, me, ring, s);
    store_state(p.call, work, me, s);
  }

  // ---- the block --------------------------------------------------------------------------------------------------

  static __device__ __forceinline__ void run(const ChunkSm90Params& p) {
    extern __shared__ __align__(1024) unsigned char shared[];
    const unsigned base = device::shared_address(shared);
    const int warpgroup = static_cast<int>(threadIdx.x) / 128, thread = static_cast<int>(threadIdx.x) % 128;
    initialize(base);
    device::let_next_grid_start();
    device::wait_for_previous_grid();
    Work work;
    if (!locate(p.call, work)) return;
    if (work.at.padded) {
      const bool stores = c.write_output && c.pass != ChunkPass::transfer && c.pad_policy == PadPolicy::zero;
      if (stores && threadIdx.x < 32) store_zeros(p.call, work);
      return;
    }
    if (warpgroup < kPlan.warpgroups) {
      if constexpr (kPlan.warpgroups > 1) device::increase_registers<240>();
      const unsigned staging = base + kPlan.output + warpgroup * kPlan.value_bytes;
      consume(p, work, Consumer{base, staging, warpgroup, thread, thread % 32});
    } else {
      if constexpr (kPlan.warpgroups > 1) device::decrease_registers<24>();
      if (thread == 0) load_chunks(p, work, base);
      if (kOutput && thread / 32 == 1 && work.first < work.end) store_outputs(p, work, base);
    }
  }
};

}  // namespace gdnjit::gdn

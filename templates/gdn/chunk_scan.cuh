// gdn.chunk, second kernel: the chunks of a sequence in order (see chunk_config.cuh), by mma.sync and cp.async. A block
// for each (sequence, value head, block of V); a warp owns 16 rows of S^T, in registers, and goes through the products
// alone:
//   (k S)^T = S^T k^T      W^T = v^T - e^G rk (k S)^T      D^T = beta W^T + W^T A^T
//   o^T = e^G rq (S^T q^T) + D^T P^T                       S^T = e^(G_last) S^T + (e^(G_last - G) rk D)^T k
// Each product's left operand is what registers hold of the one before, its right operand lies in shared memory as it
// came from memory: nothing but the sums of split_k passes through shared memory, and no warp waits for another
// inside a chunk. With split_k > 1 warps share rows: each holds a part of K, and the sums over K are exchanged.
//
// Left operands are rounded to 16 bits. beta multiplies W before that is rounded: so neither beta nor what it writes is
// rounded but in the update itself. With bf16, beta near 2 and no decay this takes the error of the state from 5.6e-3
// to 4.4e-3, and with ordinary gates from 2.1e-3 to 1.6e-3.
#pragma once

#include "device/barrier.cuh"
#include "device/cp_async.cuh"
#include "device/grid.cuh"
#include "device/mma.cuh"
#include "gdn/chunk_fragments.cuh"
#include "gdn/chunk_place.cuh"

namespace gdnjit::gdn {

template <ChunkConfig c>
struct ChunkScan {
  static_assert(chunk_scan_fault(c) == nullptr, "the tiles do not fit the problem");
  using Place = ChunkPlace<c>;
  using Fragments = ChunkFragments<c>;
  using Lane = typename Fragments::Lane;

  static_assert(c.pass == ChunkPass::whole || c.pass == ChunkPass::warmup);
  using Span = ChunkSpan<c>;

  enum : bool {
    kOutput = c.write_output,
    kWarmsUp = c.pass == ChunkPass::warmup,
    kFactors = c.tiles != ChunkTiles::value_head,  // else they are part of the tiles
    kUneven = c.padded_k() / 16 % c.split_k != 0,  // the last warps of a row have a step less
  };
  enum : int {
    kThreads = chunk_scan_threads(c),
    kMinBlocks = 1,
    kGroupThreads = 32 * c.split_k,                            // of the warps that share rows
    kSteps = (c.padded_k() / 16 + c.split_k - 1) / c.split_k,  // of 16 keys, of a warp
    kStateTiles = 2 * kSteps,
    kTokenFragment = Fragments::kTokenFragment,
    kOutputBlocks = kChunk / 16 / c.split_k,  // blocks of 16 tokens whose output a warp finishes
    kSharedBytes = chunk_scan_plan(c).shared_bytes,
  };
  static constexpr ChunkScanPlan plan() { return chunk_scan_plan(c); }

  struct Warp {
    int group, part;  // 16 rows, and which part of K
    int first_value;  // of the block
    int steps;        // of this warp
    Lane lane;
  };

  // ---- loads -------------------------------------------------------------------------------------------------------

  // Copies rows of kUnits accesses by all threads: copy(row, unit, place of the row in the source). What is the same
  // for all of a thread's accesses is computed once, where the threads make whole rows.
  template <int kUnits, typename Copy>
  static __device__ __forceinline__ void for_each_unit(const void* source, long long row_bytes, Copy copy) {
    const char* start = static_cast<const char*>(source);
    if constexpr (kThreads % kUnits == 0 && kChunk % (kThreads / kUnits) == 0) {
      constexpr int kRows = kThreads / kUnits;  // of a round
      const unsigned first_row = threadIdx.x / kUnits, unit = threadIdx.x % kUnits;
      start += first_row * row_bytes;
#pragma unroll
      for (int row = 0; row < kChunk; row += kRows) {
        copy(first_row + row, unit, start);
        start += kRows * row_bytes;
      }
    } else {
#pragma unroll 4
      for (unsigned i = threadIdx.x; i < kChunk * kUnits; i += kThreads) {
        copy(i / kUnits, i % kUnits, start + i / kUnits * row_bytes);
      }
    }
  }

  // Rows of k or q. Past the sequence's end and past K come zeros: what lies there may be anything.
  static __device__ __forceinline__ void load_keys(const void* source, long long stride, int valid, unsigned target) {
    for_each_unit<c.padded_k() / 8>(source, 2 * stride, [&](unsigned row, unsigned unit, const char* from) {
      const unsigned place = target + plan().keys.offset(row, 16 * unit);
      if constexpr (c.tiles == ChunkTiles::input) {
        const bool inside = static_cast<int>(row) < valid && (c.head_dim_k % 16 == 0 || 8 * unit < c.head_dim_k);
        device::cp_async_or_zeros<16>(place, from + 16 * unit, inside ? 16 : 0);
      } else {
        device::cp_async<16>(place, from + 16 * unit);
      }
    });
  }

  // The block's columns of v; `source` is the first of them.
  static __device__ __forceinline__ void load_values(const void* source, long long stride, int first_value, int valid,
                                                     unsigned target) {
    constexpr int kBytes = c.io_vector * dtype_bytes(c.io_dtype);
    for_each_unit<c.block_v / c.io_vector>(
        source, stride * dtype_bytes(c.io_dtype), [&](unsigned row, unsigned unit, const char* from) {
          const unsigned place = target + plan().values.offset(row, kBytes * unit);
          const bool inside = static_cast<int>(row) < valid &&
                              Fragments::value_inside(first_value + static_cast<int>(unit) * c.io_vector);
          if constexpr (kBytes >= 4) {
            device::cp_async_or_zeros<kBytes>(place, from + kBytes * unit, inside ? kBytes : 0);
          } else {
            unsigned short element = 0;
            if (inside) element = *reinterpret_cast<const unsigned short*>(from + kBytes * unit);
            asm volatile("st.shared.u16 [%0], %1;" ::"r"(place), "h"(element) : "memory");
          }
        });
  }

  template <int kBytes>
  static __device__ __forceinline__ void load_linear(const unsigned char* source, unsigned target) {
    static_assert(kBytes % 16 == 0);
#pragma unroll
    for (int i = 0; i < kBytes / 16; i += kThreads) {
      const unsigned unit = i + threadIdx.x;
      if (kBytes / 16 % kThreads == 0 || unit < kBytes / 16)
        device::cp_async<16>(target + unit * 16, source + unit * 16);
    }
  }

  // `own`: the chunk has an output.
  static __device__ __forceinline__ void load_chunk(const ChunkParams& p, const Place& at, int first_value, int chunk,
                                                    bool own, unsigned stage) {
    const long long slot = at.first_slot + chunk;
    const long long first = static_cast<long long>(chunk) * kChunk;
    const int valid = valid_tokens(at, chunk);
    const unsigned char* record = Place::record(p, slot, at.head.hv);
    load_linear<ChunkTriangle::kBytes>(record + ChunkRecord::kA, stage + plan().a);
    if (kOutput && own) load_linear<ChunkTriangle::kBytes>(record + ChunkRecord::kP, stage + plan().p);
    const unsigned char* factors = record + ChunkRecord::kFactors;
    if constexpr (!kOutput) {  // without a query's
      load_linear<ChunkFactors::kQuery>(factors, stage + plan().factors);
      load_linear<ChunkFactors::bytes(c) - ChunkFactors::kKey>(factors + ChunkFactors::kKey,
                                                               stage + plan().factors + ChunkFactors::kKey);
    } else {
      load_linear<ChunkFactors::bytes(c)>(factors, stage + plan().factors);
    }
    if constexpr (c.tiles == ChunkTiles::input) {
      load_keys(device::element<c.io_dtype>(p.k, at.key_head_offset(p.k_strides, first)), p.k_strides.token, valid,
                stage + plan().k);
      if (kOutput && own) {
        load_keys(device::element<c.io_dtype>(p.q, at.key_head_offset(p.q_strides, first)), p.q_strides.token, valid,
                  stage + plan().q);
      }
    } else {
      load_keys(Place::tile(p, slot, at.head, 0), c.padded_k(), valid, stage + plan().k);
      if (kOutput && own) load_keys(Place::tile(p, slot, at.head, 1), c.padded_k(), valid, stage + plan().q);
      if constexpr (!kFactors) load_keys(Place::tile(p, slot, at.head, 2), c.padded_k(), valid, stage + plan().next_k);
    }
    const long long values = at.value_head_offset(p.v_strides, first) + first_value;
    load_values(device::element<c.io_dtype>(p.v, values), p.v_strides.token, first_value, valid, stage + plan().v);
  }

  static __device__ __forceinline__ int valid_tokens(const Place& at, int chunk) {
    const int rest = at.tokens - chunk * kChunk;
    return rest < kChunk ? rest : kChunk;
  }

  // ---- products ----------------------------------------------------------------------------------------------------

  // Tiles n and n + 1 of a fragment, += a b.
  static __device__ __forceinline__ void multiply_add(float* tiles, const unsigned (&a)[4], const unsigned (&b)[4]) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      float d[4] = {tiles[4 * m], tiles[4 * m + 1], tiles[4 * m + 2], tiles[4 * m + 3]};
      const unsigned columns[2] = {b[2 * m], b[2 * m + 1]};
      device::mma_m16n8k16<device::element_of(c.operand_dtype())>(d, a, columns);
#pragma unroll
      for (int i = 0; i < 4; ++i) tiles[4 * m + i] = d[i];
    }
  }

  // S^T times the rows of k and, of a chunk with an output, of q; of a warp's part of K.
  template <bool kOwn>
  static __device__ __forceinline__ void multiply_state(const Warp& at, const float* state, unsigned stage, float* keys,
                                                        float* queries) {
    const device::LdmatrixPlace b = device::ldmatrix_b(at.lane.lane);
#pragma unroll
    for (int i = 0; i < kTokenFragment; ++i) keys[i] = queries[i] = 0.0f;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      if (kUneven && step >= at.steps) continue;
      unsigned a[4];
      Fragments::operand(state, step, a);
      const unsigned byte = 2 * (16 * (first_step(at) + step) + b.column);
      const unsigned place = stage + plan().keys.offset(b.row, byte);
#pragma unroll
      for (int n = 0; n < Fragments::kTokenTiles; n += 2) {
        unsigned rows[4];
        device::ldmatrix<4>(rows, place + plan().k + 8 * n * plan().keys.row_bytes);
        multiply_add(keys + 4 * n, a, rows);
        if constexpr (kOutput && kOwn) {
          device::ldmatrix<4>(rows, place + plan().q + 8 * n * plan().keys.row_bytes);
          multiply_add(queries + 4 * n, a, rows);
        }
      }
    }
  }

  // D^T from W^T, in its place.
  static __device__ __forceinline__ void multiply_triangle(const Warp& at, const float* strengths, unsigned triangle,
                                                           float* w) {
    unsigned a[kChunk / 16][4];
#pragma unroll
    for (int j = 0; j < kChunk / 16; ++j) Fragments::operand(w, j, a[j]);
    Fragments::scale_columns(w, at.lane, strengths);
#pragma unroll
    for (int j = 0; j < kChunk / 16; ++j) {
#pragma unroll
      for (int i = j; i < kChunk / 16; ++i) {
        unsigned block[4];
        device::ldmatrix<4>(block, triangle + triangle_block(i, j) + 16 * at.lane.lane);
        multiply_add(w + 8 * i, a[j], block);
      }
    }
  }
  static constexpr unsigned triangle_block(int i, int j) {
    return static_cast<unsigned>(ChunkTriangle::strip_offset(j) + 512 * (i - j));
  }

  // S^T = decay S^T + D'^T k, D' with the key factors.
  static __device__ __forceinline__ void update_state(const Warp& at, const unsigned (&d)[kChunk / 16][4],
                                                      unsigned stage, const float* decay, float* state) {
    const device::LdmatrixPlace b = device::ldmatrix_b_transposed(at.lane.lane);
    const float all = c.per_channel() ? 0.0f : *decay;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      if (kUneven && step >= at.steps) continue;
      const int key = 16 * (first_step(at) + step);
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        typename Fragments::Pair factors = {{all, all}};
        if constexpr (c.per_channel()) factors = Fragments::factors_of(decay + key, at.lane, n);
#pragma unroll
        for (int i = 0; i < 4; ++i) state[4 * (2 * step + n) + i] *= factors.numbers[i % 2];
      }
      const unsigned place = stage + plan().next_k + plan().keys.offset(b.row, 2 * (key + b.column));
#pragma unroll
      for (int j = 0; j < kChunk / 16; ++j) {
        unsigned columns[4];
        device::ldmatrix_transposed<4>(columns, place + 16 * j * plan().keys.row_bytes);
        multiply_add(state + 8 * step, d[j], columns);
      }
    }
  }

  static __device__ __forceinline__ int first_step(const Warp& at) { return c.split_k == 1 ? 0 : at.part * kSteps; }

  // ---- sums of warps that share rows
  // ---------------------------------------------------------------------------------

  // A fragment's tile n of part `part` in the group's exchange.
  static __device__ __forceinline__ float4* exchanged(const Warp& at, unsigned char* exchange, int part, int n) {
    const int tile = (at.group * c.split_k + part) * Fragments::kTokenTiles + n;
    return reinterpret_cast<float4*>(exchange) + tile * 32 + at.lane.lane;
  }
  static __device__ __forceinline__ void give(const Warp& at, unsigned char* exchange, const float* fragment) {
#pragma unroll
    for (int n = 0; n < Fragments::kTokenTiles; ++n) {
      *exchanged(at, exchange, at.part, n) =
          make_float4(fragment[4 * n], fragment[4 * n + 1], fragment[4 * n + 2], fragment[4 * n + 3]);
    }
    meet(at);
  }
  // Tile n of the sum, in the order of the parts for every warp.
  static __device__ __forceinline__ void take(const Warp& at, unsigned char* exchange, int n, float* tile) {
#pragma unroll
    for (int part = 0; part < c.split_k; ++part) {
      const float4 other = *exchanged(at, exchange, part, n);
      const float numbers[4] = {other.x, other.y, other.z, other.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) tile[i] = part == 0 ? numbers[i] : tile[i] + numbers[i];
    }
  }
  static __device__ __forceinline__ void meet(const Warp& at) {
    device::sync_group<kGroupThreads, c.block_v / 16>(at.group);
  }

  // ---- a chunk
  // -------------------------------------------------------------------------------------------------------

  // Output of the tokens 16 i .. 16 i + 15, from (q S)^T of these.
  static __device__ __forceinline__ void finish_output(const ChunkParams& p, const Place& place, const Warp& at,
                                                       int chunk, int i, const float* factors, unsigned triangle,
                                                       const unsigned (&d)[kChunk / 16][4], float* tiles) {
    if constexpr (kFactors) {
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const typename Fragments::Pair f = Fragments::factors_of(factors, at.lane, 2 * i + n);
#pragma unroll
        for (int e = 0; e < 4; ++e) tiles[4 * n + e] *= f.numbers[e % 2];
      }
    }
#pragma unroll
    for (int j = 0; j < kChunk / 16; ++j) {
      if (j > i) continue;
      unsigned block[4];
      device::ldmatrix<4>(block, triangle + triangle_block(i, j) + 16 * at.lane.lane);
      multiply_add(tiles, d[j], block);
    }
    void* o =
        device::element<c.output_dtype>(p.o, place.output_offset(p.o_strides, static_cast<long long>(chunk) * kChunk));
    const int valid = valid_tokens(place, chunk);
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      Fragments::store_output_tile(o, p.o_strides.token, at.lane, valid, 16 * i + 8 * n, tiles + 4 * n);
    }
  }

  template <bool kOwn>
  static __device__ __forceinline__ void process(const ChunkParams& p, const Place& place, const Warp& at, int chunk,
                                                 unsigned char* shared, unsigned stage_offset, float* state) {
    const unsigned stage = device::shared_address(shared) + stage_offset;
    const float* factors = reinterpret_cast<const float*>(shared + stage_offset + plan().factors);
    unsigned char* exchange = shared + c.stages * plan().stage_bytes;

    float w[kTokenFragment], queries[kTokenFragment];
    multiply_state<kOwn>(at, state, stage, w, queries);
    if constexpr (c.split_k > 1) {
      give(at, exchange, w);
#pragma unroll
      for (int n = 0; n < Fragments::kTokenTiles; ++n) take(at, exchange, n, w + 4 * n);
      if constexpr (kOutput && kOwn) {
        meet(at);
        give(at, exchange, queries);
      }
    }

    const auto value_address = [&](int token, int value) {
      constexpr int kBytes = dtype_bytes(c.io_dtype);
      return stage + plan().v + plan().values.offset(token, (value - at.first_value) * kBytes);
    };
    Fragments::template subtract_from_values<kFactors>(value_address, at.lane, factors + ChunkFactors::kState / 4, w);
    multiply_triangle(at, factors + ChunkFactors::kStrength / 4, stage + plan().a, w);
    float* d = w;

    unsigned operands[kChunk / 16][4];
    if constexpr (kOutput && kOwn) {
#pragma unroll
      for (int j = 0; j < kChunk / 16; ++j) Fragments::operand(d, j, operands[j]);
#pragma unroll
      for (int m = 0; m < kOutputBlocks; ++m) {
        float tiles[8];
        const int i = c.split_k == 1 ? m : c.split_k * m + at.part;
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          if constexpr (c.split_k > 1) {
            take(at, exchange, 2 * i + n, tiles + 4 * n);
          } else {
#pragma unroll
            for (int e = 0; e < 4; ++e) tiles[4 * n + e] = queries[8 * m + 4 * n + e];
          }
        }
        finish_output(p, place, at, chunk, i, factors + ChunkFactors::kQuery / 4, stage + plan().p, operands, tiles);
      }
    }

    if constexpr (kFactors) Fragments::scale_columns(d, at.lane, factors + ChunkFactors::kKey / 4);
#pragma unroll
    for (int j = 0; j < kChunk / 16; ++j) Fragments::operand(d, j, operands[j]);
    update_state(at, operands, stage, factors + ChunkFactors::kDecay / 4, state);
  }

  // ---- the kernel
  // ------------------------------------------------------------------------------------------------------

  static __device__ __forceinline__ void load_state(const ChunkParams& p, const Span& span, const Warp& at,
                                                    float* state) {
#pragma unroll
    for (int i = 0; i < 4 * kStateTiles; ++i) state[i] = 0.0f;
    if (kWarmsUp && span.begin > 0) return;
    if constexpr (c.keeps_initial_states()) {
      if (span.initial_state_is_kept()) {
        using Starts = ChunkFragments<chunk_start_config(c, c.head_dim_v)>;
        const void* start = span.start(p, span.sequence);
        for_steps(at, [&](int step) {
          Starts::template load_state<2>(start, {at.lane.lane, at.lane.value, at.lane.pair},
                                         16 * (first_step(at) + step), state + 8 * step);
        });
        return;
      }
    }
    if constexpr (c.initial_state != StatePlace::none) {
      for_steps(at, [&](int step) {
        Fragments::template load_state<2>(span.at.state_in, at.lane, 16 * (first_step(at) + step), state + 8 * step);
      });
    }
  }
  static __device__ __forceinline__ void store_state(void* target, const Warp& at, const float* state) {
    for_steps(at, [&](int step) {
      Fragments::template store_state<2>(target, at.lane, 16 * (first_step(at) + step), state + 8 * step);
    });
  }
  template <typename Work>
  static __device__ __forceinline__ void for_steps(const Warp& at, Work work) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      if (!kUneven || step < at.steps) work(step);
    }
  }

  static __device__ __forceinline__ void run_padded(const ChunkParams& p, const Span& span, const Warp& at) {
    if constexpr (c.pad_policy == PadPolicy::zero && kOutput) {
      if (at.part != 0) return;
      const float zeros[kTokenFragment] = {};
#pragma unroll 1
      for (int chunk = span.first; chunk < span.end; ++chunk) {
        void* o = device::element<c.output_dtype>(
            p.o, span.at.output_offset(p.o_strides, static_cast<long long>(chunk) * kChunk));
        Fragments::store_output(o, p.o_strides.token, at.lane, valid_tokens(span.at, chunk), zeros);
      }
    }
  }

  static __device__ __forceinline__ void run(const ChunkParams& p) {
    extern __shared__ __align__(128) unsigned char shared[];
    const unsigned block_v = blockIdx.x % c.blocks_v(), head = blockIdx.x / c.blocks_v();
    const int warp = static_cast<int>(threadIdx.x / 32);
    Warp at;
    at.group = warp / c.split_k;
    at.part = warp % c.split_k;
    at.first_value = static_cast<int>(block_v) * c.block_v;
    at.lane = Fragments::lane_of(at.first_value + 16 * at.group);
    const int rest = c.padded_k() / 16 - first_step(at);
    at.steps = rest < kSteps ? rest : kSteps;

    // Also what prepare does not write may come from a kernel that runs until then.
    device::wait_for_previous_grid();
    Span span;
    if (!span.locate(p, static_cast<int>(head / c.heads_v), static_cast<int>(head % c.heads_v))) return;
    const Place& place = span.at;
    if (c.initial_state == StatePlace::pool && place.padded) return run_padded(p, span, at);

    const unsigned first_stage = device::shared_address(shared);
    const auto load = [&](int chunk) {
      if (chunk < span.end) {
        const bool own = !kWarmsUp || chunk >= span.first;
        load_chunk(p, place, at.first_value, chunk, own, first_stage + chunk % c.stages * plan().stage_bytes);
      }
      device::cp_async_commit();
    };
#pragma unroll
    for (int i = 0; i < c.stages - 1; ++i) load(span.begin + i);
    float state[4 * kStateTiles];
    load_state(p, span, at, state);

    // A block's last warps may have no column of V: they load with the others.
    const bool works = Fragments::value_inside(at.first_value + 16 * at.group);
#pragma unroll 1
    for (int chunk = span.begin; chunk < span.end; ++chunk) {
      if constexpr (c.stages == 1) {
        __syncthreads();
        load(chunk);
      }
      device::cp_async_wait<(c.stages > 2 ? c.stages - 2 : 0)>();
      __syncthreads();  // the chunk is there for all, and all are done with the one whose place is loaded next
      if constexpr (c.stages > 1) load(chunk + c.stages - 1);
      if (!works) continue;
      const auto stage = static_cast<unsigned>(chunk % c.stages * plan().stage_bytes);
      if (kWarmsUp && chunk < span.first) {
        process<false>(p, place, at, chunk, shared, stage, state);
        continue;
      }
      process<true>(p, place, at, chunk, shared, stage, state);
      void* checkpoint = place.checkpoint(p, chunk + 1);
      if (checkpoint != nullptr) store_state(checkpoint, at, state);
    }
    device::let_next_grid_start();
    if (span.ends_sequence && place.state_out != nullptr) store_state(place.state_out, at, state);
  }
};

}  // namespace gdnjit::gdn

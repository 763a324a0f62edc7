// An expert product for many tokens with wgmma: a warpgroup brings tiles, two multiply them. Weights and inputs have
// the same 16 bits, or both are e4m3. Weights come as boxes by TMA; rows of inputs, which lie anywhere, by cp.async
// into the same swizzle.
//
// A block takes tile after tile, gridDim.x apart, so the stages of the next tile fill while the sums of this one are
// stored. Two blocks of a cluster may have 256 rows of one expert, and each brings half of the weights for both: what
// the L2 has to deliver falls by a third. Of 128 rows a warpgroup has 64, and all outputs of the tile: gate's and up's
// sums of an output are in the same lane, which ends with the activation. A warpgroup whose rows are all padding lets
// the stages pass, and its rows are not brought.
//
// Of e4m3 a stage has the 128 numbers of k that share scales, and the scales with them. wgmma sums these 128; the sums,
// scaled, are added in fp32 registers. (The tensor cores keep few digits of what they add e4m3 products to.)
#pragma once

#include "device/cluster.cuh"
#include "device/cp_async.cuh"
#include "device/tma.cuh"
#include "device/wgmma_bf16.cuh"
#include "device/wgmma_e4m3.cuh"
#include "device/wgmma_f16.cuh"
#include "moe/grouped_rows.cuh"
#include "moe/grouped_sm90_config.cuh"

namespace gdnjit::moe {

template <GroupedConfig c>
struct GroupedSm90 {
  static_assert(sm90_fault(c) == nullptr, "the tiles do not fit the problem");
  using Rows = GroupedRows<c>;
  using Part = typename Rows::Part;
  static constexpr GroupedSm90Plan kPlan{c};
  enum : int {
    kThreads = kPlan.threads,
    kN = c.weight_rows(),
    kConsumers = 8,  // warps that multiply
    kCluster = sm90_cluster(c),
    kBoxRows = sm90_box_rows(c),
    kBoxes = kN / kBoxRows,
    kWarpgroup = 128,
    kRowBytes = 128,
    kUnits = kRowBytes / kUnitBytes,
    kRowsApart = kWarpgroup / kUnits,  // rows between two copies of a thread
    kCopies = kSm90Rows / kRowsApart,  // of a thread for a tile
    // Tiles whose copies may be on their way: one less than what the consumers hold free, who return a stage when the
    // next one is there.
    kLag = c.stages - 2,
    kProducerRegisters = 56,
    kConsumerRegisters = 224,
    kPieceRows = sm90_piece_rows(c),
    kPieces = sm90_pieces(c),
  };
  using Sums = float[kN / 2];

  // Where a ring of stages is, over all tiles of the block.
  struct Ring {
    int stage = 0;
    unsigned phase = 0;
    __device__ __forceinline__ void next() {
      if (++stage == c.stages) stage = 0, phase ^= 1;
    }
  };

  static __device__ __forceinline__ unsigned full(unsigned base, int stage) {
    return base + kPlan.barriers + 8 * stage;
  }
  static __device__ __forceinline__ unsigned empty(unsigned base, int stage) {
    return base + kPlan.barriers + 8 * (c.stages + stage);
  }
  static __device__ __forceinline__ unsigned inputs(unsigned base, int stage) {
    return base + stage * kPlan.stage_bytes;
  }
  static __device__ __forceinline__ unsigned weights(unsigned base, int stage) {
    return inputs(base, stage) + kPlan.in_bytes;
  }

  // Scale `row` of the inputs, or behind those 2 piece + i of the weights.
  static __device__ __forceinline__ unsigned scale(unsigned base, int stage, int index) {
    return base + kPlan.scales + stage * kPlan.scale_bytes + 4 * index;
  }

  static __device__ __forceinline__ void run(const GroupedSm90Params& p) {
    extern __shared__ __align__(1024) unsigned char shared_bytes[];
    const unsigned base = device::shared_address(shared_bytes);
    const int warp = device::warp_of_block();
    if (threadIdx.x == 0) {
      for (int stage = 0; stage < c.stages; ++stage) {
        device::mbarrier_init(full(base, stage), kWarpgroup + 1);
        device::mbarrier_init(empty(base, stage), kCluster * kConsumers);
      }
      device::fence_mbarrier_init();
    }
    if constexpr (kCluster > 1) {
      device::cluster_sync();
    } else {
      __syncthreads();
    }
    device::wait_for_previous_grid();
    device::let_next_grid_start();
    if (warp < kWarpgroup / device::kWarpLanes) {
      device::decrease_registers<kProducerRegisters>();
      produce(p, base);
    } else {
      device::increase_registers<kConsumerRegisters>();
      consume(p, base, warp - kWarpgroup / device::kWarpLanes);
    }
    // Nobody leaves whom others may still send weights, or word that a stage is free.
    if constexpr (kCluster > 1) {
      __syncwarp();
      device::cluster_sync();
    }
  }

 private:
  // Blocks of a cluster take the same tiles, each its own rows.
  static __device__ __forceinline__ int first_tile() { return static_cast<int>(blockIdx.x) / kCluster; }
  static __device__ __forceinline__ int tile_step() { return static_cast<int>(gridDim.x) / kCluster; }
  static __device__ __forceinline__ int rank() { return kCluster > 1 ? static_cast<int>(device::cluster_rank()) : 0; }

  // A warp's 16 rows in the tile.
  static __device__ __forceinline__ int first_row(int warp) { return rank() * kSm90Rows + warp * 16; }

  // An expert's padding lies behind its rows, so warpgroup `group` has nothing to do if its first row is padding.
  static __device__ __forceinline__ bool is_idle(const GroupedParams& p, const Part& part, int group) {
    return Rows::pair_of(p, part, first_row(4 * group)) < 0;
  }

  // ---- the warpgroup that brings tiles

  static __device__ __forceinline__ void produce(const GroupedSm90Params& p, unsigned base) {
    const int thread = static_cast<int>(threadIdx.x), unit = thread % kUnits;
    const int tiles = Rows::tiles(p.grouped);
    Ring ring, behind;
    int pending = 0;  // stages whose copies of this thread are on their way
    for (int tile = first_tile(); tile < tiles; tile += tile_step()) {
      Part part;
      if (!Rows::locate(p.grouped, tile, part)) continue;
      const unsigned char* rows[kCopies];
      unsigned used = 0;  // a bit for each row that is not padding
#pragma unroll
      for (int i = 0; i < kCopies; ++i) {
        const int pair = Rows::pair_of(p.grouped, part, rank() * kSm90Rows + thread / kUnits + i * kRowsApart);
        if (pair >= 0) used |= 1u << i;
        rows[i] = row_of(p, pair < 0 ? 0 : pair) + unit * kUnitBytes;
      }
      const Scales scales = scales_of(p, part, thread);
      const int copies = is_idle(p.grouped, part, 0)   ? 0
                         : is_idle(p.grouped, part, 1) ? kCopies / 2
                                                       : static_cast<int>(kCopies);
      const device::TensorMap& map = part.is_shared ? p.shared : p.routed;
      const int steps = (part.in + c.block_k - 1) / c.block_k;
      for (int k = 0; k < steps; ++k) {
        if constexpr (kCluster > 1) {
          device::mbarrier_wait_cluster(empty(base, ring.stage), ring.phase ^ 1);
        } else {
          device::mbarrier_wait(empty(base, ring.stage), ring.phase ^ 1);
        }
        if (thread == 0) load_weights(map, part, k, weights(base, ring.stage), full(base, ring.stage));
        copy_rows(rows, copies, used, k, part.in, unit, thread / kUnits, inputs(base, ring.stage));
        copy_scales(scales, k, scale(base, ring.stage, thread), scale(base, ring.stage, kSm90Rows + thread));
        device::cp_async_commit();
        ring.next();
        if (pending == kLag) {
          device::cp_async_wait<kLag>();
          arrive(base, behind);
        } else {
          ++pending;
        }
      }
    }
    device::cp_async_wait_all();
    for (; pending > 0; --pending) arrive(base, behind);
  }

  // What this thread copied for a stage is there, for wgmma too.
  static __device__ __forceinline__ void arrive(unsigned base, Ring& behind) {
    device::fence_async_shared();
    device::mbarrier_arrive(full(base, behind.stage));
    behind.next();
  }

  static __device__ __forceinline__ void load_weights(const device::TensorMap& map, const Part& part, int k,
                                                      unsigned to, unsigned barrier) {
    device::mbarrier_arrive_expect(barrier, kPlan.weight_bytes);
    const int expert = part.is_shared ? 0 : part.expert;
#pragma unroll
    for (int box = 0; box < kBoxes; ++box) {
      const int which = c.gated() ? (c.gate_order == GateOrder::up_gate ? 1 - box : box) : 0;
      const int output = part.first_output + (c.gated() ? 0 : box * kBoxRows);
      const device::Corner4 corner{k * c.block_k, output, which, expert};
      if constexpr (kCluster == 1) {
        device::tensor_load(to + box * kBoxRows * kRowBytes, map, corner, barrier);
      } else if (box % kCluster == rank()) {
        device::tensor_load_multicast(to + box * kBoxRows * kRowBytes, map, corner, barrier, (1 << kCluster) - 1);
      }
    }
  }

  // The first `copies` of a thread's rows; zeros for padding among them.
  static __device__ __forceinline__ void copy_rows(const unsigned char* const (&rows)[kCopies], int copies,
                                                   unsigned used, int k, int in, int unit, int row, unsigned to) {
    const int start = k * kRowBytes;
    if (!c.quantized() && start + unit * kUnitBytes >= 2 * in) used = 0;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      if (i >= copies) break;
      const unsigned offset = static_cast<unsigned>((row + i * kRowsApart) * kRowBytes + unit * kUnitBytes);
      device::cp_async_or_zeros<kUnitBytes>(to + device::swizzled<device::Swizzle::bytes128>(offset), rows[i] + start,
                                            (used >> i & 1u) != 0 ? kUnitBytes : 0);
    }
  }

  static __device__ __forceinline__ const unsigned char* row_of(const GroupedSm90Params& p, int pair) {
    if constexpr (!c.quantized()) return Rows::inputs_of(p.grouped, pair);
    return p.quantized.numbers + Rows::input_row(pair) * c.quantized_row();
  }

  // Where this thread's scales lie, step after step: those of one row, and one of a block of weights.
  struct Scales {
    const float* row;
    const float* weights;
    int row_bytes, weight_bytes;  // 4, or 0 for none
  };
  static __device__ __forceinline__ Scales scales_of(const GroupedSm90Params& p, const Part& part, int thread) {
    Scales scales{};
    if constexpr (c.quantized()) {
      const int pair = Rows::pair_of(p.grouped, part, rank() * kSm90Rows + thread);
      scales.row_bytes = pair < 0 ? 0 : 4;
      scales.row = p.quantized.scales + Rows::input_row(pair < 0 ? 0 : pair) * (c.quantized_row() / kQuantizedGroup);
      if (thread < 2 * kPieces) {
        // A block behind the last belongs to rows behind the last.
        const int last = (c.gates() * part.outputs - 1) / kQuantizedGroup;
        const int block = first_matrix_row(part, thread / 2) / kQuantizedGroup + thread % 2;
        scales.weight_bytes = block > last ? 0 : 4;
        scales.weights = static_cast<const float*>(part.matrix.scales) +
                         static_cast<long long>(block > last ? last : block) * c.groups(part.in);
      }
    }
    return scales;
  }
  static __device__ __forceinline__ void copy_scales(const Scales& scales, int k, unsigned to_row,
                                                     unsigned to_weights) {
    if constexpr (c.quantized()) {
      device::cp_async_or_zeros<4>(to_row, scales.row + k, scales.row_bytes);
      if (scales.weights != nullptr) {
        device::cp_async_or_zeros<4>(to_weights, scales.weights + k, scales.weight_bytes);
      }
    }
  }

  // Of the rows of weights in a piece the first, in the expert's matrix.
  static __device__ __forceinline__ int first_matrix_row(const Part& part, int piece) {
    return c.gated() ? Rows::matrix_row(part, part.first_output, piece)
                     : Rows::matrix_row(part, part.first_output + piece * kPieceRows, 0);
  }

  // ---- the warpgroups that multiply

  static __device__ __forceinline__ void consume(const GroupedSm90Params& p, unsigned base, int warp) {
    const int tiles = Rows::tiles(p.grouped), group = warp / 4;
    Ring ring;
    for (int tile = first_tile(); tile < tiles; tile += tile_step()) {
      Part part;
      if (!Rows::locate(p.grouped, tile, part)) continue;
      const int steps = (part.in + c.block_k - 1) / c.block_k;
      if (is_idle(p.grouped, part, group)) {
        let_pass(base, steps, ring);
        continue;
      }
      Sums sums;
      if constexpr (c.quantized()) {
        multiply_scaled(base, part, warp, steps, ring, sums);
      } else {
        multiply(base, group, steps, ring, sums);
      }
      store(p.grouped, part, warp, sums);
      if constexpr (c.shared_gate && !c.down) {
        if (part.is_shared && part.first_output == 0) weigh_shared(p.grouped, part, warp);
      }
    }
  }

  static __device__ __forceinline__ void multiply(unsigned base, int group, int steps, Ring& ring, Sums& sums) {
    int before = ring.stage;
    for (int k = 0; k < steps; ++k) {
      device::mbarrier_wait(full(base, ring.stage), ring.phase);
      device::wgmma_fence(sums);
#pragma unroll
      for (int piece = 0; piece < c.block_k / 16; ++piece) {
        const unsigned a = inputs(base, ring.stage) + group * 64 * kRowBytes + piece * 32;
        const unsigned b = weights(base, ring.stage) + piece * 32;
        const auto rows = device::k_major_descriptor<device::Swizzle::bytes128>(a);
        const auto columns = device::k_major_descriptor<device::Swizzle::bytes128>(b);
        if constexpr (c.weights == WeightFormat::bf16) {
          device::wgmma_bf16<kN>(sums, rows, columns, k > 0 || piece > 0);
        } else {
          device::wgmma_f16<kN>(sums, rows, columns, k > 0 || piece > 0);
        }
      }
      device::wgmma_commit();
      if (k > 0) {
        device::wgmma_wait<1>(sums);  // the step before is done with its stage
        release(base, before);
      }
      before = ring.stage;
      ring.next();
    }
    device::wgmma_wait<0>(sums);
    release(base, before);
  }

  // One piece after the other; the other warpgroup multiplies while this one adds up.
  static __device__ __forceinline__ void multiply_scaled(unsigned base, const Part& part, int warp, int steps,
                                                         Ring& ring, Sums& sums) {
    const int row = warp * 16 + static_cast<int>(threadIdx.x) % device::kWarpLanes / 4;
    int second[kPieces];  // the first output of a piece whose weights are in the second block
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      const int place = first_matrix_row(part, piece) % kQuantizedGroup;
      second[piece] = c.gated() && c.gate_order == GateOrder::interleaved ? (kQuantizedGroup - place + 1) / 2
                                                                          : kQuantizedGroup - place;
    }
#pragma unroll
    for (int i = 0; i < kN / 2; ++i) sums[i] = 0.0f;
    for (int k = 0; k < steps; ++k) {
      device::mbarrier_wait(full(base, ring.stage), ring.phase);
      const float of_rows[2] = {device::load_shared(scale(base, ring.stage, row)),
                                device::load_shared(scale(base, ring.stage, row + 8))};
#pragma unroll
      for (int piece = 0; piece < kPieces; ++piece) {
        const float of_weights[2] = {device::load_shared(scale(base, ring.stage, kSm90Rows + 2 * piece)),
                                     device::load_shared(scale(base, ring.stage, kSm90Rows + 2 * piece + 1))};
        float products[kPieceRows / 2];
        multiply_piece(base, warp / 4, piece, ring.stage, products);
        if (piece + 1 == kPieces) release(base, ring.stage);
#pragma unroll
        for (int n = 0; n < kPieceRows / 8; ++n) {
          const float own = n * 8 < second[piece] ? of_weights[0] : of_weights[1];
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            float& sum = sums[piece * kPieceRows / 2 + 4 * n + i];
            sum = fmaf(products[4 * n + i], own * of_rows[i / 2], sum);
          }
        }
      }
      ring.next();
    }
  }

  static __device__ __forceinline__ void multiply_piece(unsigned base, int group, int piece, int stage,
                                                        float (&products)[kPieceRows / 2]) {
    device::wgmma_fence(products);
#pragma unroll
    for (int part = 0; part < kRowBytes / 32; ++part) {
      const unsigned a = inputs(base, stage) + group * 64 * kRowBytes + part * 32;
      const unsigned b = weights(base, stage) + piece * kPieceRows * kRowBytes + part * 32;
      device::wgmma_e4m3<kPieceRows>(products, device::k_major_descriptor<device::Swizzle::bytes128>(a),
                                     device::k_major_descriptor<device::Swizzle::bytes128>(b), part > 0);
    }
    device::wgmma_commit();
    device::wgmma_wait<0>(products);
  }

  // Every stage is waited for all the same: its barriers count this warp.
  static __device__ __forceinline__ void let_pass(unsigned base, int steps, Ring& ring) {
    for (int k = 0; k < steps; ++k) {
      device::mbarrier_wait(full(base, ring.stage), ring.phase);
      release(base, ring.stage);
      ring.next();
    }
  }

  // This warp is done with a stage. The weights in it came from all blocks of the cluster.
  static __device__ __forceinline__ void release(unsigned base, int stage) {
    __syncwarp();
    const int lane = static_cast<int>(threadIdx.x) % device::kWarpLanes;
    if constexpr (kCluster > 1) {
      if (lane < kCluster) device::mbarrier_arrive_cluster(device::in_cluster(empty(base, stage), lane));
    } else {
      if (lane == 0) device::mbarrier_arrive(empty(base, stage));
    }
  }

  static __device__ __forceinline__ void store(const GroupedParams& p, const Part& part, int warp, const Sums& sums) {
    const int lane = static_cast<int>(threadIdx.x) % device::kWarpLanes;
    int pairs[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) pairs[half] = Rows::pair_of(p, part, first_row(warp) + lane / 4 + 8 * half);
#pragma unroll
    for (int n = 0; n < c.block_n / 8; ++n) {
      const int output = part.first_output + n * 8 + 2 * (lane % 4);
      if (output >= part.outputs) continue;
      const typename Rows::Column column = Rows::column_of(part, output);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (pairs[half] < 0) continue;
        float own[c.gates()][2];
#pragma unroll
        for (int which = 0; which < c.gates(); ++which) {
          own[which][0] = sums[which * c.block_n / 2 + 4 * n + 2 * half];
          own[which][1] = sums[which * c.block_n / 2 + 4 * n + 2 * half + 1];
        }
        Rows::store(p, pairs[half], output, column, own);
      }
    }
  }

  static __device__ __forceinline__ void weigh_shared(const GroupedParams& p, const Part& part, int warp) {
    for (int row = 0; row < 16; ++row) {
      const int pair = Rows::pair_of(p, part, first_row(warp) + row);
      if (pair >= 0) Rows::weigh_shared(p, pair);
    }
  }
};

}  // namespace gdnjit::moe

// A block's tile of a grouped product with mma.sync: rows of inputs and rows of weights come through a ring of stages
// by cp.async, weights as they lie in memory, and become operands where they are loaded from shared memory.
//
// The order of the numbers that one instruction sums is free as long as both operands agree: a lane takes eight
// consecutive elements of a row of inputs (16 bytes) and the same eight of a row of weights (16, 8 or 4 bytes), and
// feeds them to two instructions. So no format needs its elements rearranged, and a lane's load is as wide as can be.
#pragma once

#include "device/cp_async.cuh"
#include "device/mma.cuh"
#include "moe/grouped_rows.cuh"

namespace gdnjit::moe {

template <GroupedConfig c>
struct GroupedTile {
  using Rows = GroupedRows<c>;
  using Part = typename Rows::Part;
  using Format = Weights<c.weights, c.multiplies_f16()>;
  static constexpr device::Element kElement = c.multiplies_f16() ? device::Element::f16 : device::Element::bf16;
  enum : int {
    kThreads = c.threads(),
    kTilesM = c.warp_m() / kGroupedRows,
    kTilesN = c.warp_n() / kGroupedColumns,
    kGates = c.gates(),
    kParts = c.in_parts(),
    kProducts = c.segment() / 16,  // instructions of a segment
    kWords = 2 * kProducts,        // registers of a lane for a row of a segment
    kInUnits = c.in_row_bytes() / kUnitBytes,
    kInTogether = dtype_bytes(c.in_dtype) == 2 ? 4 : 1,
    kInCopies = (c.block_m * kInUnits + kThreads - 1) / kThreads,
    kWeightUnits = c.weight_row_bytes() / kUnitBytes,
    kWeightTogether = c.bits() / 4,
    kPieces = c.weight_row_bytes() / c.weight_vector,  // copies of a row
    kWeightCopies = (c.weight_rows() * kPieces + kThreads - 1) / kThreads,
  };
  static_assert(kThreads % kInUnits == 0 && kThreads % kPieces == 0 && kWeightUnits >= 1);

  // [gate or up][tile of rows][tile of outputs][element of D]
  using Sums = float[kGates][kTilesM][kTilesN][4];

  // Where this thread's copies come from: the same place in several rows.
  struct Sources {
    const unsigned char* in[kInCopies];
    unsigned used;  // a bit for each row of inputs that is not padding
    const unsigned char* weights[kWeightCopies];
    int in_row_bytes, weight_row_bytes;  // of the whole row
  };

  static __device__ __forceinline__ int thread() { return static_cast<int>(threadIdx.x); }
  static __device__ __forceinline__ int lane() { return thread() % device::kWarpLanes; }
  static constexpr int in_swizzle(int row) { return units_swizzle(row, kInUnits, kInTogether); }
  static constexpr int weight_swizzle(int row) { return units_swizzle(row, kWeightUnits, kWeightTogether); }

  // First row and first output of this warp in the block's tile.
  static __device__ __forceinline__ int warp_row(int warp) { return warp % c.warps_m() * c.warp_m(); }
  static __device__ __forceinline__ int warp_output(int warp) { return warp / c.warps_m() * c.warp_n(); }

  static __device__ __forceinline__ Sources sources_of(const GroupedParams& p, const Part& part, const int* pairs) {
    Sources sources;
    sources.used = 0;
    sources.in_row_bytes = part.in * dtype_bytes(c.in_dtype);
    sources.weight_row_bytes = part.in / 8 * c.bits();
#pragma unroll
    for (int i = 0; i < kInCopies; ++i) {
      const int row = (thread() + i * kThreads) / kInUnits;
      const int pair = row < c.block_m ? pairs[row] : -1;
      if (pair >= 0) sources.used |= 1u << i;
      sources.in[i] = Rows::inputs_of(p, pair < 0 ? 0 : pair) + thread() % kInUnits * kUnitBytes;
    }
#pragma unroll
    for (int i = 0; i < kWeightCopies; ++i) {
      // Rows behind the last are read as the last and not stored.
      const int row = (thread() + i * kThreads) / kPieces % c.weight_rows();
      const int output = part.first_output + row % c.block_n;
      const long long matrix_row =
          Rows::matrix_row(part, output < part.outputs ? output : part.outputs - 1, row / c.block_n);
      sources.weights[i] = static_cast<const unsigned char*>(part.matrix.data) + matrix_row * sources.weight_row_bytes +
                           thread() % kPieces * c.weight_vector;
    }
    return sources;
  }

  // Issues the copies of tile `k` of the rows; what lies behind their ends is 0.
  static __device__ __forceinline__ void copy(const Sources& sources, int k, unsigned stage) {
    const int in_start = k * c.in_row_bytes(), in_byte = in_start + thread() % kInUnits * kUnitBytes;
#pragma unroll
    for (int i = 0; i < kInCopies; ++i) {
      const int row = (thread() + i * kThreads) / kInUnits;
      if (c.block_m * kInUnits % kThreads != 0 && row >= c.block_m) break;
      const unsigned to = stage + row * c.in_row_bytes() + ((thread() % kInUnits) ^ in_swizzle(row)) * kUnitBytes;
      const bool there = in_byte < sources.in_row_bytes && (sources.used >> i & 1u) != 0;
      device::cp_async_or_zeros<kUnitBytes>(to, sources.in[i] + in_start, there ? kUnitBytes : 0);
    }
    const int weight_start = k * c.weight_row_bytes(), piece = thread() % kPieces * c.weight_vector;
    const bool there = weight_start + piece < sources.weight_row_bytes;
#pragma unroll
    for (int i = 0; i < kWeightCopies; ++i) {
      const int row = (thread() + i * kThreads) / kPieces;
      if (c.weight_rows() * kPieces % kThreads != 0 && row >= c.weight_rows()) break;
      const unsigned to = stage + c.in_bytes() + row * c.weight_row_bytes() +
                          ((piece / kUnitBytes) ^ weight_swizzle(row)) * kUnitBytes + piece % kUnitBytes;
      device::cp_async_or_zeros<c.weight_vector>(to, sources.weights[i] + weight_start, there ? c.weight_vector : 0);
    }
  }

  // The product of the block's tile: this warp's sums, scales applied.
  static __device__ __forceinline__ void multiply(const GroupedParams& p, const Part& part, const int* pairs, int warp,
                                                  unsigned char* stages, Sums& sums) {
    const Sources sources = sources_of(p, part, pairs);
    const unsigned first_stage = device::shared_address(stages);
    const int tiles = (part.in + c.block_k - 1) / c.block_k;
#pragma unroll
    for (int s = 0; s < c.stages - 1; ++s) {
      if (s < tiles) copy(sources, s, first_stage + s * c.stage_bytes());
      device::cp_async_commit();
    }
    Group group(part, warp);
    int stage = 0, next = c.stages - 1;
    for (int k = 0; k < tiles; ++k) {
      device::cp_async_wait<c.stages - 2>();
      __syncthreads();  // this tile is there, and nobody reads the one before it any more
      if (k + c.stages - 1 < tiles) copy(sources, k + c.stages - 1, first_stage + next * c.stage_bytes());
      device::cp_async_commit();
      multiply_tile(stages + stage * c.stage_bytes(), warp, k, k + 1 == tiles, group, sums);
      stage = stage + 1 < c.stages ? stage + 1 : 0;
      next = next + 1 < c.stages ? next + 1 : 0;
    }
    if constexpr (c.scaled() && !c.keeps_groups()) {
      group.begin(0);
      group.scale_in_place(sums);
    }
  }

 private:
  // The sums over a group of weights that share a scale, with the scales of this lane's two outputs of each tile.
  struct Group {
    // (One element where there is nothing to keep.)
    float products[c.keeps_groups() ? kGates : 1][kTilesM][c.keeps_groups() ? kTilesN : 1][4];
    float ones[kTilesM][4];  // the sums of the inputs, in every column
    unsigned scales[kGates][kTilesN][2];
    unsigned zeros[kGates][kTilesN][2];
    const Part& part;
    int first_output;  // this lane's

    __device__ __forceinline__ Group(const Part& of, int warp) : products{}, ones{}, part(of) {
      first_output = part.first_output + warp_output(warp) + 2 * (lane() % 4);
    }

    // Loads the scales of group `index`.
    __device__ __forceinline__ void begin(int index) {
      const int groups = c.groups(part.in);
#pragma unroll
      for (int which = 0; which < kGates; ++which) {
#pragma unroll
        for (int tile = 0; tile < kTilesN; ++tile) {
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const int output = first_output + tile * kGroupedColumns + i;
            scales[which][tile][i] = 0, zeros[which][tile][i] = 0;
            if (output >= part.outputs || index >= groups) continue;
            const long long row = Rows::matrix_row(part, output, which);
            const long long scale_row = c.weights == WeightFormat::fp8_block ? row / 128 : row;
            scales[which][tile][i] = load<c.scale_bytes()>(part.matrix.scales, scale_row * groups + index);
            if constexpr (c.zero_point == ZeroPoint::packed) {
              zeros[which][tile][i] = load<1>(part.matrix.zeros, row / 2 * groups + index) >> (row % 2 * 4) & 15u;
            } else if constexpr (c.zero_point == ZeroPoint::real) {
              zeros[which][tile][i] = load<c.scale_bytes()>(part.matrix.zeros, row * groups + index);
            }
          }
        }
      }
    }

    template <int kBytes>
    static __device__ __forceinline__ unsigned load(const void* base, long long index) {
      if constexpr (kBytes == 1) {
        return static_cast<const unsigned char*>(base)[index];
      } else if constexpr (kBytes == 2) {
        return static_cast<const unsigned short*>(base)[index];
      } else {
        return static_cast<const unsigned*>(base)[index];
      }
    }

    // A sum of a group with its scale, and with its zero: element i of tile (m, n).
    __device__ __forceinline__ float scaled(float product, int which, int m, int n, int i) const {
      constexpr DType kScale = c.weights == WeightFormat::fp8_block ? DType::f32 : c.scale_dtype;
      const float scale = scale_of<c.weights, kScale>(scales[which][n][i % 2]);
      if constexpr (!Format::kBiased) return scale * product;
      const unsigned zero = zeros[which][n][i % 2];
      // 8 is the middle of 0 .. 15.
      const float offset = Format::kBias + (c.zero_point == ZeroPoint::packed ? static_cast<float>(zero) : 8.0f);
      const float sum = scale * fmaf(-offset, ones[m][i], product);
      if constexpr (c.zero_point != ZeroPoint::real) return sum;
      return fmaf(scale_of<c.weights, kScale>(zero), ones[m][i], sum);
    }

    __device__ __forceinline__ void end(Sums& sums) {
      each([&](int which, int m, int n, int i) {
        sums[which][m][n][i] += scaled(products[which][m][n][i], which, m, n, i);
        products[which][m][n][i] = 0.0f;
      });
#pragma unroll
      for (int i = 0; i < 4 * kTilesM; ++i) ones[i / 4][i % 4] = 0.0f;
    }
    __device__ __forceinline__ void scale_in_place(Sums& sums) {
      each(
          [&](int which, int m, int n, int i) { sums[which][m][n][i] = scaled(sums[which][m][n][i], which, m, n, i); });
    }

    template <typename Use>
    static __device__ __forceinline__ void each(Use use) {
#pragma unroll
      for (int which = 0; which < kGates; ++which) {
#pragma unroll
        for (int m = 0; m < kTilesM; ++m) {
#pragma unroll
          for (int n = 0; n < kTilesN; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) use(which, m, n, i);
          }
        }
      }
    }
  };

  static __device__ __forceinline__ void multiply_tile(const unsigned char* stage, int warp, int k, bool last,
                                                       Group& group, Sums& sums) {
#pragma unroll
    for (int segment = 0; segment < c.block_k / c.segment(); ++segment) {
      if constexpr (!c.keeps_groups()) {
        multiply_segment(stage, warp, segment, group.ones, sums);
      } else {
        const int from = k * c.block_k + segment * c.segment(), to = from + c.segment();
        if (from % c.group_size == 0) group.begin(from / c.group_size);
        multiply_segment(stage, warp, segment, group.ones, group.products);
        if (to % c.group_size == 0 || (last && segment + 1 == c.block_k / c.segment())) group.end(sums);
      }
    }
  }

  static __device__ __forceinline__ void multiply_segment(const unsigned char* stage, int warp, int segment,
                                                          float (&ones)[kTilesM][4], Sums& sums) {
    const int g = lane() / 4, t = lane() % 4;
    // The eight that this lane takes; of eight that two lanes share, each takes half of the pairs.
    const int eight = segment * (c.segment() / 8) + (c.segment() == 32 ? t : t / 2);
    unsigned a[kTilesM][2][kParts][kWords];
#pragma unroll
    for (int i = 0; i < 2 * kTilesM; ++i) {
      const int row = warp_row(warp) + i / 2 * kGroupedRows + i % 2 * 8 + g;
      load_inputs(stage + row * c.in_row_bytes(), eight, a[i / 2][i % 2]);
    }
#pragma unroll
    for (int which = 0; which < kGates; ++which) {
#pragma unroll
      for (int n = 0; n < kTilesN; ++n) {
        const int row = which * c.block_n + warp_output(warp) + n * kGroupedColumns + g;
        unsigned b[kWords];
        load_weights(stage + c.in_bytes() + row * c.weight_row_bytes(), eight, b);
        if constexpr (c.weight_parts() == 2) {
          unsigned rest[kWords];
#pragma unroll
          for (int r = 0; r < kWords; ++r) split_f16(b[r], b[r], rest[r]);
#pragma unroll
          for (int m = 0; m < kTilesM; ++m) multiply_pair(a[m], rest, sums[which][m][n]);
        }
#pragma unroll
        for (int m = 0; m < kTilesM; ++m) multiply_pair(a[m], b, sums[which][m][n]);
      }
    }
    if constexpr (Format::kBiased) {
      constexpr unsigned kOne = both<c.multiplies_f16()>(0x3f80, 0x3c00);
      unsigned b[kWords];
#pragma unroll
      for (int r = 0; r < kWords; ++r) b[r] = kOne;
#pragma unroll
      for (int m = 0; m < kTilesM; ++m) multiply_pair(a[m], b, ones[m]);
    }
  }

  static __device__ __forceinline__ void multiply_pair(const unsigned (&a)[2][kParts][kWords],
                                                       const unsigned (&b)[kWords], float (&d)[4]) {
#pragma unroll
    for (int i = 0; i < kProducts; ++i) {
      const unsigned columns[2] = {b[2 * i], b[2 * i + 1]};
#pragma unroll
      for (int part = kParts; part-- > 0;) {  // the smallest first
        const unsigned rows[4] = {a[0][part][2 * i], a[1][part][2 * i], a[0][part][2 * i + 1], a[1][part][2 * i + 1]};
        device::mma_m16n8k16<kElement>(d, rows, columns);
      }
    }
  }

  // Of the registers for eight elements those of this lane.
  static __device__ __forceinline__ void take_half(const unsigned (&all)[4], unsigned (&words)[kWords]) {
#pragma unroll
    for (int r = 0; r < kWords; ++r) {
      words[r] = kWords == 4 ? all[r] : lane() % 2 == 0 ? all[r] : all[(2 + r) % 4];
    }
  }

  static __device__ __forceinline__ void load_inputs(const unsigned char* row, int eight,
                                                     unsigned (&words)[kParts][kWords]) {
    const int swizzle = in_swizzle(lane() / 4);
    unsigned all[kParts][4];
    if constexpr (kParts == 1) {
      load_unit(row, eight ^ swizzle, all[0]);
    } else {
      float values[8];
      if constexpr (c.in_dtype == DType::f32) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          unsigned unit[4];
          load_unit(row, (2 * eight + half) ^ swizzle, unit);
#pragma unroll
          for (int i = 0; i < 4; ++i) values[4 * half + i] = __uint_as_float(unit[i]);
        }
      } else {
        unsigned unit[4];
        load_unit(row, eight ^ swizzle, unit);
        device::unpack<c.in_dtype, 8>(unit, values);
      }
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
#pragma unroll
        for (int w = 0; w < 4; ++w) all[part][w] = take_bf16(values[2 * w], values[2 * w + 1]);
      }
    }
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      unsigned paired[4];
      pair_up<Format::kPairsAcross>(all[part], paired);
      take_half(paired, words[part]);
    }
  }

  static __device__ __forceinline__ void load_weights(const unsigned char* row, int eight, unsigned (&words)[kWords]) {
    const int byte = eight * c.bits();
    const unsigned char* const from =
        row + ((byte / kUnitBytes) ^ weight_swizzle(lane() / 4)) * kUnitBytes + byte % kUnitBytes;
    unsigned raw[4] = {}, all[4];
    if constexpr (c.bits() == 16) {
      const uint4 loaded = *reinterpret_cast<const uint4*>(from);
      raw[0] = loaded.x, raw[1] = loaded.y, raw[2] = loaded.z, raw[3] = loaded.w;
    } else if constexpr (c.bits() == 8) {
      const uint2 loaded = *reinterpret_cast<const uint2*>(from);
      raw[0] = loaded.x, raw[1] = loaded.y;
    } else {
      raw[0] = *reinterpret_cast<const unsigned*>(from);
    }
    Format::fragment(raw, 0, all);
    take_half(all, words);
  }

  static __device__ __forceinline__ void load_unit(const unsigned char* row, int unit, unsigned (&words)[4]) {
    const uint4 loaded = *reinterpret_cast<const uint4*>(row + unit * kUnitBytes);
    words[0] = loaded.x, words[1] = loaded.y, words[2] = loaded.z, words[3] = loaded.w;
  }
};

}  // namespace gdnjit::moe

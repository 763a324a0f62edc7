// A warp's product of expert weights and tokens: rows of a matrix times up to 8 column_tiles columns, over the steps of
// the rows that are the warp's. Who holds what: moe/matvec_config.cuh and device/mma.cuh.
#pragma once

#include "device/cp_async.cuh"
#include "device/memory.cuh"
#include "device/mma.cuh"
#include "moe/pairs.cuh"
#include "moe/weights.cuh"

namespace gdnjit::moe {

template <MatvecConfig c>
struct Product {
  using Format = Weights<c.weights, c.multiplies_f16()>;
  static constexpr device::Element kElement = c.multiplies_f16() ? device::Element::f16 : device::Element::bf16;
  enum : int {
    kTiles = c.product_tiles(),
    kColumnTiles = c.column_tiles,
    kScales = c.lane_scales(),
    kScaleWords = (kScales * c.scale_bytes() + 3) / 4,
    kParts = c.in_parts(),
    kZeros = c.zero_point == ZeroPoint::eight ? 1 : kScales,
    kGates = c.gated() ? 2 : 1,
  };
  enum : bool {
    // With one tile of columns the inputs of a step are loaded a step ahead; more of them where they are used.
    kInputsAhead = c.column_tiles == 1 && c.in_parts() == 1,
    // Dimensions that tiles and steps divide, so nothing has to be compared with them.
    kFullRows = c.out_features(false) % c.warp_rows() == 0 && c.out_features(true) % c.warp_rows() == 0,
    kFullSteps = c.whole_steps(false) && c.whole_steps(c.shared_size > 0),
    kFullGroups = kFullSteps && c.whole_groups(false) && c.whole_groups(c.shared_size > 0),
    // A column without a token multiplies the first one's inputs, and its sums go nowhere. Where a token has several
    // columns, each must see zeros for what is not its group's.
    kZeroColumns = c.group_columns() > 1,
  };

  // Of a matrix, the rows of a warp's tiles as this lane sees them: `row` is its first, the others lie at row_offset().
  struct Place {
    int in, outputs;  // weights in a row; numbers that come out
    int row;
    int left;  // outputs from this lane's first to the last
  };
  // Where this lane's codes begin; its scales with zeros.
  struct Rows {
    const unsigned char* data;
  };
  struct ScaleRows {
    const unsigned char* scales;
    const unsigned char* zeros;
  };

  // What a step needs beside its codes, loaded a step ahead.
  struct Aside {
    unsigned scales[kTiles][2][kScaleWords];
    unsigned zeros[kTiles][2][kZeros];
    unsigned inputs[kInputsAhead ? c.chunks() : 1][4];
  };

  // The codes of c.stages steps on their way to shared memory. A lane copies what it will read itself, 16 bytes of each
  // of its rows, so nobody waits for another; lanes lie side by side, so there are no bank conflicts.
  struct Ring {
    unsigned address;  // of this lane's first slot
    int slot = 0;

    __device__ __forceinline__ explicit Ring(unsigned char* shared, int warp)
        : address(device::shared_address(shared) + static_cast<unsigned>(warp * c.ring_bytes() + lane() * 16)) {}
    __device__ __forceinline__ void advance() { slot = slot + 1 == c.stages ? 0 : slot + 1; }
    __device__ __forceinline__ unsigned place(int at, int tile, int half) const {
      return address + static_cast<unsigned>(((at * kTiles + tile) * 2 + half) * 512);
    }
  };

  // This lane's column of each tile of columns: where its token's inputs are, or nullptr for zeros.
  struct Columns {
    const unsigned char* inputs[kColumnTiles];
  };

  using Sums = float[kTiles][kColumnTiles][4];

  static __device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x) % device::kWarpLanes; }
  static constexpr int steps(int in) { return (in + c.step_k() - 1) / c.step_k(); }

  // The outputs and the rows between this lane's first and the one that is row `half` of tile `tile`.
  static constexpr int output_offset(int tile, int half) { return tile / kGates * kTileRows + 8 * half; }
  static __device__ __forceinline__ int row_offset(int tile, int half, int outputs) {
    const int offset = output_offset(tile, half), which = tile % kGates;
    if (!c.gated()) return offset;
    if (c.gate_order == GateOrder::interleaved) return 2 * offset + which;
    return offset + (c.gate_order == GateOrder::gate_up ? which : 1 - which) * outputs;
  }
  // Rows behind the last are not read, and are zeros.
  static __device__ __forceinline__ bool is_row(const Place& place, int tile, int half) {
    return kFullRows || output_offset(tile, half) < place.left;
  }

  // The tiles of a warp whose first output is `first`.
  static __device__ __forceinline__ Place place_of(bool shared, int first) {
    const int output = first + lane() / 4, outputs = c.out_features(shared);
    const bool taking_turns = c.gated() && c.gate_order == GateOrder::interleaved;
    return {c.in_features(shared), outputs, taking_turns ? 2 * output : output, outputs - output};
  }
  static __device__ __forceinline__ Rows rows_of(const ExpertMatrix& m, const Place& place) {
    return {static_cast<const unsigned char*>(m.data) + static_cast<long long>(place.row) * row_bytes(place.in) +
            lane() % 4 * 16};
  }
  static __device__ __forceinline__ ScaleRows scale_rows_of(const ExpertMatrix& m, const Place& place) {
    const long long groups = c.groups(place.in);
    ScaleRows rows{nullptr, nullptr};
    if constexpr (c.scaled()) {
      rows.scales = static_cast<const unsigned char*>(m.scales);
      if (c.weights != WeightFormat::fp8_block) rows.scales += place.row * groups * c.scale_bytes();
    }
    if constexpr (c.zero_point == ZeroPoint::packed) {
      rows.zeros = static_cast<const unsigned char*>(m.zeros) + place.row / 2 * groups;
    } else if constexpr (c.zero_point == ZeroPoint::real) {
      rows.zeros = static_cast<const unsigned char*>(m.zeros) + place.row * groups * c.scale_bytes();
    }
    return rows;
  }

  // The columns of `count` tokens, whose inputs are at input_of(0) and so on.
  template <typename InputOf>
  static __device__ __forceinline__ void set_columns(int count, InputOf&& input_of, Columns& columns) {
    const int g = lane() / 4, t = lane() % 4;
    const bool own_group = g % c.group_columns() == t * c.group_columns() / 4;
    const int own_inputs = t * c.lane_k() * dtype_bytes(c.in_dtype);
#pragma unroll
    for (int tile = 0; tile < kColumnTiles; ++tile) {
      const int place = (tile * kTileColumns + g) / c.group_columns();
      const bool used = own_group && place < count;
      columns.inputs[tile] = used || !kZeroColumns ? input_of(used ? place : 0) + own_inputs : nullptr;
    }
  }

  // Issues the copies of a step's codes to slot `slot`; what lies behind a row's end is 0. A group of copies for each
  // step, also for one that there is not.
  static __device__ __forceinline__ void copy_weights(const Place& place, const Rows& rows, bool is_step, int step,
                                                      const Ring& ring, int slot) {
    if (is_step) {
      const int bytes = row_bytes(place.in), start = step * kStepBytes + lane() % 4 * 16;
      const unsigned char* const from = rows.data + step * kStepBytes;
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const long long offset = static_cast<long long>(row_offset(tile, half, place.outputs)) * bytes;
          const bool is_row = Product::is_row(place, tile, half);
#pragma unroll
          for (int piece = 0; piece < 16; piece += c.weight_vector) {
            const unsigned to = ring.place(slot, tile, half) + static_cast<unsigned>(piece);
            if constexpr (kFullRows && kFullSteps) {
              device::cp_async<c.weight_vector>(to, from + offset + piece);
            } else {
              const bool is_there = is_row && (kFullSteps || start + piece < bytes);
              device::cp_async_or_zeros<c.weight_vector>(to, from + offset + piece, is_there ? c.weight_vector : 0);
            }
          }
        }
      }
    }
    device::cp_async_commit();
  }

  static __device__ __forceinline__ void load_scales(const Place& place, const ScaleRows& rows, int step,
                                                     Aside& aside) {
    if constexpr (!c.scaled()) return;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      load_row_scales(place, rows, step, tile, 0, aside);
      load_row_scales(place, rows, step, tile, 1, aside);
    }
  }

  static __device__ __forceinline__ void load_inputs(const Columns& columns, int in, int step, Aside& aside) {
    if constexpr (kInputsAhead) {
#pragma unroll
      for (int chunk = 0; chunk < c.chunks(); ++chunk) {
        load_eight(columns.inputs[0], step, chunk, in, aside.inputs[chunk]);
      }
    }
  }

  // Puts the inputs into the order of a format's pairs.
  static __device__ __forceinline__ void pair_inputs(Aside& aside) {
    if constexpr (kInputsAhead) {
#pragma unroll
      for (int chunk = 0; chunk < c.chunks(); ++chunk) {
        unsigned pairs[4];
        pair_up<Format::kPairsAcross>(aside.inputs[chunk], pairs);
#pragma unroll
        for (int w = 0; w < 4; ++w) aside.inputs[chunk][w] = pairs[w];
      }
    }
  }

  // Adds the products of the step in the ring's present slot to the sums, once it is there. Inputs in `aside` are
  // paired.
  static __device__ __forceinline__ void accumulate(const Ring& ring, const Aside& aside, const Columns& columns,
                                                    int in, int step, Sums& sums) {
    device::cp_async_wait<c.stages - 1>();
    unsigned words[kTiles][2][4];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int half = 0; half < 2; ++half) load_slot(ring.place(ring.slot, tile, half), words[tile][half]);
    }
#pragma unroll
    for (int part = 0; part < c.lane_groups(); ++part) {
      float products[kTiles][kColumnTiles][4] = {};
      float ones[kColumnTiles][4] = {};  // the sums of the inputs, in every row
#pragma unroll
      for (int i = 0; i < c.chunks() / c.lane_groups(); ++i) {
        multiply(words, aside, columns, in, step, part * (c.chunks() / c.lane_groups()) + i, products, ones);
      }
      add_scaled(aside, part, products, ones, sums);
    }
  }

  // Adds up the columns of a token: its sums are in its first one then, which token_at() names.
  static __device__ __forceinline__ void join_columns(Sums& sums) {
    if constexpr (c.group_columns() > 1) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int column = 0; column < kColumnTiles; ++column) {
#pragma unroll
          for (int i = 0; i < 4; i += 2) {
            float& sum = sums[tile][column][i];
            sum += sums[tile][column][i + 1];
            if constexpr (c.group_columns() == 4) sum += device::from_lane_xor(sum, 1);
          }
        }
      }
    }
  }
  // The place in its group of the token whose sum is number i of this lane's in a tile of columns, or -1.
  static __device__ __forceinline__ int token_at(int column, int i) {
    const int own = device::mma_d_column(lane(), i);
    return own % c.group_columns() == 0 ? (column * kTileColumns + own) / c.group_columns() : -1;
  }

 private:
  // Tiles begin at even rows, unless gate and up take turns.
  static __device__ __forceinline__ bool in_odd_row(int tile) {
    if (c.gated() && c.gate_order == GateOrder::interleaved) return tile % 2 != 0;
    return lane() / 4 % 2 != 0;
  }

  static __device__ __forceinline__ constexpr int row_bytes(int in) { return in / 8 * c.bits(); }

  static __device__ __forceinline__ void load_slot(unsigned address, unsigned (&words)[4]) {
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(address)
                 : "memory");
  }

  // From ScaleRows::scales to those of the row `row` behind this lane's first.
  static __device__ __forceinline__ long long scale_offset(const Place& place, int row) {
    const int scale_row = c.weights == WeightFormat::fp8_block ? (place.row + row) / 128 : row;
    return static_cast<long long>(scale_row) * c.groups(place.in) * c.scale_bytes();
  }

  // The group of a lane's first scale in a step.
  static __device__ __forceinline__ int first_group(int step) {
    if constexpr (c.group_size == 0) {
      return 0;
    } else if constexpr (c.group_size >= c.step_k()) {
      return step * c.step_k() / c.group_size;
    } else {
      const int column = 2 * (lane() % 4) % c.group_columns();
      return (step * c.group_columns() + column) * c.lane_groups();
    }
  }

  static __device__ __forceinline__ void load_row_scales(const Place& place, const ScaleRows& rows, int step, int tile,
                                                         int half, Aside& aside) {
    const int first = first_group(step), groups = c.groups(place.in);
    const int row = row_offset(tile, half, place.outputs);
    const bool is_row = Product::is_row(place, tile, half);
    const auto is_group = [&](int group) { return is_row && (kFullGroups || group < groups); };
    const long long offset = c.weights == WeightFormat::fp8_block ? (place.row + row) / 128 * groups : row * groups;
    const unsigned char* const scales = rows.scales + (offset + first) * c.scale_bytes();
    enum : int { kVector = c.scale_vector, kBytes = c.scale_vector * c.scale_bytes() };
#pragma unroll
    for (int w = 0; w < kScaleWords; ++w) aside.scales[tile][half][w] = 0;
#pragma unroll
    for (int i = 0; i < kScales; i += kVector) {
      if (is_group(first + i))
        put_bits<kBytes>(scales + i * c.scale_bytes(), i * c.scale_bytes(), aside.scales[tile][half]);
    }
    if constexpr (c.zero_point != ZeroPoint::eight) {
#pragma unroll
      for (int i = 0; i < kScales; ++i) {
        aside.zeros[tile][half][i] = 0;
        if (!is_group(first + i)) continue;
        if constexpr (c.zero_point == ZeroPoint::packed) {
          aside.zeros[tile][half][i] = rows.zeros[row / 2 * groups + first + i];
        } else {
          unsigned bits[1] = {0};
          put_bits<dtype_bytes(c.scale_dtype)>(rows.zeros + scale_offset(place, row) + (first + i) * c.scale_bytes(), 0,
                                               bits);
          aside.zeros[tile][half][i] = bits[0];
        }
      }
    }
  }

  // kBytes from memory to byte `place` of a row of words.
  template <int kBytes, int kWords>
  static __device__ __forceinline__ void put_bits(const unsigned char* from, int place, unsigned (&words)[kWords]) {
    if constexpr (kBytes == 1) {
      words[place / 4] |= static_cast<unsigned>(*from) << 8 * (place % 4);
    } else if constexpr (kBytes == 2) {
      words[place / 4] |= static_cast<unsigned>(*reinterpret_cast<const unsigned short*>(from)) << 8 * (place % 4);
    } else {
      unsigned loaded[kBytes / 4];
      device::load_words<kBytes, device::CacheHint::normal>(from, loaded);
#pragma unroll
      for (int w = 0; w < kBytes / 4; ++w) words[place / 4 + w] = loaded[w];
    }
  }

  static __device__ __forceinline__ unsigned bits_at(const unsigned* words, int place) {
    return words[place / 4] >> 8 * (place % 4);
  }

  // Whether a step has inputs of this lane for chunk `chunk`.
  static __device__ __forceinline__ bool has_inputs(const unsigned char* inputs, int step, int chunk, int in) {
    return (!kZeroColumns || inputs != nullptr) &&
           (kFullSteps || step * c.step_k() + lane() % 4 * c.lane_k() + chunk * 8 < in);
  }
  static __device__ __forceinline__ const unsigned char* inputs_at(const unsigned char* inputs, int step, int chunk) {
    return inputs + step * c.step_k() * dtype_bytes(c.in_dtype) + chunk * 8 * dtype_bytes(c.in_dtype);
  }

  // Eight inputs as they lie in memory, 16-bit ones; zeros where there are none.
  static __device__ __forceinline__ void load_eight(const unsigned char* inputs, int step, int chunk, int in,
                                                    unsigned (&words)[4]) {
#pragma unroll
    for (int w = 0; w < 4; ++w) words[w] = 0;
    if (has_inputs(inputs, step, chunk, in)) {
      device::load_words<16, device::CacheHint::normal>(inputs_at(inputs, step, chunk), words);
    }
  }

  // Eight inputs as elements, in parts that add up to them.
  static __device__ __forceinline__ void load_parts(const unsigned char* inputs, int step, int chunk, int in,
                                                    unsigned (&words)[kParts][4]) {
    if constexpr (kParts == 1) {
      load_eight(inputs, step, chunk, in, words[0]);
    } else {
      float values[8] = {};
      if (has_inputs(inputs, step, chunk, in)) {
        device::load_elements<c.in_dtype, 16 / dtype_bytes(c.in_dtype), 8>(inputs_at(inputs, step, chunk), 0, values);
      }
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
#pragma unroll
        for (int w = 0; w < 4; ++w) words[part][w] = take_bf16(values[2 * w], values[2 * w + 1]);
      }
    }
  }

  static __device__ __forceinline__ void multiply(const unsigned (&codes)[kTiles][2][4], const Aside& aside,
                                                  const Columns& columns, int in, int step, int chunk,
                                                  float (&products)[kTiles][kColumnTiles][4],
                                                  float (&ones)[kColumnTiles][4]) {
    unsigned b[kColumnTiles][kParts][4];
#pragma unroll
    for (int column = 0; column < kColumnTiles; ++column) {
      if constexpr (kInputsAhead) {
#pragma unroll
        for (int w = 0; w < 4; ++w) b[column][0][w] = aside.inputs[chunk][w];
      } else {
        unsigned words[kParts][4];
        load_parts(columns.inputs[column], step, chunk, in, words);
#pragma unroll
        for (int part = 0; part < kParts; ++part) pair_up<Format::kPairsAcross>(words[part], b[column][part]);
      }
    }
    // The fragments of all tiles, then all tiles' products in turn: an mma that waits for the one before it on the same
    // sums would wait 33 clocks.
    enum : int { kRest = c.weight_parts() == 2 ? kTiles : 0, kOnes = kTiles + kRest };
    unsigned rows[kTiles + kRest + 1][2][4];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      Format::fragment(codes[tile][0], chunk, rows[tile][0]);
      Format::fragment(codes[tile][1], chunk, rows[tile][1]);
      if constexpr (c.weight_parts() == 2) {
#pragma unroll
        for (int r = 0; r < 8; ++r) {
          split_f16(rows[tile][r / 4][r % 4], rows[tile][r / 4][r % 4], rows[kTiles + tile][r / 4][r % 4]);
        }
      }
    }
    constexpr unsigned kOne = both<c.multiplies_f16()>(0x3f80, 0x3c00);
#pragma unroll
    for (int r = 0; r < 8; ++r) rows[kOnes][r / 4][r % 4] = kOne;
#pragma unroll
    for (int part = kParts; part-- > 0;) {  // the smallest first
#pragma unroll
      for (int i = 0; i < 4; i += 2) {
#pragma unroll
        for (int tile = kTiles + kRest - 1; tile >= 0; --tile) {
          multiply_pairs(rows[tile], b, part, i, products[tile % kTiles]);
        }
        if constexpr (Format::kBiased) multiply_pairs(rows[kOnes], b, part, i, ones);
      }
    }
  }

  // Rows g and g + 8, four weights of each lane, times every column.
  static __device__ __forceinline__ void multiply_pairs(const unsigned (&rows)[2][4],
                                                        const unsigned (&b)[kColumnTiles][kParts][4], int part, int i,
                                                        float (&sums)[kColumnTiles][4]) {
    const unsigned a[4] = {rows[0][i], rows[1][i], rows[0][i + 1], rows[1][i + 1]};
#pragma unroll
    for (int column = 0; column < kColumnTiles; ++column) {
      const unsigned inputs[2] = {b[column][part][i], b[column][part][i + 1]};
      device::mma_m16n8k16<kElement>(sums[column], a, inputs);
    }
  }

  static __device__ __forceinline__ void add_scaled(const Aside& aside, int part,
                                                    const float (&products)[kTiles][kColumnTiles][4],
                                                    const float (&ones)[kColumnTiles][4], Sums& sums) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int half = i / 2, index = (c.group_columns() > 1 ? i % 2 : 0) * c.lane_groups() + part;
        float scale = 1.0f, offset = 0.0f, zero = 0.0f;
        if constexpr (c.scaled()) {
          scale = scale_of < c.weights,
          c.weights == WeightFormat::fp8_block
              ? DType::f32
              : c.scale_dtype > (bits_at(aside.scales[tile][half], index * c.scale_bytes()));
        }
        if constexpr (Format::kBiased) {
          offset = Format::kBias + 8.0f;  // 8 is the middle of 0 .. 15
          if constexpr (c.zero_point == ZeroPoint::packed) {
            offset = Format::kBias +
                     static_cast<float>(aside.zeros[tile][half][index % kZeros] >> (in_odd_row(tile) ? 4 : 0) & 15u);
          } else if constexpr (c.zero_point == ZeroPoint::real) {
            zero = scale_of<c.weights, c.scale_dtype>(aside.zeros[tile][half][index % kZeros]);
          }
        }
#pragma unroll
        for (int column = 0; column < kColumnTiles; ++column) {
          float& sum = sums[tile][column][i];
          if constexpr (!c.scaled()) {
            sum += products[tile][column][i];
          } else if constexpr (!Format::kBiased) {
            sum = fmaf(scale, products[tile][column][i], sum);
          } else {
            sum = fmaf(scale, fmaf(-offset, ones[column][i], products[tile][column][i]), sum);
            if constexpr (c.zero_point == ZeroPoint::real) sum = fmaf(zero, ones[column][i], sum);
          }
        }
      }
    }
  }
};

}  // namespace gdnjit::moe

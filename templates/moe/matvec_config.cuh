// The compile-time side of the matvec class of expert products: everything that shapes its two kernels, their
// parameters, and the formulas that host and device share. Host code includes this file too.
//
// Weights are the A operand of mma.m16n8k16, tokens its eight columns, so a weight is read, dequantised and multiplied
// once for up to eight tokens. The order of the 16 numbers that one instruction sums is free: a lane takes 16 bytes of
// a row at once and feeds them to instruction after instruction, so lanes 4 g to 4 g + 3 share row g in runs of 64
// bytes (step_k() weights, "a step").
//
// Scales are applied to the fp32 sums of a group of weights. Where a step holds several groups each gets a column of
// its own (group_columns()): a token has that many columns, and column j holds zeros for all lanes but those that have
// group j. So sums of different groups never meet before they are scaled.
#pragma once

#include <gdnjit/dtype.h>
#include <gdnjit/moe_options.h>

namespace gdnjit::moe {

// (Enumerators: a constant variable would become one of every compiled module.)
enum : int {
  kTileRows = 16,     // rows of weights in one mma
  kTileColumns = 8,   // its columns
  kStepBytes = 64,    // of a row that the four lanes of a step load
  kChunkPairs = 640,  // the most pairs of token and slot that one block looks at; fewer where its memory is short
  kLeastChunkPairs = 64,
  kSumsPitch = 20,  // of 16 rows' sums in shared memory: lanes that write together meet different banks
  kMaxMatvecWarps = 24,
  kMaxMatvecBytes = 227 * 1024,  // shared memory of a block on sm_90; the host knows what others have
};

// Bytes of one scale.
constexpr int scale_bytes(WeightFormat weights, DType scale_dtype) {
  switch (weights) {
    case WeightFormat::mxfp4:
    case WeightFormat::nvfp4: return 1;
    case WeightFormat::fp8_block: return 4;
    default: return dtype_bytes(scale_dtype);
  }
}

// The elements of the products. bf16 takes every format but fp16; numbers with more digits are summed in parts.
constexpr bool multiplies_f16(DType in_dtype, WeightFormat weights) {
  return in_dtype == DType::f16 && weights != WeightFormat::bf16;
}
constexpr int in_parts(DType in_dtype, WeightFormat weights) {
  if (in_dtype == DType::f32) return 3;
  return in_dtype == DType::f16 && !multiplies_f16(in_dtype, weights) ? 2 : 1;
}
constexpr int weight_parts(DType in_dtype, WeightFormat weights) {
  return weights == WeightFormat::f16 && !multiplies_f16(in_dtype, weights) ? 2 : 1;
}

// The signature of a kernel: two kernels of one stage with equal configs have equal source.
struct MatvecConfig {
  // The problem. Fields that a choice makes meaningless hold their defaults.
  bool down = false;  // the second product, whose output is the sum over a token's slots; else the first
  int hidden_size = 2048;
  int intermediate_size = 512;
  int shared_size = 0;  // intermediate size of the expert that every token has in its last slot; 0: none
  int experts = 256;
  int top_k = 8;
  DType in_dtype = DType::bf16;   // x or h
  DType out_dtype = DType::bf16;  // h or y
  DType id_dtype = DType::i32;
  WeightFormat weights = WeightFormat::bf16;
  int group_size = 0;  // weights of a row that share a scale: 16 2^n, 0: the whole row
  DType scale_dtype = DType::bf16;
  ZeroPoint zero_point = ZeroPoint::eight;
  Activation activation = Activation::silu;
  float swiglu_alpha = 1.702f;
  float swiglu_limit = 7.0f;
  GateOrder gate_order = GateOrder::gate_up;
  bool bias = false;
  DType bias_dtype = DType::bf16;
  bool expert_map = false;
  bool shared_gate = false;
  bool programmatic = false;  // starts while its predecessor ends
  // Bytes of a row and elements of scales in one access, from dimensions and alignment.
  int weight_vector = 16;
  int scale_vector = 1;
  // Tiles.
  int row_tiles = 1;     // tiles of 16 outputs that a warp owns (of the first product: 16 of gate and of up)
  int warps_n = 1;       // teams of warps side by side, each with its own items
  int warps_k = 4;       // warps of a team, which share the sum over a row
  int column_tiles = 1;  // mma columns of a warp, in eights
  int stages = 4;        // steps whose weights are on their way to shared memory
  int cluster = 1;       // blocks that share rows of the second product: each has its groups, and adds up its rows

  constexpr bool gated() const { return !down && is_gated(activation); }
  constexpr int slots() const { return top_k + (shared_size > 0 ? 1 : 0); }
  constexpr int h_row() const { return shared_size > intermediate_size ? shared_size : intermediate_size; }

  // The dimension that is summed over and the rows of the output, of an expert or of the shared one.
  constexpr int in_features(bool shared) const {
    return !down ? hidden_size : shared ? shared_size : intermediate_size;
  }
  constexpr int out_features(bool shared) const {
    return down ? hidden_size : shared ? shared_size : intermediate_size;
  }

  constexpr int bits() const { return weight_bits(weights); }
  constexpr int lane_k() const { return 128 / bits(); }  // weights in 16 bytes
  constexpr int step_k() const { return 4 * lane_k(); }
  constexpr int chunks() const { return lane_k() / 8; }  // eights of weights in a lane's 16 bytes
  constexpr bool scaled() const { return weights != WeightFormat::bf16 && weights != WeightFormat::f16; }
  constexpr int group_columns() const {
    if (!scaled() || group_size == 0 || group_size >= step_k()) return 1;
    return step_k() / group_size < 4 ? step_k() / group_size : 4;
  }
  // Groups of a lane's 16 bytes.
  constexpr int lane_groups() const {
    return scaled() && group_size > 0 && group_size < lane_k() ? lane_k() / group_size : 1;
  }
  // Scales that a lane needs for a row of a step: of its two columns of the result, in each part of its 16 bytes.
  constexpr int lane_scales() const { return (group_columns() > 1 ? 2 : 1) * lane_groups(); }
  constexpr int scale_bytes() const { return moe::scale_bytes(weights, scale_dtype); }
  constexpr int groups(int in) const { return group_size == 0 ? 1 : (in + group_size - 1) / group_size; }
  // Whether rows consist of whole steps, some for every warp; of whole groups.
  constexpr bool whole_steps(bool shared) const {
    return in_features(shared) % step_k() == 0 && in_features(shared) / step_k() >= warps_k;
  }
  constexpr bool whole_groups(bool shared) const { return group_size == 0 || in_features(shared) % group_size == 0; }

  constexpr bool multiplies_f16() const { return moe::multiplies_f16(in_dtype, weights); }
  constexpr int in_parts() const { return moe::in_parts(in_dtype, weights); }
  constexpr int weight_parts() const { return moe::weight_parts(in_dtype, weights); }

  // Tokens that share a pass over an expert's weights.
  constexpr int group_tokens() const { return column_tiles * kTileColumns / group_columns(); }
  constexpr int chunk_tokens() const {
    int pairs = kChunkPairs;
    while (pairs > kLeastChunkPairs && shared_bytes(pairs) > kMaxMatvecBytes) pairs -= 16;
    return pairs / slots();
  }

  constexpr int product_tiles() const { return row_tiles * (gated() ? 2 : 1); }
  constexpr int warp_rows() const { return row_tiles * kTileRows; }
  constexpr int block_rows() const { return warp_rows() / cluster; }  // of y that a block adds up
  constexpr int warps() const { return warps_n * warps_k; }
  constexpr int threads() const { return 32 * warps(); }
  constexpr int tiles_n() const {
    const int out = down ? hidden_size : h_row();
    return (out + warp_rows() - 1) / warp_rows();
  }

  // Shared memory, in order: the weights on their way, 512 bytes for a step of 8 rows, warp by warp, where before lie
  // the tables by which pairs find their groups; the pairs' groups (PairGroups); and of the first product the sums of
  // an item, two of every team, [warps_n][2][warps_k][tiles][group_tokens][kSumsPitch], if its warps share the sum over
  // a row; of the second those of every pair, [warps_k][pairs][block_rows()].
  constexpr int expert_slots() const { return (experts + 2) / 2 * 2; }
  constexpr int ring_bytes() const { return stages * product_tiles() * 2 * 512; }  // of a warp
  constexpr int group_scratch_bytes(int pairs) const {
    const int spans = (pairs + 31) / 32;
    return pairs <= 32 ? 0 : 2 * (expert_slots() + spans * 65) + spans * expert_slots();
  }
  constexpr int front_bytes(int pairs) const {
    const int tables = (group_scratch_bytes(pairs) + 15) / 16 * 16, rings = warps() * ring_bytes();
    return tables > rings ? tables : rings;
  }
  constexpr int group_table_bytes(int pairs) const { return (4 + 2 * pairs * (3 + group_tokens()) + 15) / 16 * 16; }
  constexpr int item_sums() const { return warps_k * product_tiles() * group_tokens() * kSumsPitch; }
  constexpr int sums_bytes(int pairs) const {
    if (down) return 4 * warps_k * pairs * block_rows();
    return warps_k == 1 ? 0 : 4 * warps_n * 2 * item_sums();
  }
  constexpr int shared_bytes(int pairs) const {
    return front_bytes(pairs) + group_table_bytes(pairs) + sums_bytes(pairs);
  }

  // Why the tiles cannot work, or nullptr.
  constexpr const char* fault() const {
    if (row_tiles < 1 || row_tiles > 4) return "row_tiles must be 1 to 4";
    if (warps_n < 1 || warps_k < 1 || warps() > kMaxMatvecWarps) return "warps_n warps_k must be 1 to 24";
    if (warps_k > 1 && warps_n > 15) return "teams of several warps must be 15 at most, for as many barriers";
    if (column_tiles != 1 && column_tiles != 2 && column_tiles != 4) return "column_tiles must be 1, 2 or 4";
    if (group_tokens() > 8) return "column_tiles: one warp serves at most 8 tokens at once";
    if (stages < 1 || stages > 8) return "stages must be 1 to 8";
    if (cluster < 1 || cluster > 8 || 2 * row_tiles % cluster != 0) return "cluster must divide 2 row_tiles";
    if (!down && cluster != 1) return "cluster must be 1 of moe.up";
    if (product_tiles() * column_tiles > 8) return "row_tiles column_tiles are more sums than registers hold";
    if (shared_bytes(chunk_tokens() * slots()) > kMaxMatvecBytes)
      return "warps_k row_tiles need too much shared memory";
    return nullptr;
  }
};

template <typename Self, typename Visitor>
constexpr void visit_matvec_fields(Self& config, Visitor& visit) {
  visit("down", config.down);
  visit("hidden_size", config.hidden_size);
  visit("intermediate_size", config.intermediate_size);
  visit("shared_size", config.shared_size);
  visit("experts", config.experts);
  visit("top_k", config.top_k);
  visit("in_dtype", config.in_dtype);
  visit("out_dtype", config.out_dtype);
  visit("id_dtype", config.id_dtype);
  visit("weights", config.weights);
  visit("group_size", config.group_size);
  visit("scale_dtype", config.scale_dtype);
  visit("zero_point", config.zero_point);
  visit("activation", config.activation);
  visit("swiglu_alpha", config.swiglu_alpha);
  visit("swiglu_limit", config.swiglu_limit);
  visit("gate_order", config.gate_order);
  visit("bias", config.bias);
  visit("bias_dtype", config.bias_dtype);
  visit("expert_map", config.expert_map);
  visit("shared_gate", config.shared_gate);
  visit("programmatic", config.programmatic);
  visit("weight_vector", config.weight_vector);
  visit("scale_vector", config.scale_vector);
  visit("row_tiles", config.row_tiles);
  visit("warps_n", config.warps_n);
  visit("warps_k", config.warps_k);
  visit("column_tiles", config.column_tiles);
  visit("stages", config.stages);
  visit("cluster", config.cluster);
}

// Every field once, in declaration order: its name in the signature and its value.
template <typename Visitor>
constexpr void visit_fields(MatvecConfig& c, Visitor&& visit) {
  visit_matvec_fields(c, visit);
}
template <typename Visitor>
constexpr void visit_fields(const MatvecConfig& c, Visitor&& visit) {
  visit_matvec_fields(c, visit);
}

// The weights of one product: those of all experts, or of the shared one. Rows are dense; strides count bytes.
struct ExpertMatrix {
  const void* data;            // [E, N, K]
  const void* scales;          // [E, N, K/gs]; of fp8_block [E, N/128, K/128]
  const void* zeros;           // of int4: [E, N/2, K/gs] packed or [E, N, K/gs] real
  const float* global_scales;  // of nvfp4: [E]
  const void* bias;            // [E, N]
  long long data_stride;       // from expert to expert
  long long scales_stride;
  long long zeros_stride;
  long long bias_stride;
};

struct MatvecParams {
  const void* in;           // x [M, D] or h [M, slots, h_row]; rows are dense
  void* out;                // h or y [M, D]
  const void* ids;          // [M, k]
  const float* weights;     // [M, k], of the second product
  const int* expert_map;    // [map_size], from ids to experts here, -1 for those elsewhere
  const void* shared_gate;  // [D], of the first product
  float* shared_weights;    // [M]: sigmoid(x shared_gate), from the first product to the second
  long long in_stride;      // of tokens, in elements
  long long out_stride;
  long long ids_stride;
  long long weights_stride;
  ExpertMatrix routed;
  ExpertMatrix shared;
  int tokens;
  int map_size;
};

}  // namespace gdnjit::moe

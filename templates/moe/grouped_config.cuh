// The compile-time side of the grouped class of expert products, for many tokens: everything that shapes its kernels,
// their parameters, and the formulas that host and device share. Host code includes this file too.
//
// moe.align puts the pairs of token and slot in the order of their experts, each expert's run padded to whole blocks of
// block_m rows. A block of threads then takes block_m rows and block_n outputs of one expert. A token's shared expert
// needs no sorting: its rows are the tokens in order, in blocks of their own before the others.
#pragma once

#include "moe/matvec_config.cuh"

namespace gdnjit::moe {

enum : int {
  kGroupedRows = 16,           // tokens in one mma
  kGroupedColumns = 8,         // outputs in one mma
  kUnitBytes = 16,             // what shared memory is swizzled in
  kQuantizedGroup = 128,       // numbers of a row of e4m3 that share a scale
  kGroupedBytes = 227 * 1024,  // shared memory of a block on sm_90; the target may have less
};

// Bytes of a row of `columns` numbers in e4m3: whole groups, zeros behind the last number.
constexpr int quantized_row(int columns) { return (columns + kQuantizedGroup - 1) / kQuantizedGroup * kQuantizedGroup; }

// Which template multiplies.
enum class ExpertPath : unsigned char {
  matvec,  // matvec_up.cuh, matvec_down.cuh: few tokens
  mma,     // grouped.cuh: mma.sync, everywhere
  wgmma,   // grouped_sm90.cuh: sm_90a, weights and inputs of the same 16 bits or both e4m3
};

// The signature of a kernel: two kernels with equal configs have equal source. Fields of the problem as in
// MatvecConfig.
struct GroupedConfig {
  bool down = false;
  int hidden_size = 2048;
  int intermediate_size = 512;
  int shared_size = 0;
  int experts = 256;
  int top_k = 8;
  DType in_dtype = DType::bf16;
  DType out_dtype = DType::bf16;  // of the first product; the second's results are fp32, for moe/combine.cuh
  WeightFormat weights = WeightFormat::bf16;
  int group_size = 0;
  DType scale_dtype = DType::bf16;
  ZeroPoint zero_point = ZeroPoint::eight;
  ActivationFormat activations = ActivationFormat::io;
  Activation activation = Activation::silu;
  float swiglu_alpha = 1.702f;
  float swiglu_limit = 7.0f;
  GateOrder gate_order = GateOrder::gate_up;
  bool bias = false;
  DType bias_dtype = DType::bf16;
  bool shared_gate = false;  // of the first product, which computes it
  int weight_vector = 16;    // bytes of a row in one copy
  // Tiles.
  int block_m = 64;
  int block_n = 64;  // numbers of h or y; with a gate twice as many rows of weights
  int block_k = 64;
  int stages = 3;
  int warps = 8;
  int group_m = 16;  // blocks of rows that pass the weights together

  constexpr bool gated() const { return !down && is_gated(activation); }
  constexpr int gates() const { return gated() ? 2 : 1; }
  constexpr int slots() const { return top_k + (shared_size > 0 ? 1 : 0); }
  constexpr int h_row() const { return shared_size > intermediate_size ? shared_size : intermediate_size; }
  constexpr int in_features(bool shared) const {
    return !down ? hidden_size : shared ? shared_size : intermediate_size;
  }
  constexpr int out_features(bool shared) const {
    return down ? hidden_size : shared ? shared_size : intermediate_size;
  }
  constexpr int most_outputs() const { return down ? hidden_size : h_row(); }
  constexpr int tiles_n() const { return (most_outputs() + block_n - 1) / block_n; }

  constexpr int bits() const { return weight_bits(weights); }
  constexpr bool scaled() const { return weights != WeightFormat::bf16 && weights != WeightFormat::f16; }
  constexpr int scale_bytes() const { return moe::scale_bytes(weights, scale_dtype); }
  constexpr int groups(int in) const { return group_size == 0 ? 1 : (in + group_size - 1) / group_size; }

  // Inputs in e4m3: rows of quantized_row() bytes, and a scale for each 128 of them (quantize.cuh).
  constexpr bool quantized() const { return activations == ActivationFormat::fp8; }
  constexpr int quantized_row() const { return moe::quantized_row(down ? h_row() : hidden_size); }

  constexpr bool multiplies_f16() const { return moe::multiplies_f16(in_dtype, weights); }
  constexpr int in_parts() const { return moe::in_parts(in_dtype, weights); }
  constexpr int weight_parts() const { return moe::weight_parts(in_dtype, weights); }

  // The warps of a block: rows of a warp are 32 where the block has that many.
  constexpr int warps_m() const {
    const int most = block_m / 32 > 1 ? block_m / 32 : 1;
    return most < warps ? most : warps;
  }
  constexpr int warps_n() const { return warps / warps_m(); }
  constexpr int warp_m() const { return block_m / warps_m(); }
  constexpr int warp_n() const { return block_n / warps_n(); }
  constexpr int threads() const { return 32 * warps; }
  constexpr int weight_rows() const { return block_n * gates(); }

  // A segment: the weights of a row that one step takes, eight a lane. Scales are applied to sums of whole groups, so
  // with groups of 16 a segment is one of those, and two lanes share eight weights.
  constexpr int segment() const { return scaled() && group_size == 16 ? 16 : 32; }
  // The sums of a group are apart until they are scaled. One scale for the whole row waits for the end.
  constexpr bool keeps_groups() const { return scaled() && group_size > 0; }

  // Shared memory: [stages][inputs, weights], then the pairs of the rows. Rows are swizzled, see units_swizzle().
  constexpr int in_row_bytes() const { return block_k * (quantized() ? 1 : dtype_bytes(in_dtype)); }
  constexpr int weight_row_bytes() const { return block_k * bits() / 8; }
  constexpr int in_bytes() const { return block_m * in_row_bytes(); }
  constexpr int stage_bytes() const { return in_bytes() + weight_rows() * weight_row_bytes(); }
  constexpr int shared_bytes() const { return stages * stage_bytes() + 4 * block_m; }

  // Why the tiles cannot work with mma.sync, or nullptr.
  constexpr const char* fault() const {
    if (quantized()) return "path=mma takes x and h as they are, activations=fp8 needs path=wgmma";
    if (block_m != 16 && block_m != 32 && block_m != 64 && block_m != 128) return "block_m must be 16, 32, 64 or 128";
    if (block_k != 32 && block_k != 64 && block_k != 128) return "block_k must be 32, 64 or 128";
    if (warps != 4 && warps != 8) return "warps must be 4 or 8";
    if (block_n < 8 || block_n > 256 || block_n % (8 * warps_n()) != 0)
      return "block_n must be a multiple of 8 for every warp, up to 256";
    if (warp_m() / kGroupedRows * (warp_n() / kGroupedColumns) * gates() * (keeps_groups() ? 2 : 1) > 32)
      return "block_m block_n are more sums than registers hold";
    if (stages < 2 || stages > 8) return "stages must be 2 to 8";
    if (group_m < 1 || group_m > 64) return "group_m must be 1 to 64";
    if (shared_bytes() > kGroupedBytes) return "stages need too much shared memory";
    return nullptr;
  }
};

template <typename Self, typename Visitor>
constexpr void visit_grouped_fields(Self& config, Visitor& visit) {
  visit("down", config.down);
  visit("hidden_size", config.hidden_size);
  visit("intermediate_size", config.intermediate_size);
  visit("shared_size", config.shared_size);
  visit("experts", config.experts);
  visit("top_k", config.top_k);
  visit("in_dtype", config.in_dtype);
  visit("out_dtype", config.out_dtype);
  visit("weights", config.weights);
  visit("group_size", config.group_size);
  visit("scale_dtype", config.scale_dtype);
  visit("zero_point", config.zero_point);
  visit("activations", config.activations);
  visit("activation", config.activation);
  visit("swiglu_alpha", config.swiglu_alpha);
  visit("swiglu_limit", config.swiglu_limit);
  visit("gate_order", config.gate_order);
  visit("bias", config.bias);
  visit("bias_dtype", config.bias_dtype);
  visit("shared_gate", config.shared_gate);
  visit("weight_vector", config.weight_vector);
  visit("block_m", config.block_m);
  visit("block_n", config.block_n);
  visit("block_k", config.block_k);
  visit("stages", config.stages);
  visit("warps", config.warps);
  visit("group_m", config.group_m);
}

// Every field once, in declaration order: its name in the signature and its value.
template <typename Visitor>
constexpr void visit_fields(GroupedConfig& c, Visitor&& visit) {
  visit_grouped_fields(c, visit);
}
template <typename Visitor>
constexpr void visit_fields(const GroupedConfig& c, Visitor&& visit) {
  visit_grouped_fields(c, visit);
}

// Where 16-byte units of a tile's rows lie, so that lanes which read together meet different banks: unit u of row r is
// stored as unit u ^ units_swizzle(r). A read takes `together` units of a row and goes on in the next row until it has
// eight; `units` is what a row has.
constexpr int units_swizzle(int row, int units, int together) {
  const int rows_a_line = units < 8 ? 8 / units : 1;
  const int steps_of_line = 8 / together / rows_a_line, steps_of_row = units / together;
  const int steps = steps_of_line < steps_of_row ? steps_of_line : steps_of_row;
  return steps > 1 ? row / rows_a_line % steps * together : 0;
}

// Of the product's kernel, whichever path.
struct GroupedParams {
  MatvecParams call;        // out of the second product: the results of all pairs, fp32 [pairs, D]
  const int* pair_ids;      // [rows]: token k + slot, tokens k for padding
  const int* expert_ids;    // [rows / block_m]
  const int* total_padded;  // [1]: rows in use
};

// The kernel that rounds x or h to e4m3.
struct QuantizeConfig {
  bool down = false;  // a row for each pair, of h; else for each token, of x
  int hidden_size = 2048;
  int intermediate_size = 512;
  int shared_size = 0;
  int experts = 256;
  int top_k = 8;
  DType in_dtype = DType::bf16;
  DType id_dtype = DType::i32;
  bool expert_map = false;

  constexpr int slots() const { return top_k + (shared_size > 0 ? 1 : 0); }
  constexpr int row() const {
    return quantized_row(!down ? hidden_size : shared_size > intermediate_size ? shared_size : intermediate_size);
  }
  constexpr int threads() const { return 256; }
};

template <typename Self, typename Visitor>
constexpr void visit_quantize_fields(Self& config, Visitor& visit) {
  visit("down", config.down);
  visit("hidden_size", config.hidden_size);
  visit("intermediate_size", config.intermediate_size);
  visit("shared_size", config.shared_size);
  visit("experts", config.experts);
  visit("top_k", config.top_k);
  visit("in_dtype", config.in_dtype);
  visit("id_dtype", config.id_dtype);
  visit("expert_map", config.expert_map);
}
template <typename Visitor>
constexpr void visit_fields(QuantizeConfig& c, Visitor&& visit) {
  visit_quantize_fields(c, visit);
}
template <typename Visitor>
constexpr void visit_fields(const QuantizeConfig& c, Visitor&& visit) {
  visit_quantize_fields(c, visit);
}

// Rows of inputs in e4m3, QuantizeConfig::row() bytes each, and for each its scales, one for 128.
struct QuantizedRows {
  unsigned char* numbers;
  float* scales;
};
struct QuantizeParams {
  MatvecParams call;
  QuantizedRows out;
};

// The kernel that sums up the results of a token's pairs.
struct CombineConfig {
  int hidden_size = 2048;
  int shared_size = 0;
  int experts = 256;
  int top_k = 8;
  DType out_dtype = DType::bf16;
  DType id_dtype = DType::i32;
  bool expert_map = false;
  bool shared_gate = false;

  constexpr int slots() const { return top_k + (shared_size > 0 ? 1 : 0); }
  constexpr int threads() const { return 256; }
  constexpr int vectors() const { return hidden_size / 4; }  // of a token: four numbers a thread
  constexpr int token_blocks() const { return (vectors() + threads() - 1) / threads(); }
};

template <typename Self, typename Visitor>
constexpr void visit_combine_fields(Self& config, Visitor& visit) {
  visit("hidden_size", config.hidden_size);
  visit("shared_size", config.shared_size);
  visit("experts", config.experts);
  visit("top_k", config.top_k);
  visit("out_dtype", config.out_dtype);
  visit("id_dtype", config.id_dtype);
  visit("expert_map", config.expert_map);
  visit("shared_gate", config.shared_gate);
}
template <typename Visitor>
constexpr void visit_fields(CombineConfig& c, Visitor&& visit) {
  visit_combine_fields(c, visit);
}
template <typename Visitor>
constexpr void visit_fields(const CombineConfig& c, Visitor&& visit) {
  visit_combine_fields(c, visit);
}

}  // namespace gdnjit::moe

#include "codegen/moe/experts.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "codegen/fields.h"
#include "codegen/moe/options_names.h"
#include "moe/matvec_config.cuh"
#include "runtime/support/check.h"

namespace gdnjit::moe {
namespace {

constexpr int kMaxFeatures = 1 << 20;

void require_features(std::string_view name, int features) {
  require(features >= 8 && features <= kMaxFeatures && features % 8 == 0, "{}={}: must be a multiple of 8, 8 to {}",
          name, features, kMaxFeatures);
}

DType data_dtype(WeightFormat format) {
  switch (format) {
    case WeightFormat::bf16: return DType::bf16;
    case WeightFormat::f16: return DType::f16;
    default: return DType::u8;
  }
}

DType scale_dtype_of(const ExpertsProblem& problem) {
  switch (problem.weights) {
    case WeightFormat::mxfp4:
    case WeightFormat::nvfp4: return DType::u8;
    case WeightFormat::fp8_block: return DType::f32;
    default: return problem.scale_dtype;
  }
}

std::int64_t rounded_up(std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit; }

// Extents of one expert's tensors.
struct WeightExtents {
  std::int64_t data_columns, scale_rows, groups;
};
WeightExtents extents_of(const ExpertsProblem& problem, const ProductShape& shape) {
  const int gs = group_size_of(problem);
  return {weight_bits(problem.weights) == 4 ? shape.columns / 2 : shape.columns,
          problem.weights == WeightFormat::fp8_block ? rounded_up(shape.rows, 128) : shape.rows,
          gs == 0 ? 1 : rounded_up(shape.columns, gs)};
}

void check_format(const ExpertsProblem& problem) {
  const bool grouped = problem.weights == WeightFormat::int4 || problem.weights == WeightFormat::int8;
  if (grouped) {
    const auto gs = static_cast<unsigned>(problem.group_size);
    require(problem.group_size == 0 || (problem.group_size >= 16 && std::has_single_bit(gs)),
            "group_size={}: must be 16, 32, 64, 128 or another power of two, or 0 for the whole row",
            problem.group_size);
    require_float("scale_dtype", problem.scale_dtype);
  }
  require(problem.zero_point == ZeroPoint::eight || problem.weights == WeightFormat::int4,
          "zero_point={}: only weights=int4 have one", enum_name(problem.zero_point));
}

// Rows of fp8 weights come as boxes, whose rows begin at multiples of 16 bytes.
void check_activations(const ExpertsProblem& problem) {
  if (problem.activations == ActivationFormat::io) return;
  require(problem.weights == WeightFormat::fp8_block, "activations=fp8: weights={}, must be fp8_block",
          enum_name(problem.weights));
  const auto check = [](std::string_view name, int features) {
    require(features % 16 == 0, "{}={}: must be a multiple of 16 with activations=fp8", name, features);
  };
  check("D", problem.hidden_size);
  check("I", problem.intermediate_size);
  check("shared_size", problem.shared_size);
}

}  // namespace

ExpertsProblem complete_experts(ExpertsProblem problem) {
  require(problem.tokens >= 0 && problem.tokens <= std::numeric_limits<int>::max() / (kMaxTopK + 1),
          "M={}: must be 0 to {}", problem.tokens, std::numeric_limits<int>::max() / (kMaxTopK + 1));
  require_features("D", problem.hidden_size);
  require_features("I", problem.intermediate_size);
  require(problem.experts >= 1 && problem.experts <= kMaxExperts, "E={}: must be 1 to {}", problem.experts,
          kMaxExperts);
  require(problem.top_k >= 1 && problem.top_k <= kMaxTopK, "k={}: must be 1 to {}", problem.top_k, kMaxTopK);
  require(problem.expert_map || problem.top_k <= problem.experts, "k={}: must not be more than E={}", problem.top_k,
          problem.experts);
  require_float("io", problem.io_dtype);
  require_float("output", problem.output_dtype);
  require(problem.h_dtype == problem.io_dtype || problem.h_dtype == DType::f32, "h={}: must be io={} or f32",
          enum_name(problem.h_dtype), enum_name(problem.io_dtype));
  require(problem.id_dtype == DType::i32 || problem.id_dtype == DType::i64, "id_dtype={}: must be i32 or i64",
          enum_name(problem.id_dtype));
  check_format(problem);
  require(std::isfinite(problem.swiglu_alpha), "swiglu_alpha={}: must be finite", problem.swiglu_alpha);
  require(problem.swiglu_limit > 0, "swiglu_limit={}: must be positive", problem.swiglu_limit);
  require_float("bias_dtype", problem.bias_dtype);
  if (problem.shared_size != 0) require_features("shared_size", problem.shared_size);
  check_activations(problem);
  require(!problem.shared_gate || problem.shared_size > 0, "shared_gate=true: needs a shared expert, shared_size > 0");
  return problem;
}

int group_size_of(const ExpertsProblem& problem) {
  switch (problem.weights) {
    case WeightFormat::mxfp4: return 32;
    case WeightFormat::nvfp4: return 16;
    case WeightFormat::fp8_block: return 128;
    default: return problem.group_size;
  }
}

int slots_of(const ExpertsProblem& problem) { return problem.top_k + (problem.shared_size > 0 ? 1 : 0); }
int h_row_of(const ExpertsProblem& problem) { return std::max(problem.intermediate_size, problem.shared_size); }

ProductShape up_shape(const ExpertsProblem& problem, bool shared) {
  const int outputs = shared ? problem.shared_size : problem.intermediate_size;
  return {shared ? "shared_w1" : "w1", shared ? 1 : problem.experts, (is_gated(problem.activation) ? 2 : 1) * outputs,
          problem.hidden_size};
}
ProductShape down_shape(const ExpertsProblem& problem, bool shared) {
  return {shared ? "shared_w2" : "w2", shared ? 1 : problem.experts, problem.hidden_size,
          shared ? problem.shared_size : problem.intermediate_size};
}

ExpertsUses::ExpertsUses(const ExpertsProblem& problem)
    : scale(problem.weights != WeightFormat::bf16 && problem.weights != WeightFormat::f16),
      zero(problem.weights == WeightFormat::int4 && problem.zero_point != ZeroPoint::eight),
      global_scale(problem.weights == WeightFormat::nvfp4),
      up_bias(problem.up_bias),
      down_bias(problem.down_bias),
      expert_map(problem.expert_map),
      shared(problem.shared_size > 0),
      shared_gate(problem.shared_gate) {}

std::size_t ExpertsUses::weights_count(bool down) const {
  return 1U + (scale ? 1U : 0U) + (zero ? 1U : 0U) + (global_scale ? 1U : 0U) +
         ((down ? down_bias : up_bias) ? 1U : 0U);
}

void add_weight_specs(const ExpertsProblem& problem, const ProductShape& shape, bool bias,
                      std::vector<TensorSpec>& tensors) {
  const ExpertsUses uses(problem);
  const WeightExtents extents = extents_of(problem, shape);
  const std::int64_t E = shape.experts, N = shape.rows;
  const auto add = [&](bool used, std::string_view suffix, DType dtype, std::vector<std::int64_t> dimensions) {
    if (used) tensors.push_back({fmt::format("{}{}", shape.name, suffix), dtype, std::move(dimensions)});
  };
  add(true, "", data_dtype(problem.weights), {E, N, extents.data_columns});
  add(uses.scale, "_scale", scale_dtype_of(problem), {E, extents.scale_rows, extents.groups});
  if (problem.zero_point == ZeroPoint::packed) {
    add(uses.zero, "_zero", DType::u8, {E, N / 2, extents.groups});
  } else {
    add(uses.zero, "_zero", problem.scale_dtype, {E, N, extents.groups});
  }
  add(uses.global_scale, "_global_scale", DType::f32, {E});
  add(bias, "_bias", problem.bias_dtype, {E, N});
}

std::size_t gather_weights(const ExpertsProblem& problem, const ExpertWeights& weights, bool bias,
                           std::span<TensorView> tensors) {
  const ExpertsUses uses(problem);
  std::size_t count = 0;
  tensors[count++] = weights.data;
  if (uses.scale) tensors[count++] = weights.scale;
  if (uses.zero) tensors[count++] = weights.zero;
  if (uses.global_scale) tensors[count++] = weights.global_scale;
  if (bias) tensors[count++] = weights.bias;
  return count;
}

ExpertMatrix take_weights(const ExpertsProblem& problem, const ProductShape& shape, bool bias, int vector,
                          TensorReader& reader) {
  const ExpertsUses uses(problem);
  const WeightExtents extents = extents_of(problem, shape);
  const std::int64_t E = shape.experts, N = shape.rows;
  ExpertMatrix matrix{};
  const auto take = [&](std::string_view suffix, DType dtype, std::initializer_list<std::int64_t> dimensions,
                        long long* distance) {
    // Names are only made for messages, on the stack.
    std::array<char, 48> name{};
    const auto end = fmt::format_to_n(name.data(), name.size(), "{}{}", shape.name, suffix);
    const std::string_view text(name.data(), std::min(end.size, name.size()));
    const int inner = static_cast<int>(dimensions.size()) - 1;
    const TensorView& view = reader.take_dense(text, dtype, dimensions, distance == nullptr ? 1 : inner);
    if (distance != nullptr) *distance = stride(view, 0) * dtype_bytes(dtype);
    if (suffix.empty()) require_aligned(text, view, 1, vector / dtype_bytes(dtype));
    return static_cast<const void*>(view.data);
  };
  matrix.data = take("", data_dtype(problem.weights), {E, N, extents.data_columns}, &matrix.data_stride);
  if (uses.scale) {
    matrix.scales =
        take("_scale", scale_dtype_of(problem), {E, extents.scale_rows, extents.groups}, &matrix.scales_stride);
  }
  if (uses.zero) {
    const bool packed = problem.zero_point == ZeroPoint::packed;
    matrix.zeros = take("_zero", packed ? DType::u8 : problem.scale_dtype, {E, packed ? N / 2 : N, extents.groups},
                        &matrix.zeros_stride);
  }
  if (uses.global_scale) {
    matrix.global_scales = static_cast<const float*>(take("_global_scale", DType::f32, {E}, nullptr));
  }
  if (bias) matrix.bias = take("_bias", problem.bias_dtype, {E, N}, &matrix.bias_stride);
  return matrix;
}

std::int64_t weight_bytes(const ExpertsProblem& problem, const ProductShape& shape) {
  std::vector<TensorSpec> tensors;
  add_weight_specs(problem, shape, false, tensors);
  std::int64_t bytes = 0;
  for (const TensorSpec& tensor : tensors) {
    std::int64_t own = dtype_bytes(tensor.dtype);
    for (const std::int64_t extent : tensor.shape) own *= extent;
    bytes += own / shape.experts;
  }
  return bytes;
}

double expected_experts(const ExpertsProblem& problem, std::int64_t tokens) {
  const double chosen = std::min(1.0, static_cast<double>(problem.top_k) / problem.experts);
  return problem.experts * (1.0 - std::pow(1.0 - chosen, static_cast<double>(tokens)));
}

int row_vector(const ExpertsProblem& problem, int columns) {
  const int bytes = columns / 8 * weight_bits(problem.weights);
  return bytes % 16 == 0 ? 16 : bytes % 8 == 0 ? 8 : 4;
}

}  // namespace gdnjit::moe

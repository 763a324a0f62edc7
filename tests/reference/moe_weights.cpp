#include "tests/reference/moe_weights.h"

#include <cmath>
#include <limits>
#include <string>

#include "runtime/support/check.h"
#include "tests/reference/numeric.h"

namespace gdnjit::reference {

using moe::WeightFormat;
using moe::ZeroPoint;

namespace {

double element(const HostTensor& tensor, std::int64_t index) {
  return load_element(tensor.spec.dtype, tensor.bytes.data(), index);
}
std::uint8_t byte(const HostTensor& tensor, std::int64_t index) {
  return static_cast<std::uint8_t>(tensor.bytes[static_cast<std::size_t>(index)]);
}

// Element `index` of two a byte, the even one in the low nibble.
std::uint8_t nibble(const HostTensor& tensor, std::int64_t index) {
  return static_cast<std::uint8_t>(index % 2 == 0 ? byte(tensor, index / 2) & 15 : byte(tensor, index / 2) >> 4);
}

double scale_at(WeightFormat format, const HostTensor& scales, std::int64_t index) {
  if (format == WeightFormat::mxfp4) return e8m0_value(byte(scales, index));
  if (format == WeightFormat::nvfp4) return e4m3_value(byte(scales, index));
  return element(scales, index);
}

// (q - zero) scale, with the zero's three forms.
double int4_value(const moe::ExpertsProblem& problem, const StoredWeights& weights, int q, std::int64_t row_of_all,
                  std::int64_t groups, std::int64_t group) {
  const double scale = element(*weights.scale, row_of_all * groups + group);
  switch (problem.zero_point) {
    case ZeroPoint::eight: return (q - 8) * scale;
    case ZeroPoint::packed: {
      const std::uint8_t pair = byte(*weights.zero, row_of_all / 2 * groups + group);
      return (q - (row_of_all % 2 == 0 ? pair & 15 : pair >> 4)) * scale;
    }
    case ZeroPoint::real: return (q - 8) * scale + element(*weights.zero, row_of_all * groups + group);
  }
  return 0;
}

}  // namespace

double e4m3_value(std::uint8_t code) {
  const int exponent = code >> 3 & 15, fraction = code & 7;
  if (exponent == 15 && fraction == 7) return std::numeric_limits<double>::quiet_NaN();
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

double e2m1_value(std::uint8_t code) {
  constexpr double kMagnitudes[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  return (code & 8) != 0 ? -kMagnitudes[code & 7] : kMagnitudes[code & 7];
}

double e8m0_value(std::uint8_t code) {
  return code == 255 ? std::numeric_limits<double>::quiet_NaN() : std::ldexp(1.0, code - 127);
}

StoredWeights find_weights(const std::vector<HostTensor>& tensors, std::string_view name) {
  StoredWeights found;
  const std::string base(name);
  for (const HostTensor& tensor : tensors) {
    if (tensor.spec.name == base) found.data = &tensor;
    if (tensor.spec.name == base + "_scale") found.scale = &tensor;
    if (tensor.spec.name == base + "_zero") found.zero = &tensor;
    if (tensor.spec.name == base + "_global_scale") found.global_scale = &tensor;
    if (tensor.spec.name == base + "_bias") found.bias = &tensor;
  }
  GDNJIT_CHECK(found.data != nullptr, "no tensor '{}'", name);
  return found;
}

void decode_row(const moe::ExpertsProblem& problem, const moe::ProductShape& shape, const StoredWeights& weights,
                std::int64_t expert, std::int64_t row, std::span<double> values) {
  const std::int64_t K = shape.columns, row_of_all = expert * shape.rows + row;
  const std::int64_t gs = moe::group_size_of(problem);
  const std::int64_t groups = gs == 0 ? 1 : (K + gs - 1) / gs;
  const std::int64_t block_rows = (shape.rows + 127) / 128;
  const double global = weights.global_scale != nullptr ? element(*weights.global_scale, expert) : 1.0;
  for (std::int64_t k = 0; k < K; ++k) {
    const std::int64_t group = gs == 0 ? 0 : k / gs, index = row_of_all * K + k;
    double& value = values[static_cast<std::size_t>(k)];
    switch (problem.weights) {
      case WeightFormat::bf16:
      case WeightFormat::f16: value = element(*weights.data, index); break;
      case WeightFormat::int4:
        value = int4_value(problem, weights, nibble(*weights.data, index), row_of_all, groups, group);
        break;
      case WeightFormat::int8:
        value =
            static_cast<std::int8_t>(byte(*weights.data, index)) * element(*weights.scale, row_of_all * groups + group);
        break;
      case WeightFormat::fp8_block:
        value = e4m3_value(byte(*weights.data, index)) *
                element(*weights.scale, (expert * block_rows + row / 128) * groups + group);
        break;
      case WeightFormat::mxfp4:
      case WeightFormat::nvfp4:
        value = e2m1_value(nibble(*weights.data, index)) *
                scale_at(problem.weights, *weights.scale, row_of_all * groups + group) * global;
        break;
    }
  }
}

double bias_of(const StoredWeights& weights, const moe::ProductShape& shape, std::int64_t expert, std::int64_t row) {
  return weights.bias == nullptr ? 0.0 : element(*weights.bias, expert * shape.rows + row);
}

}  // namespace gdnjit::reference

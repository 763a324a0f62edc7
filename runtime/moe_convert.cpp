#include <gdnjit/moe_convert.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <initializer_list>
#include <string_view>

#include "codegen/fields.h"
#include "codegen/tensor_reader.h"
#include "runtime/half_float.h"
#include "runtime/support/check.h"

namespace gdnjit::moe {
namespace {

constexpr std::string_view kOperation = "weight conversion";

// A dense tensor of that shape.
const TensorView& taken(std::string_view name, const TensorView& view, DType dtype,
                        std::initializer_list<std::int64_t> shape) {
  return TensorReader(kOperation, {&view, 1}, 1).take_dense(name, dtype, shape, static_cast<int>(shape.size()));
}
const TensorView& taken_float(std::string_view name, const TensorView& view,
                              std::initializer_list<std::int64_t> shape) {
  require_float(name, view.dtype);
  return taken(name, view, view.dtype, shape);
}

void require_rank(std::string_view name, const TensorView& view, int rank) {
  require(view.rank == rank, "{}: has rank {}, must be {}", name, view.rank, rank);
}

// Bits [shift, shift + bits) of word `index` of an i32 tensor.
unsigned field_of(const TensorView& words, std::int64_t index, int shift, int bits) {
  std::uint32_t word = 0;
  std::memcpy(&word, static_cast<const std::byte*>(words.data) + index * 4, 4);
  return word >> shift & ((1U << bits) - 1);
}

std::int64_t groups_of(std::int64_t columns, int group_size) { return (columns + group_size - 1) / group_size; }

int checked_group_size(std::int64_t columns, int group_size) {
  require(group_size >= 0, "group_size={}: must not be negative (0 is the whole row)", group_size);
  return group_size == 0 ? static_cast<int>(columns) : group_size;
}

// Dimensions and scales of either matrix, its numbers still zero.
template <typename Matrix>
Matrix empty_matrix(std::int64_t rows, std::int64_t columns, int group_size, DType scale_dtype) {
  require(rows >= 1 && columns >= 1 && columns <= 1 << 30, "N={}, K={}: must be at least 1, and K at most 2^30", rows,
          columns);
  Matrix matrix;
  matrix.rows = rows;
  matrix.columns = columns;
  matrix.group_size = checked_group_size(columns, group_size);
  matrix.scale_dtype = scale_dtype;
  const std::int64_t scales = rows * groups_of(columns, matrix.group_size);
  matrix.scales.resize(static_cast<std::size_t>(scales * dtype_bytes(scale_dtype)));
  return matrix;
}

// scales[n, g] = scale(n, g).
template <typename Matrix, typename Scale>
void fill_scales(Matrix& matrix, Scale scale) {
  const std::int64_t groups = groups_of(matrix.columns, matrix.group_size);
  for (std::int64_t n = 0; n < matrix.rows; ++n) {
    for (std::int64_t g = 0; g < groups; ++g) {
      store_float(matrix.scale_dtype, matrix.scales.data(), n * groups + g, scale(n, g));
    }
  }
}

template <typename Weight>
void fill_weights(Int4Matrix& matrix, Weight weight) {
  const std::int64_t row_bytes = (matrix.columns + 1) / 2;
  matrix.weights.assign(static_cast<std::size_t>(matrix.rows * row_bytes), 0);
  for (std::int64_t n = 0; n < matrix.rows; ++n) {
    for (std::int64_t k = 0; k < matrix.columns; ++k) {
      std::uint8_t& byte = matrix.weights[static_cast<std::size_t>(n * row_bytes + k / 2)];
      byte = static_cast<std::uint8_t>(byte | weight(n, k) << (k % 2 * 4));
    }
  }
}

template <typename Weight>
void fill_weights(Int8Matrix& matrix, Weight weight) {
  for (std::int64_t n = 0; n < matrix.rows; ++n) {
    for (std::int64_t k = 0; k < matrix.columns; ++k) {
      matrix.weights.push_back(static_cast<std::int8_t>(static_cast<int>(weight(n, k)) - 128));
    }
  }
}

template <typename Zero>
void fill_packed_zeros(Int4Matrix& matrix, Zero zero) {
  require(matrix.rows % 2 == 0, "N={}: zero points are packed in pairs of rows, so N must be even", matrix.rows);
  const std::int64_t groups = groups_of(matrix.columns, matrix.group_size);
  matrix.zero_point = ZeroPoint::packed;
  for (std::int64_t n = 0; n < matrix.rows; n += 2) {
    for (std::int64_t g = 0; g < groups; ++g) {
      matrix.zeros.push_back(static_cast<std::byte>(zero(n, g) | zero(n + 1, g) << 4));
    }
  }
}

template <typename Zero>
void fill_real_zeros(Int4Matrix& matrix, Zero zero) {
  matrix.zero_point = ZeroPoint::real;
  matrix.zeros.resize(matrix.scales.size());
  const std::int64_t groups = groups_of(matrix.columns, matrix.group_size);
  for (std::int64_t n = 0; n < matrix.rows; ++n) {
    for (std::int64_t g = 0; g < groups; ++g) {
      store_float(matrix.scale_dtype, matrix.zeros.data(), n * groups + g, zero(n, g));
    }
  }
}

void refuse_act_order(const TensorView& g_idx, std::int64_t columns, int group_size) {
  taken("g_idx", g_idx, DType::i32, {columns});
  for (std::int64_t k = 0; k < columns; ++k) {
    const std::int64_t group = static_cast<std::int32_t>(field_of(g_idx, k, 0, 16) | field_of(g_idx, k, 16, 16) << 16);
    require(group == k / group_size,
            "g_idx[{}]={}: act order is not supported, groups must be runs of group_size={} columns (here {})", k,
            group, group_size, k / group_size);
  }
}

unsigned gptq_zero(const TensorView& qzeros, std::int64_t g, std::int64_t n, std::int64_t rows, GptqFormat format) {
  const unsigned stored = field_of(qzeros, g * (rows / 8) + n / 8, static_cast<int>(n % 8) * 4, 4);
  if (format == GptqFormat::v2) return stored;
  require(stored < 15,
          "qzeros: group {}, column {} holds 15: in format v1 that is a zero point of 16, or one of 0 that overflowed "
          "when it was packed; quantise again, or convert the file to v2",
          g, n);
  return stored + 1;
}

}  // namespace

Int4Matrix int4_from_gptq(const GptqTensors& tensors, int group_size, GptqFormat format) {
  require_rank("qweight", tensors.qweight, 2);
  const std::int64_t K = 8 * extent(tensors.qweight, 0), N = extent(tensors.qweight, 1);
  auto matrix = empty_matrix<Int4Matrix>(N, K, group_size, tensors.scales.dtype);
  const std::int64_t groups = groups_of(K, matrix.group_size);
  const TensorView& qweight = taken("qweight", tensors.qweight, DType::i32, {K / 8, N});
  const TensorView& scales = taken_float("scales", tensors.scales, {groups, N});
  if (tensors.g_idx) refuse_act_order(tensors.g_idx, K, matrix.group_size);
  fill_weights(matrix, [&](std::int64_t n, std::int64_t k) {
    return field_of(qweight, k / 8 * N + n, static_cast<int>(k % 8) * 4, 4);
  });
  fill_scales(matrix, [&](std::int64_t n, std::int64_t g) { return load_float(scales.dtype, scales.data, g * N + n); });
  if (!tensors.qzeros) return matrix;
  require(N % 8 == 0, "qweight: N={} must be a multiple of 8 to have qzeros", N);
  const TensorView& qzeros = taken("qzeros", tensors.qzeros, DType::i32, {groups, N / 8});
  fill_packed_zeros(matrix, [&](std::int64_t n, std::int64_t g) { return gptq_zero(qzeros, g, n, N, format); });
  return matrix;
}

Int4Matrix int4_from_awq(const AwqTensors& tensors, int group_size) {
  require_rank("qweight", tensors.qweight, 2);
  const std::int64_t K = extent(tensors.qweight, 0), N = 8 * extent(tensors.qweight, 1);
  auto matrix = empty_matrix<Int4Matrix>(N, K, group_size, tensors.scales.dtype);
  const std::int64_t groups = groups_of(K, matrix.group_size);
  const TensorView& qweight = taken("qweight", tensors.qweight, DType::i32, {K, N / 8});
  const TensorView& qzeros = taken("qzeros", tensors.qzeros, DType::i32, {groups, N / 8});
  const TensorView& scales = taken_float("scales", tensors.scales, {groups, N});
  // Even columns lie in the four low nibbles, odd ones in the high.
  const auto nibble = [N](const TensorView& words, std::int64_t row, std::int64_t n) {
    const auto place = static_cast<int>(n % 2 * 4 + n % 8 / 2);
    return field_of(words, row * (N / 8) + n / 8, place * 4, 4);
  };
  fill_weights(matrix, [&](std::int64_t n, std::int64_t k) { return nibble(qweight, k, n); });
  fill_scales(matrix, [&](std::int64_t n, std::int64_t g) { return load_float(scales.dtype, scales.data, g * N + n); });
  fill_packed_zeros(matrix, [&](std::int64_t n, std::int64_t g) { return nibble(qzeros, g, n); });
  return matrix;
}

namespace {

// Rows and scales of pack-quantized weights, `elements` of which are in a word.
template <typename Matrix>
Matrix from_packed(const CompressedTensors& tensors, std::int64_t K, int group_size, int elements) {
  require_rank("weight_packed", tensors.weight_packed, 2);
  const std::int64_t N = extent(tensors.weight_packed, 0), words = (K + elements - 1) / elements;
  auto matrix = empty_matrix<Matrix>(N, K, group_size, tensors.weight_scale.dtype);
  const std::int64_t groups = groups_of(K, matrix.group_size);
  const TensorView& packed = taken("weight_packed", tensors.weight_packed, DType::i32, {N, words});
  const TensorView& scale = taken_float("weight_scale", tensors.weight_scale, {N, groups});
  const int bits = 32 / elements;
  fill_weights(matrix, [&](std::int64_t n, std::int64_t k) {
    return field_of(packed, n * words + k / elements, static_cast<int>(k % elements) * bits, bits);
  });
  fill_scales(matrix,
              [&](std::int64_t n, std::int64_t g) { return load_float(scale.dtype, scale.data, n * groups + g); });
  return matrix;
}

}  // namespace

Int4Matrix int4_from_compressed_tensors(const CompressedTensors& tensors, std::int64_t columns, int group_size) {
  auto matrix = from_packed<Int4Matrix>(tensors, columns, group_size, 8);
  if (!tensors.weight_zero_point) return matrix;
  const std::int64_t groups = groups_of(columns, matrix.group_size);
  const TensorView& zeros =
      taken("weight_zero_point", tensors.weight_zero_point, DType::i32, {(matrix.rows + 7) / 8, groups});
  fill_packed_zeros(matrix, [&](std::int64_t n, std::int64_t g) {
    return field_of(zeros, n / 8 * groups + g, static_cast<int>(n % 8) * 4, 4);
  });
  return matrix;
}

Int8Matrix int8_from_compressed_tensors(const CompressedTensors& tensors, std::int64_t columns, int group_size) {
  require(!tensors.weight_zero_point, "weight_zero_point: weights of 8 bits must be symmetric");
  return from_packed<Int8Matrix>(tensors, columns, group_size, 4);
}

Int4Matrix int4_from_tinygemm(const TinygemmTensors& tensors, int group_size) {
  require_rank("weight", tensors.weight, 4);
  const std::int64_t tiles = 2 * extent(tensors.weight, 3);
  require(tiles == 2 || tiles == 4 || tiles == 8,
          "weight: dimension 3 is {}, must be 1, 2 or 4 (2, 4 or 8 inner tiles)", extent(tensors.weight, 3));
  const std::int64_t N = 8 * extent(tensors.weight, 0), K = 16 * tiles * extent(tensors.weight, 1);
  auto matrix = empty_matrix<Int4Matrix>(N, K, group_size, tensors.scales_and_zeros.dtype);
  const std::int64_t groups = groups_of(K, matrix.group_size);
  const TensorView& weight = taken("weight", tensors.weight, DType::i32, {N / 8, K / (16 * tiles), 32, tiles / 2});
  const TensorView& scaling = taken_float("scales_and_zeros", tensors.scales_and_zeros, {groups, N, 2});
  fill_weights(matrix, [&](std::int64_t n, std::int64_t k) {
    const std::int64_t in_pair = k % 32;  // columns of two tiles
    const std::int64_t lane = n % 8 * 4 + in_pair % 8 / 2;
    const std::int64_t word = ((n / 8 * (K / (16 * tiles)) + k / (16 * tiles)) * 32 + lane) * (tiles / 2);
    const auto nibble = static_cast<int>(in_pair / 8 + in_pair % 2 * 4);
    return field_of(weight, word + k % (16 * tiles) / 32, nibble * 4, 4);
  });
  const auto number = [&](std::int64_t n, std::int64_t g, std::int64_t which) {
    return load_float(scaling.dtype, scaling.data, (g * N + n) * 2 + which);
  };
  fill_scales(matrix, [&](std::int64_t n, std::int64_t g) { return number(n, g, 0); });
  fill_real_zeros(matrix, [&](std::int64_t n, std::int64_t g) { return number(n, g, 1); });
  return matrix;
}

Int4Matrix int4_from_hqq(const HqqTensors& tensors, std::int64_t columns, DType scale_dtype) {
  require_rank("w_q", tensors.w_q, 2);
  require_float("scale_dtype", scale_dtype);
  const std::int64_t R = 2 * extent(tensors.w_q, 0), group = extent(tensors.w_q, 1);
  require(group >= 1 && columns >= group && columns % group == 0,
          "w_q: groups of {} columns must divide K={} (axis = 1)", group, columns);
  const std::int64_t groups = columns / group;
  require(R % groups == 0, "w_q: {} groups are not whole rows of K={} columns", R, columns);
  auto matrix = empty_matrix<Int4Matrix>(R / groups, columns, static_cast<int>(group), scale_dtype);
  const TensorView& w_q = taken("w_q", tensors.w_q, DType::u8, {R / 2, group});
  const TensorView& scale = taken_float("scale", tensors.scale, {R, 1});
  const TensorView& zero = taken_float("zero", tensors.zero, {R, 1});
  const auto* bytes = static_cast<const std::uint8_t*>(w_q.data);
  fill_weights(matrix, [&](std::int64_t n, std::int64_t k) {
    const std::int64_t r = n * groups + k / group;
    const unsigned byte = bytes[r % (R / 2) * group + k % group];
    return r < R / 2 ? byte >> 4 : byte & 15;
  });
  const auto number = [&](const TensorView& of, std::int64_t n, std::int64_t g) {
    return load_float(of.dtype, of.data, n * groups + g);
  };
  fill_scales(matrix, [&](std::int64_t n, std::int64_t g) { return number(scale, n, g); });
  fill_real_zeros(matrix,
                  [&](std::int64_t n, std::int64_t g) { return (8 - number(zero, n, g)) * number(scale, n, g); });
  return matrix;
}

Int8Matrix int8_from_uint8(const TensorView& weights, const TensorView& scales, int group_size) {
  require_rank("weights", weights, 2);
  const std::int64_t N = extent(weights, 0), K = extent(weights, 1);
  auto matrix = empty_matrix<Int8Matrix>(N, K, group_size, scales.dtype);
  const std::int64_t groups = groups_of(K, matrix.group_size);
  taken("weights", weights, DType::u8, {N, K});
  taken_float("scales", scales, {N, groups});
  const auto* bytes = static_cast<const std::uint8_t*>(weights.data);
  fill_weights(matrix, [&](std::int64_t n, std::int64_t k) { return unsigned{bytes[n * K + k]}; });
  fill_scales(matrix,
              [&](std::int64_t n, std::int64_t g) { return load_float(scales.dtype, scales.data, n * groups + g); });
  return matrix;
}

bool drop_zeros_of_eight(std::span<Int4Matrix> matrices) {
  const bool all = std::all_of(matrices.begin(), matrices.end(), [](const Int4Matrix& matrix) {
    return matrix.zero_point == ZeroPoint::eight || (matrix.zero_point == ZeroPoint::packed &&
                                                     std::all_of(matrix.zeros.begin(), matrix.zeros.end(),
                                                                 [](std::byte two) { return two == std::byte{0x88}; }));
  });
  if (!all) return false;
  for (Int4Matrix& matrix : matrices) {
    matrix.zero_point = ZeroPoint::eight;
    matrix.zeros.clear();
  }
  return true;
}

namespace {

// w[n, k] = value(n, k, group's place among the scales, scale).
template <typename Matrix, typename Value>
std::vector<float> dequantize(const Matrix& matrix, Value value) {
  const std::int64_t groups = groups_of(matrix.columns, matrix.group_size);
  std::vector<float> weights;
  for (std::int64_t n = 0; n < matrix.rows; ++n) {
    for (std::int64_t k = 0; k < matrix.columns; ++k) {
      const std::int64_t g = k / matrix.group_size;
      weights.push_back(value(n, k, g, load_float(matrix.scale_dtype, matrix.scales.data(), n * groups + g)));
    }
  }
  return weights;
}

}  // namespace

std::vector<float> dequantized(const Int4Matrix& matrix) {
  const std::int64_t groups = groups_of(matrix.columns, matrix.group_size), row_bytes = (matrix.columns + 1) / 2;
  return dequantize(matrix, [&](std::int64_t n, std::int64_t k, std::int64_t g, float scale) {
    const int byte = matrix.weights[static_cast<std::size_t>(n * row_bytes + k / 2)];
    const int q = byte >> (k % 2 * 4) & 15;
    if (matrix.zero_point == ZeroPoint::real) {
      return static_cast<float>(q - 8) * scale + load_float(matrix.scale_dtype, matrix.zeros.data(), n * groups + g);
    }
    if (matrix.zero_point == ZeroPoint::eight) return static_cast<float>(q - 8) * scale;
    const auto two = std::to_integer<int>(matrix.zeros[static_cast<std::size_t>(n / 2 * groups + g)]);
    return static_cast<float>(q - (two >> (n % 2 * 4) & 15)) * scale;
  });
}

std::vector<float> dequantized(const Int8Matrix& matrix) {
  return dequantize(matrix, [&](std::int64_t n, std::int64_t k, std::int64_t, float scale) {
    return static_cast<float>(matrix.weights[static_cast<std::size_t>(n * matrix.columns + k)]) * scale;
  });
}

}  // namespace gdnjit::moe

// Matrices of small elements for the tests of tensor-core instructions: encodings by their definition, samples, and the
// product as three loops.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "tests/emulator/fixture.h"

namespace gdnjit::tests {

// One element type by its PTX name.
struct Format {
  std::string name;
  int bits = 16;
  int exponent_bits = 8;
  int fraction_bits = 7;
  bool is_signed = true;

  bool is_integer() const { return exponent_bits == 0; }
};

inline Format format_of(const std::string& name) {
  if (name == "bf16") return {name, 16, 8, 7};
  if (name == "f16") return {name, 16, 5, 10};
  if (name == "tf32") return {name, 32, 8, 23};  // the last 13 bits do not count
  if (name == "f32") return {name, 32, 8, 23};
  if (name == "e4m3") return {name, 8, 4, 3};
  if (name == "e5m2") return {name, 8, 5, 2};
  if (name == "s8" || name == "u8") return {name, 8, 0, 0, name == "s8"};
  if (name == "s4" || name == "u4") return {name, 4, 0, 0, name == "s4"};
  return {name, 32, 0, 0, true};  // s32
}

// The number that the bits of one element stand for.
inline double value_of(const Format& format, std::uint32_t element) {
  if (format.is_integer()) {
    const std::int64_t value = element;
    return static_cast<double>(format.is_signed && (element >> (format.bits - 1)) != 0 ? value - (1LL << format.bits)
                                                                                       : value);
  }
  if (format.name == "tf32") element &= ~0x1fffU;
  const int exponent_mask = (1 << format.exponent_bits) - 1;
  const int exponent = static_cast<int>(element >> format.fraction_bits) & exponent_mask;
  const std::uint32_t fraction = element & ((1U << format.fraction_bits) - 1);
  const double sign = (element >> (format.bits - 1) & 1U) != 0 ? -1 : 1;
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  if (format.name == "e4m3") {
    if (exponent == 15 && fraction == 7) return std::numeric_limits<double>::quiet_NaN();
  } else if (exponent == exponent_mask) {
    return fraction != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - format.fraction_bits);
  return sign * std::ldexp(1 + std::ldexp(fraction, -format.fraction_bits), exponent - bias);
}

// Bits of one element: `wild` samples are any bits, with the ends of the format often; the others are ordinary numbers.
inline std::uint32_t sample_element(const Format& format, std::mt19937& random, bool wild) {
  const std::uint32_t all = format.bits == 32 ? ~0U : (1U << format.bits) - 1;
  const auto bits = static_cast<std::uint32_t>(random());
  if (format.is_integer()) {
    if (wild && bits % 3 == 0) return bits % 2 == 0 ? all : (format.is_signed ? all / 2 + 1 : 0);
    return (bits >> 3) & all;
  }
  if (wild && bits % 4 != 0) {
    const std::uint32_t top = all / 2;  // everything but the sign
    const std::uint32_t infinity = ((1U << format.exponent_bits) - 1) << format.fraction_bits;
    const std::uint32_t edges[] = {0, 1, infinity, infinity - 1, infinity + 1, top, (1U << format.fraction_bits), 3};
    if (bits % 8 == 1) return edges[bits / 8 % 8] | (bits >> 16 & 1U) << (format.bits - 1);
    if (bits % 32 == 2) return (bits >> 5) & all;
  }
  // An exponent close to 1, any fraction.
  const auto exponent = static_cast<std::uint32_t>((1 << (format.exponent_bits - 1)) - 3 + static_cast<int>(bits % 4));
  return (bits >> 31) << (format.bits - 1) | exponent << format.fraction_bits |
         ((bits >> 4) & ((1U << format.fraction_bits) - 1));
}

// rows x columns elements, row by row.
struct Matrix {
  Format format;
  int rows = 0;
  int columns = 0;
  std::vector<std::uint32_t> elements;

  std::uint32_t at(int row, int column) const { return elements[static_cast<std::size_t>(row * columns + column)]; }
  double value(int row, int column) const { return value_of(format, at(row, column)); }
};

inline Matrix sample_matrix(const std::string& format, int rows, int columns, std::mt19937& random, bool wild) {
  Matrix matrix{format_of(format), rows, columns, {}};
  for (int i = 0; i < rows * columns; ++i) matrix.elements.push_back(sample_element(matrix.format, random, wild));
  return matrix;
}

// One element of A B + C, and how far a result may be from it.
struct Expected {
  long double value = 0;
  long double magnitude = 0;  // sum of the absolute values
};
inline Expected product_element(const Matrix& a, const Matrix& b, double c, int row, int column, double sign = 1) {
  Expected expected{c, std::fabs(c)};
  for (int k = 0; k < a.columns; ++k) {
    const long double product = static_cast<long double>(a.value(row, k)) * b.value(k, column) * sign;
    expected.value += product;
    expected.magnitude += std::fabs(product);
  }
  return expected;
}

// Whether `got`, in the format of D, is the expected value rounded once to nearest, sums taken to double.
inline bool is_rounded(const Format& format, std::uint32_t got, const Expected& expected, bool saturates = false) {
  if (format.is_integer()) {
    if (!saturates) {
      const auto wrapped = static_cast<std::uint32_t>(static_cast<std::int64_t>(expected.value));
      return got == wrapped;
    }
    const long double least = std::numeric_limits<std::int32_t>::min();
    const long double most = std::numeric_limits<std::int32_t>::max();
    return static_cast<std::int32_t>(got) ==
           static_cast<std::int32_t>(std::fmin(std::fmax(expected.value, least), most));
  }
  const double value = value_of(format, got);
  if (std::isnan(expected.value)) return std::isnan(value);
  if (std::isinf(expected.value)) return value == expected.value;
  // Half the distance of neighbouring numbers of the format around the expected value.
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  int exponent = expected.value == 0 ? 1 - bias : std::ilogb(expected.value);
  exponent = std::max(exponent, 1 - bias);
  const long double half = std::ldexp(0.5L, exponent - format.fraction_bits);
  const long double slack = half + expected.magnitude * 0x1p-48L;
  const long double largest = std::ldexp(2 - std::ldexp(1.0L, -format.fraction_bits), bias);
  if (std::isinf(value))
    return std::fabs(expected.value) >= largest + half - slack * 0x1p-20L && (value > 0) == (expected.value > 0);
  return std::fabs(static_cast<long double>(value) - expected.value) <= slack;
}

}  // namespace gdnjit::tests

#include "runtime/half_float.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "runtime/support/check.h"

namespace gdnjit {
namespace {

template <typename T>
T read(const void* data, std::int64_t index) {
  T value;
  std::memcpy(&value, static_cast<const std::byte*>(data) + index * std::int64_t{sizeof(T)}, sizeof(T));
  return value;
}

template <typename T>
void write(void* data, std::int64_t index, T value) {
  std::memcpy(static_cast<std::byte*>(data) + index * std::int64_t{sizeof(T)}, &value, sizeof(T));
}

float f16_value(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int fraction = bits & 1023;
  float size = 0;
  if (exponent == 31) {
    size = fraction == 0 ? INFINITY : NAN;
  } else {
    size =
        std::ldexp(static_cast<float>(exponent == 0 ? fraction : fraction + 1024), (exponent == 0 ? 1 : exponent) - 25);
  }
  return (bits & 0x8000) != 0 ? -size : size;
}

std::uint16_t f16_bits(float value) {
  const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
  const float size = std::fabs(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>(sign | 0x7e00);
  if (size >= 65520) return static_cast<std::uint16_t>(sign | 0x7c00);
  if (size == 0) return sign;
  // Steps of the value's binade, at least those of subnormal numbers; a carry moves on into the exponent by itself.
  const int exponent = std::max(std::ilogb(size), -14);
  const auto steps = static_cast<std::uint16_t>(std::nearbyint(std::ldexp(size, 10 - exponent)));
  return static_cast<std::uint16_t>(sign + ((exponent + 14) << 10) + steps);
}

std::uint16_t bf16_bits(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>(bits >> 16 | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

}  // namespace

float load_float(DType dtype, const void* data, std::int64_t index) {
  switch (dtype) {
    case DType::f32: return read<float>(data, index);
    case DType::bf16: return std::bit_cast<float>(std::uint32_t{read<std::uint16_t>(data, index)} << 16);
    case DType::f16: return f16_value(read<std::uint16_t>(data, index));
    default: GDNJIT_CHECK(false, "a dtype of whole numbers");
  }
}

void store_float(DType dtype, void* data, std::int64_t index, float value) {
  switch (dtype) {
    case DType::f32: return write(data, index, value);
    case DType::bf16: return write(data, index, bf16_bits(value));
    case DType::f16: return write(data, index, f16_bits(value));
    default: GDNJIT_CHECK(false, "a dtype of whole numbers");
  }
}

}  // namespace gdnjit

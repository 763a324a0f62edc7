// Arithmetic on the 16-bit floating-point formats, on single values in the low bits of 32. Each operation rounds once
// to nearest even. Subnormals are kept unless flushed; NaN results are 0x7fff.
// Pure functions with internal linkage, as in floating.h.
#pragma once

#include "runtime/emulator/semantics/formats.h"

namespace gdnjit::emulator {

// a + b rounded to odd: the last bit says whether anything was cut off.
static inline float add_to_odd(float a, float b) {
  const float sum = a + b;
  const float b_part = sum - a;
  const float error = (a - (sum - b_part)) + (b - b_part);
  const std::uint32_t bits = bits_of(sum);
  if (!(error != 0) || (bits & 1U) != 0 || !(std::fabs(sum) <= std::numeric_limits<float>::max())) return sum;
  const bool away = (error > 0) == (sum > 0);
  return float_of(away ? bits + 1 : bits - 1);
}

struct F16 {
  static float widen(std::uint32_t bits) { return f16_to_float(bits & 0xffffU); }
  static std::uint32_t narrow(float value) { return float_to_f16_rn(value); }
  static std::uint32_t flush(std::uint32_t bits) { return (bits & 0x7c00U) == 0 ? bits & 0x8000U : bits & 0xffffU; }
  // Sums and products of 11-bit fractions: rounding them to 24 bits first changes nothing.
  static std::uint32_t add(float a, float b) { return narrow(a + b); }
  static std::uint32_t mul(float a, float b) { return narrow(a * b); }
  static std::uint32_t fma(float a, float b, float c) { return narrow(add_to_odd(a * b, c)); }
};

struct Bf16 {
  static float widen(std::uint32_t bits) { return bf16_to_float(bits & 0xffffU); }
  static std::uint32_t narrow(float value) { return float_to_bf16_rn(value); }
  static std::uint32_t flush(std::uint32_t bits) { return (bits & 0x7f80U) == 0 ? bits & 0x8000U : bits & 0xffffU; }
  static std::uint32_t add(float a, float b) { return narrow(a + b); }
  // Products leave the range of f32.
  static std::uint32_t mul(float a, float b) {
    return narrow(to_odd_float(static_cast<double>(a) * static_cast<double>(b)));
  }
  static std::uint32_t fma(float a, float b, float c) {
    return narrow(to_odd_float(add_to_odd(static_cast<double>(a) * static_cast<double>(b), static_cast<double>(c))));
  }
};

enum class Clamp : std::uint8_t { none, sat, relu };

// [0, 1] with NaN to +0, or [0, inf) with NaN kept.
template <typename Format, Clamp kClamp>
static inline std::uint32_t clamp_16(std::uint32_t bits) {
  if constexpr (kClamp == Clamp::none) return bits;
  const float value = Format::widen(bits);
  if (value != value) return kClamp == Clamp::sat ? 0U : 0x7fffU;
  if (!(value > 0)) return 0;
  if constexpr (kClamp == Clamp::sat) return value >= 1 ? Format::narrow(1.0F) : bits;
  return bits;
}

// min and max with -0 below +0. xorsign: of the magnitudes, with the product's sign.
template <typename Format>
static inline std::uint32_t extreme_16(std::uint32_t a, std::uint32_t b, bool is_max, bool nan_wins, bool xorsign) {
  const std::uint32_t sign = xorsign ? (a ^ b) & 0x8000U : 0;
  if (xorsign) a &= 0x7fffU, b &= 0x7fffU;
  const float x = Format::widen(a);
  const float y = Format::widen(b);
  const float best = is_max ? maximum(x, y, nan_wins) : minimum(x, y, nan_wins);
  return best != best ? 0x7fffU : Format::narrow(best) | sign;
}
static inline float extreme_xorsign(float a, float b, bool is_max, bool nan_wins) {
  const std::uint32_t sign = (bits_of(a) ^ bits_of(b)) & 0x80000000U;
  const float x = std::fabs(a);
  const float y = std::fabs(b);
  const float best = is_max ? maximum(x, y, nan_wins) : minimum(x, y, nan_wins);
  return best != best ? best : float_of(bits_of(best) | sign);
}

}  // namespace gdnjit::emulator

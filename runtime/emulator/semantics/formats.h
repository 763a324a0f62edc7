// The 16-bit floating-point formats and the conversions between all scalar types.
#pragma once

#include <cstdint>

#include "runtime/emulator/semantics/floating.h"

namespace gdnjit::emulator {

// A double rounded to odd at f32 precision: what shorter formats round from.
static inline float to_odd_float(double value) {
  const float toward_zero = round_to_float<Round::rz>(value);
  if (static_cast<double>(toward_zero) == value || value != value) return toward_zero;
  return float_of(bits_of(toward_zero) | 1U);
}

static inline float bf16_to_float(std::uint32_t bits) { return float_of(bits << 16); }

// bf16 is the upper half of an f32, so rounding is integer arithmetic. NaN is 0x7fff.
static inline std::uint32_t float_to_bf16_rn(float value) {
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  return (bits & 0x7fffffffU) > 0x7f800000U ? 0x7fffU : rounded;
}
static inline std::uint32_t float_to_bf16_rz(float value) {
  const std::uint32_t bits = bits_of(value);
  return (bits & 0x7fffffffU) > 0x7f800000U ? 0x7fffU : bits >> 16;
}

static inline float f16_to_float(std::uint32_t half) {
  const std::uint32_t sign = (half & 0x8000U) << 16;
  const std::uint32_t magnitude = half & 0x7fffU;
  // Normal numbers: move exponent and fraction, correct the bias. Subnormals: the fraction counts units of 2^-24.
  const float normal = float_of((magnitude << 13) + (112U << 23));
  const float subnormal = static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-24F;
  const float special = float_of(magnitude > 0x7c00U ? kCanonicalNan : 0x7f800000U);
  const float value = magnitude >= 0x7c00U ? special : (magnitude >= 0x0400U ? normal : subnormal);
  return magnitude > 0x7c00U ? value : float_of(bits_of(value) | sign);
}

// f32 or f64 to f16 in any direction, from the exact value as a double (or one rounded to odd). NaN is 0x7fff.
static inline std::uint32_t double_to_f16(double value, Round round) {
  const std::uint32_t sign = std::signbit(value) ? 0x8000U : 0U;
  if (value != value) return 0x7fffU;
  const double magnitude = std::fabs(value);
  if (magnitude > std::numeric_limits<double>::max()) return sign | 0x7c00U;
  const bool down = round == Round::rz || (round == Round::rm && sign == 0) || (round == Round::rp && sign != 0);
  const bool up = (round == Round::rm && sign != 0) || (round == Round::rp && sign == 0);
  // The distance of neighbouring f16 at this magnitude: 2^(exponent - 10), at least 2^-24.
  int exponent = magnitude < 0x1p-14 ? -14 : std::ilogb(magnitude);
  if (exponent > 16) exponent = 16;
  const double scaled = std::ldexp(magnitude, 10 - exponent);
  double units = down ? std::floor(scaled) : up ? std::ceil(scaled) : std::nearbyint(scaled);
  const double rounded = std::ldexp(units, exponent - 10);
  if (rounded > 65504.0) return sign | (down ? 0x7bffU : 0x7c00U);
  if (rounded < 0x1p-14) return sign | static_cast<std::uint32_t>(std::ldexp(rounded, 24));
  const int final_exponent = std::ilogb(rounded);
  const auto fraction = static_cast<std::uint32_t>(std::ldexp(rounded, 10 - final_exponent)) - 1024U;
  return sign | (static_cast<std::uint32_t>(final_exponent + 15) << 10) | fraction;
}

// The same to nearest for f32, without branches.
static inline std::uint32_t float_to_f16_rn(float value) {
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000U;
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  // Subnormal results: adding 0.5 makes the FPU round at units of 2^-24.
  const std::uint32_t subnormal = bits_of(float_of(magnitude) + 0.5F) - 0x3f000000U;
  const std::uint32_t odd = (magnitude >> 13) & 1U;
  const std::uint32_t normal = (magnitude - (112U << 23) + 0xfffU + odd) >> 13;
  const std::uint32_t finite = magnitude < 0x38800000U ? subnormal : normal;
  const std::uint32_t half = magnitude >= 0x477ff000U ? 0x7c00U : finite;
  return magnitude > 0x7f800000U ? 0x7fffU : sign | half;
}

// f32 to bf16 in any direction.
static inline std::uint32_t float_to_bf16(float value, Round round) {
  if (value != value) return 0x7fffU;
  const std::uint32_t bits = bits_of(value);
  const bool inexact = (bits & 0xffffU) != 0;
  const bool negative = (bits >> 31) != 0;
  switch (round) {
    case Round::rz: return bits >> 16;
    case Round::rm: return (bits >> 16) + (inexact && negative ? 1U : 0U);
    case Round::rp: return (bits >> 16) + (inexact && !negative ? 1U : 0U);
    case Round::rna: return (bits + 0x8000U) >> 16;
    default: return float_to_bf16_rn(value);
  }
}

// f32 to tf32: 10 fraction bits.
static inline std::uint32_t float_to_tf32(float value, Round round) {
  const std::uint32_t bits = bits_of(value);
  // As recorded on an H200: .rna cuts the bits of NaN off like any others.
  if (value != value && round != Round::rna) return 0x7fffe000U;
  if ((bits & 0x7f800000U) == 0x7f800000U || round == Round::rz) return bits & 0xffffe000U;
  const std::uint32_t half = round == Round::rna ? 0x1000U : 0x0fffU + (bits >> 13 & 1U);
  return (bits + half) & 0xffffe000U;
}

struct ConvertSpec {
  Type to = Type::none;
  Type from = Type::none;
  Round round = Round::none;
  bool ftz = false;
  bool sat = false;
  bool relu = false;
  bool satfinite = false;
};

// cvt for one value in the low bits of `bits`; the result is in the low bits, sign-extended for signed types.
// REQUIRES: a combination that the decoder accepts.
std::uint64_t convert(const ConvertSpec& spec, std::uint64_t bits);

}  // namespace gdnjit::emulator

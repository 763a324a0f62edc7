// The floating-point formats of 8, 6 and 4 bits, and the scale format ue8m0. Pure functions with internal linkage, as
// in floating.h.
#pragma once

#include "runtime/emulator/semantics/formats.h"

namespace gdnjit::emulator {

// A sign, an exponent of the given bias, and a fraction. Codes are magnitudes without the sign.
struct MiniFormat {
  std::uint32_t width;  // bits with the sign
  std::uint32_t fraction;
  std::uint32_t bias;
  std::uint32_t largest;    // the code of the largest finite value
  std::uint32_t nan;        // what NaN becomes: the largest value where the format has no NaN
  std::uint32_t first_nan;  // codes from here on are NaN; beyond all codes if there is none
  std::uint32_t infinity;   // beyond all codes if there is none
};

inline constexpr MiniFormat kE4m3{8, 3, 7, 0x7e, 0x7f, 0x7f, 0xff};
inline constexpr MiniFormat kE5m2{8, 2, 15, 0x7b, 0x7f, 0x7d, 0x7c};
inline constexpr MiniFormat kE2m3{6, 3, 1, 0x1f, 0x1f, 0xff, 0xff};
inline constexpr MiniFormat kE3m2{6, 2, 3, 0x1f, 0x1f, 0xff, 0xff};
inline constexpr MiniFormat kE2m1{4, 1, 1, 0x07, 0x07, 0xff, 0xff};

// To nearest even; what is larger than the largest value becomes that value (.satfinite). NaN has no sign.
template <const MiniFormat& kFormat>
static inline std::uint32_t float_to_mini(float value, bool relu) {
  constexpr std::uint32_t kShift = 23 - kFormat.fraction;
  constexpr std::uint32_t kRebias = (127 - kFormat.bias) << 23;
  // Adding this makes the FPU round at units of the format's subnormals.
  constexpr std::uint32_t kMagic = (127 - kFormat.bias + 1 + kShift) << 23;
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  const std::uint32_t subnormal = bits_of(float_of(magnitude) + float_of(kMagic)) - kMagic;
  const std::uint32_t odd = (magnitude >> kShift) & 1U;
  const std::uint32_t normal = (magnitude - kRebias + ((1U << (kShift - 1)) - 1) + odd) >> kShift;
  std::uint32_t code = magnitude < kRebias + (1U << 23) ? subnormal : normal;
  if (magnitude >= kRebias + (1U << 23) && (normal > kFormat.largest || magnitude >= 0x7f800000U))
    code = kFormat.largest;
  if (magnitude > 0x7f800000U) return kFormat.nan;
  const bool negative = (bits >> 31) != 0;
  if (negative && relu) return 0;
  return negative ? code | 1U << (kFormat.width - 1) : code;
}

// Bits above the format's width are ignored.
template <const MiniFormat& kFormat>
static inline float mini_to_float(std::uint32_t bits) {
  const std::uint32_t code = bits & ((1U << (kFormat.width - 1)) - 1);
  const std::uint32_t sign = (bits >> (kFormat.width - 1) & 1U) << 31;
  if (code >= kFormat.first_nan) return float_of(kCanonicalNan);
  if (code == kFormat.infinity) return float_of(sign | 0x7f800000U);
  constexpr std::uint32_t kUnit = (127 - kFormat.bias + 1 - kFormat.fraction) << 23;
  const float magnitude = code < (1U << kFormat.fraction)
                              ? static_cast<float>(static_cast<std::int32_t>(code)) * float_of(kUnit)
                              : float_of((code << (23 - kFormat.fraction)) + ((127 - kFormat.bias) << 23));
  return float_of(bits_of(magnitude) | sign);
}

// ue8m0 is the exponent of an f32 alone: 2^(code - 127), 255 for NaN. It has no sign and no zero: signs are dropped,
// and what is below 2^-127 becomes that. Rounds down (.rz) or up (.rp).
static inline std::uint32_t float_to_ue8m0(float value, bool up, bool satfinite) {
  const std::uint32_t magnitude = bits_of(value) & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return 0xffU;
  std::uint32_t code = magnitude >> 23;
  if (up && (magnitude & 0x7fffffU) != 0 && magnitude > 0x00400000U) ++code;
  return satfinite && code == 0xffU ? 0xfeU : code;
}
static inline std::uint32_t ue8m0_to_bf16(std::uint32_t code) {
  code &= 0xffU;
  return code == 0xffU ? 0x7fffU : code == 0 ? 0x0040U : code << 7;
}

}  // namespace gdnjit::emulator

// Floating-point arithmetic of PTX on single values: rounding modes, flushing, saturation, NaN rules.
// Pure functions with internal linkage: they are compiled once per instruction set, and the linker must not mix.
// REQUIRES: -ffp-contract=off and the default rounding mode of the host.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "runtime/emulator/types.h"

namespace gdnjit::emulator {

inline constexpr std::uint32_t kCanonicalNan = 0x7fffffffU;

static inline std::uint32_t bits_of(float value) { return std::bit_cast<std::uint32_t>(value); }
static inline std::uint64_t bits_of(double value) { return std::bit_cast<std::uint64_t>(value); }
static inline float float_of(std::uint32_t bits) { return std::bit_cast<float>(bits); }

// Subnormals become zero of the same sign.
static inline float flush(float value) {
  const std::uint32_t bits = bits_of(value);
  return (bits & 0x7f800000U) == 0 ? float_of(bits & 0x80000000U) : value;
}

static inline float canonical(float value) { return value != value ? float_of(kCanonicalNan) : value; }
static inline double canonical(double value) { return value; }

// [0, 1]; NaN becomes +0.
static inline float saturate(float value) { return value >= 1.0F ? 1.0F : (value > 0.0F ? value : 0.0F); }
static inline double saturate(double value) { return value >= 1.0 ? 1.0 : (value > 0.0 ? value : 0.0); }

// Rounds a double to f32 in a given direction. Exact for every double, also for one that stands for a longer value
// by rounding to odd.
template <Round kRound>
static inline float round_to_float(double value) {
  const float nearest = static_cast<float>(value);
  if constexpr (kRound == Round::rn || kRound == Round::none) return nearest;
  const double back = nearest;
  bool step_down = false;  // towards minus infinity
  bool step_up = false;
  if constexpr (kRound == Round::rm) step_down = back > value;
  if constexpr (kRound == Round::rp) step_up = back < value;
  if constexpr (kRound == Round::rz) {
    step_down = value > 0 && back > value;
    step_up = value < 0 && back < value;
  }
  const std::uint32_t bits = bits_of(nearest);
  if (step_down) {
    if ((bits << 1) == 0) return float_of(0x80000001U);
    return float_of((bits >> 31) != 0 ? bits + 1 : bits - 1);
  }
  if (step_up) {
    if ((bits << 1) == 0) return float_of(0x00000001U);
    return float_of((bits >> 31) != 0 ? bits - 1 : bits + 1);
  }
  return nearest;
}

// x + y rounded to odd in double: its last bit says whether anything was cut off, so that a second rounding to f32
// is exact in every direction.
static inline double add_to_odd(double x, double y) {
  const double sum = x + y;
  const double y_part = sum - x;
  const double error = (x - (sum - y_part)) + (y - y_part);
  const std::uint64_t bits = bits_of(sum);
  if (!(error != 0) || (bits & 1) != 0 || !(std::fabs(sum) <= std::numeric_limits<double>::max())) return sum;
  const bool away = (error > 0) == (sum > 0);
  return std::bit_cast<double>(away ? bits + 1 : bits - 1);
}

// a * b + c with one rounding. The product of two f32 is exact in double.
template <Round kRound>
static inline float fma_round(float a, float b, float c) {
  if constexpr (kRound == Round::rn || kRound == Round::none) {
    return __builtin_fmaf(a, b, c);
  } else {
    const double product = static_cast<double>(a) * static_cast<double>(b);
    const double sum = add_to_odd(product, c);
    // An exact zero of opposite signs is -0 when rounding down, +0 otherwise.
    if (kRound == Round::rm && sum == 0 && std::signbit(product) != std::signbit(c)) return -0.0F;
    return round_to_float<kRound>(sum);
  }
}

template <Round kRound>
static inline float add_round(float a, float b) {
  if constexpr (kRound == Round::rn || kRound == Round::none) {
    return a + b;
  } else {
    return fma_round<kRound>(a, 1.0F, b);
  }
}

template <Round kRound>
static inline float mul_round(float a, float b) {
  if constexpr (kRound == Round::rn || kRound == Round::none) {
    return a * b;
  } else {
    return round_to_float<kRound>(static_cast<double>(a) * static_cast<double>(b));
  }
}

// The quotient to 53 bits with a sticky last bit, so that any rounding to 24 bits is exact.
static inline double divide_to_odd(double a, double b) {
  const double quotient = a / b;
  const double remainder = __builtin_fma(-quotient, b, a);
  const std::uint64_t bits = bits_of(quotient);
  if (!(remainder != 0) || quotient == 0 || (bits & 1) != 0 ||
      !(std::fabs(quotient) <= std::numeric_limits<double>::max())) {
    return quotient;
  }
  const bool true_is_larger = (remainder > 0) == (b > 0);
  const bool away = true_is_larger == (quotient > 0);
  return std::bit_cast<double>(away ? bits + 1 : bits - 1);
}

template <Round kRound>
static inline float div_round(float a, float b) {
  if constexpr (kRound == Round::rn || kRound == Round::none) {
    return a / b;
  } else {
    return round_to_float<kRound>(divide_to_odd(a, b));
  }
}

template <Round kRound>
static inline float sqrt_round(float a) {
  if constexpr (kRound == Round::rn || kRound == Round::none) {
    return __builtin_sqrtf(a);
  } else {
    const double wide = a;
    double root = __builtin_sqrt(wide);
    const double remainder = __builtin_fma(-root, root, wide);
    const std::uint64_t bits = bits_of(root);
    if (remainder != 0 && root > 0 && (bits & 1) == 0 && root <= std::numeric_limits<double>::max()) {
      root = std::bit_cast<double>(remainder > 0 ? bits + 1 : bits - 1);
    }
    return round_to_float<kRound>(root);
  }
}

// min and max: a NaN loses against a number (or wins, with .NaN); -0 is less than +0.
template <typename T>
static inline T minimum(T a, T b, bool nan_wins) {
  if (a != a || b != b) {
    if (nan_wins || (a != a && b != b)) return canonical(a != a ? a : b);
    return a != a ? b : a;
  }
  if (a == b) return std::signbit(a) ? a : b;
  return a < b ? a : b;
}
template <typename T>
static inline T maximum(T a, T b, bool nan_wins) {
  if (a != a || b != b) {
    if (nan_wins || (a != a && b != b)) return canonical(a != a ? a : b);
    return a != a ? b : a;
  }
  if (a == b) return std::signbit(a) ? b : a;
  return a > b ? a : b;
}

// The approximate functions, computed to within half a unit in the last place; the hardware's own error bounds
// are looser (2^-22 and thereabouts), so results differ from a GPU's in the last bits.
static inline float rcp_approx(float a) { return 1.0F / a; }
static inline float rsqrt_approx(float a) {
  if (a == 0) return std::signbit(a) ? -INFINITY : INFINITY;
  return static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(a)));
}
static inline float ex2_approx(float a) { return static_cast<float>(::exp2(static_cast<double>(a))); }
static inline float lg2_approx(float a) { return static_cast<float>(::log2(static_cast<double>(a))); }
static inline float sin_approx(float a) { return static_cast<float>(::sin(static_cast<double>(a))); }
static inline float cos_approx(float a) { return static_cast<float>(::cos(static_cast<double>(a))); }
static inline float tanh_approx(float a) { return static_cast<float>(::tanh(static_cast<double>(a))); }

// div.approx multiplies by the reciprocal, which is flushed for |b| above 2^126.
static inline float div_approx(float a, float b) {
  const float magnitude = std::fabs(b);
  if (magnitude > 0x1p126F && magnitude < INFINITY) return a * float_of(bits_of(b) & 0x80000000U);
  return a / b;
}

}  // namespace gdnjit::emulator

#include "runtime/emulator/semantics/formats.h"

#include <algorithm>

namespace gdnjit::emulator {
namespace {

std::uint64_t extend(std::uint64_t bits, Type type) {
  switch (type_bytes(type)) {
    case 1: return is_signed(type) ? static_cast<std::uint64_t>(static_cast<std::int8_t>(bits)) : bits & 0xffU;
    case 2: return is_signed(type) ? static_cast<std::uint64_t>(static_cast<std::int16_t>(bits)) : bits & 0xffffU;
    case 4: return is_signed(type) ? static_cast<std::uint64_t>(static_cast<std::int32_t>(bits)) : bits & 0xffffffffU;
    default: return bits;
  }
}

std::int64_t signed_min(Type type) { return static_cast<std::int64_t>(~0ULL << (type_bytes(type) * 8 - 1)); }
std::int64_t signed_max(Type type) { return ~signed_min(type); }
std::uint64_t unsigned_max(Type type) { return type_bytes(type) == 8 ? ~0ULL : (1ULL << (type_bytes(type) * 8)) - 1; }

std::uint64_t integer_to_integer(const ConvertSpec& spec, std::uint64_t value) {
  if (!spec.sat) return extend(value, spec.to);
  if (is_signed(spec.from)) {
    const auto number = static_cast<std::int64_t>(value);
    if (is_unsigned(spec.to)) {
      if (number < 0) return 0;
      return value > unsigned_max(spec.to) ? unsigned_max(spec.to) : value;
    }
    if (number < signed_min(spec.to)) return static_cast<std::uint64_t>(signed_min(spec.to));
    return number > signed_max(spec.to) ? static_cast<std::uint64_t>(signed_max(spec.to)) : value;
  }
  const std::uint64_t limit =
      is_unsigned(spec.to) ? unsigned_max(spec.to) : static_cast<std::uint64_t>(signed_max(spec.to));
  return value > limit ? limit : value;
}

double round_to_integral(double value, Round round) {
  switch (round) {
    case Round::rzi:
    case Round::rz: return std::trunc(value);
    case Round::rmi:
    case Round::rm: return std::floor(value);
    case Round::rpi:
    case Round::rp: return std::ceil(value);
    default: return std::nearbyint(value);
  }
}

// Always clamps, as the hardware does; NaN gives 0 for 32 bits and less, the top bit alone for 64.
std::uint64_t float_to_integer(const ConvertSpec& spec, double value) {
  const int width = type_bytes(spec.to) * 8;
  if (value != value) return width == 64 ? 1ULL << 63 : 0;
  const double rounded = round_to_integral(value, spec.round);
  if (is_signed(spec.to)) {
    const double bound = std::ldexp(1.0, width - 1);
    if (rounded >= bound) return static_cast<std::uint64_t>(signed_max(spec.to));
    if (rounded < -bound) return static_cast<std::uint64_t>(signed_min(spec.to));
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(rounded));
  }
  if (rounded >= std::ldexp(1.0, width)) return unsigned_max(spec.to);
  return rounded <= 0 ? 0 : static_cast<std::uint64_t>(rounded);
}

// An integer as a double rounded to odd (its last bit sticky), so that a second rounding to f32 or f16 is exact.
double integer_to_odd(std::uint64_t value, bool is_negative) {
  const std::uint64_t magnitude = is_negative ? 0 - value : value;
  const int shift = magnitude == 0 ? 0 : std::max(0, 11 - std::countl_zero(magnitude));
  std::uint64_t kept = magnitude >> shift;
  if ((kept << shift) != magnitude) kept |= 1;
  const double result = std::ldexp(static_cast<double>(kept), shift);
  return is_negative ? -result : result;
}

float round_float(double value, Round round) {
  switch (round) {
    case Round::rz: return round_to_float<Round::rz>(value);
    case Round::rm: return round_to_float<Round::rm>(value);
    case Round::rp: return round_to_float<Round::rp>(value);
    default: return static_cast<float>(value);
  }
}

double round_integer_to_double(std::uint64_t value, bool negative, Round round) {
  const std::uint64_t magnitude = negative ? 0 - value : value;
  const int shift = magnitude == 0 ? 0 : std::max(0, 11 - std::countl_zero(magnitude));
  if (shift == 0 || round == Round::rn || round == Round::none) {
    const double nearest = static_cast<double>(magnitude);
    return negative ? -nearest : nearest;
  }
  std::uint64_t kept = magnitude >> shift;
  const bool inexact = (kept << shift) != magnitude;
  if (inexact && ((round == Round::rp && !negative) || (round == Round::rm && negative))) ++kept;
  const double result = std::ldexp(static_cast<double>(kept), shift);
  return negative ? -result : result;
}

double float_value(std::uint64_t bits, Type type, bool ftz) {
  switch (type) {
    case Type::f16: return f16_to_float(static_cast<std::uint32_t>(bits & 0xffffU));
    case Type::bf16: return bf16_to_float(static_cast<std::uint32_t>(bits & 0xffffU));
    case Type::f64: return std::bit_cast<double>(bits);
    default: {
      const float value = float_of(static_cast<std::uint32_t>(bits));
      return ftz ? flush(value) : value;
    }
  }
}

// .satfinite: what is beyond the largest finite value of f16, bf16 or tf32 becomes that value. NaN stays.
double clamp_to_finite(Type to, double value) {
  const double largest = to == Type::f16 ? 65504.0 : to == Type::bf16 ? 0x1.fep127 : 0x1.ffcp127;
  return value > largest ? largest : value < -largest ? -largest : value;
}

std::uint64_t store_float(const ConvertSpec& spec, double value) {
  if (spec.relu) value = value > 0 ? value : (value != value ? value : 0.0);
  if (spec.sat) value = saturate(value);
  if (spec.satfinite) value = clamp_to_finite(spec.to, value);
  switch (spec.to) {
    case Type::f16: return double_to_f16(value, spec.round);
    case Type::bf16: return float_to_bf16(to_odd_float(value), spec.round);
    case Type::tf32: return float_to_tf32(static_cast<float>(value), spec.round);
    case Type::f64: return bits_of(value);
    default: {
      const float narrow = canonical(round_float(value, spec.round));
      return bits_of(spec.ftz ? flush(narrow) : narrow);
    }
  }
}

}  // namespace

std::uint64_t convert(const ConvertSpec& spec, std::uint64_t bits) {
  if (!is_float(spec.from)) {
    const std::uint64_t value = extend(bits, spec.from);
    if (!is_float(spec.to)) return integer_to_integer(spec, value);
    const bool negative = is_signed(spec.from) && static_cast<std::int64_t>(value) < 0;
    if (spec.to == Type::f64) {
      const double wide = round_integer_to_double(value, negative, spec.round);
      return bits_of(spec.sat ? saturate(wide) : wide);
    }
    return store_float(spec, integer_to_odd(value, negative));
  }
  // Before a conversion to double makes a signalling NaN quiet.
  if (spec.to == Type::tf32 && spec.round == Round::rna) {
    const float single = float_of(static_cast<std::uint32_t>(bits));
    if (single != single) return float_to_tf32(single, spec.round);
  }
  const double value = float_value(bits, spec.from, spec.ftz);
  if (!is_float(spec.to)) return float_to_integer(spec, value);
  const bool to_integral =
      spec.round == Round::rni || spec.round == Round::rzi || spec.round == Round::rmi || spec.round == Round::rpi;
  return store_float(spec, to_integral ? round_to_integral(value, spec.round) : value);
}

}  // namespace gdnjit::emulator

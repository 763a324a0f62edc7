// Integer and bit operations of PTX on single values.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace gdnjit::emulator {

template <typename T>
using Unsigned = std::make_unsigned_t<T>;

// Arithmetic wraps; C++ promises that for unsigned types only.
template <typename T>
static inline T wrap_add(T a, T b) {
  return static_cast<T>(static_cast<Unsigned<T>>(a) + static_cast<Unsigned<T>>(b));
}
template <typename T>
static inline T wrap_sub(T a, T b) {
  return static_cast<T>(static_cast<Unsigned<T>>(a) - static_cast<Unsigned<T>>(b));
}
template <typename T>
static inline T wrap_mul(T a, T b) {
  if constexpr (sizeof(T) < 4) {
    return static_cast<T>(static_cast<std::uint32_t>(a) * static_cast<std::uint32_t>(b));
  } else {
    return static_cast<T>(static_cast<Unsigned<T>>(a) * static_cast<Unsigned<T>>(b));
  }
}

// The upper half of the double-width product.
template <typename T>
static inline T mul_high(T a, T b) {
  if constexpr (sizeof(T) == 8) {
    using Wide = std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>;
    return static_cast<T>((static_cast<Wide>(a) * static_cast<Wide>(b)) >> 64);
  } else {
    using Wide = std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>;
    return static_cast<T>((static_cast<Wide>(a) * static_cast<Wide>(b)) >> (8 * sizeof(T)));
  }
}

// Division by zero is unspecified by PTX; an H200 gives all ones for quotient and remainder.
template <typename T>
static inline T divide(T a, T b) {
  if (b == 0) return static_cast<T>(~Unsigned<T>{0});
  if constexpr (std::is_signed_v<T>) {
    if (b == -1) return wrap_sub<T>(0, a);
  }
  return static_cast<T>(a / b);
}
template <typename T>
static inline T remainder_of(T a, T b) {
  if (b == 0) return static_cast<T>(~Unsigned<T>{0});
  if constexpr (std::is_signed_v<T>) {
    if (b == -1) return 0;
  }
  return static_cast<T>(a % b);
}

template <typename T>
static inline T add_saturated(T a, T b) {
  T sum;
  if (!__builtin_add_overflow(a, b, &sum)) return sum;
  return a < 0 ? std::numeric_limits<T>::min() : std::numeric_limits<T>::max();
}
template <typename T>
static inline T sub_saturated(T a, T b) {
  T difference;
  if (!__builtin_sub_overflow(a, b, &difference)) return difference;
  return a < 0 ? std::numeric_limits<T>::min() : std::numeric_limits<T>::max();
}

// Shift amounts above the width give 0, or the sign for arithmetic shifts.
template <typename T>
static inline T shift_left(T a, std::uint32_t by) {
  constexpr std::uint32_t kWidth = sizeof(T) * 8;
  return by >= kWidth ? T{0} : static_cast<T>(static_cast<Unsigned<T>>(a) << by);
}
template <typename T>
static inline T shift_right(T a, std::uint32_t by) {
  constexpr std::uint32_t kWidth = sizeof(T) * 8;
  if constexpr (std::is_signed_v<T>) {
    return static_cast<T>(a >> (by >= kWidth ? kWidth - 1 : by));
  } else {
    return by >= kWidth ? T{0} : static_cast<T>(a >> by);
  }
}

// shf: the 64 bits high:low shifted, and one half of the result.
static inline std::uint32_t funnel_left(std::uint32_t low, std::uint32_t high, std::uint32_t by, bool clamp) {
  const std::uint32_t n = clamp ? (by < 32 ? by : 32U) : by & 31U;
  const std::uint64_t both = (static_cast<std::uint64_t>(high) << 32) | low;
  return static_cast<std::uint32_t>((both << n) >> 32);
}
static inline std::uint32_t funnel_right(std::uint32_t low, std::uint32_t high, std::uint32_t by, bool clamp) {
  const std::uint32_t n = clamp ? (by < 32 ? by : 32U) : by & 31U;
  const std::uint64_t both = (static_cast<std::uint64_t>(high) << 32) | low;
  return static_cast<std::uint32_t>(both >> n);
}

static inline std::uint32_t lop3(std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t table) {
  std::uint32_t result = 0;
  for (std::uint32_t row = 0; row < 8; ++row) {
    if ((table >> row & 1U) == 0) continue;
    result |= ((row & 4U) != 0 ? a : ~a) & ((row & 2U) != 0 ? b : ~b) & ((row & 1U) != 0 ? c : ~c);
  }
  return result;
}

// One byte of prmt's default mode: selector bits 2..0 pick a byte of b:a, bit 3 replicates its sign.
static inline std::uint32_t pick_byte(std::uint64_t bytes, std::uint32_t selector) {
  const auto byte = static_cast<std::uint32_t>(bytes >> ((selector & 7U) * 8)) & 0xffU;
  return (selector & 8U) != 0 ? ((byte & 0x80U) != 0 ? 0xffU : 0U) : byte;
}

enum class PermuteMode : std::uint8_t { bytes, f4e, b4e, rc8, ecl, ecr, rc16 };

static inline std::uint32_t permute(std::uint32_t a, std::uint32_t b, std::uint32_t control, PermuteMode mode) {
  const std::uint64_t bytes = (static_cast<std::uint64_t>(b) << 32) | a;
  const std::uint32_t n = control & 3U;
  std::uint32_t result = 0;
  for (std::uint32_t i = 0; i < 4; ++i) {
    std::uint32_t selector = 0;
    switch (mode) {
      case PermuteMode::bytes: selector = (control >> (4 * i)) & 15U; break;
      case PermuteMode::f4e: selector = (n + i) & 7U; break;
      case PermuteMode::b4e: selector = (n - i) & 7U; break;
      case PermuteMode::rc8: selector = n; break;
      case PermuteMode::ecl: selector = i > n ? i : n; break;
      case PermuteMode::ecr: selector = i < n ? i : n; break;
      case PermuteMode::rc16: selector = (n & 1U) * 2 + (i & 1U); break;
    }
    result |= pick_byte(bytes, selector) << (8 * i);
  }
  return result;
}

// bfe: `length` bits from `position`, zero- or sign-extended; bits beyond the top repeat the sign.
template <typename T>
static inline T extract_field(T a, std::uint32_t position_operand, std::uint32_t length_operand) {
  using U = Unsigned<T>;
  constexpr std::uint32_t kWidth = sizeof(T) * 8;
  const std::uint32_t position = position_operand & 255U;
  const std::uint32_t length = length_operand & 255U;
  if (length == 0) return 0;
  const U value = static_cast<U>(a);
  const U field = shift_right<U>(value, position);
  const U keep = length >= kWidth ? static_cast<U>(~U{0}) : static_cast<U>((U{1} << length) - 1);
  if constexpr (std::is_signed_v<T>) {
    const std::uint32_t last = position + length - 1;
    const std::uint32_t sign_at = last < kWidth - 1 ? last : kWidth - 1;
    const bool negative = ((value >> sign_at) & 1U) != 0;
    // The field's bits that the operand still has.
    const std::uint32_t present = position >= kWidth ? 0 : (length < kWidth - position ? length : kWidth - position);
    const U real = present >= kWidth ? static_cast<U>(~U{0}) : static_cast<U>((U{1} << present) - 1);
    return static_cast<T>(negative ? ((field & real) | static_cast<U>(~real)) : (field & real));
  } else {
    return static_cast<T>(field & keep);
  }
}

// bfi: the low bits of `a` put into `b`.
template <typename T>
static inline T insert_field(T a, T b, std::uint32_t position_operand, std::uint32_t length_operand) {
  constexpr std::uint32_t kWidth = sizeof(T) * 8;
  const std::uint32_t position = position_operand & 255U;
  const std::uint32_t length = length_operand & 255U;
  const T keep = length >= kWidth ? static_cast<T>(~T{0}) : static_cast<T>((T{1} << length) - 1);
  const T mask = shift_left<T>(keep, position);
  return static_cast<T>((b & ~mask) | (shift_left<T>(a, position) & mask));
}

template <typename T>
static inline std::uint32_t reverse_bits_32(T value) {
  std::uint32_t v = value;
  v = ((v >> 1) & 0x55555555U) | ((v & 0x55555555U) << 1);
  v = ((v >> 2) & 0x33333333U) | ((v & 0x33333333U) << 2);
  v = ((v >> 4) & 0x0f0f0f0fU) | ((v & 0x0f0f0f0fU) << 4);
  return __builtin_bswap32(v);
}
static inline std::uint64_t reverse_bits_64(std::uint64_t value) {
  const std::uint64_t low = reverse_bits_32(static_cast<std::uint32_t>(value));
  return (low << 32) | reverse_bits_32(static_cast<std::uint32_t>(value >> 32));
}

template <typename T>
static inline std::uint32_t count_leading_zeros(T value) {
  if (value == 0) return sizeof(T) * 8;
  if constexpr (sizeof(T) == 8) return static_cast<std::uint32_t>(__builtin_clzll(value));
  return static_cast<std::uint32_t>(__builtin_clz(static_cast<std::uint32_t>(value)));
}

// bfind: the highest bit that differs from the sign; all ones if there is none. `shift_amount` counts from the top.
template <typename T>
static inline std::uint32_t find_bit(T a, bool shift_amount) {
  const auto value = static_cast<Unsigned<T>>(std::is_signed_v<T> && a < 0 ? ~a : a);
  if (value == 0) return 0xffffffffU;
  const std::uint32_t zeros = count_leading_zeros(value);
  return shift_amount ? zeros : static_cast<std::uint32_t>(sizeof(T) * 8) - 1 - zeros;
}

}  // namespace gdnjit::emulator

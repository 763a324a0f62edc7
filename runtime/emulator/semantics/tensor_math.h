// Matrix products of a warp: 16 rows of A times B, as mma.sync and each warp of wgmma compute them.
//
// Floating point: elements are converted exactly; products and their sum, C included, are formed in double, k
// ascending, and rounded once, to nearest, to the type of D. A product of two such elements is exact in double.
// Hardware aligns the products of a few k and truncates, so its last bits differ. Integers are exact.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "runtime/emulator/semantics/formats.h"
#include "runtime/emulator/semantics/tensor_layout.h"
#include "runtime/emulator/tensor_op.h"

namespace gdnjit::emulator {

inline constexpr int kTileRows = 16;

// ---- elements

// e4m3: one exponent pattern more than IEEE's for numbers, no infinity, NaN is all ones.
static inline float e4m3_to_float(std::uint32_t bits) {
  const std::uint32_t magnitude = bits & 0x7fU;
  const float normal = float_of((magnitude << 20) + (120U << 23));
  const float subnormal = static_cast<float>(magnitude) * 0x1p-9F;
  const float value = magnitude < 8 ? subnormal : (magnitude == 0x7f ? float_of(kCanonicalNan) : normal);
  return (bits & 0x80U) != 0 ? -value : value;
}
static inline float e5m2_to_float(std::uint32_t bits) { return f16_to_float((bits & 0xffU) << 8); }

// Takes `words` 32-bit words apart into their elements, lowest bits first. tf32 has 19 bits; the rest is cut off.
static inline void unpack_elements(ElementType type, const std::uint32_t* in, int words, double* out) {
  switch (type) {
    case ElementType::bf16:
      for (int i = 0; i < words; ++i) {
        out[2 * i] = float_of(in[i] << 16);
        out[2 * i + 1] = float_of(in[i] & 0xffff0000U);
      }
      return;
    case ElementType::f16:
      for (int i = 0; i < words; ++i) {
        out[2 * i] = f16_to_float(in[i] & 0xffffU);
        out[2 * i + 1] = f16_to_float(in[i] >> 16);
      }
      return;
    case ElementType::e4m3:
      for (int i = 0; i < 4 * words; ++i) out[i] = e4m3_to_float(in[i / 4] >> (i % 4 * 8) & 0xffU);
      return;
    case ElementType::e5m2:
      for (int i = 0; i < 4 * words; ++i) out[i] = e5m2_to_float(in[i / 4] >> (i % 4 * 8) & 0xffU);
      return;
    case ElementType::tf32:
      for (int i = 0; i < words; ++i) out[i] = float_of(in[i] & 0xffffe000U);
      return;
    default:
      for (int i = 0; i < words; ++i) out[i] = float_of(in[i]);
      return;
  }
}

static inline void unpack_elements(ElementType type, const std::uint32_t* in, int words, std::int32_t* out) {
  const int bits = element_bits(type);
  const int pack = 32 / bits;
  const bool is_signed_type = type == ElementType::s8 || type == ElementType::s4;
  for (int i = 0; i < words * pack; ++i) {
    const std::uint32_t high = in[i / pack] << (32 - bits - i % pack * bits);
    out[i] = is_signed_type ? static_cast<std::int32_t>(high) >> (32 - bits)
                            : static_cast<std::int32_t>(high >> (32 - bits));
  }
}

// ---- fragments to tiles and back. Tiles: a[k][16], b[column][k], c[column][16].

// Calls f with the number of elements in a register as a constant, so that the indices below are constants too.
template <typename F>
static inline void with_pack(ElementType type, F f) {
  switch (element_bits(type)) {
    case 4: return f(std::integral_constant<int, 8>());
    case 8: return f(std::integral_constant<int, 4>());
    case 16: return f(std::integral_constant<int, 2>());
    default: return f(std::integral_constant<int, 1>());
  }
}

// registers[r] points to the 32 lanes of register r.
template <typename Number>
static inline void unpack_a(ElementType type, const std::uint32_t* const* registers, int count, Number* a) {
  with_pack(type, [=](auto pack) {
    alignas(64) Number elements[pack * kLanes];
    for (int reg = 0; reg < count; ++reg) {
      unpack_elements(type, registers[reg], kLanes, elements);
      Number* corner = a + a_place(0, reg, pack).k * kTileRows + a_place(0, reg, pack).outer;
      for (int lane = 0; lane < kLanes; ++lane) {
        const FragmentPlace place = a_place(lane, 0, pack);
        for (int e = 0; e < pack; ++e) corner[(place.k + e) * kTileRows + place.outer] = elements[lane * pack + e];
      }
    }
  });
}

template <typename Number>
static inline void unpack_b(ElementType type, const std::uint32_t* const* registers, int count, int k, Number* b) {
  with_pack(type, [=](auto pack) {
    alignas(64) Number elements[pack * kLanes];
    for (int reg = 0; reg < count; ++reg) {
      unpack_elements(type, registers[reg], kLanes, elements);
      Number* corner = b + b_place(0, reg, pack).k;
      for (int lane = 0; lane < kLanes; ++lane) {
        const FragmentPlace place = b_place(lane, 0, pack);
        for (int e = 0; e < pack; ++e) corner[place.outer * k + place.k + e] = elements[lane * pack + e];
      }
    }
  });
}

// The first accumulator of lane 0 that register `reg` holds, and the distance of a lane's from it.
static inline int accumulator_corner(int i) {
  const AccumulatorPlace place = accumulator_place(0, i);
  return place.column * kTileRows + place.row;
}
static constexpr inline int accumulator_step(int lane) {
  const AccumulatorPlace place = accumulator_place(lane, 0);
  return place.column * kTileRows + place.row;
}

static inline void unpack_accumulators(ElementType type, const std::uint32_t* const* registers, int count, double* c) {
  for (int reg = 0; reg < count; ++reg) {
    const std::uint32_t* in = registers[reg];
    if (type == ElementType::f16) {
      double* low = c + accumulator_corner(2 * reg);
      double* high = c + accumulator_corner(2 * reg + 1);
      for (int lane = 0; lane < kLanes; ++lane) low[accumulator_step(lane)] = f16_to_float(in[lane] & 0xffffU);
      for (int lane = 0; lane < kLanes; ++lane) high[accumulator_step(lane)] = f16_to_float(in[lane] >> 16);
    } else {
      double* corner = c + accumulator_corner(reg);
      for (int lane = 0; lane < kLanes; ++lane) corner[accumulator_step(lane)] = float_of(in[lane]);
    }
  }
}

// To f16 in one rounding: through an f32 whose last bit says that something was cut off.
static inline std::uint32_t round_to_f16(double value) {
  const float toward_zero = round_to_float<Round::rz>(value);
  const bool exact = static_cast<double>(toward_zero) == value || value != value;
  return float_to_f16_rn(exact ? toward_zero : float_of(bits_of(toward_zero) | 1U));
}

static inline void pack_accumulators(ElementType type, const double* c, std::uint32_t* const* registers, int count) {
  for (int reg = 0; reg < count; ++reg) {
    std::uint32_t* out = registers[reg];
    if (type == ElementType::f16) {
      const double* low = c + accumulator_corner(2 * reg);
      const double* high = c + accumulator_corner(2 * reg + 1);
      for (int lane = 0; lane < kLanes; ++lane)
        out[lane] = round_to_f16(low[accumulator_step(lane)]) | round_to_f16(high[accumulator_step(lane)]) << 16;
    } else {
      const double* corner = c + accumulator_corner(reg);
      for (int lane = 0; lane < kLanes; ++lane)
        out[lane] = bits_of(canonical(static_cast<float>(corner[accumulator_step(lane)])));
    }
  }
}

// D = C + sums, wrapping or clamped. C and D may be the same registers.
static inline void add_integer_sums(const std::int32_t* sums, const std::uint32_t* const* c, std::uint32_t* const* d,
                                    int count, bool clamp) {
  for (int reg = 0; reg < count; ++reg) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const AccumulatorPlace place = accumulator_place(lane, reg);
      std::int64_t sum = static_cast<std::int64_t>(static_cast<std::int32_t>(c[reg][lane])) +
                         sums[place.column * kTileRows + place.row];
      constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
      if (clamp && sum > kMost) sum = kMost;
      if (clamp && sum < -kMost - 1) sum = -kMost - 1;
      d[reg][lane] = static_cast<std::uint32_t>(sum);
    }
  }
}

// ---- products

// c[column][16] += a[k][16] b[column][k]. REQUIRES: columns even, everything aligned to 32 bytes.
static inline void multiply_add(const double* a, const double* b, double* c, int k, int columns) {
  typedef double Rows __attribute__((vector_size(32), may_alias));
  for (int column = 0; column < columns; column += 2) {
    auto* out = reinterpret_cast<Rows*>(c + column * kTileRows);
    const double* left = b + column * k;
    const double* right = left + k;
    Rows l0 = out[0], l1 = out[1], l2 = out[2], l3 = out[3];
    Rows r0 = out[4], r1 = out[5], r2 = out[6], r3 = out[7];
    for (int i = 0; i < k; ++i) {
      const auto* rows = reinterpret_cast<const Rows*>(a + i * kTileRows);
      l0 += rows[0] * left[i];
      l1 += rows[1] * left[i];
      l2 += rows[2] * left[i];
      l3 += rows[3] * left[i];
      r0 += rows[0] * right[i];
      r1 += rows[1] * right[i];
      r2 += rows[2] * right[i];
      r3 += rows[3] * right[i];
    }
    out[0] = l0, out[1] = l1, out[2] = l2, out[3] = l3;
    out[4] = r0, out[5] = r1, out[6] = r2, out[7] = r3;
  }
}

static inline void multiply_add(const std::int32_t* a, const std::int32_t* b, std::int32_t* c, int k, int columns) {
  for (int column = 0; column < columns; ++column) {
    std::int32_t sums[kTileRows] = {};
    for (int i = 0; i < k; ++i) {
      for (int row = 0; row < kTileRows; ++row) sums[row] += a[i * kTileRows + row] * b[column * k + i];
    }
    for (int row = 0; row < kTileRows; ++row) c[column * kTileRows + row] += sums[row];
  }
}

}  // namespace gdnjit::emulator

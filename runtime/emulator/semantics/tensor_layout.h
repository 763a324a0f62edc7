// Where the elements of a matrix are: in the registers of a warp (fragments of mma.sync and wgmma) and in shared memory
// (matrix descriptors of wgmma). Pure index arithmetic, from the PTX ISA.
#pragma once

#include <cstdint>

namespace gdnjit::emulator {

// ---- fragments
//
// A 32-bit register of A or B holds `pack` = 32 / bits neighbouring elements along k. Lane = 4 g + t. Every shape
// m16n8k* has the same pattern; the shapes differ in pack and in the number of registers:
//   A register r: row g + 8 (r % 2), columns k = 4 pack (r / 2) + pack t + (0 .. pack - 1)
//   B register r: column n = g,      rows    k = 4 pack r       + pack t + (0 .. pack - 1)
// A of wgmma from registers is the same for the 16 rows of each warp.
struct FragmentPlace {
  int outer = 0;  // row of A, column of B
  int k = 0;      // of the register's lowest element
};
static constexpr inline FragmentPlace a_place(int lane, int reg, int pack) {
  return {lane / 4 + 8 * (reg % 2), 4 * pack * (reg / 2) + pack * (lane % 4)};
}
static constexpr inline FragmentPlace b_place(int lane, int reg, int pack) {
  return {lane / 4, 4 * pack * reg + pack * (lane % 4)};
}

// Element i of a lane's part of C and D; n may be any multiple of 8 (wgmma). f32 and s32 take a register each; f16
// elements 2 r and 2 r + 1 share register r.
struct AccumulatorPlace {
  int row = 0;
  int column = 0;
};
static constexpr inline AccumulatorPlace accumulator_place(int lane, int i) {
  return {lane / 4 + 8 * (i / 2 % 2), 8 * (i / 4) + 2 * (lane % 4) + i % 2};
}

// ldmatrix, stmatrix, movmatrix: the two 16-bit elements that a lane holds of an 8 x 8 matrix are (row, column) and
// (row, column + 1) of it, or of its transpose.
static constexpr inline AccumulatorPlace matrix_place(int lane) { return {lane / 4, 2 * (lane % 4)}; }

// ---- matrix descriptors of wgmma

enum class Swizzle : std::uint8_t { none, bytes128, bytes64, bytes32 };  // as encoded

struct MatrixDescriptor {
  std::uint32_t start = 0;           // bytes
  std::uint32_t leading_offset = 0;  // bytes
  std::uint32_t stride_offset = 0;   // bytes
  std::uint32_t base_offset = 0;     // in units of 128 bytes: where the swizzle's pattern begins
  Swizzle swizzle = Swizzle::none;
  bool reserved_bits = false;  // a bit without meaning is set: not a descriptor of wgmma
};

static constexpr inline MatrixDescriptor decode_descriptor(std::uint64_t bits) {
  const auto field = [bits](int first) { return static_cast<std::uint32_t>(bits >> first & 0x3fffU) << 4; };
  MatrixDescriptor result;
  result.start = field(0);
  result.leading_offset = field(16);
  result.stride_offset = field(32);
  result.base_offset = static_cast<std::uint32_t>(bits >> 49 & 7U);
  result.swizzle = static_cast<Swizzle>(bits >> 62);
  result.reserved_bits = (bits & 0x3ff1'c000'c000'c000ULL) != 0;
  return result;
}

// Length of a swizzled row in 16-byte units.
static constexpr inline std::uint32_t swizzle_units(Swizzle swizzle) {
  switch (swizzle) {
    case Swizzle::none: return 1;
    case Swizzle::bytes32: return 2;
    case Swizzle::bytes64: return 4;
    case Swizzle::bytes128: return 8;
  }
  return 1;
}

// The 16-byte unit of an address is exchanged with another of its 128, 64 or 32 bytes, depending on which 128 bytes of
// the pattern it lies in. The pattern starts at a multiple of 1024, 512 or 256 bytes, or base_offset later.
static constexpr inline std::uint32_t swizzled(const MatrixDescriptor& matrix, std::uint32_t address) {
  const std::uint32_t line = (address >> 7) - matrix.base_offset;
  return address ^ (line & (swizzle_units(matrix.swizzle) - 1)) << 4;
}

// K-major: the 16 bytes along k that hold columns unit * (128 / bits) and on, of row `outer` of A (column of B).
// Eight rows form a group; groups are stride_offset apart. Without swizzle the rows of a group follow each other and
// the next unit is leading_offset away; with it a row is 32, 64 or 128 bytes.
static constexpr inline std::uint32_t k_major_address(const MatrixDescriptor& matrix, std::uint32_t outer,
                                                      std::uint32_t unit) {
  const std::uint32_t group = matrix.start + outer / 8 * matrix.stride_offset;
  if (matrix.swizzle == Swizzle::none) return group + outer % 8 * 16 + unit * matrix.leading_offset;
  return swizzled(matrix, group + outer % 8 * swizzle_units(matrix.swizzle) * 16 + unit * 16);
}

// MN-major: the 16 bytes that hold rows 8 unit .. 8 unit + 7 of A (columns of B) at column k; 16-bit elements only.
// Without swizzle eight k follow each other, the next eight are leading_offset away and the next unit stride_offset.
// With it a row of 2, 4 or 8 units is contiguous, eight k form a pattern; the next units are leading_offset away and
// the next eight k stride_offset.
static constexpr inline std::uint32_t mn_major_address(const MatrixDescriptor& matrix, std::uint32_t unit,
                                                       std::uint32_t k) {
  if (matrix.swizzle == Swizzle::none)
    return matrix.start + unit * matrix.stride_offset + k % 8 * 16 + k / 8 * matrix.leading_offset;
  const std::uint32_t units = swizzle_units(matrix.swizzle);
  return swizzled(matrix, matrix.start + unit % units * 16 + unit / units * matrix.leading_offset + k % 8 * units * 16 +
                              k / 8 * matrix.stride_offset);
}

}  // namespace gdnjit::emulator

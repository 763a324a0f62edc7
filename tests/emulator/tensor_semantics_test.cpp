// The pure functions behind mma and wgmma: layouts, element formats, rounding, products.
#include <doctest/doctest.h>

#include <bit>
#include <set>

#include "runtime/emulator/semantics/tensor_layout.h"
#include "runtime/emulator/semantics/tensor_math.h"
#include "tests/emulator/matrices.h"

namespace gdnjit::tests {
namespace {

using namespace gdnjit::emulator;

TEST_CASE("fragments hold each element of their matrix once") {
  for (const int pack : {1, 2, 4, 8}) {
    for (const int k_registers : {1, 2}) {
      const int k = 4 * pack * k_registers;
      std::set<std::pair<int, int>> a, b;
      for (int lane = 0; lane < 32; ++lane) {
        for (int e = 0; e < pack; ++e) {
          for (int reg = 0; reg < 2 * k_registers; ++reg) {
            const FragmentPlace place = gdnjit::emulator::a_place(lane, reg, pack);
            CHECK((place.outer < 16 && place.k + e < k));
            a.insert({place.outer, place.k + e});
          }
          for (int reg = 0; reg < k_registers; ++reg) {
            const FragmentPlace place = b_place(lane, reg, pack);
            CHECK((place.outer < 8 && place.k + e < k));
            b.insert({place.outer, place.k + e});
          }
        }
      }
      CHECK(a.size() == static_cast<std::size_t>(16 * k));
      CHECK(b.size() == static_cast<std::size_t>(8 * k));
    }
  }
  std::set<std::pair<int, int>> d;
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 128; ++i) {
      const AccumulatorPlace place = accumulator_place(lane, i);
      CHECK((place.row < 16 && place.column < 256));
      d.insert({place.row, place.column});
    }
  }
  CHECK(d.size() == 16 * 256);
}

TEST_CASE("a descriptor's fields are where the ISA puts them") {
  const std::uint64_t bits = 0x1234ULL | 0x0567ULL << 16 | 0x089aULL << 32 | 5ULL << 49 | 2ULL << 62;
  const MatrixDescriptor matrix = decode_descriptor(bits);
  CHECK(matrix.start == 0x12340);
  CHECK(matrix.leading_offset == 0x5670);
  CHECK(matrix.stride_offset == 0x89a0);
  CHECK(matrix.base_offset == 5);
  CHECK(matrix.swizzle == Swizzle::bytes64);
  CHECK(!matrix.reserved_bits);
  for (int bit = 0; bit < 64; ++bit) {
    const bool reserved =
        bit == 14 || bit == 15 || bit == 30 || bit == 31 || (bit >= 46 && bit <= 48) || (bit >= 52 && bit <= 61);
    CHECK(decode_descriptor(1ULL << bit).reserved_bits == reserved);
  }
}

TEST_CASE("a swizzle permutes the 16-byte units of its pattern, and spreads a column over all banks") {
  for (const Swizzle swizzle :
       {gdnjit::emulator::Swizzle::none, Swizzle::bytes128, Swizzle::bytes64, Swizzle::bytes32}) {
    for (const std::uint32_t base : {0U, 3U}) {
      MatrixDescriptor matrix;
      matrix.swizzle = swizzle;
      matrix.base_offset = base;
      matrix.leading_offset = 128;
      const std::uint32_t row_bytes = 16 * swizzle_units(swizzle);
      std::set<std::uint32_t> units;
      for (std::uint32_t at = 0; at < 2048; at += 16) {
        const std::uint32_t to = swizzled(matrix, at);
        CHECK(to / 128 == at / 128);  // never across 128 bytes
        CHECK(to % 16 == 0);
        units.insert(to);
      }
      CHECK(units.size() == 128);
      for (std::uint32_t unit = 0; unit < swizzle_units(swizzle); ++unit) {
        std::set<std::uint32_t> banks;
        for (std::uint32_t row = 0; row < 8; ++row)
          banks.insert(swizzled(matrix, base * 128 + row * row_bytes + unit * 16) / 16 % 8);
        CHECK(banks.size() == 8);
      }
    }
  }
}

TEST_CASE("8-bit floats and integers unpack to the numbers they stand for") {
  for (std::uint32_t bits = 0; bits < 256; ++bits) {
    CAPTURE(bits);
    const double e4m3 = value_of(format_of("e4m3"), bits), e5m2 = value_of(format_of("e5m2"), bits);
    CHECK((std::isnan(e4m3) ? std::isnan(e4m3_to_float(bits)) : e4m3_to_float(bits) == static_cast<float>(e4m3)));
    CHECK((std::isnan(e5m2) ? std::isnan(e5m2_to_float(bits)) : e5m2_to_float(bits) == static_cast<float>(e5m2)));
  }
  const std::uint32_t words[] = {0x80ff017fU, 0x12345678U};
  std::int32_t out[16];
  unpack_elements(ElementType::s8, words, 2, out);
  CHECK(std::vector<std::int32_t>(out, out + 8) == std::vector<std::int32_t>{127, 1, -1, -128, 0x78, 0x56, 0x34, 0x12});
  unpack_elements(ElementType::u8, words, 1, out);
  CHECK(std::vector<std::int32_t>(out, out + 4) == std::vector<std::int32_t>{127, 1, 255, 128});
  unpack_elements(ElementType::s4, words, 1, out);
  CHECK(std::vector<std::int32_t>(out, out + 8) == std::vector<std::int32_t>{-1, 7, 1, 0, -1, -1, 0, -8});
  unpack_elements(ElementType::u4, words, 1, out);
  CHECK(std::vector<std::int32_t>(out, out + 8) == std::vector<std::int32_t>{15, 7, 1, 0, 15, 15, 0, 8});
  double tf32[1];
  const std::uint32_t one_and_more[] = {0x3f801fffU};
  unpack_elements(ElementType::tf32, one_and_more, 1, tf32);
  CHECK(tf32[0] == 1.0);
}

TEST_CASE("a double becomes an f16 in one rounding") {
  std::mt19937_64 random(9);
  for (int i = 0; i < 20000; ++i) {
    const double scale = std::ldexp(1.0, static_cast<int>(random() % 44) - 26);
    double value = std::uniform_real_distribution<double>(-2, 2)(random) * scale;
    // Just beside the middle of two f16, where a detour through f32 would round twice.
    if (i % 2 == 0) value = (1 + std::ldexp(static_cast<double>(random() % 2048), -11)) * (1 + std::ldexp(1.0, -40));
    CAPTURE(value);
    CHECK(is_rounded(format_of("f16"), round_to_f16(value), Expected{value, 0}));
  }
  CHECK(round_to_f16(65519.99) == 0x7bff);
  CHECK(round_to_f16(65520) == 0x7c00);
  CHECK(round_to_f16(-std::numeric_limits<double>::infinity()) == 0xfc00);
}

TEST_CASE("tiles multiply as loops do, and integer sums wrap or clamp") {
  alignas(64) double a[32 * 16], b[24 * 32], c[24 * 16];
  alignas(64) std::int32_t ia[32 * 16], ib[24 * 32], ic[24 * 16] = {};
  std::mt19937 random(4);
  for (int i = 0; i < 32 * 16; ++i) a[i] = ia[i] = static_cast<int>(random() % 255) - 127;
  for (int i = 0; i < 24 * 32; ++i) b[i] = ib[i] = static_cast<int>(random() % 255) - 127;
  for (int i = 0; i < 24 * 16; ++i) c[i] = i;
  multiply_add(a, b, c, 32, 24);
  multiply_add(ia, ib, ic, 32, 24);
  for (int column = 0; column < 24; ++column) {
    for (int row = 0; row < 16; ++row) {
      std::int32_t sum = 0;
      for (int k = 0; k < 32; ++k) sum += ia[k * 16 + row] * ib[column * 32 + k];
      CHECK(c[column * 16 + row] == sum + column * 16 + row);
      CHECK(ic[column * 16 + row] == sum);
    }
  }
  std::int32_t sums[8 * 16];
  std::fill(std::begin(sums), std::end(sums), 10);
  std::uint32_t values[32], results[32];
  std::fill(std::begin(values), std::end(values), 0x7ffffffcU);
  const std::uint32_t* from[] = {values};
  std::uint32_t* to[] = {results};
  add_integer_sums(sums, from, to, 1, true);
  CHECK(results[7] == 0x7fffffffU);
  add_integer_sums(sums, from, to, 1, false);
  CHECK(results[7] == 0x80000006U);
}

}  // namespace
}  // namespace gdnjit::tests

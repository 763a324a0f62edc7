#include "tests/reference/numeric.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

using namespace gdnjit;
using namespace gdnjit::reference;

namespace {

using Decode = double (*)(std::uint16_t);
using Encode = std::uint16_t (*)(double);

// Every pattern survives a round trip, and the values between two neighbours round to the nearer, ties to even.
void check_format(Decode value, Encode bits, std::uint16_t infinity) {
  for (std::uint32_t pattern = 0; pattern < 0x10000; ++pattern) {
    const auto word = static_cast<std::uint16_t>(pattern);
    const double here = value(word);
    if ((word & 0x7fff) > infinity) {
      REQUIRE(std::isnan(here));
      REQUIRE(std::isnan(value(bits(here))));
      continue;
    }
    REQUIRE(bits(here) == word);
    if ((word & 0x7fff) >= infinity - 1) continue;  // the largest finite number has no finite neighbour
    const auto next = static_cast<std::uint16_t>(word + 1);
    const double there = value(next);
    REQUIRE(std::fabs(there) > std::fabs(here));
    const double middle = (here + there) / 2;
    REQUIRE(bits(middle) == (word % 2 == 0 ? word : next));
    REQUIRE(bits(std::nextafter(middle, here)) == word);
    REQUIRE(bits(std::nextafter(middle, there)) == next);
  }
}

}  // namespace

TEST_CASE("every bf16 pattern converts exactly and back") { check_format(bf16_value, bf16_bits, 0x7f80); }
TEST_CASE("every f16 pattern converts exactly and back") { check_format(f16_value, f16_bits, 0x7c00); }

TEST_CASE("bf16 is the upper half of an fp32 number") {
  for (std::uint32_t pattern = 0; pattern < 0x10000; ++pattern) {
    const float upper = std::bit_cast<float>(pattern << 16);
    if (std::isnan(upper)) continue;
    REQUIRE(bf16_value(static_cast<std::uint16_t>(pattern)) == static_cast<double>(upper));
  }
}

TEST_CASE("f16 has the constants of IEEE 754") {
  CHECK(f16_value(0x3c00) == 1.0);
  CHECK(f16_value(0x7bff) == 65504.0);
  CHECK(f16_value(0x0400) == 0x1.0p-14);
  CHECK(f16_value(0x0001) == 0x1.0p-24);
  CHECK(f16_value(0xc000) == -2.0);
  CHECK(std::isinf(f16_value(0x7c00)));
}

TEST_CASE("overflow rounds to infinity from half a step above the largest number") {
  CHECK(f16_bits(65519.99) == 0x7bff);
  CHECK(f16_bits(65520.0) == 0x7c00);
  CHECK(f16_bits(-1e300) == 0xfc00);
  CHECK(bf16_bits(3.4e38) == 0x7f80);
  CHECK(bf16_bits(std::numeric_limits<double>::infinity()) == 0x7f80);
  CHECK(f16_bits(1e-300) == 0);
  CHECK(bf16_bits(-0.0) == 0x8000);
}

TEST_CASE("elements are stored and loaded by dtype and index") {
  std::vector<std::byte> bytes(32);
  for (DType dtype : {DType::f32, DType::bf16, DType::f16, DType::i32, DType::i64}) {
    for (std::int64_t index = 0; index < 4; ++index) {
      store_element(dtype, bytes.data(), index, static_cast<double>(index) - 2);
    }
    for (std::int64_t index = 0; index < 4; ++index) {
      CHECK(load_element(dtype, bytes.data(), index) == static_cast<double>(index) - 2);
    }
  }
}

TEST_CASE("random streams are the same everywhere, differ by name, and have the moments they claim") {
  Random first(7, "q");
  CHECK(first.bits() == Random(7, "q").bits());
  CHECK(Random(7, "q").bits() != Random(7, "k").bits());
  CHECK(Random(7).bits() == 0x63cbe1e459320dd7ULL);  // splitmix64 as published
  double sum = 0;
  double squares = 0;
  constexpr int kCount = 200000;
  for (int i = 0; i < kCount; ++i) {
    const double x = first.normal();
    REQUIRE(std::fabs(x) < 5.0);
    sum += x;
    squares += x * x;
  }
  CHECK(std::fabs(sum / kCount) < 0.01);
  CHECK(std::fabs(squares / kCount - 1) < 0.01);
}

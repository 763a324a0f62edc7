// Carry chains, dot products, 24-bit products, masks, lop3 with a predicate.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>

#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

constexpr std::size_t kCount = 2048;
using Wide = unsigned __int128;

const char* const kLoad = "ld.global.b32 %r1, [%rd1]; ld.global.b32 %r2, [%rd2]; ld.global.b32 %r3, [%rd3];\n";

template <typename R = std::uint32_t>
std::vector<R> words(const std::string& instruction, const std::vector<std::uint32_t>& a,
                     const std::vector<std::uint32_t>& b, const std::vector<std::uint32_t>& c) {
  return map3<R>(kLoad + instruction + "\nst.global.b32 [%rd4], %r4;", a, b, c);
}

struct Words {
  std::vector<std::uint32_t> a = sample_integers<std::uint32_t>(kCount, 61);
  std::vector<std::uint32_t> b = sample_integers<std::uint32_t>(kCount, 62);
  std::vector<std::uint32_t> c = sample_integers<std::uint32_t>(kCount, 63);
};

TEST_CASE("carry chains make wide sums, differences and products") {
  const auto a = sample_integers<std::uint64_t>(kCount, 64), b = sample_integers<std::uint64_t>(kCount, 65),
             c = sample_integers<std::uint64_t>(kCount, 66);
  const std::string load =
      "ld.global.b64 %rd11, [%rd1]; ld.global.b64 %rd12, [%rd2]; ld.global.b64 %rd13, [%rd3]; mov.b64 {%r1, %r2}, "
      "%rd11; mov.b64 {%r3, %r4}, %rd12; mov.b64 {%r5, %r6}, %rd13;\n";
  const std::string store = "mov.b64 %rd14, {%r7, %r8}; st.global.b64 [%rd4], %rd14;";
  const auto sum = map3<std::uint64_t>(load + "add.cc.u32 %r7, %r1, %r3; addc.s32 %r8, %r2, %r4;" + store, a, b, c);
  const auto difference =
      map3<std::uint64_t>(load + "sub.cc.u32 %r7, %r1, %r3; subc.u32 %r8, %r2, %r4;" + store, a, b, c);
  // The low 64 bits of a * b + c from 32-bit pieces.
  const auto product = map3<std::uint64_t>(
      load +
          "mad.lo.cc.u32 %r7, %r1, %r3, %r5; madc.hi.u32 %r8, %r1, %r3, %r6; mad.lo.u32 %r8, %r1, %r4, %r8; mad.lo.u32 "
          "%r8, %r2, %r3, %r8;" +
          store,
      a, b, c);
  // The carry out of 64 bits, kept in between by an instruction that both reads and writes it.
  const auto carries = map3<std::uint64_t>(
      load +
          "add.cc.u64 %rd15, %rd11, %rd12; addc.cc.u64 %rd16, %rd13, %rd15; addc.u64 %rd17, 0, 0; st.global.b64 "
          "[%rd4], %rd17;",
      a, b, c);
  const auto upper = map3<std::uint64_t>(
      load +
          "mad.lo.cc.u64 %rd15, %rd11, %rd12, %rd13; madc.hi.u64 %rd16, %rd11, %rd12, 0; st.global.b64 [%rd4], %rd16;",
      a, b, c);
  const auto upper_signed = map3<std::uint64_t>(
      load + "mad.hi.cc.s64 %rd15, %rd11, %rd12, %rd13; addc.u64 %rd16, %rd15, 0; st.global.b64 [%rd4], %rd16;", a, b,
      c);
  for (std::size_t i = 0; i < kCount; ++i) {
    REQUIRE(sum[i] == a[i] + b[i]);
    REQUIRE(difference[i] == a[i] - b[i]);
    REQUIRE(product[i] == a[i] * b[i] + c[i]);
    const Wide first = static_cast<Wide>(a[i]) + b[i];
    const Wide second = static_cast<Wide>(c[i]) + static_cast<std::uint64_t>(first) + (first >> 64);
    REQUIRE(carries[i] == static_cast<std::uint64_t>(second >> 64));
    REQUIRE(upper[i] == static_cast<std::uint64_t>((static_cast<Wide>(a[i]) * b[i] + c[i]) >> 64));
    const auto high = static_cast<std::uint64_t>(
        (static_cast<__int128>(static_cast<std::int64_t>(a[i])) * static_cast<std::int64_t>(b[i])) >> 64);
    REQUIRE(upper_signed[i] == high + c[i] + (high + c[i] < c[i] ? 1 : 0));
  }
}

TEST_CASE("a carry that no instruction has set is undefined") {
  const std::string text = error_text([] {
    run(emulator(), ptx_module("addc.u32 %r1, 1, 2; st.global.u32 [%rd1], %r1; ret;"), "test",
        parameter_block(std::uint64_t{0}, std::uint64_t{0}));
  });
  CHECK(text.find("the carry flag") != std::string::npos);
}

template <typename T>
std::int64_t element(std::uint32_t word, int index) {
  return static_cast<T>(word >> (8 * sizeof(T) * static_cast<unsigned>(index)));
}

template <typename A2, typename A1, typename B1>
void check_dots(const std::string& types, const Words& w) {
  CAPTURE(types);
  const auto four = words("dp4a." + types + " %r4, %r1, %r2, %r3;", w.a, w.b, w.c),
             low = words("dp2a.lo." + types + " %r4, %r1, %r2, %r3;", w.a, w.b, w.c),
             high = words("dp2a.hi." + types + " %r4, %r1, %r2, %r3;", w.a, w.b, w.c);
  for (std::size_t i = 0; i < kCount; ++i) {
    std::int64_t sum4 = w.c[i], sum_low = w.c[i], sum_high = w.c[i];
    for (int k = 0; k < 4; ++k) sum4 += element<A1>(w.a[i], k) * element<B1>(w.b[i], k);
    for (int k = 0; k < 2; ++k) sum_low += element<A2>(w.a[i], k) * element<B1>(w.b[i], k);
    for (int k = 0; k < 2; ++k) sum_high += element<A2>(w.a[i], k) * element<B1>(w.b[i], k + 2);
    REQUIRE(four[i] == static_cast<std::uint32_t>(sum4));
    REQUIRE(low[i] == static_cast<std::uint32_t>(sum_low));
    REQUIRE(high[i] == static_cast<std::uint32_t>(sum_high));
  }
}

TEST_CASE("dp4a and dp2a multiply elements of either sign and add") {
  const Words w;
  check_dots<std::uint16_t, std::uint8_t, std::uint8_t>("u32.u32", w);
  check_dots<std::uint16_t, std::uint8_t, std::int8_t>("u32.s32", w);
  check_dots<std::int16_t, std::int8_t, std::uint8_t>("s32.u32", w);
  check_dots<std::int16_t, std::int8_t, std::int8_t>("s32.s32", w);
}

TEST_CASE("mul24 and mad24 multiply the low 24 bits") {
  const Words w;
  const auto low = words("mul24.lo.u32 %r4, %r1, %r2;", w.a, w.b, w.c),
             high = words("mul24.hi.u32 %r4, %r1, %r2;", w.a, w.b, w.c),
             signed_low = words("mad24.lo.s32 %r4, %r1, %r2, %r3;", w.a, w.b, w.c),
             saturated = words("mad24.hi.sat.s32 %r4, %r1, %r2, %r3;", w.a, w.b, w.c);
  for (std::size_t i = 0; i < kCount; ++i) {
    const std::uint64_t product = static_cast<std::uint64_t>(w.a[i] & 0xffffff) * (w.b[i] & 0xffffff);
    REQUIRE(low[i] == static_cast<std::uint32_t>(product));
    REQUIRE(high[i] == static_cast<std::uint32_t>(product >> 16));
    const auto extended = [](std::uint32_t v) {
      return static_cast<std::int64_t>(static_cast<std::int32_t>(v << 8)) / 256;
    };
    const std::int64_t of_signed = extended(w.a[i]) * extended(w.b[i]);
    REQUIRE(signed_low[i] == static_cast<std::uint32_t>(of_signed + w.c[i]));
    const std::int64_t sum =
        static_cast<std::int64_t>(static_cast<std::int32_t>(of_signed >> 16)) + static_cast<std::int32_t>(w.c[i]);
    REQUIRE(saturated[i] == static_cast<std::uint32_t>(std::clamp<std::int64_t>(sum, INT32_MIN, INT32_MAX)));
  }
}

TEST_CASE("bmsk makes a field of ones, szext extends from a width") {
  Words w;
  for (std::size_t i = 0; i < kCount; i += 2) w.a[i] %= 40, w.b[i] %= 40;
  const auto clamp = words("bmsk.clamp.b32 %r4, %r1, %r2;", w.a, w.b, w.c),
             wrap = words("bmsk.wrap.b32 %r4, %r1, %r2;", w.a, w.b, w.c);
  std::vector<std::uint32_t> width(w.b);
  for (std::uint32_t& v : width) v %= 40;
  const auto extended = words("szext.clamp.s32 %r4, %r3, %r2;", w.a, width, w.c),
             wrapped = words("szext.wrap.u32 %r4, %r3, %r2;", w.a, width, w.c);
  for (std::size_t i = 0; i < kCount; ++i) {
    std::uint32_t want_clamp = 0, want_wrap = 0;
    for (std::uint64_t bit = 0; bit < 32; ++bit) {
      if (bit >= w.a[i] && bit < static_cast<std::uint64_t>(w.a[i]) + w.b[i]) want_clamp |= 1U << bit;
      if (bit >= w.a[i] % 32 && bit < w.a[i] % 32 + w.b[i] % 32) want_wrap |= 1U << bit;
    }
    REQUIRE(clamp[i] == want_clamp);
    REQUIRE(wrap[i] == want_wrap);
    const std::uint32_t n = width[i];
    std::int64_t want = n >= 32 ? static_cast<std::int32_t>(w.c[i]) : n == 0 ? 0 : w.c[i] & ((1U << n) - 1);
    if (n != 0 && n < 32 && (w.c[i] >> (n - 1) & 1) != 0) want -= 1LL << n;
    REQUIRE(extended[i] == static_cast<std::uint32_t>(want));
    REQUIRE(wrapped[i] == (n % 32 == 0 ? 0 : w.c[i] & ((1U << n % 32) - 1)));
  }
}

TEST_CASE("fns finds the n-th set bit upwards and downwards") {
  Words w;
  for (std::size_t i = 0; i < kCount; ++i)
    w.b[i] %= 32, w.c[i] = static_cast<std::uint32_t>(static_cast<int>(w.c[i] % 9) - 4);
  const auto result = words("fns.b32 %r4, %r1, %r2, %r3;", w.a, w.b, w.c);
  for (std::size_t i = 0; i < kCount; ++i) {
    const int n = static_cast<int>(w.c[i]);
    std::vector<std::uint32_t> set;
    for (std::uint32_t bit = 0; bit < 32; ++bit) {
      const bool counts = n > 0 ? bit >= w.b[i] : n < 0 ? bit <= w.b[i] : bit == w.b[i];
      if (counts && (w.a[i] >> bit & 1) != 0) set.push_back(bit);
    }
    if (n < 0) std::reverse(set.begin(), set.end());
    const std::size_t index = n == 0 ? 0 : static_cast<std::size_t>(std::abs(n)) - 1;
    REQUIRE(result[i] == (index < set.size() ? set[index] : ~0U));
  }
}

TEST_CASE("inline assembly may declare registers without a blank, as the headers of CUDA do") {
  const Words w;
  const auto result = words("{.reg.b16 low, high; mov.b32 {low, high}, %r1; mov.b32 %r4, {high, low};}", w.a, w.b, w.c);
  for (std::size_t i = 0; i < kCount; ++i) REQUIRE(result[i] == (w.a[i] >> 16 | w.a[i] << 16));
}

TEST_CASE("lop3 combines whether its result is zero with a predicate") {
  Words w;
  for (std::size_t i = 0; i < kCount; i += 2) w.a[i] &= ~w.b[i];
  for (const bool is_and : {true, false}) {
    for (const bool sink : {true, false}) {
      const auto result =
          words(fmt::format("setp.lt.u32 %p1, %r2, %r3; mov.u32 %r5, 0; lop3.{}.b32 {}|%p2, %r1, %r2, %r3, 0xc0, !%p1; "
                            "selp.u32 %r4, 1, 0, %p2; shl.b32 %r5, %r5, 1; or.b32 %r4, %r4, %r5;",
                            is_and ? "and" : "or", sink ? "_" : "%r5"),
                w.a, w.b, w.c);
      for (std::size_t i = 0; i < kCount; ++i) {
        const std::uint32_t both = w.a[i] & w.b[i];
        const bool third = !(w.b[i] < w.c[i]);
        const bool want = is_and ? both != 0 && third : both != 0 || third;
        REQUIRE(result[i] == ((sink ? 0U : both << 1) | (want ? 1U : 0U)));
      }
    }
  }
}

}  // namespace
}  // namespace gdnjit::tests

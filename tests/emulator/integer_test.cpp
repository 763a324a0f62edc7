// Integer arithmetic and bit operations against wide host arithmetic.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

constexpr std::size_t kCount = 2048;
using Wide = __int128;

template <typename T>
struct Name;
template <>
struct Name<std::int16_t> {
  static constexpr const char* type = "s16";
  static constexpr const char* reg = "%rs";
  static constexpr const char* wide = "s32";
};
template <>
struct Name<std::uint16_t> {
  static constexpr const char* type = "u16";
  static constexpr const char* reg = "%rs";
  static constexpr const char* wide = "u32";
};
template <>
struct Name<std::int32_t> {
  static constexpr const char* type = "s32";
  static constexpr const char* reg = "%r";
  static constexpr const char* wide = "s64";
};
template <>
struct Name<std::uint32_t> {
  static constexpr const char* type = "u32";
  static constexpr const char* reg = "%r";
  static constexpr const char* wide = "u64";
};
template <>
struct Name<std::int64_t> {
  static constexpr const char* type = "s64";
  static constexpr const char* reg = "%rd1";
  static constexpr const char* wide = "";
};
template <>
struct Name<std::uint64_t> {
  static constexpr const char* type = "u64";
  static constexpr const char* reg = "%rd1";
  static constexpr const char* wide = "";
};

// Runs `opcode d, a, b, c` over registers named after the type; `operands` uses {0}1 for a register.
template <typename R, typename T>
std::vector<R> apply(const std::string& opcode, const std::string& operands, const std::vector<T>& a,
                     const std::vector<T>& b, const std::vector<T>& c) {
  const std::string type = Name<T>::type, reg = Name<T>::reg, out_type = Name<R>::type, out = Name<R>::reg;
  std::string expanded = operands;
  for (std::size_t at; (at = expanded.find('@')) != std::string::npos;) expanded.replace(at, 1, reg);
  return map3<R>(fmt::format("ld.global.{0} {1}1, [%rd1]; ld.global.{0} {1}2, [%rd2]; ld.global.{0} {1}3, [%rd3];\n{2} "
                             "{3}4, {4};\nst.global.{5} [%rd4], {3}4;",
                             type, reg, opcode, out, expanded, out_type),
                 a, b, c);
}

template <typename T, typename F>
void check_binary(const std::string& opcode, F expected) {
  const auto a = sample_integers<T>(kCount, 1), b = sample_integers<T>(kCount, 2), c = sample_integers<T>(kCount, 3);
  const std::string instruction = fmt::format("{}.{}", opcode, Name<T>::type);
  CAPTURE(instruction);
  const auto result = apply<T>(instruction, "@1, @2", a, b, c);
  for (std::size_t i = 0; i < kCount; ++i) {
    const T want = static_cast<T>(expected(static_cast<Wide>(a[i]), static_cast<Wide>(b[i])));
    if (result[i] != want) {
      FAIL_CHECK(fmt::format("a={} b={}: {}, expected {}", a[i], b[i], result[i], want));
      return;
    }
  }
}

template <typename T>
void check_arithmetic() {
  check_binary<T>("add", [](Wide a, Wide b) { return a + b; });
  check_binary<T>("sub", [](Wide a, Wide b) { return a - b; });
  check_binary<T>("mul.lo",
                  [](Wide a, Wide b) { return static_cast<unsigned __int128>(a) * static_cast<unsigned __int128>(b); });
  check_binary<T>("min", [](Wide a, Wide b) { return a < b ? a : b; });
  check_binary<T>("max", [](Wide a, Wide b) { return a < b ? b : a; });
  check_binary<T>("div", [](Wide a, Wide b) { return b == 0 ? Wide{-1} : a / b; });
  check_binary<T>("rem", [](Wide a, Wide b) { return b == 0 ? Wide{-1} : a % b; });
  check_binary<T>("mul.hi", [](Wide a, Wide b) {
    if constexpr (std::is_same_v<T, std::uint64_t>)
      return static_cast<Wide>((static_cast<unsigned __int128>(a) * static_cast<unsigned __int128>(b)) >> 64);
    return (a * b) >> (8 * sizeof(T));
  });
}

TEST_CASE("integer arithmetic wraps and divides as PTX says, in 16, 32 and 64 bits") {
  check_arithmetic<std::int16_t>();
  check_arithmetic<std::uint16_t>();
  check_arithmetic<std::int32_t>();
  check_arithmetic<std::uint32_t>();
  check_arithmetic<std::int64_t>();
  check_arithmetic<std::uint64_t>();
}

template <typename T, typename W>
void check_wide() {
  const auto a = sample_integers<T>(kCount, 4), b = sample_integers<T>(kCount, 5);
  const auto c = sample_integers<W>(kCount, 6);
  const std::string t = Name<T>::type, r = Name<T>::reg, w = Name<W>::type, wr = Name<W>::reg;
  const auto result = map3<W>(
      fmt::format("ld.global.{0} {1}1, [%rd1]; ld.global.{0} {1}2, [%rd2]; ld.global.{2} {3}5, [%rd3];\n"
                  "mul.wide.{0} {3}6, {1}1, {1}2; mad.wide.{0} {3}6, {1}1, {1}2, {3}5; st.global.{2} [%rd4], {3}6;",
                  t, r, w, wr),
      a, b, c);
  for (std::size_t i = 0; i < kCount; ++i) REQUIRE(result[i] == static_cast<W>(static_cast<Wide>(a[i]) * b[i] + c[i]));
}

TEST_CASE("mul.wide and mad.wide keep the whole product") {
  check_wide<std::int16_t, std::int32_t>();
  check_wide<std::uint16_t, std::uint32_t>();
  check_wide<std::int32_t, std::int64_t>();
  check_wide<std::uint32_t, std::uint64_t>();
}

TEST_CASE("add.sat and sub.sat stop at the ends of s32") {
  check_binary<std::int32_t>(
      "add.sat", [](Wide a, Wide b) { return std::min<Wide>(std::max<Wide>(a + b, INT32_MIN), INT32_MAX); });
  check_binary<std::int32_t>(
      "sub.sat", [](Wide a, Wide b) { return std::min<Wide>(std::max<Wide>(a - b, INT32_MIN), INT32_MAX); });
}

template <typename T>
void check_shifts(const std::string& left_type) {
  const auto a = sample_integers<T>(kCount, 7);
  std::vector<std::uint32_t> by = sample_integers<std::uint32_t>(kCount, 8);
  for (std::size_t i = 0; i < kCount; i += 2) by[i] %= 70;
  const std::string t = Name<T>::type, r = Name<T>::reg;
  const auto left = map3<T>(
      fmt::format(
          "ld.global.{0} {1}1, [%rd1]; ld.global.u32 %r2, [%rd2]; shl.{2} {1}4, {1}1, %r2; st.global.{0} [%rd4], {1}4;",
          t, r, left_type),
      a, by, by);
  const auto right = map3<T>(
      fmt::format(
          "ld.global.{0} {1}1, [%rd1]; ld.global.u32 %r2, [%rd2]; shr.{0} {1}4, {1}1, %r2; st.global.{0} [%rd4], {1}4;",
          t, r),
      a, by, by);
  for (std::size_t i = 0; i < kCount; ++i) {
    const std::uint32_t n = std::min<std::uint32_t>(by[i], 64);
    REQUIRE(left[i] == static_cast<T>(n >= 8 * sizeof(T) ? 0 : static_cast<unsigned __int128>(a[i]) << n));
    REQUIRE(right[i] == static_cast<T>(static_cast<Wide>(a[i]) >> n));
  }
}

TEST_CASE("shifts beyond the width give zero or the sign") {
  check_shifts<std::int16_t>("b16");
  check_shifts<std::uint32_t>("b32");
  check_shifts<std::int32_t>("b32");
  check_shifts<std::int64_t>("b64");
  check_shifts<std::uint64_t>("b64");
}

TEST_CASE("lop3 follows its truth table for all 256 tables") {
  const std::vector<std::uint32_t> a(32, 0xf0), b(32, 0xcc), c(32, 0xaa);
  std::string body =
      "ld.global.u32 %r1, [%rd1]; ld.global.u32 %r2, [%rd2]; ld.global.u32 %r3, [%rd3]; mov.u32 %r5, 0;\n";
  // With these operands the low byte of the result is the table itself.
  for (int table = 0; table < 256; ++table) {
    body += fmt::format(
        "lop3.b32 %r4, %r1, %r2, %r3, {}; and.b32 %r4, %r4, 255; setp.ne.u32 %p1, %r4, {}; @%p1 add.u32 %r5, %r5, 1;\n",
        table, table);
  }
  CHECK(map3<std::uint32_t>(body + "st.global.u32 [%rd4], %r5;", a, b, c)[0] == 0);
}

TEST_CASE("prmt picks bytes and replicates signs") {
  const auto a = sample_integers<std::uint32_t>(kCount, 9), b = sample_integers<std::uint32_t>(kCount, 10),
             c = sample_integers<std::uint32_t>(kCount, 11);
  const auto result = apply<std::uint32_t>("prmt.b32", "@1, @2, @3", a, b, c);
  const auto rc16 = apply<std::uint32_t>("prmt.b32.rc16", "@1, @2, @3", a, b, c);
  for (std::size_t i = 0; i < kCount; ++i) {
    std::uint32_t want = 0;
    for (int byte = 0; byte < 4; ++byte) {
      const std::uint32_t nibble = c[i] >> (4 * byte) & 15;
      const std::uint32_t source = (nibble & 7) < 4 ? a[i] >> (8 * (nibble & 7)) : b[i] >> (8 * ((nibble & 7) - 4));
      want |= ((nibble & 8) != 0 ? ((source & 0x80) != 0 ? 0xffU : 0U) : (source & 0xff)) << (8 * byte);
    }
    REQUIRE(result[i] == want);
    const std::uint32_t half = (c[i] & 1) != 0 ? a[i] >> 16 : a[i] & 0xffff;
    REQUIRE(rc16[i] == (half << 16 | half));
  }
}

TEST_CASE("funnel shifts, bit fields and counts agree with bit-by-bit formulas") {
  const auto a = sample_integers<std::uint32_t>(kCount, 12), b = sample_integers<std::uint32_t>(kCount, 13);
  auto c = sample_integers<std::uint32_t>(kCount, 14);
  for (auto& v : c) v %= 80;
  const auto wrap = apply<std::uint32_t>("shf.l.wrap.b32", "@1, @2, @3", a, b, c),
             clamp = apply<std::uint32_t>("shf.r.clamp.b32", "@1, @2, @3", a, b, c);
  const auto field = apply<std::uint32_t>("bfe.u32", "@1, @3, 7", a, b, c),
             insert = apply<std::uint32_t>("bfi.b32", "@1, @2, @3, 9", a, b, c);
  const auto popc = apply<std::uint32_t>("popc.b32", "@1", a, b, c),
             clz = apply<std::uint32_t>("clz.b32", "@1", a, b, c);
  const auto brev = apply<std::uint32_t>("brev.b32", "@1", a, b, c),
             bfind = apply<std::uint32_t>("bfind.u32", "@1", a, b, c);
  for (std::size_t i = 0; i < kCount; ++i) {
    const unsigned __int128 both = static_cast<unsigned __int128>(b[i]) << 32 | a[i];
    REQUIRE(wrap[i] == static_cast<std::uint32_t>((both << (c[i] & 31)) >> 32));
    REQUIRE(clamp[i] == static_cast<std::uint32_t>(both >> std::min(c[i], 32U)));
    std::uint32_t want_field = 0, want_insert = b[i], want_reverse = 0, ones = 0, zeros = 32, top = ~0U;
    for (std::uint32_t bit = 0; bit < 32; ++bit) {
      const std::uint32_t value = a[i] >> bit & 1;
      if (bit >= c[i] && bit < c[i] + 7) want_field |= value << (bit - c[i]);
      if (bit < 9 && bit + c[i] < 32) want_insert = (want_insert & ~(1U << (bit + c[i]))) | value << (bit + c[i]);
      want_reverse |= value << (31 - bit);
      ones += value;
      if (value != 0) zeros = 31 - bit, top = bit;
    }
    REQUIRE(field[i] == want_field);
    REQUIRE(insert[i] == want_insert);
    REQUIRE(brev[i] == want_reverse);
    REQUIRE(popc[i] == ones);
    REQUIRE(clz[i] == zeros);
    REQUIRE(bfind[i] == top);
  }
}

TEST_CASE("bfe.s32 repeats the sign of the field, also beyond the top of the operand") {
  const std::vector<std::int32_t> a(32, static_cast<std::int32_t>(0x80000f00));
  std::vector<std::int32_t> position(32), length(32);
  const struct {
    int position, length, want;
  } cases[] = {{8, 4, -1},  {8, 5, 15}, {28, 4, -8}, {28, 10, -8},
               {40, 3, -1}, {0, 0, 0},  {31, 1, -1}, {0, 32, static_cast<int>(0x80000f00)}};
  for (std::size_t i = 0; i < std::size(cases); ++i) position[i] = cases[i].position, length[i] = cases[i].length;
  const auto result = apply<std::int32_t>("bfe.s32", "@1, @2, @3", a, position, length);
  for (std::size_t i = 0; i < std::size(cases); ++i) CHECK(result[i] == cases[i].want);
}

TEST_CASE("logic on registers and predicates") {
  const auto a = sample_integers<std::uint32_t>(kCount, 15), b = sample_integers<std::uint32_t>(kCount, 16);
  const auto result = map3<std::uint32_t>(R"(ld.global.u32 %r1, [%rd1]; ld.global.u32 %r2, [%rd2];
    setp.lt.u32 %p1, %r1, %r2; setp.gt.s32 %p2, %r1, %r2; and.pred %p3, %p1, !%p2; or.pred %p4, %p1, %p2; xor.pred %p5, %p1, %p2; not.pred %p6, %p1;
    selp.u32 %r3, 1, 0, %p3; selp.u32 %r4, 2, 0, %p4; selp.u32 %r5, 4, 0, %p5; selp.u32 %r6, 8, 0, %p6;
    or.b32 %r3, %r3, %r4; or.b32 %r3, %r3, %r5; or.b32 %r3, %r3, %r6; xor.b32 %r7, %r1, %r2; not.b32 %r7, %r7; and.b32 %r7, %r7, 0xf0; or.b32 %r3, %r3, %r7;
    st.global.u32 [%rd4], %r3;)",
                                          a, b, a);
  for (std::size_t i = 0; i < kCount; ++i) {
    const bool p1 = a[i]<b[i], p2 = static_cast<std::int32_t>(a[i])> static_cast<std::int32_t>(b[i]);
    REQUIRE(result[i] == ((p1 && !p2) | (p1 || p2) << 1 | (p1 != p2) << 2 | (!p1) << 3 | (~(a[i] ^ b[i]) & 0xf0U)));
  }
}

}  // namespace
}  // namespace gdnjit::tests

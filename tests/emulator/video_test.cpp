// Video instructions against byte-by-byte arithmetic.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>

#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

constexpr std::size_t kCount = 1024;

struct Words {
  std::vector<std::uint32_t> a = sample_integers<std::uint32_t>(kCount, 71);
  std::vector<std::uint32_t> b = sample_integers<std::uint32_t>(kCount, 72);
  std::vector<std::uint32_t> c = sample_integers<std::uint32_t>(kCount, 73);
};

// `want(a, b, c)` for every element of the samples.
template <typename F>
void check(const std::string& instruction, F want) {
  const Words w;
  CAPTURE(instruction);
  const auto result = map3<std::uint32_t>(
      "ld.global.b32 %r1, [%rd1]; ld.global.b32 %r2, [%rd2]; ld.global.b32 %r3, [%rd3]; mov.u32 %r4, 0;\n" +
          instruction + "\nst.global.b32 [%rd4], %r4;",
      w.a, w.b, w.c);
  for (std::size_t i = 0; i < kCount; ++i) {
    const auto expected = static_cast<std::uint32_t>(want(w.a[i], w.b[i], w.c[i]));
    if (result[i] != expected) {
      FAIL_CHECK(fmt::format("a={:08x} b={:08x} c={:08x}: {:08x}, expected {:08x}", w.a[i], w.b[i], w.c[i], result[i],
                             expected));
      return;
    }
  }
}

using U = std::uint32_t;
std::int64_t s(U v) { return static_cast<std::int32_t>(v); }
std::int64_t sb(U v, int byte) { return static_cast<std::int8_t>(v >> (8 * byte)); }
std::int64_t ub(U v, int byte) { return static_cast<std::uint8_t>(v >> (8 * byte)); }
std::int64_t sh(U v, int half) { return static_cast<std::int16_t>(v >> (16 * half)); }

TEST_CASE("scalar video instructions select parts, saturate, combine and merge") {
  check("vadd.s32.u32.s32 %r4, %r1.b2, %r2.h1;", [](U a, U b, U) { return ub(a, 2) + sh(b, 1); });
  check("vadd.s32.s32.s32.sat %r4, %r1, %r2;",
        [](U a, U b, U) { return std::clamp<std::int64_t>(s(a) + s(b), INT32_MIN, INT32_MAX); });
  check("vsub.u32.u32.u32.sat %r4, %r1, %r2;", [](U a, U b, U) { return a > b ? a - b : 0; });
  check("vsub.s32.s32.s32.sat.add %r4, %r1.b0, %r2.b3, %r3;", [](U a, U b, U c) { return sb(a, 0) - sb(b, 3) + c; });
  check("vabsdiff.u32.s32.s32.add %r4, %r1, %r2, %r3;", [](U a, U b, U c) { return std::abs(s(a) - s(b)) + c; });
  check("vmin.s32.s32.u32.max %r4, %r1, %r2.h0, %r3;",
        [](U a, U b, U c) { return std::max(std::min<std::int64_t>(s(a), b & 0xffff), s(c)); });
  check("vmax.u32.u32.u32.min %r4, %r1, %r2, %r3;", [](U a, U b, U c) { return std::min(std::max(a, b), c); });
  check("vadd.s32.s32.s32.sat %r4.b1, %r1, %r2, %r3;", [](U a, U b, U c) {
    const std::int64_t sum = std::clamp<std::int64_t>(s(a) + s(b), -128, 127);
    return (c & 0xffff00ffU) | (static_cast<U>(sum) & 0xffU) << 8;
  });
  check("vadd.u32.u32.u32 %r4.h1, %r1, %r2, %r3;", [](U a, U b, U c) { return (c & 0xffffU) | (a + b) << 16; });
  check("vset.u32.s32.lt %r4, %r1, %r2.b0;", [](U a, U b, U) { return std::int64_t{a} < sb(b, 0) ? 1 : 0; });
  check("vset.s32.s32.ge.add %r4, %r1, %r2, %r3;", [](U a, U b, U c) { return (s(a) >= s(b) ? 1 : 0) + c; });
}

TEST_CASE("video shifts clamp or wrap their amount") {
  check("vshl.u32.u32.u32.clamp %r4, %r1, %r2;", [](U a, U b, U) { return b >= 32 ? 0 : a << b; });
  check("vshl.s32.u32.u32.wrap %r4, %r1, %r2;", [](U a, U b, U) { return a << (b % 32); });
  check("vshr.s32.s32.u32.clamp %r4, %r1, %r2;", [](U a, U b, U) { return s(a) >> std::min(b, 32U); });
  check("vshr.u32.u32.u32.wrap.add %r4, %r1, %r2.b1, %r3;", [](U a, U b, U c) { return (a >> (ub(b, 1) % 32)) + c; });
}

TEST_CASE("vmad multiplies parts, negates, scales and saturates") {
  check("vmad.u32.u32.u32 %r4, %r1.b0, %r2.h1, %r3;", [](U a, U b, U c) { return ub(a, 0) * (b >> 16) + c; });
  check("vmad.s32.s32.s32.shr7 %r4, %r1, %r2, %r3;",
        [](U a, U b, U c) { return static_cast<U>((static_cast<__int128>(s(a)) * s(b) + s(c)) >> 7); });
  check("vmad.s32.s32.s32.sat.shr15 %r4, %r1, -%r2, %r3;", [](U a, U b, U c) {
    const __int128 value = (-(static_cast<__int128>(s(a)) * s(b)) + s(c)) >> 15;
    return static_cast<U>(std::clamp<__int128>(value, INT32_MIN, INT32_MAX));
  });
  check("vmad.s32.u32.u32 %r4, %r1, %r2, -%r3;",
        [](U a, U b, U c) { return static_cast<U>(static_cast<unsigned __int128>(a) * b - c); });
  check("vmad.u32.u32.u32.po %r4, %r1, %r2, %r3;",
        [](U a, U b, U c) { return static_cast<U>(static_cast<unsigned __int128>(a) * b + c + 1); });
}

template <int kBits, typename F>
U each(U a, U b, F f) {
  U result = 0;
  for (int at = 0; at < 32; at += kBits) {
    const U mask = (1U << kBits) - 1;
    result |= (static_cast<U>(f(a >> at & mask, b >> at & mask)) & mask) << at;
  }
  return result;
}

TEST_CASE("video instructions on all halves and bytes") {
  const auto half = [](U v) { return static_cast<std::int64_t>(static_cast<std::int16_t>(v)); };
  const auto byte = [](U v) { return static_cast<std::int64_t>(static_cast<std::int8_t>(v)); };
  check("vadd2.u32.u32.u32 %r4, %r1, %r2, %r3;",
        [](U a, U b, U) { return each<16>(a, b, [](U x, U y) { return x + y; }); });
  check("vadd2.s32.s32.s32.sat %r4, %r1, %r2, %r3;", [&](U a, U b, U) {
    return each<16>(a, b, [&](U x, U y) { return std::clamp<std::int64_t>(half(x) + half(y), -32768, 32767); });
  });
  check("vsub4.s32.s32.s32.sat %r4, %r1, %r2, %r3;", [&](U a, U b, U) {
    return each<8>(a, b, [&](U x, U y) { return std::clamp<std::int64_t>(byte(x) - byte(y), -128, 127); });
  });
  check("vavrg4.u32.u32.u32 %r4, %r1, %r2, %r3;",
        [](U a, U b, U) { return each<8>(a, b, [](U x, U y) { return (x + y + 1) / 2; }); });
  check("vavrg2.u32.u32.u32 %r4, %r1, %r2, %r3;",
        [](U a, U b, U) { return each<16>(a, b, [](U x, U y) { return (x + y + 1) / 2; }); });
  check("vmin4.s32.s32.s32 %r4, %r1, %r2, %r3;",
        [&](U a, U b, U) { return each<8>(a, b, [&](U x, U y) { return std::min(byte(x), byte(y)); }); });
  check("vmax2.u32.u32.u32 %r4, %r1, %r2, %r3;",
        [](U a, U b, U) { return each<16>(a, b, [](U x, U y) { return std::max(x, y); }); });
  check("vabsdiff4.u32.u32.u32.add %r4, %r1, %r2, %r3;", [](U a, U b, U c) {
    for (int i = 0; i < 4; ++i) c += static_cast<U>(std::abs(ub(a, i) - ub(b, i)));
    return c;
  });
  check("vabsdiff2.s32.s32.s32 %r4, %r1, %r2, %r3;",
        [&](U a, U b, U) { return each<16>(a, b, [&](U x, U y) { return std::abs(half(x) - half(y)); }); });
  check("vset4.u32.u32.ne %r4, %r1, %r2, %r3;",
        [](U a, U b, U) { return each<8>(a, b, [](U x, U y) { return x != y ? 1 : 0; }); });
  check("vset2.s32.s32.gt.add %r4, %r1, %r2, %r3;", [&](U a, U b, U c) {
    for (int i = 0; i < 2; ++i) c += sh(a, i) > sh(b, i) ? 1 : 0;
    return c;
  });
}

TEST_CASE("selectors pick elements of both operands, and masks keep the third") {
  check("vadd2.u32.u32.u32 %r4.h1, %r1.h20, %r2.h31, %r3;",
        [](U a, U b, U c) { return (c & 0xffffU) | ((b & 0xffffU) + (b >> 16)) << 16 | 0U * a; });
  check("vsub4.u32.u32.u32 %r4.b20, %r1.b4321, %r2.b0123, %r3;", [](U a, U b, U c) {
    const auto pick = [&](int i) { return static_cast<U>(i < 4 ? ub(a, i) : ub(b, i - 4)); };
    return (c & 0xff00ff00U) | ((pick(1) - pick(3)) & 0xffU) | ((pick(3) - pick(1)) & 0xffU) << 16;
  });
}

TEST_CASE("wrong selectors, parts elsewhere, and forms that do not exist are refused") {
  for (const char* line :
       {"vadd.s32.s32.s32 %r1, %r2.b4, %r3;", "vadd.s32.s32.s32 %r1, -%r2, %r3;", "vadd.f32.f32.f32 %f1, %f2, %f3;",
        "vadd2.s32.s32.s32 %r1, %r2.h1, %r3, %r4;", "vadd4.s32.s32.s32 %r1.b02, %r2, %r3, %r4;",
        "add.u32 %r1, %r2.b0, %r3;", "mov.u32 %r1, -%r2;", "ld.global.u32 %r1, [%rd1.b0];",
        "vshl.u32.u32.u32 %r1, %r2, %r3;", "vset.u32.u32 %r1, %r2, %r3;", "vadd2.s32.s32.s32 %r1, %r2, %r3;"}) {
    const std::string text = error_text([&] { emulator().load({"test", ptx_module(line), {}}); });
    CAPTURE(std::string(line));
    CHECK(text.find("line") != std::string::npos);
  }
}

}  // namespace
}  // namespace gdnjit::tests

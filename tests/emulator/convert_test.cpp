// Conversions against the host's own types and rounding modes.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cfenv>
#include <cmath>

#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

constexpr std::size_t kCount = 8192;

std::uint16_t host_half(float v) {
  const auto half = static_cast<_Float16>(v);
  std::uint16_t result;
  std::memcpy(&result, &half, 2);
  return std::isnan(v) ? 0x7fff : result;
}
float host_float(std::uint16_t bits16) {
  _Float16 half;
  std::memcpy(&half, &bits16, 2);
  return static_cast<float>(half);
}

// The nearest bf16, ties to even, by comparing distances in double precision.
std::uint16_t nearest_bf16(float v) {
  if (std::isnan(v)) return 0x7fff;
  if (std::isinf(v)) return static_cast<std::uint16_t>(bits(v) >> 16);
  const std::uint32_t low = bits(v) >> 16, high = low + 1;
  const double below = std::fabs(static_cast<double>(from_bits(low << 16)));
  const double above = (high & 0x7fff) == 0x7f80 ? 0x1p128 : std::fabs(static_cast<double>(from_bits(high << 16)));
  const double value = std::fabs(static_cast<double>(v));
  if (value - below == above - value) return static_cast<std::uint16_t>((low & 1) == 0 ? low : high);
  return static_cast<std::uint16_t>(value - below < above - value ? low : high);
}

TEST_CASE("every f16 and bf16 becomes the f32 of the same value") {
  std::vector<std::uint16_t> all(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  const auto half =
      map3<float>("ld.global.b16 %rs1, [%rd1]; cvt.f32.f16 %f4, %rs1; st.global.f32 [%rd4], %f4;", all, all, all);
  const auto brain =
      map3<float>("ld.global.b16 %rs1, [%rd1]; cvt.f32.bf16 %f4, %rs1; st.global.f32 [%rd4], %f4;", all, all, all);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const float want = host_float(all[i]);
    if (std::isnan(want))
      REQUIRE(std::isnan(half[i]));
    else
      REQUIRE(bits(half[i]) == bits(want));
    const float want_brain = from_bits(static_cast<std::uint32_t>(i) << 16);
    if (std::isnan(want_brain))
      REQUIRE(std::isnan(brain[i]));
    else
      REQUIRE(bits(brain[i]) == bits(want_brain));
  }
}

TEST_CASE("f32 to f16 and bf16 rounds to nearest even, alone and packed") {
  std::vector<float> a = sample_floats(kCount, 21), b = sample_floats(kCount, 22);
  std::mt19937 random(23);
  for (std::size_t i = 0; i < kCount; i += 3) {
    // The neighbourhood of half-way points, normal and subnormal f16.
    const std::uint32_t exponent = 95 + random() % 50;
    a[i] = from_bits(exponent << 23 | (random() % 1024) << 13 | 0xfffU | random() % 3);
    b[i] = from_bits(random() << 16 | 0x7fffU | random() % 3);
  }
  const auto half =
      map3<std::uint16_t>("ld.global.f32 %f1, [%rd1]; cvt.rn.f16.f32 %rs1, %f1; st.global.b16 [%rd4], %rs1;", a, b, a);
  const auto brain =
      map3<std::uint16_t>("ld.global.f32 %f1, [%rd2]; cvt.rn.bf16.f32 %rs1, %f1; st.global.b16 [%rd4], %rs1;", a, b, a);
  const auto packed = map3<std::uint32_t>(
      "ld.global.f32 %f1, [%rd1]; ld.global.f32 %f2, [%rd2]; cvt.rn.bf16x2.f32 %r1, %f1, %f2; st.global.b32 [%rd4], "
      "%r1;",
      a, b, a);
  const auto packed_half = map3<std::uint32_t>(
      "ld.global.f32 %f1, [%rd1]; ld.global.f32 %f2, [%rd2]; cvt.rn.f16x2.f32 %r1, %f1, %f2; st.global.b32 [%rd4], "
      "%r1;",
      a, b, a);
  for (std::size_t i = 0; i < kCount; ++i) {
    CAPTURE(a[i]);
    CAPTURE(b[i]);
    REQUIRE(half[i] == host_half(a[i]));
    REQUIRE(brain[i] == nearest_bf16(b[i]));
    REQUIRE(packed[i] == (static_cast<std::uint32_t>(nearest_bf16(a[i])) << 16 | nearest_bf16(b[i])));
    REQUIRE(packed_half[i] == (static_cast<std::uint32_t>(host_half(a[i])) << 16 | host_half(b[i])));
  }
}

TEST_CASE("rounding towards zero to 16 bits never grows") {
  const auto a = sample_floats(kCount, 24);
  const auto half =
      map3<std::uint16_t>("ld.global.f32 %f1, [%rd1]; cvt.rz.f16.f32 %rs1, %f1; st.global.b16 [%rd4], %rs1;", a, a, a);
  const auto brain =
      map3<std::uint16_t>("ld.global.f32 %f1, [%rd1]; cvt.rz.bf16.f32 %rs1, %f1; st.global.b16 [%rd4], %rs1;", a, a, a);
  for (std::size_t i = 0; i < kCount; ++i) {
    if (std::isnan(a[i])) continue;
    CAPTURE(a[i]);
    REQUIRE(brain[i] == static_cast<std::uint16_t>(bits(a[i]) >> 16));
    const float back = host_float(half[i]), next = host_float(static_cast<std::uint16_t>(half[i] + 1));
    REQUIRE(std::fabs(back) <= std::fabs(a[i]));
    REQUIRE((std::isinf(a[i]) || std::fabs(next) > std::fabs(a[i])));
  }
}

template <typename I>
void check_to_integer(const char* name, const char* reg, bool is_signed) {
  const auto a = sample_floats(kCount, 25);
  const struct {
    const char* round;
    int host;
  } modes[] = {{"rni", FE_TONEAREST}, {"rzi", FE_TOWARDZERO}, {"rmi", FE_DOWNWARD}, {"rpi", FE_UPWARD}};
  for (const auto& mode : modes) {
    const std::string instruction = fmt::format("cvt.{}.{}.f32", mode.round, name);
    CAPTURE(instruction);
    const auto result = map3<I>(
        fmt::format("ld.global.f32 %f1, [%rd1]; {} {}9, %f1; st.global.{} [%rd4], {}9;", instruction, reg, name, reg),
        a, a, a);
    for (std::size_t i = 0; i < kCount; ++i) {
      std::fesetround(mode.host);
      volatile double integral = std::nearbyint(static_cast<double>(a[i]));
      std::fesetround(FE_TONEAREST);
      const double low = is_signed ? -std::ldexp(1.0, sizeof(I) * 8 - 1) : 0.0,
                   high = std::ldexp(1.0, sizeof(I) * 8 - (is_signed ? 1 : 0));
      I want;
      if (std::isnan(a[i]))
        want = sizeof(I) == 8 ? static_cast<I>(1ULL << 63) : I(0);
      else if (integral >= high)
        want = std::numeric_limits<I>::max();
      else if (integral < low)
        want = std::numeric_limits<I>::min();
      else
        want = static_cast<I>(integral);
      CAPTURE(a[i]);
      REQUIRE(result[i] == want);
    }
  }
}

TEST_CASE("f32 to integers rounds in every direction and clamps") {
  check_to_integer<std::int32_t>("s32", "%r", true);
  check_to_integer<std::uint32_t>("u32", "%r", false);
  check_to_integer<std::int64_t>("s64", "%rd", true);
  check_to_integer<std::uint64_t>("u64", "%rd", false);
}

template <typename I>
void check_from_integer(const char* name, const char* reg) {
  const auto a = sample_integers<I>(kCount, 26);
  const struct {
    const char* round;
    int host;
  } modes[] = {{"rn", FE_TONEAREST}, {"rz", FE_TOWARDZERO}, {"rm", FE_DOWNWARD}, {"rp", FE_UPWARD}};
  for (const auto& mode : modes) {
    CAPTURE(mode.round);
    CAPTURE(name);
    const auto result =
        map3<float>(fmt::format("ld.global.{0} {1}9, [%rd1]; cvt.{2}.f32.{0} %f4, {1}9; st.global.f32 [%rd4], %f4;",
                                name, reg, mode.round),
                    a, a, a);
    for (std::size_t i = 0; i < kCount; ++i) {
      std::fesetround(mode.host);
      volatile I value = a[i];
      volatile float want = static_cast<float>(value);
      std::fesetround(FE_TONEAREST);
      if (std::is_same_v<I, std::uint64_t> && value > INT64_MAX) {
        // The host's own sequence for large unsigned values rounds twice; long double holds them exactly.
        std::fesetround(mode.host);
        volatile long double exact = static_cast<long double>(value);
        want = static_cast<float>(exact);
        std::fesetround(FE_TONEAREST);
      }
      CAPTURE(a[i]);
      REQUIRE(bits(result[i]) == bits(want));
    }
  }
}

TEST_CASE("integers to f32 round in every direction") {
  check_from_integer<std::int32_t>("s32", "%r");
  check_from_integer<std::uint32_t>("u32", "%r");
  check_from_integer<std::int64_t>("s64", "%rd");
  check_from_integer<std::uint64_t>("u64", "%rd");
}

// The nearest value with `bits` fraction bits, ties to even or away from zero, or the next one towards zero.
float tf32_by_definition(float v, const std::string& round) {
  if (std::isnan(v) || std::isinf(v)) return v;
  const std::uint32_t low = bits(v) & 0xffffe000U;
  const double below = std::fabs(static_cast<double>(from_bits(low))), value = std::fabs(static_cast<double>(v));
  const double unit = std::ldexp(1.0, std::max(std::ilogb(below == 0 ? 0x1p-126 : below), -126) - 10);
  const double rest = value - below;
  bool up = rest > unit / 2 || (rest == unit / 2 && (round == "rna" || (low >> 13 & 1) != 0));
  if (round == "rz") up = false;
  return from_bits(up ? low + 0x2000U : low);
}

TEST_CASE("f32 to tf32 keeps ten fraction bits, rounded in three ways, clamped on demand") {
  auto a = sample_floats(kCount, 51);
  for (std::size_t i = 0; i < kCount; i += 3) a[i] = from_bits((bits(a[i]) & 0xffffe000U) | (0x0fffU + i % 3));
  for (const std::string round : {"rna", "rn", "rz"}) {
    for (const std::string how : {"", ".satfinite", ".relu", ".satfinite.relu"}) {
      if (round == "rna" && how.find("relu") != std::string::npos) continue;
      const std::string instruction = "cvt." + round + how + ".tf32.f32";
      CAPTURE(instruction);
      const auto result =
          map3<float>("ld.global.f32 %f1, [%rd1]; " + instruction + " %r4, %f1; st.global.b32 [%rd4], %r4;", a, a, a);
      for (std::size_t i = 0; i < kCount; ++i) {
        CAPTURE(a[i]);
        float want = tf32_by_definition(a[i], round);
        if (how.find("satfinite") != std::string::npos && std::fabs(want) > 0x1.ffcp127F)
          want = std::copysign(0x1.ffcp127F, want);
        if (how.find("relu") != std::string::npos && want <= 0) want = 0.0F;
        const std::uint32_t nan = round == "rna" ? bits(a[i]) & 0xffffe000U : 0x7fffe000U;
        REQUIRE(bits(result[i]) == (std::isnan(a[i]) ? nan : bits(want)));
      }
    }
  }
}

TEST_CASE("relu and satfinite of f32 to 16 bits, alone and packed") {
  const auto a = sample_floats(kCount, 52), b = sample_floats(kCount, 53);
  for (const std::string type : {"f16", "bf16"}) {
    for (const std::string how : {".relu", ".satfinite", ".satfinite.relu"}) {
      const auto want = [&](float v) -> std::uint16_t {
        const bool is_half = type == "f16";
        if (std::isnan(v)) return 0x7fff;
        if (how.find("relu") != std::string::npos && v <= 0) return 0;
        const float largest = is_half ? 65504.0F : from_bits(0x7f7f0000);
        if (how.find("satfinite") != std::string::npos && std::fabs(v) > largest) v = std::copysign(largest, v);
        return is_half ? host_half(v) : nearest_bf16(v);
      };
      const std::string name = "cvt.rn" + how + "." + type;
      CAPTURE(name);
      const auto single = map3<std::uint16_t>(
          "ld.global.f32 %f1, [%rd1]; " + name + ".f32 %rs4, %f1; st.global.b16 [%rd4], %rs4;", a, b, a);
      const auto pair = map3<std::uint32_t>("ld.global.f32 %f1, [%rd1]; ld.global.f32 %f2, [%rd2]; " + name +
                                                "x2.f32 %r4, %f1, %f2; st.global.b32 [%rd4], %r4;",
                                            a, b, a);
      for (std::size_t i = 0; i < kCount; ++i) {
        CAPTURE(a[i]);
        REQUIRE(single[i] == want(a[i]));
        REQUIRE(pair[i] == (static_cast<std::uint32_t>(want(a[i])) << 16 | want(b[i])));
      }
    }
  }
}

TEST_CASE("f16, bf16 and f64 convert among each other with one rounding") {
  std::vector<std::uint16_t> all(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  const auto brain = map3<std::uint16_t>(
      "ld.global.b16 %rs1, [%rd1]; cvt.rn.bf16.f16 %rs2, %rs1; st.global.b16 [%rd4], %rs2;", all, all, all);
  const auto half = map3<std::uint16_t>(
      "ld.global.b16 %rs1, [%rd1]; cvt.rn.f16.bf16 %rs2, %rs1; st.global.b16 [%rd4], %rs2;", all, all, all);
  for (std::size_t i = 0; i < all.size(); ++i) {
    REQUIRE(brain[i] == nearest_bf16(host_float(all[i])));
    REQUIRE(half[i] == host_half(from_bits(static_cast<std::uint32_t>(all[i]) << 16)));
  }
  // Doubles just above a tie of f16, which rounding to f32 first would turn into the tie.
  std::vector<double> wide = sample_doubles(kCount, 54);
  std::mt19937 random(55);
  for (std::size_t i = 0; i < kCount; i += 2)
    wide[i] = std::ldexp((1024.5 + random() % 1024) * (1 + 0x1p-50), static_cast<int>(random() % 20) - 18);
  const auto narrow = map3<std::uint16_t>(
      "ld.global.f64 %fd1, [%rd1]; cvt.rn.f16.f64 %rs2, %fd1; st.global.b16 [%rd4], %rs2;", wide, wide, wide);
  for (std::size_t i = 0; i < kCount; ++i) {
    CAPTURE(wide[i]);
    const auto want = static_cast<_Float16>(wide[i]);
    std::uint16_t code;
    std::memcpy(&code, &want, 2);
    REQUIRE(narrow[i] == (std::isnan(wide[i]) ? 0x7fff : code));
  }
}

TEST_CASE("integers of other sizes are cut and extended") {
  const auto a = sample_integers<std::int64_t>(kCount, 27);
  const auto result = map3<std::int64_t>(
      R"(ld.global.s64 %rd9, [%rd1]; cvt.u32.u64 %r1, %rd9; cvt.u16.u32 %rs1, %r1; cvt.s8.s32 %r2, %r1; cvt.s64.s16 %rd10, %rs1;
    cvt.s64.s32 %rd11, %r2; shl.b64 %rd11, %rd11, 32; add.s64 %rd10, %rd10, %rd11; st.global.s64 [%rd4], %rd10;)",
      a, a, a);
  const auto saturated =
      map3<std::int32_t>("ld.global.s64 %rd9, [%rd1]; cvt.sat.s32.s64 %r1, %rd9; st.global.s32 [%rd4], %r1;", a, a, a);
  for (std::size_t i = 0; i < kCount; ++i) {
    const std::int64_t high = static_cast<std::int8_t>(a[i]), low = static_cast<std::int16_t>(a[i]);
    REQUIRE(result[i] ==
            static_cast<std::int64_t>((static_cast<std::uint64_t>(high) << 32) + static_cast<std::uint64_t>(low)));
    REQUIRE(saturated[i] == std::min<std::int64_t>(std::max<std::int64_t>(a[i], INT32_MIN), INT32_MAX));
  }
}

TEST_CASE("cvt between floats rounds to integral values, saturates and flushes") {
  const auto a = sample_floats(kCount, 28);
  const auto floor =
      map3<float>("ld.global.f32 %f1, [%rd1]; cvt.rmi.f32.f32 %f4, %f1; st.global.f32 [%rd4], %f4;", a, a, a);
  const auto clamp =
      map3<float>("ld.global.f32 %f1, [%rd1]; cvt.sat.f32.f32 %f4, %f1; st.global.f32 [%rd4], %f4;", a, a, a);
  const auto twice = map3<float>(
      "ld.global.f32 %f1, [%rd1]; cvt.f64.f32 %fd1, %f1; add.f64 %fd1, %fd1, %fd1; cvt.rn.f32.f64 %f4, %fd1; "
      "st.global.f32 [%rd4], %f4;",
      a, a, a);
  for (std::size_t i = 0; i < kCount; ++i) {
    CAPTURE(a[i]);
    REQUIRE(bits(clamp[i]) == bits(a[i] >= 1 ? 1.0F : a[i] > 0 ? a[i] : 0.0F));
    if (std::isnan(a[i])) continue;
    REQUIRE(bits(floor[i]) == bits(std::floor(a[i])));
    REQUIRE(bits(twice[i]) == bits(a[i] + a[i]));
  }
}

}  // namespace
}  // namespace gdnjit::tests

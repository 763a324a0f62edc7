// The formats of 8, 6 and 4 bits over all their codes, by the definition of the formats; cvt.pack.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>

#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

struct Mini {
  const char* name;
  int width, fraction, bias;
  std::uint32_t largest;        // code without the sign
  std::uint32_t nan;            // what NaN becomes
  std::uint32_t first_special;  // NaN and infinity from here on

  double value(std::uint32_t code) const {
    const std::uint32_t magnitude = code & ((1U << (width - 1)) - 1);
    const int exponent = static_cast<int>(magnitude >> fraction);
    const int digits = static_cast<int>(magnitude & ((1U << fraction) - 1));
    double result = std::ldexp(digits + (exponent != 0 ? 1 << fraction : 0), std::max(exponent, 1) - bias - fraction);
    if (magnitude >= first_special) result = width == 8 && fraction == 2 && digits == 0 ? INFINITY : NAN;
    return (code >> (width - 1) & 1) != 0 ? -result : result;
  }
  // The nearest code, ties to even, by looking at all of them.
  std::uint32_t nearest(double v, bool relu) const {
    if (std::isnan(v)) return nan;
    if (relu && std::signbit(v)) return 0;
    std::uint32_t best = 0;
    for (std::uint32_t code = 1; code <= largest; ++code) {
      const double distance = std::fabs(value(code) - std::fabs(v)), least = std::fabs(value(best) - std::fabs(v));
      if (distance < least || (distance == least && code % 2 == 0)) best = code;
    }
    if (std::fabs(v) >= value(largest)) best = largest;
    return best | (std::signbit(v) ? 1U << (width - 1) : 0U);
  }
  int element_bits() const { return width == 4 ? 4 : 8; }
  const char* reg() const { return width == 4 ? "%b1" : "%rs1"; }
};

const Mini kFormats[] = {{"e4m3x2", 8, 3, 7, 0x7e, 0x7f, 0x7f},
                         {"e5m2x2", 8, 2, 15, 0x7b, 0x7f, 0x7c},
                         {"e2m3x2", 6, 3, 1, 0x1f, 0x1f, 0x100},
                         {"e3m2x2", 6, 2, 3, 0x1f, 0x1f, 0x100},
                         {"e2m1x2", 4, 1, 1, 0x07, 0x07, 0x100}};

float half_value(std::uint32_t code) {
  const auto narrow = static_cast<std::uint16_t>(code);
  _Float16 half;
  std::memcpy(&half, &narrow, 2);
  return static_cast<float>(half);
}

// 4-bit pairs live in registers of 8 bits.
std::string fill(const Mini& format) { return format.width == 4 ? ".reg .b8 %b<4>;\n" : ""; }
std::string to_result(const Mini& format) { return format.width == 4 ? "mov.b16 %rs1, {%b1, 0};\n" : ""; }

TEST_CASE("every code becomes the f16 of its value") {
  std::vector<std::uint16_t> codes(65536);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint16_t>(i);
  for (const Mini& format : kFormats) {
    for (const bool relu : {false, true}) {
      CAPTURE(format.name);
      const auto result = map3<std::uint32_t>(fill(format) + "ld.global.b16 %rs1, [%rd1];\n" +
                                                  (format.width == 4 ? "mov.b16 {%b1, %b2}, %rs1;\n" : "") +
                                                  fmt::format("cvt.rn{}.f16x2.{} %r1, {}; st.global.b32 [%rd4], %r1;",
                                                              relu ? ".relu" : "", format.name, format.reg()),
                                              codes, codes, codes);
      for (std::size_t i = 0; i < codes.size(); ++i) {
        for (int half = 0; half < 2; ++half) {
          const auto code = static_cast<std::uint32_t>(codes[i] >> (half * format.element_bits()));
          double want = format.value(code & ((1U << format.width) - 1));
          if (relu && want <= 0) want = 0.0;
          const std::uint32_t bits16 = result[i] >> (16 * half) & 0xffff;
          if (std::isnan(want)) {
            REQUIRE(bits16 == 0x7fff);
          } else {
            REQUIRE(half_value(bits16) == want);
            REQUIRE(std::signbit(half_value(bits16)) == std::signbit(want));
          }
        }
      }
    }
  }
}

// Values at, between, and just beside all neighbouring codes, and ordinary samples.
std::vector<float> samples(const Mini& format) {
  std::vector<float> values = sample_floats(1024, 41);
  for (std::uint32_t code = 0; code <= format.largest; ++code) {
    const auto here = static_cast<float>(format.value(code));
    const auto next = static_cast<float>(code == format.largest ? 2 * here : format.value(code + 1));
    const float middle = (here + next) / 2;
    for (const float v : {here, middle, std::nextafter(middle, here), std::nextafter(middle, next), next * 1.0625F}) {
      values.push_back(v);
      values.push_back(-v);
    }
  }
  while (values.size() % 64 != 0) values.push_back(0.0F);
  return values;
}

TEST_CASE("pairs of f32 become the nearest codes, the largest beyond them") {
  for (const Mini& format : kFormats) {
    const auto a = samples(format);
    std::vector<float> b(a.rbegin(), a.rend());
    for (const bool relu : {false, true}) {
      CAPTURE(format.name);
      const auto result = map3<std::uint16_t>(
          fill(format) + "ld.global.f32 %f1, [%rd1]; ld.global.f32 %f2, [%rd2];\n" +
              fmt::format("cvt.rn.satfinite{}.{}.f32 {}, %f1, %f2;\n", relu ? ".relu" : "", format.name, format.reg()) +
              to_result(format) + "st.global.b16 [%rd4], %rs1;",
          a, b, b);
      for (std::size_t i = 0; i < a.size(); ++i) {
        CAPTURE(a[i]);
        CAPTURE(b[i]);
        REQUIRE(result[i] == (format.nearest(a[i], relu) << format.element_bits() | format.nearest(b[i], relu)));
      }
    }
  }
}

TEST_CASE("every f16 becomes the nearest code") {
  std::vector<std::uint32_t> pairs(65536);
  for (std::uint32_t i = 0; i < 65536; ++i) pairs[i] = i | (i * 40503U) << 16;
  for (const Mini& format : kFormats) {
    if (format.width == 6) continue;
    std::vector<std::uint32_t> want(65536);
    for (const bool relu : {false, true}) {
      for (std::uint32_t i = 0; i < 65536; ++i) want[i] = format.nearest(half_value(i), relu);
      const auto result = map3<std::uint16_t>(
          fill(format) + "ld.global.b32 %r1, [%rd1];\n" +
              fmt::format("cvt.rn.satfinite{}.{}.f16x2 {}, %r1;\n", relu ? ".relu" : "", format.name, format.reg()) +
              to_result(format) + "st.global.b16 [%rd4], %rs1;",
          pairs, pairs, pairs);
      for (std::uint32_t i = 0; i < 65536; ++i)
        REQUIRE(result[i] == (want[pairs[i] >> 16] << format.element_bits() | want[i]));
    }
  }
}

TEST_CASE("ue8m0 keeps the exponent, rounded down or up") {
  auto a = sample_floats(4096, 42);
  for (int exponent = -149; exponent < 128; ++exponent) {
    for (const float factor : {1.0F, 1.0000001F, 1.5F, -1.75F}) a.push_back(std::ldexp(factor, exponent));
  }
  const std::vector<float> b(a.rbegin(), a.rend());
  for (const bool up : {false, true}) {
    for (const bool finite : {false, true}) {
      const auto result = map3<std::uint16_t>(
          fmt::format("ld.global.f32 %f1, [%rd1]; ld.global.f32 %f2, [%rd2]; cvt.{}{}.ue8m0x2.f32 %rs1, %f1, %f2; "
                      "st.global.b16 [%rd4], %rs1;",
                      up ? "rp" : "rz", finite ? ".satfinite" : ""),
          a, b, b);
      const auto code = [&](float v) -> std::uint32_t {
        const double magnitude = std::fabs(static_cast<double>(v));
        if (std::isnan(v)) return 255;
        if (std::isinf(v)) return finite ? 254 : 255;
        if (magnitude <= 0x1p-127) return 0;
        const int floor = std::ilogb(magnitude);
        const int exponent = up && std::ldexp(1.0, floor) < magnitude ? floor + 1 : floor;
        return exponent == 128 && finite ? 254U : static_cast<std::uint32_t>(exponent + 127);
      };
      for (std::size_t i = 0; i < a.size(); ++i) {
        CAPTURE(a[i]);
        CAPTURE(b[i]);
        REQUIRE(result[i] == (code(a[i]) << 8 | code(b[i])));
      }
    }
  }
  std::vector<std::uint16_t> codes(65536);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint16_t>(i);
  const auto back = map3<std::uint32_t>(
      "ld.global.b16 %rs1, [%rd1]; cvt.rn.bf16x2.ue8m0x2 %r1, %rs1; st.global.b32 [%rd4], %r1;", codes, codes, codes);
  const auto again = map3<std::uint16_t>(
      "ld.global.b16 %rs1, [%rd1]; cvt.rn.bf16x2.ue8m0x2 %r1, %rs1; cvt.rz.ue8m0x2.bf16x2 %rs2, %r1; st.global.b16 "
      "[%rd4], %rs2;",
      codes, codes, codes);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    for (int half = 0; half < 2; ++half) {
      const int code = codes[i] >> (8 * half) & 255;
      const float value = from_bits((back[i] >> (16 * half) & 0xffff) << 16);
      if (code == 255)
        REQUIRE(std::isnan(value));
      else
        REQUIRE(value == std::ldexp(1.0F, code - 127));
    }
    REQUIRE(again[i] == codes[i]);
  }
}

TEST_CASE("cvt.pack cuts two integers to their range and shifts the third up") {
  const auto a = sample_integers<std::int32_t>(2048, 43), b = sample_integers<std::int32_t>(2048, 44),
             c = sample_integers<std::int32_t>(2048, 45);
  for (const int width : {2, 4, 8, 16}) {
    for (const bool is_signed : {false, true}) {
      const std::string type = fmt::format("{}{}", is_signed ? 's' : 'u', width);
      CAPTURE(type);
      const auto result = map3<std::uint32_t>(
          fmt::format("ld.global.b32 %r1, [%rd1]; ld.global.b32 %r2, [%rd2]; ld.global.b32 %r3, [%rd3]; "
                      "cvt.pack.sat.{}.s32{} %r4, %r1, %r2{}; st.global.b32 [%rd4], %r4;",
                      type, width == 16 ? "" : ".b32", width == 16 ? "" : ", %r3"),
          a, b, c);
      const std::int64_t low = is_signed ? -(1LL << (width - 1)) : 0, high = low + (1LL << width) - 1;
      for (std::size_t i = 0; i < a.size(); ++i) {
        const auto cut = [&](std::int64_t v) {
          return static_cast<std::uint64_t>(std::min(std::max(v, low), high)) & ((1ULL << width) - 1);
        };
        const std::uint64_t rest = static_cast<std::uint32_t>(c[i]);
        const std::uint64_t want = (width == 16 ? 0 : rest << (2 * width)) | cut(a[i]) << width | cut(b[i]);
        REQUIRE(result[i] == static_cast<std::uint32_t>(want));
      }
    }
  }
}

TEST_CASE("narrow conversions that PTX does not define, or defines by random bits, are refused") {
  for (const char* line :
       {"cvt.rn.e4m3x2.f32 %rs1, %f1, %f2;", "cvt.rz.satfinite.e4m3x2.f32 %rs1, %f1, %f2;",
        "cvt.rn.satfinite.e4m3x2.bf16x2 %rs1, %r1;", "cvt.rn.satfinite.e2m3x2.f16x2 %rs1, %r1;",
        "cvt.rn.bf16x2.e4m3x2 %r1, %rs1;", "cvt.rn.satfinite.f16x2.e5m2x2 %r1, %rs1;",
        "cvt.rn.satfinite.e2m1x2.f32 %rs1, %f1, %f2;", "cvt.rn.ue8m0x2.f32 %rs1, %f1, %f2;",
        "cvt.rs.satfinite.e4m3x4.f32 %r1, {%f1, %f2, %f3, %f4}, %r2;", "cvt.rs.f16x2.f32 %r1, %f1, %f2, %r2;",
        "cvt.rn.sat.bf16.f32 %rs1, %f1;", "cvt.rna.relu.tf32.f32 %r1, %f1;", "cvt.f16.bf16 %rs1, %rs2;",
        "cvt.pack.sat.u16.u32 %r1, %r2, %r3;"}) {
    CAPTURE(line);
    const std::string text = error_text([&] { emulator().load({"test", ptx_module(line), {}}); });
    CHECK(text.find("PTX line") != std::string::npos);
  }
}

}  // namespace
}  // namespace gdnjit::tests

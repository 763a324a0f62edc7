// f32 and f64 arithmetic against the host's FPU, which knows the rounding modes itself.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cfenv>
#include <cmath>

#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

constexpr std::size_t kCount = 4096;

float flushed(float v) { return std::fpclassify(v) == FP_SUBNORMAL ? std::copysign(0.0F, v) : v; }

// NaN results have one bit pattern.
std::uint32_t canonical_bits(float v) { return std::isnan(v) ? 0x7fffffffU : bits(v); }

struct Mode {
  const char* name;
  int host;
};
constexpr Mode kModes[] = {{"rn", FE_TONEAREST}, {"rz", FE_TOWARDZERO}, {"rm", FE_DOWNWARD}, {"rp", FE_UPWARD}};

// A value the compiler cannot use before the rounding mode is set.
float late(float value) {
  volatile float copy = value;
  return copy;
}

template <typename F>
float rounded(int mode, F f) {
  std::fesetround(mode);
  volatile float result = f();
  std::fesetround(FE_TONEAREST);
  return result;
}

// Compares an instruction with `expected(mode, a, b, c)`, with and without flushing and saturation.
template <typename F>
void check_rounded(const std::string& opcode, const std::string& operands, bool saturates, F expected) {
  const auto a = sample_floats(kCount, 1), b = sample_floats(kCount, 2), c = sample_floats(kCount, 3);
  for (const Mode& mode : kModes) {
    for (const char* ftz : {"", ".ftz"}) {
      for (const char* sat : {"", ".sat"}) {
        if (*sat != '\0' && !saturates) continue;
        const std::string instruction = fmt::format("{}.{}{}{}.f32 %f4, {};", opcode, mode.name, ftz, sat, operands);
        CAPTURE(instruction);
        const auto results =
            map3<float>("ld.global.f32 %f1, [%rd1]; ld.global.f32 %f2, [%rd2]; ld.global.f32 %f3, [%rd3];\n" +
                            instruction + "\nst.global.f32 [%rd4], %f4;",
                        a, b, c);
        const auto in = [&](float v) { return *ftz != '\0' ? flushed(v) : v; };
        for (std::size_t i = 0; i < kCount; ++i) {
          float want = rounded(mode.host, [&] { return expected(in(a[i]), in(b[i]), in(c[i])); });
          if (*ftz != '\0') want = flushed(want);
          if (*sat != '\0') want = want > 1 ? 1.0F : want > 0 ? want : 0.0F;
          if (canonical_bits(want) != bits(results[i])) {
            FAIL_CHECK(fmt::format("a={:a} b={:a} c={:a}: {:a}, expected {:a}", a[i], b[i], c[i], results[i], want));
            break;
          }
        }
      }
    }
  }
}

TEST_CASE("add, sub, mul and fma of f32 round in every direction, flush and saturate") {
  check_rounded("add", "%f1, %f2", true, [](float a, float b, float) { return late(a) + b; });
  check_rounded("sub", "%f1, %f2", true, [](float a, float b, float) { return late(a) - b; });
  check_rounded("mul", "%f1, %f2", true, [](float a, float b, float) { return late(a) * b; });
  check_rounded("fma", "%f1, %f2, %f3", true, [](float a, float b, float c) { return std::fma(late(a), b, c); });
}

TEST_CASE("div, sqrt and rcp of f32 round in every direction") {
  check_rounded("div", "%f1, %f2", false, [](float a, float b, float) { return late(a) / b; });
  check_rounded("sqrt", "%f1", false, [](float a, float, float) { return std::sqrt(late(a)); });
  check_rounded("rcp", "%f1", false, [](float a, float, float) { return 1.0F / late(a); });
}

TEST_CASE("an fma of nearly cancelling products is rounded once in every direction") {
  // Far apart exponents and half-way cases, where a product rounded first would be seen.
  std::mt19937 random(5);
  std::vector<float> a, b, c;
  for (std::size_t i = 0; i < kCount; ++i) {
    const float x = from_bits(0x3f800000U | (random() & 0x7fffffU)),
                y = from_bits(0x3f800000U | (random() & 0x7fffffU));
    a.push_back(x), b.push_back(y);
    c.push_back(random() % 2 == 0 ? -(x * y)
                                  : std::ldexp(random() % 2 == 0 ? 1.0F : -1.0F, static_cast<int>(random() % 80) - 60));
  }
  for (const Mode& mode : kModes) {
    CAPTURE(mode.name);
    const auto results =
        map3<float>(fmt::format("ld.global.f32 %f1, [%rd1]; ld.global.f32 %f2, [%rd2]; ld.global.f32 %f3, [%rd3];\n"
                                "fma.{}.f32 %f4, %f1, %f2, %f3; st.global.f32 [%rd4], %f4;",
                                mode.name),
                    a, b, c);
    for (std::size_t i = 0; i < kCount; ++i) {
      const float want = rounded(mode.host, [&] { return std::fma(late(a[i]), b[i], c[i]); });
      REQUIRE(bits(results[i]) == bits(want));
    }
  }
}

TEST_CASE("min and max prefer numbers to NaN unless told otherwise, and order zeros") {
  const auto a = sample_floats(kCount, 4), b = sample_floats(kCount, 5);
  const auto result = map3<float>(
      "ld.global.f32 %f1, [%rd1]; ld.global.f32 %f2, [%rd2]; min.f32 %f4, %f1, %f2; st.global.f32 [%rd4], %f4;", a, b,
      a);
  const auto nan = map3<float>(
      "ld.global.f32 %f1, [%rd1]; ld.global.f32 %f2, [%rd2]; max.NaN.f32 %f4, %f1, %f2; st.global.f32 [%rd4], %f4;", a,
      b, a);
  for (std::size_t i = 0; i < kCount; ++i) {
    // Not fmin: that one returns NaN for a signalling NaN.
    float want = std::isnan(a[i]) ? b[i] : std::isnan(b[i]) || a[i] < b[i] ? a[i] : b[i];
    if (a[i] == 0 && b[i] == 0) want = std::signbit(a[i]) || std::signbit(b[i]) ? -0.0F : 0.0F;
    REQUIRE(canonical_bits(want) == canonical_bits(result[i]));
    if (std::isnan(a[i]) || std::isnan(b[i])) REQUIRE(std::isnan(nan[i]));
  }
}

TEST_CASE("abs, neg and copysign change the sign bit alone") {
  const auto a = sample_floats(kCount, 6), b = sample_floats(kCount, 7);
  const auto result = map3<std::uint32_t>(
      "ld.global.f32 %f1, [%rd1]; ld.global.f32 %f2, [%rd2]; abs.f32 %f3, %f1; neg.f32 %f3, %f3; copysign.f32 %f4, "
      "%f2, %f3; st.global.f32 [%rd4], %f4;",
      a, b, a);
  for (std::size_t i = 0; i < kCount; ++i)
    REQUIRE(result[i] == ((bits(a[i]) & 0x7fffffffU) | (bits(b[i]) & 0x80000000U)));
}

TEST_CASE("approximate functions stay within two units in the last place of single precision") {
  struct Function {
    const char* opcode;
    double (*exact)(double);
  };
  const Function functions[] = {{"ex2.approx", [](double v) { return std::exp2(v); }},
                                {"lg2.approx", [](double v) { return std::log2(std::fabs(v)); }},
                                {"rsqrt.approx", [](double v) { return 1 / std::sqrt(std::fabs(v)); }},
                                {"rcp.approx", [](double v) { return 1 / v; }},
                                {"sqrt.approx", [](double v) { return std::sqrt(std::fabs(v)); }},
                                {"sin.approx", [](double v) { return std::sin(v); }},
                                {"cos.approx", [](double v) { return std::cos(v); }},
                                {"tanh.approx", [](double v) { return std::tanh(v); }}};
  std::mt19937 random(9);
  std::vector<float> a(kCount);
  for (float& v : a) v = std::uniform_real_distribution<float>(-30, 30)(random);
  for (const Function& function : functions) {
    CAPTURE(function.opcode);
    const bool positive = std::string(function.opcode).find("q") != std::string::npos ||
                          std::string(function.opcode).find("lg2") != std::string::npos;
    const auto result =
        map3<float>(fmt::format("ld.global.f32 %f1, [%rd1]; {} {}.f32 %f4, %f1; st.global.f32 [%rd4], %f4;",
                                positive ? "abs.f32 %f1, %f1;" : "", function.opcode),
                    a, a, a);
    for (std::size_t i = 0; i < kCount; ++i) {
      const double want = function.exact(a[i]);
      REQUIRE(std::fabs(result[i] - want) <= std::fabs(want) * 0x1p-22 + 1e-44);
    }
  }
}

TEST_CASE("the special values of the approximate functions") {
  const float inf = INFINITY;
  const std::vector<float> a{0.0F, -0.0F, inf, -inf, -1.0F, from_bits(0x7fc00000), 200.0F, -200.0F};
  const auto ex2 =
      map3<float>("ld.global.f32 %f1, [%rd1]; ex2.approx.ftz.f32 %f4, %f1; st.global.f32 [%rd4], %f4;", a, a, a);
  CHECK(ex2[0] == 1.0F);
  CHECK(ex2[2] == inf);
  CHECK(bits(ex2[3]) == 0U);
  CHECK(std::isnan(ex2[5]));
  CHECK(ex2[6] == inf);
  CHECK(bits(ex2[7]) == 0U);  // subnormal, flushed
  const auto rsqrt =
      map3<float>("ld.global.f32 %f1, [%rd1]; rsqrt.approx.f32 %f4, %f1; st.global.f32 [%rd4], %f4;", a, a, a);
  CHECK(rsqrt[0] == inf);
  CHECK(rsqrt[1] == -inf);
  CHECK(bits(rsqrt[2]) == 0U);
  CHECK(std::isnan(rsqrt[4]));
}

TEST_CASE("f64 arithmetic is the host's") {
  const auto a = sample_doubles(kCount, 1), b = sample_doubles(kCount, 2), c = sample_doubles(kCount, 3);
  const auto result =
      map3<double>(R"(ld.global.f64 %fd1, [%rd1]; ld.global.f64 %fd2, [%rd2]; ld.global.f64 %fd3, [%rd3];
    fma.rn.f64 %fd4, %fd1, %fd2, %fd3; add.f64 %fd4, %fd4, %fd1; mul.rn.f64 %fd4, %fd4, %fd2; div.rn.f64 %fd4, %fd4, %fd3; st.global.f64 [%rd4], %fd4;)",
                   a, b, c);
  for (std::size_t i = 0; i < kCount; ++i) {
    volatile double want = std::fma(a[i], b[i], c[i]);
    want = want + a[i];
    want = want * b[i];
    want = want / c[i];
    if (std::isnan(want))
      CHECK(std::isnan(result[i]));
    else
      REQUIRE(result[i] == want);
  }
}

}  // namespace
}  // namespace gdnjit::tests

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
    REQUIRE(result[i] == (((std::isnan(a[i]) ? 0x7fffffffU : bits(a[i])) & 0x7fffffffU) | (bits(b[i]) & 0x80000000U)));
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

template <typename F>
void check_doubles(const std::string& opcode, const std::string& operands, F expected) {
  auto a = sample_doubles(kCount, 11), b = sample_doubles(kCount, 12), c = sample_doubles(kCount, 13);
  for (std::size_t i = 0; i < kCount; i += 7) a[i] = std::ldexp(a[i], 900), b[i] = std::ldexp(b[i], 200);
  for (std::size_t i = 3; i < kCount; i += 7) a[i] = std::ldexp(a[i], -900), b[i] = std::ldexp(b[i], -150);
  for (const Mode& mode : kModes) {
    const std::string instruction = opcode + "." + mode.name + ".f64 %fd4, " + operands + ";";
    CAPTURE(instruction);
    const auto results =
        map3<double>("ld.global.f64 %fd1, [%rd1]; ld.global.f64 %fd2, [%rd2]; ld.global.f64 %fd3, [%rd3];\n" +
                         instruction + "\nst.global.f64 [%rd4], %fd4;",
                     a, b, c);
    for (std::size_t i = 0; i < kCount; ++i) {
      std::fesetround(mode.host);
      volatile double x = a[i];
      volatile double want = expected(x, b[i], c[i]);
      std::fesetround(FE_TONEAREST);
      const double w = want;
      CAPTURE(a[i]);
      CAPTURE(b[i]);
      if (std::isnan(w))
        REQUIRE(std::isnan(results[i]));
      else
        REQUIRE(std::memcmp(&w, &results[i], sizeof(w)) == 0);
    }
  }
}

TEST_CASE("f64 arithmetic rounds in every direction") {
  check_doubles("add", "%fd1, %fd2", [](double a, double b, double) { return a + b; });
  check_doubles("sub", "%fd1, %fd2", [](double a, double b, double) { return a - b; });
  check_doubles("mul", "%fd1, %fd2", [](double a, double b, double) { return a * b; });
  check_doubles("div", "%fd1, %fd2", [](double a, double b, double) { return a / b; });
  check_doubles("fma", "%fd1, %fd2, %fd3", [](double a, double b, double c) { return std::fma(a, b, c); });
  check_doubles("sqrt", "%fd1", [](double a, double, double) { return std::sqrt(a); });
  check_doubles("rcp", "%fd1", [](double a, double, double) { return 1.0 / a; });
}

TEST_CASE("rcp and rsqrt of f64 approximate to 20 bits and know their special values") {
  const auto a = sample_doubles(kCount, 14);
  const std::string load = "ld.global.f64 %fd1, [%rd1]; ", store = " %fd4, %fd1; st.global.f64 [%rd4], %fd4;";
  const auto rcp = map3<double>(load + "rcp.approx.ftz.f64" + store, a, a, a);
  const auto rsqrt = map3<double>(load + "abs.f64 %fd1, %fd1; rsqrt.approx.f64" + store, a, a, a);
  const auto rsqrt_ftz = map3<double>(load + "abs.f64 %fd1, %fd1; rsqrt.approx.ftz.f64" + store, a, a, a);
  for (std::size_t i = 0; i < kCount; ++i) {
    if (!std::isfinite(a[i]) || a[i] == 0) continue;
    CAPTURE(a[i]);
    const double root = 1 / std::sqrt(std::fabs(a[i]));
    REQUIRE(std::fabs(rcp[i] * a[i] - 1) < 0x1p-18);
    REQUIRE(std::fabs(rsqrt[i] / root - 1) < 0x1p-18);
    REQUIRE(std::fabs(rsqrt_ftz[i] / root - 1) < 0x1p-18);
  }
  const double tiny = 0x1p-1060;
  const std::vector<double> special{0.0, -0.0, INFINITY, -INFINITY, NAN, tiny, -tiny, 0x1p1023 * 1.5};
  const auto of = [&](const std::string& op) { return map3<double>(load + op + store, special, special, special); };
  const auto r = of("rcp.approx.ftz.f64"), q = of("rsqrt.approx.ftz.f64");
  CHECK(r[0] == INFINITY);
  CHECK(r[1] == -INFINITY);
  CHECK((r[2] == 0 && !std::signbit(r[2])));
  CHECK((r[3] == 0 && std::signbit(r[3])));
  CHECK(std::isnan(r[4]));
  CHECK(r[5] == INFINITY);
  CHECK(r[6] == -INFINITY);
  CHECK(r[7] == 0);  // subnormal, flushed
  CHECK(q[0] == INFINITY);
  CHECK(q[1] == -INFINITY);
  CHECK((q[2] == 0 && !std::signbit(q[2])));
  CHECK(std::isnan(q[3]));
  CHECK(std::isnan(q[4]));
  CHECK(q[6] == -INFINITY);
}

TEST_CASE("the tables of special values of the f32 approximations") {
  const float inf = INFINITY, nan = from_bits(0x7fc00000), tiny = from_bits(0x00000100);
  const std::vector<float> in{-inf, -0.0F, 0.0F, inf, nan, -tiny, tiny, -2.0F};
  const auto check = [&](const std::string& op, const std::vector<float>& want) {
    CAPTURE(op);
    const auto result =
        map3<float>("ld.global.f32 %f1, [%rd1]; " + op + ".f32 %f4, %f1; st.global.f32 [%rd4], %f4;", in, in, in);
    for (std::size_t i = 0; i < in.size(); ++i) {
      CAPTURE(in[i]);
      CHECK(canonical_bits(result[i]) == canonical_bits(want[i]));
    }
  };
  check("ex2.approx.ftz", {0.0F, 1, 1, inf, nan, 1, 1, 0.25F});
  check("ex2.approx", {0.0F, 1, 1, inf, nan, 1, 1, 0.25F});
  check("lg2.approx.ftz", {nan, -inf, -inf, inf, nan, -inf, -inf, nan});
  check("lg2.approx", {nan, -inf, -inf, inf, nan, nan, -141.0F, nan});
  check("rcp.approx.ftz", {-0.0F, -inf, inf, 0.0F, nan, -inf, inf, -0.5F});
  check("rsqrt.approx.ftz", {nan, -inf, inf, 0.0F, nan, -inf, inf, nan});
  check("sqrt.approx.ftz", {nan, -0.0F, 0.0F, inf, nan, -0.0F, 0.0F, nan});
  check("sqrt.approx", {nan, -0.0F, 0.0F, inf, nan, nan, std::sqrt(tiny), nan});
  check("sin.approx.ftz", {nan, -0.0F, 0.0F, nan, nan, -0.0F, 0.0F, static_cast<float>(std::sin(-2.0))});
  check("cos.approx.ftz", {nan, 1, 1, nan, nan, 1, 1, static_cast<float>(std::cos(-2.0))});
  check("tanh.approx", {-1, -0.0F, 0.0F, 1, nan, -tiny, tiny, static_cast<float>(std::tanh(-2.0))});
}

TEST_CASE("testp tells the classes of f32 and f64 apart, copysign takes the first operand's sign") {
  const std::vector<float> f{
      0.0F, -1.5F, INFINITY, from_bits(0x7fc00001), from_bits(0x80000001), from_bits(0x00800000)};
  const std::vector<double> d{0.0, -1.5, INFINITY, NAN, -0x1p-1070, 0x1p-1022};
  const std::pair<const char*, std::uint32_t> tests[] = {{"finite", 0b110011}, {"infinite", 0b000100},
                                                         {"number", 0b110111}, {"notanumber", 0b001000},
                                                         {"normal", 0b100011}, {"subnormal", 0b010000}};
  for (const auto& [name, mask] : tests) {
    CAPTURE(name);
    const auto single = map3<std::uint32_t>(
        fmt::format(
            "ld.global.f32 %f1, [%rd1]; testp.{}.f32 %p1, %f1; selp.u32 %r4, 1, 0, %p1; st.global.u32 [%rd4], %r4;",
            name),
        f, f, f);
    const auto wide = map3<std::uint32_t>(
        fmt::format(
            "ld.global.f64 %fd1, [%rd1]; testp.{}.f64 %p1, %fd1; selp.u32 %r4, 1, 0, %p1; st.global.u32 [%rd4], %r4;",
            name),
        d, d, d);
    for (std::size_t i = 0; i < f.size(); ++i) {
      CHECK(single[i] == (mask >> i & 1));
      CHECK(wide[i] == (mask >> i & 1));
    }
  }
  const auto signs = map3<double>(
      "ld.global.f64 %fd1, [%rd1]; copysign.f64 %fd4, %fd1, 0d4008000000000000; st.global.f64 [%rd4], %fd4;", d, d, d);
  for (std::size_t i = 0; i < d.size(); ++i) CHECK(signs[i] == (std::signbit(d[i]) ? -3.0 : 3.0));
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

// 16-bit and packed arithmetic against exact arithmetic in quadruple precision and a search for the nearest value.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cfenv>
#include <cmath>

#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

constexpr std::size_t kCount = 4096;
using Wide = __float128;

// A 16-bit format as the list of its values.
struct Format {
  std::string name;
  int fraction_bits;
  int bias;
  std::uint32_t infinity;  // its code
  std::vector<double> magnitudes;

  Format(std::string format_name, int fraction, int exponent_bias)
      : name(std::move(format_name)), fraction_bits(fraction), bias(exponent_bias) {
    infinity = 0x7fffU >> fraction_bits << fraction_bits;
    for (std::uint32_t code = 0; code <= infinity; ++code) {
      const int exponent = static_cast<int>(code >> fraction_bits);
      const double unit = std::ldexp(1.0, std::max(exponent, 1) - bias - fraction_bits);
      const std::uint32_t significand =
          (code & ((1U << fraction_bits) - 1)) | (exponent != 0 ? 1U << fraction_bits : 0U);
      magnitudes.push_back(significand * unit);  // the code of infinity stands for the next power of two
    }
  }
  bool is_nan(std::uint32_t code) const { return (code & 0x7fffU) > infinity; }
  double value(std::uint32_t code) const {
    if (is_nan(code)) return NAN;
    const double magnitude = (code & 0x7fffU) == infinity ? INFINITY : magnitudes[code & 0x7fffU];
    return (code & 0x8000U) != 0 ? -magnitude : magnitude;
  }
  std::uint16_t flushed(std::uint32_t code) const {
    return static_cast<std::uint16_t>((code & 0x7fffU) >> fraction_bits == 0 ? code & 0x8000U : code);
  }
  // The nearest value to x + rest, ties to the even code; |rest| is far below x.
  std::uint16_t nearest(Wide x, Wide rest, bool negative_zero = false) const {
    if (x != x) return 0x7fff;
    const bool negative = x < 0 || (x == 0 && negative_zero);
    const Wide magnitude = negative ? -x : x;
    const Wide more = negative ? -rest : rest;
    const std::uint32_t sign = negative ? 0x8000U : 0U;
    if (magnitude >= static_cast<Wide>(magnitudes.back())) return static_cast<std::uint16_t>(sign | infinity);
    const auto above = std::upper_bound(magnitudes.begin(), magnitudes.end(), magnitude,
                                        [](Wide v, double candidate) { return v < static_cast<Wide>(candidate); });
    const auto high = static_cast<std::uint32_t>(above - magnitudes.begin());
    const std::uint32_t low = high - 1;
    const Wide middle = (static_cast<Wide>(magnitudes[low]) + static_cast<Wide>(magnitudes[high])) / 2;
    const bool is_tie = magnitude == middle && more == 0;
    const bool up = is_tie ? (low & 1U) != 0 : magnitude > middle || (magnitude == middle && more > 0);
    return static_cast<std::uint16_t>(sign | (up ? high : low));
  }
};

const Format& f16() {
  static const Format format("f16", 10, 15);
  return format;
}
const Format& bf16() {
  static const Format format("bf16", 7, 127);
  return format;
}

std::vector<std::uint32_t> sample_pairs(const Format& format, std::uint32_t seed) {
  std::mt19937 random(seed);
  const std::uint32_t one = static_cast<std::uint32_t>(format.bias) << format.fraction_bits;
  const std::uint32_t edges[] = {0,
                                 0x8000,
                                 1,
                                 0x8001,
                                 (1U << format.fraction_bits) - 1,
                                 1U << format.fraction_bits,
                                 one,
                                 one | 0x8000U,
                                 one + 1,
                                 format.infinity - 1,
                                 format.infinity,
                                 format.infinity | 0x8000U,
                                 0x7fff,
                                 format.infinity + 1};
  const auto half = [&]() -> std::uint32_t {
    switch (random() % 4) {
      case 0: return edges[random() % std::size(edges)];
      case 1: return random() & 0xffffU;
      default: {  // around one, where sums and products stay finite
        const std::uint32_t spread = 12U << format.fraction_bits;
        return (one + random() % spread - spread / 2) | (random() & 0x8000U);
      }
    }
  };
  std::vector<std::uint32_t> values;
  for (std::size_t i = 0; i < kCount; ++i) values.push_back(half() | half() << 16);
  return values;
}

// `opcode` with "{}" for the type, over single values and over pairs, against `expected` on codes.
template <typename F>
void check(const Format& format, const std::string& opcode, const std::string& operands, F expected) {
  const auto a = sample_pairs(format, 1), b = sample_pairs(format, 2), c = sample_pairs(format, 3);
  const std::string load = "ld.global.b32 %r1, [%rd1]; ld.global.b32 %r2, [%rd2]; ld.global.b32 %r3, [%rd3];\n";
  const auto with = [&](const std::string& reg) {
    std::string text = operands;
    for (std::size_t at; (at = text.find('@')) != std::string::npos;) text.replace(at, 1, reg);
    return text;
  };
  const std::string pair_op = fmt::format(fmt::runtime(opcode), format.name + "x2"),
                    single_op = fmt::format(fmt::runtime(opcode), format.name);
  CAPTURE(pair_op);
  const auto pairs =
      map3<std::uint32_t>(load + pair_op + " %r4, " + with("%r") + ";\nst.global.b32 [%rd4], %r4;", a, b, c);
  const auto singles = map3<std::uint32_t>(
      load + "mov.b32 {%rs1, %rs11}, %r1; mov.b32 {%rs2, %rs12}, %r2; mov.b32 {%rs3, %rs13}, %r3;\n" + single_op +
          " %rs4, " + with("%rs") + ";\nmov.b32 %r4, {%rs4, %rs4}; st.global.b32 [%rd4], %r4;",
      a, b, c);
  for (std::size_t i = 0; i < kCount; ++i) {
    const std::uint16_t low =
        expected(static_cast<std::uint16_t>(a[i]), static_cast<std::uint16_t>(b[i]), static_cast<std::uint16_t>(c[i]));
    const std::uint16_t high = expected(static_cast<std::uint16_t>(a[i] >> 16), static_cast<std::uint16_t>(b[i] >> 16),
                                        static_cast<std::uint16_t>(c[i] >> 16));
    if (pairs[i] != (low | static_cast<std::uint32_t>(high) << 16) || (singles[i] & 0xffffU) != low) {
      FAIL_CHECK(fmt::format("a={:08x} b={:08x} c={:08x}: {:08x} and {:04x}, expected {:04x}{:04x}", a[i], b[i], c[i],
                             pairs[i], singles[i] & 0xffffU, high, low));
      return;
    }
  }
}

// a * b + c, exactly, as a sum of two numbers.
std::uint16_t exact_fma(const Format& format, double a, double b, double c) {
  const double plain = a * b + c;  // decides infinities, NaN and the sign of zero
  if (std::isnan(plain) || std::isinf(a) || std::isinf(b) || std::isinf(c)) {
    return format.nearest(static_cast<Wide>(plain), 0);
  }
  const Wide product = static_cast<Wide>(a) * static_cast<Wide>(b);
  const Wide sum = product + static_cast<Wide>(c);
  const Wide part = sum - product;
  const Wide rest = (product - (sum - part)) + (static_cast<Wide>(c) - part);
  const bool product_negative = std::signbit(a) != std::signbit(b);
  return format.nearest(sum, rest, product_negative && std::signbit(c));
}

using Binary = std::uint16_t (*)(const Format&, double, double, double);
struct Operation {
  const char* opcode;
  const char* operands;
  Binary exact;
};
const Operation kOperations[] = {
    {"add", "@1, @2", [](const Format& f, double a, double b, double) { return exact_fma(f, a, 1, b); }},
    {"sub", "@1, @2", [](const Format& f, double a, double b, double) { return exact_fma(f, a, 1, -b); }},
    {"mul", "@1, @2",
     [](const Format& f, double a, double b, double) {
       return exact_fma(f, a, b, std::signbit(a) != std::signbit(b) ? -0.0 : 0.0);
     }},
    {"fma", "@1, @2, @3", [](const Format& f, double a, double b, double c) { return exact_fma(f, a, b, c); }}};

std::uint16_t clamp(const Format& format, std::uint16_t code, const std::string& how) {
  const double value = format.value(code);
  const auto one = static_cast<std::uint16_t>(format.bias << format.fraction_bits);
  if (how == ".sat") return value >= 1 ? one : value > 0 ? code : 0;
  if (how == ".relu") return std::isnan(value) ? 0x7fff : value > 0 ? code : 0;
  return code;
}

TEST_CASE("add, sub, mul and fma of f16 and bf16 round once, flush and clamp") {
  for (const Format* format : {&f16(), &bf16()}) {
    for (const Operation& operation : kOperations) {
      for (const std::string ftz : {"", ".ftz"}) {
        for (const std::string how : {"", ".sat", ".relu"}) {
          if (format == &bf16() && (!ftz.empty() || how == ".sat")) continue;
          if (how == ".relu" && std::string(operation.opcode) != "fma") continue;
          const auto in = [&](std::uint16_t code) { return format->value(ftz.empty() ? code : format->flushed(code)); };
          check(*format, std::string(operation.opcode) + ".rn" + ftz + how + ".{}", operation.operands,
                [&](std::uint16_t a, std::uint16_t b, std::uint16_t c) {
                  std::uint16_t code = operation.exact(*format, in(a), in(b), in(c));
                  if (!ftz.empty()) code = format->flushed(code);
                  return clamp(*format, code, how);
                });
        }
      }
    }
  }
}

TEST_CASE("the rounding of add, sub and mul may be left out") {
  check(f16(), "add.{}", "@1, @2", [](std::uint16_t a, std::uint16_t b, std::uint16_t) {
    return exact_fma(f16(), f16().value(a), 1, f16().value(b));
  });
  check(bf16(), "mul.{}", "@1, @2", [](std::uint16_t a, std::uint16_t b, std::uint16_t) {
    const double x = bf16().value(a), y = bf16().value(b);
    return exact_fma(bf16(), x, y, std::signbit(x) != std::signbit(y) ? -0.0 : 0.0);
  });
}

TEST_CASE("min and max of 16-bit values order zeros, lose or keep NaN, and multiply signs") {
  for (const Format* format : {&f16(), &bf16()}) {
    for (const bool is_max : {false, true}) {
      for (const bool nan_wins : {false, true}) {
        for (const bool xorsign : {false, true}) {
          for (const bool ftz : {false, true}) {
            if (ftz && format == &bf16()) continue;
            const std::string opcode = std::string(is_max ? "max" : "min") + (ftz ? ".ftz" : "") +
                                       (nan_wins ? ".NaN" : "") + (xorsign ? ".xorsign.abs" : "") + ".{}";
            check(*format, opcode, "@1, @2", [&](std::uint16_t a, std::uint16_t b, std::uint16_t) -> std::uint16_t {
              if (ftz) a = format->flushed(a), b = format->flushed(b);
              const std::uint32_t sign = (a ^ b) & 0x8000U;
              if (xorsign) a &= 0x7fff, b &= 0x7fff;
              const bool a_nan = format->is_nan(a), b_nan = format->is_nan(b);
              if ((a_nan && b_nan) || (nan_wins && (a_nan || b_nan))) return 0x7fff;
              // Codes as integers in the order of their values, -0 below +0.
              const auto key = [](std::uint16_t code) {
                return (code & 0x8000) != 0 ? -static_cast<int>(code & 0x7fff) - 1 : static_cast<int>(code);
              };
              std::uint16_t best = (key(a) < key(b)) != is_max ? a : b;
              if (a_nan) best = b;
              if (b_nan) best = a;
              return static_cast<std::uint16_t>(xorsign ? best | sign : best);
            });
          }
        }
      }
    }
  }
}

TEST_CASE("neg and abs of 16-bit values change the sign bit alone, unless they flush or meet NaN") {
  for (const Format* format : {&f16(), &bf16()}) {
    const auto of = [&](bool negates, bool ftz) {
      return [format, negates, ftz](std::uint16_t a, std::uint16_t, std::uint16_t) -> std::uint16_t {
        if (format->is_nan(a)) return 0x7fff;
        if (ftz) a = format->flushed(a);
        return static_cast<std::uint16_t>(negates ? a ^ 0x8000 : a & 0x7fff);
      };
    };
    check(*format, "neg.{}", "@1", of(true, false));
    check(*format, "abs.{}", "@1", of(false, false));
    if (format == &bf16()) continue;
    check(*format, "neg.ftz.{}", "@1", of(true, true));
    check(*format, "abs.ftz.{}", "@1", of(false, true));
  }
}

TEST_CASE("ex2 and tanh of 16-bit values are the nearest values") {
  const auto function = [](const Format& format, double (*f)(double), bool ftz) {
    return [&format, f, ftz](std::uint16_t a, std::uint16_t, std::uint16_t) {
      if (ftz) a = format.flushed(a);
      const double value = f(format.value(a));
      std::uint16_t code = format.nearest(std::isinf(value) ? static_cast<Wide>(1e300) : static_cast<Wide>(value), 0,
                                          std::signbit(value));
      if (std::isnan(value)) code = 0x7fff;
      return ftz ? format.flushed(code) : code;
    };
  };
  const auto exp2 = [](double v) { return std::exp2(v); };
  const auto tanh = [](double v) { return std::tanh(v); };
  check(f16(), "ex2.approx.{}", "@1", function(f16(), exp2, false));
  check(bf16(), "ex2.approx.ftz.{}", "@1", function(bf16(), exp2, true));
  check(f16(), "tanh.approx.{}", "@1", function(f16(), tanh, false));
  check(bf16(), "tanh.approx.{}", "@1", function(bf16(), tanh, false));
}

struct Comparison {
  const char* name;
  bool (*holds)(double, double);
};
const Comparison kComparisons[] = {{"eq", [](double a, double b) { return a == b; }},
                                   {"ne", [](double a, double b) { return a < b || a > b; }},
                                   {"lt", [](double a, double b) { return a < b; }},
                                   {"le", [](double a, double b) { return a <= b; }},
                                   {"gt", [](double a, double b) { return a > b; }},
                                   {"ge", [](double a, double b) { return a >= b; }},
                                   {"equ", [](double a, double b) { return a == b || std::isnan(a) || std::isnan(b); }},
                                   {"neu", [](double a, double b) { return a != b; }},
                                   {"ltu", [](double a, double b) { return a < b || std::isnan(a) || std::isnan(b); }},
                                   {"leu", [](double a, double b) { return a <= b || std::isnan(a) || std::isnan(b); }},
                                   {"gtu", [](double a, double b) { return a > b || std::isnan(a) || std::isnan(b); }},
                                   {"geu", [](double a, double b) { return a >= b || std::isnan(a) || std::isnan(b); }},
                                   {"num", [](double a, double b) { return !std::isnan(a) && !std::isnan(b); }},
                                   {"nan", [](double a, double b) { return std::isnan(a) || std::isnan(b); }}};

TEST_CASE("setp compares pairs into two predicates, combined with a third") {
  for (const Format* format : {&f16(), &bf16()}) {
    const auto a = sample_pairs(*format, 4);
    auto b = sample_pairs(*format, 5);
    for (std::size_t i = 0; i < kCount; i += 5) b[i] = a[i];
    for (const Comparison& comparison : kComparisons) {
      CAPTURE(comparison.name);
      // bits 0, 1: the halves; 2, 3: combined by xor with "lane is odd"; 4: the low halves alone.
      const auto result = map3<std::uint32_t>(
          fmt::format(
              R"(ld.global.b32 %r1, [%rd1]; ld.global.b32 %r2, [%rd2]; mov.b32 {{%rs1, %rs3}}, %r1; mov.b32 {{%rs2, %rs4}}, %r2;
    mov.u32 %r3, %laneid; and.b32 %r3, %r3, 1; setp.eq.u32 %p9, %r3, 1;
    setp.{0}.{1}x2 %p1|%p2, %r1, %r2; setp.{0}.xor.{1}x2 %p3|%p4, %r1, %r2, %p9; setp.{0}.{1} %p5, %rs1, %rs2;
    selp.u32 %r4, 1, 0, %p1; selp.u32 %r5, 2, 0, %p2; or.b32 %r4, %r4, %r5; selp.u32 %r5, 4, 0, %p3; or.b32 %r4, %r4, %r5;
    selp.u32 %r5, 8, 0, %p4; or.b32 %r4, %r4, %r5; selp.u32 %r5, 16, 0, %p5; or.b32 %r4, %r4, %r5; st.global.u32 [%rd4], %r4;)",
              comparison.name, format->name),
          a, b, a);
      const auto masks = map3<std::uint32_t>(
          fmt::format("ld.global.b32 %r1, [%rd1]; ld.global.b32 %r2, [%rd2]; set.{0}.u32.{1}x2 %r4, %r1, %r2; "
                      "st.global.b32 [%rd4], %r4;",
                      comparison.name, format->name),
          a, b, a);
      const auto ones = map3<std::uint32_t>(
          fmt::format("ld.global.b32 %r1, [%rd1]; ld.global.b32 %r2, [%rd2]; set.{0}.{1}x2.{1}x2 %r4, %r1, %r2; "
                      "st.global.b32 [%rd4], %r4;",
                      comparison.name, format->name),
          a, b, a);
      const auto one = static_cast<std::uint32_t>(format->bias << format->fraction_bits);
      for (std::size_t i = 0; i < kCount; ++i) {
        const std::uint32_t low = comparison.holds(format->value(a[i] & 0xffff), format->value(b[i] & 0xffff)) ? 1 : 0;
        const std::uint32_t high = comparison.holds(format->value(a[i] >> 16), format->value(b[i] >> 16)) ? 1 : 0;
        const auto odd = static_cast<std::uint32_t>(i % 2);
        REQUIRE(result[i] == (low | high << 1 | (low ^ odd) << 2 | (high ^ odd) << 3 | low << 4));
        REQUIRE(masks[i] == (low * 0xffffU | high * 0xffff0000U));
        REQUIRE(ones[i] == (low * one | high * one << 16));
      }
    }
  }
}

// ---- f32x2 and f32 with 16-bit factors

struct Mode {
  const char* name;
  int host;
};
constexpr Mode kModes[] = {{"rn", FE_TONEAREST}, {"rz", FE_TOWARDZERO}, {"rm", FE_DOWNWARD}, {"rp", FE_UPWARD}};

float flushed(float v) { return std::fpclassify(v) == FP_SUBNORMAL ? std::copysign(0.0F, v) : v; }
std::uint32_t canonical(float v) { return std::isnan(v) ? 0x7fffffffU : bits(v); }

float host_result(const std::string& opcode, int mode, float a, float b, float c) {
  std::fesetround(mode);
  volatile float x = a;
  volatile float result = opcode == "add"   ? x + b
                          : opcode == "sub" ? x - b
                          : opcode == "mul" ? x * b
                                            : std::fma(x, b, c);
  std::fesetround(FE_TONEAREST);
  return result;
}

TEST_CASE("f32x2 is f32 arithmetic on both halves, in every direction") {
  const auto a0 = sample_floats(2 * kCount, 31), b0 = sample_floats(2 * kCount, 32), c0 = sample_floats(2 * kCount, 33);
  const auto joined = [](const std::vector<float>& v) {
    std::vector<std::uint64_t> pairs;
    for (std::size_t i = 0; i < v.size(); i += 2)
      pairs.push_back(bits(v[i]) | static_cast<std::uint64_t>(bits(v[i + 1])) << 32);
    return pairs;
  };
  const auto a = joined(a0), b = joined(b0), c = joined(c0);
  for (const std::string opcode : {"add", "sub", "mul", "fma"}) {
    for (const Mode& mode : kModes) {
      for (const std::string ftz : {"", ".ftz"}) {
        const std::string name = opcode + "." + mode.name + ftz + ".f32x2";
        CAPTURE(name);
        const auto result = map3<std::uint64_t>(
            "ld.global.b64 %rd11, [%rd1]; ld.global.b64 %rd12, [%rd2]; ld.global.b64 %rd13, [%rd3];\n" + name +
                " %rd14, %rd11, %rd12" + (opcode == "fma" ? ", %rd13" : "") + "; st.global.b64 [%rd4], %rd14;",
            a, b, c);
        for (std::size_t i = 0; i < 2 * kCount; ++i) {
          const auto in = [&](float v) { return ftz.empty() ? v : flushed(v); };
          float want = host_result(opcode, mode.host, in(a0[i]), in(b0[i]), in(c0[i]));
          if (!ftz.empty()) want = flushed(want);
          REQUIRE(static_cast<std::uint32_t>(result[i / 2] >> (32 * (i % 2))) == canonical(want));
        }
      }
    }
  }
}

TEST_CASE("f32 arithmetic takes 16-bit factors exactly") {
  const auto c = sample_floats(kCount, 34);
  for (const Format* format : {&f16(), &bf16()}) {
    const auto a = sample_pairs(*format, 6);
    for (const std::string opcode : {"add", "sub", "fma"}) {
      for (const Mode& mode : kModes) {
        for (const std::string sat : {"", ".sat"}) {
          const std::string name = opcode + "." + mode.name + sat + ".f32." + format->name;
          CAPTURE(name);
          const auto result = map3<float>(
              "ld.global.b32 %r1, [%rd1]; mov.b32 {%rs1, %rs2}, %r1; ld.global.f32 %f3, [%rd3];\n" + name +
                  (opcode == "fma" ? " %f4, %rs1, %rs2, %f3" : " %f4, %rs1, %f3") + "; st.global.f32 [%rd4], %f4;",
              a, a, c);
          for (std::size_t i = 0; i < kCount; ++i) {
            const auto x = static_cast<float>(format->value(a[i] & 0xffff)),
                       y = static_cast<float>(format->value(a[i] >> 16));
            float want = opcode == "fma" ? host_result("fma", mode.host, x, y, c[i])
                                         : host_result(opcode, mode.host, x, c[i], 0);
            if (!sat.empty()) want = want >= 1 ? 1.0F : want > 0 ? want : 0.0F;
            REQUIRE(bits(result[i]) == canonical(want));
          }
        }
      }
    }
  }
}

TEST_CASE("min and max of f32: xorsign, and three operands") {
  const auto a = sample_floats(kCount, 35), b = sample_floats(kCount, 36), c = sample_floats(kCount, 37);
  const std::string load = "ld.global.f32 %f1, [%rd1]; ld.global.f32 %f2, [%rd2]; ld.global.f32 %f3, [%rd3];\n";
  for (const bool is_max : {false, true}) {
    for (const bool nan_wins : {false, true}) {
      const auto two = [&](float x, float y) {
        if (std::isnan(x) || std::isnan(y))
          return nan_wins || (std::isnan(x) && std::isnan(y)) ? NAN : std::isnan(x) ? y : x;
        if (x == 0 && y == 0) return std::signbit(x) == is_max ? y : x;
        return (x < y) != is_max ? x : y;
      };
      const std::string opcode = std::string(is_max ? "max" : "min") + (nan_wins ? ".NaN" : "");
      const auto xorsign =
          map3<float>(load + opcode + ".xorsign.abs.f32 %f4, %f1, %f2; st.global.f32 [%rd4], %f4;", a, b, c);
      const auto three = map3<float>(load + opcode + ".f32 %f4, %f1, %f2, %f3; st.global.f32 [%rd4], %f4;", a, b, c);
      const auto absolute =
          map3<float>(load + opcode + ".ftz.abs.f32 %f4, %f1, %f2, %f3; st.global.f32 [%rd4], %f4;", a, b, c);
      for (std::size_t i = 0; i < kCount; ++i) {
        const float magnitude = two(std::fabs(a[i]), std::fabs(b[i]));
        const float sign = std::signbit(a[i]) != std::signbit(b[i]) ? -1.0F : 1.0F;
        REQUIRE(canonical(xorsign[i]) == canonical(std::isnan(magnitude) ? NAN : std::copysign(magnitude, sign)));
        REQUIRE(canonical(three[i]) == canonical(two(two(a[i], b[i]), c[i])));
        const auto in = [](float v) { return std::fabs(flushed(v)); };
        REQUIRE(canonical(absolute[i]) == canonical(two(two(in(a[i]), in(b[i])), in(c[i]))));
      }
    }
  }
}

TEST_CASE("pairs of 16-bit integers: add wraps, min and max compare, relu cuts at zero") {
  const auto a = sample_integers<std::uint32_t>(kCount, 38), b = sample_integers<std::uint32_t>(kCount, 39);
  const auto pairs = [&](const std::string& opcode, auto f) {
    CAPTURE(opcode);
    const auto result = map3<std::uint32_t>("ld.global.b32 %r1, [%rd1]; ld.global.b32 %r2, [%rd2]; " + opcode +
                                                " %r4, %r1, %r2; st.global.b32 [%rd4], %r4;",
                                            a, b, a);
    for (std::size_t i = 0; i < kCount; ++i) {
      const auto low = static_cast<std::uint16_t>(f(a[i] & 0xffff, b[i] & 0xffff)),
                 high = static_cast<std::uint16_t>(f(a[i] >> 16, b[i] >> 16));
      REQUIRE(result[i] == (low | static_cast<std::uint32_t>(high) << 16));
    }
  };
  const auto s = [](std::uint32_t v) { return static_cast<int>(static_cast<std::int16_t>(v)); };
  pairs("add.u16x2", [](std::uint32_t x, std::uint32_t y) { return x + y; });
  pairs("add.s16x2", [](std::uint32_t x, std::uint32_t y) { return x + y; });
  pairs("min.u16x2", [](std::uint32_t x, std::uint32_t y) { return std::min(x, y); });
  pairs("max.u16x2", [](std::uint32_t x, std::uint32_t y) { return std::max(x, y); });
  pairs("min.s16x2", [&](std::uint32_t x, std::uint32_t y) { return std::min(s(x), s(y)); });
  pairs("max.s16x2", [&](std::uint32_t x, std::uint32_t y) { return std::max(s(x), s(y)); });
  pairs("min.relu.s16x2", [&](std::uint32_t x, std::uint32_t y) { return std::max(std::min(s(x), s(y)), 0); });
  pairs("max.relu.s16x2", [&](std::uint32_t x, std::uint32_t y) { return std::max(std::max(s(x), s(y)), 0); });
  const auto single = map3<std::int32_t>(
      "ld.global.b32 %r1, [%rd1]; ld.global.b32 %r2, [%rd2]; min.relu.s32 %r4, %r1, %r2; st.global.b32 [%rd4], %r4;", a,
      b, a);
  for (std::size_t i = 0; i < kCount; ++i)
    REQUIRE(single[i] == std::max(std::min(static_cast<std::int32_t>(a[i]), static_cast<std::int32_t>(b[i])), 0));
}

TEST_CASE("forms that PTX does not define are refused") {
  for (const char* line :
       {"add.sat.bf16x2 %r1, %r2, %r3;", "fma.rz.f16x2 %r1, %r2, %r3, %r4;",
        "fma.rn.sat.relu.f16 %rs1, %rs2, %rs3, %rs4;", "ex2.approx.bf16x2 %r1, %r2;", "ex2.approx.ftz.f16 %rs1, %rs2;",
        "min.relu.f16 %rs1, %rs2, %rs3;", "setp.lt.f16 %p1|%p2, %rs1, %rs2;", "set.lt.f32.f16 %f1, %rs1, %rs2;",
        "add.sat.f32x2 %rd1, %rd2, %rd3;", "sub.s16x2 %r1, %r2, %r3;", "max.relu.u32 %r1, %r2, %r3;",
        "add.relu.f32 %f1, %f2, %f3;", "fma.rn.relu.f32 %f1, %f2, %f3, %f4;", "min.xorsign.abs.s32 %r1, %r2, %r3;"}) {
    CAPTURE(line);
    const std::string text = error_text([&] { emulator().load({"test", ptx_module(line), {}}); });
    CHECK(text.find("PTX line") != std::string::npos);
  }
}

}  // namespace
}  // namespace gdnjit::tests

// f32 and f64 arithmetic and the approximate functions.
#include "tests/vectors/lane_cases.h"

namespace gdnjit::vectors {
namespace {

LaneOp floats(std::string text, std::string operands, Comparison comparison = exact()) {
  return {.text = std::move(text),
          .operands = std::move(operands),
          .result = 'f',
          .values = Operands::floats,
          .comparison = comparison};
}

}  // namespace

void add_floating_cases(std::vector<VectorCase>& cases) {
  add_lane_cases(cases, "f32 arithmetic",
                 {
                     floats("add.rn.f32 %0, %1, %2;", "ff"),
                     floats("add.rz.ftz.f32 %0, %1, %2;", "ff"),
                     floats("mul.rn.ftz.f32 %0, %1, %2;", "ff"),
                     floats("mul.rp.f32 %0, %1, %2;", "ff"),
                     floats("fma.rn.f32 %0, %1, %2, %3;", "fff"),
                     floats("fma.rm.ftz.sat.f32 %0, %1, %2, %3;", "fff"),
                     floats("div.rn.f32 %0, %1, %2;", "ff"),
                     floats("div.rn.ftz.f32 %0, %1, %2;", "ff"),
                     floats("sqrt.rn.f32 %0, %1;", "f"),
                     floats("rcp.rn.ftz.f32 %0, %1;", "f"),
                     floats("min.f32 %0, %1, %2;", "ff"),
                     floats("max.NaN.ftz.f32 %0, %1, %2;", "ff"),
                     floats("min.xorsign.abs.f32 %0, %1, %2;", "ff"),
                     floats("abs.ftz.f32 %0, %1;", "f"),
                     floats("neg.f32 %0, %1;", "f"),
                     floats("copysign.f32 %0, %1, %2;", "ff"),
                 });
  constexpr Comparison kTwo = ulps(DType::f32, 2);
  add_lane_cases(cases, "approximate functions",
                 {
                     floats("ex2.approx.f32 %0, %1;", "f", kTwo),
                     floats("ex2.approx.ftz.f32 %0, %1;", "f", kTwo),
                     floats("lg2.approx.f32 %0, %1;", "f", ulps(DType::f32, 4, 2.4e-7)),
                     floats("lg2.approx.ftz.f32 %0, %1;", "f", ulps(DType::f32, 4, 2.4e-7)),
                     floats("rcp.approx.f32 %0, %1;", "f", kTwo),
                     floats("rcp.approx.ftz.f32 %0, %1;", "f", kTwo),
                     floats("rsqrt.approx.f32 %0, %1;", "f", kTwo),
                     floats("rsqrt.approx.ftz.f32 %0, %1;", "f", kTwo),
                     floats("sqrt.approx.f32 %0, %1;", "f", kTwo),
                     floats("sqrt.approx.ftz.f32 %0, %1;", "f", kTwo),
                     floats("tanh.approx.f32 %0, %1;", "f", ulps(DType::f32, 8192)),
                     floats("div.approx.f32 %0, %1, %2;", "ff", kTwo),
                     floats("div.full.f32 %0, %1, %2;", "ff", kTwo),
                     floats("{.reg .f32 t; mul.f32 t, %1, 0f00000000; add.f32 t, t, 0f3f000000; sin.approx.f32 %0, t;}",
                            "f", ulps(DType::f32, 64)),
                     floats("{.reg .f32 t; mul.f32 t, %1, 0f00000000; add.f32 t, t, 0f3f000000; cos.approx.f32 %0, t;}",
                            "f", ulps(DType::f32, 64)),
                 });
  const auto doubles = [](std::string text, std::string operands) {
    return LaneOp{.text = std::move(text), .operands = std::move(operands), .result = 'd', .values = Operands::doubles};
  };
  // The table that the approximations start from is not public: the last bit of the upper word may differ.
  const auto near = [&](std::string text) {
    LaneOp op = doubles(std::move(text), "d");
    op.comparison = upper_words(1);
    return op;
  };
  add_lane_cases(cases, "f64 arithmetic",
                 {
                     doubles("add.rz.f64 %0, %1, %2;", "dd"),
                     doubles("mul.rp.f64 %0, %1, %2;", "dd"),
                     doubles("fma.rm.f64 %0, %1, %2, %3;", "ddd"),
                     doubles("fma.rn.f64 %0, %1, %2, %3;", "ddd"),
                     doubles("div.rn.f64 %0, %1, %2;", "dd"),
                     doubles("sqrt.rn.f64 %0, %1;", "d"),
                     doubles("min.f64 %0, %1, %2;", "dd"),
                     near("rcp.approx.ftz.f64 %0, %1;"),
                     near("rsqrt.approx.ftz.f64 %0, %1;"),
                 });
}

}  // namespace gdnjit::vectors

#include "tests/reference/compare.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace gdnjit;
using namespace gdnjit::reference;

TEST_CASE("errors are relative to the whole tensor") {
  ErrorMeter meter;
  meter.add(3.0 + 0.3, 3.0);
  meter.add(-4.0, -4.0);
  const OutputError error = meter.finish("o", DType::f32, 0.1);
  CHECK(error.rms_ratio == doctest::Approx(0.3 / 5.0));
  CHECK(error.max_ratio == doctest::Approx(0.3 / 4.0));
  CHECK(error.passed());
}

TEST_CASE("an unwritten element fails whatever the ratios say") {
  ErrorMeter meter;
  meter.add(1.0, 1.0);
  meter.add(std::numeric_limits<double>::quiet_NaN(), 1.0);
  CHECK_FALSE(meter.finish("o", DType::f32, 1.0).passed());
}

TEST_CASE("a reference that overflowed asks for the same infinity") {
  const double infinity = std::numeric_limits<double>::infinity();
  ErrorMeter same;
  same.add(infinity, infinity);
  CHECK(same.finish("o", DType::f16, 0).passed());
  ErrorMeter opposite;
  opposite.add(-infinity, infinity);
  CHECK_FALSE(opposite.finish("o", DType::f16, 0).passed());
  ErrorMeter finite;
  finite.add(65504, infinity);
  CHECK_FALSE(finite.finish("o", DType::f16, 1e3).passed());
}

TEST_CASE("a reference of zeros asks for zeros") {
  ErrorMeter zero;
  zero.add(0.0, 0.0);
  CHECK(zero.finish("o", DType::f32, 2e-6).passed());
  ErrorMeter small;
  small.add(1e-20, 0.0);
  CHECK_FALSE(small.finish("o", DType::f32, 2e-6).passed());
}

TEST_CASE("elements that changed and should not have fail") {
  CHECK(untouched_error("state", 0).passed());
  CHECK_FALSE(untouched_error("state", 1).passed());
}

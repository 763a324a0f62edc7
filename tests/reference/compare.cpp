#include "tests/reference/compare.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace gdnjit::reference {
namespace {

// The least reference magnitude that errors are taken relative to: f16 loses relative precision below its smallest
// normal number; f32 and bf16 keep it far below anything a layer produces.
double floor_of(DType dtype) { return dtype == DType::f16 ? 0x1.0p-14 : 1e-30; }

}  // namespace

void ErrorMeter::add(double value, double reference) {
  ++count_;
  if (!std::isfinite(value) || !std::isfinite(reference)) {
    // A reference that itself overflowed must be met exactly (NaN by any NaN).
    const bool same = value == reference || (std::isnan(value) && std::isnan(reference));
    finite_ = finite_ && same;
    return;
  }
  const double error = std::fabs(value - reference);
  error_squares_ += error * error;
  reference_squares_ += reference * reference;
  max_error_ = std::max(max_error_, error);
  max_reference_ = std::max(max_reference_, std::fabs(reference));
}

OutputError ErrorMeter::finish(std::string tensor, DType dtype, double tolerance) const {
  const double count = static_cast<double>(std::max<std::int64_t>(count_, 1));
  const double floor = floor_of(dtype);
  OutputError error{.tensor = std::move(tensor), .tolerance = tolerance, .finite = finite_};
  error.rms_ratio = std::sqrt(error_squares_ / count) / std::max(std::sqrt(reference_squares_ / count), floor);
  error.max_ratio = max_error_ / std::max(max_reference_, floor);
  return error;
}

OutputError untouched_error(std::string tensor, std::int64_t changed) {
  OutputError error{.tensor = std::move(tensor)};
  if (changed > 0) error.rms_ratio = error.max_ratio = std::numeric_limits<double>::infinity();
  return error;
}

}  // namespace gdnjit::reference

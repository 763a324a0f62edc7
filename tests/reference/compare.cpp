#include "tests/reference/compare.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "runtime/support/check.h"
#include "tests/reference/numeric.h"

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

void compare_tensor(const HostTensor& before, const HostTensor& after, Expectation expected,
                    const RegionNumbers& numbers, std::vector<OutputError>& errors) {
  std::sort(expected.regions.begin(), expected.regions.end(),
            [](const auto& left, const auto& right) { return left.first < right.first; });
  const DType dtype = before.spec.dtype;
  const auto element = static_cast<std::size_t>(dtype_bytes(dtype));
  std::int64_t changed = 0;
  const auto require_untouched = [&](std::size_t from, std::size_t to) {
    const auto begin = static_cast<std::ptrdiff_t>(from * element);
    const auto end = static_cast<std::ptrdiff_t>(to * element);
    changed +=
        std::equal(before.bytes.begin() + begin, before.bytes.begin() + end, after.bytes.begin() + begin) ? 0 : 1;
  };
  ErrorMeter meter;
  std::size_t next = 0;
  for (const Expectation::Region& region : expected.regions) {
    const auto first = static_cast<std::size_t>(region.first);
    GDNJIT_CHECK(first >= next, "{}: regions overlap at element {}", before.spec.name, first);
    require_untouched(next, first);
    const std::span<const double> references = numbers(region);
    for (std::size_t i = 0; i < references.size(); ++i) {
      const double value = load_element(dtype, after.bytes.data(), static_cast<std::int64_t>(first + i));
      if (region.zeros) changed += value == 0 ? 0 : 1;
      meter.add(value, references[i]);
    }
    next = first + references.size();
  }
  require_untouched(next, after.bytes.size() / element);
  errors.push_back(meter.finish(before.spec.name, dtype, expected.tolerance));
  if (changed > 0) errors.push_back(untouched_error(before.spec.name + " (untouched elements or padding)", changed));
}

std::vector<OutputError> ExpectedWorkload::compare(const std::vector<HostTensor>& results) const {
  GDNJIT_CHECK(results.size() == tensors_.size(), "{} tensors for {}", results.size(), tensors_.size());
  std::vector<OutputError> errors;
  for (std::size_t index = 0; index < results.size(); ++index) {
    const HostTensor& before = tensors_[index];
    if (before.spec.role == TensorRole::scratch) continue;
    const HostTensor& after = results[index];
    GDNJIT_CHECK(after.bytes.size() == before.bytes.size(), "{}: size changed", before.spec.name);
    if (before.spec.role != TensorRole::input) {
      const auto reference = [](const Expectation::Region& region) { return region.numbers(); };
      compare_tensor(before, after, expectation(before), reference, errors);
    } else if (after.bytes != before.bytes) {
      errors.push_back(untouched_error(before.spec.name + " (input)", 1));
    }
  }
  return errors;
}

std::vector<OutputError> ExpectedWorkload::compare_with(const std::vector<HostTensor>& others,
                                                        const std::vector<HostTensor>& results) const {
  GDNJIT_CHECK(results.size() == tensors_.size() && others.size() == tensors_.size(), "{} and {} tensors for {}",
               results.size(), others.size(), tensors_.size());
  std::vector<OutputError> errors;
  for (std::size_t index = 0; index < results.size(); ++index) {
    const HostTensor& before = tensors_[index];
    const HostTensor& other = others[index];
    if (!is_written(before.spec.role) || other.bytes.empty()) continue;
    GDNJIT_CHECK(other.bytes.size() == before.bytes.size() && results[index].bytes.size() == before.bytes.size(),
                 "{}: size changed", before.spec.name);
    Expectation expected = expectation(before);
    expected.tolerance *= 2;
    std::vector<double> numbers;
    const auto load = [&](const Expectation::Region& region) {
      numbers.clear();
      for (std::int64_t i = 0; i < region.count; ++i) {
        numbers.push_back(load_element(other.spec.dtype, other.bytes.data(), region.first + i));
      }
      return std::span<const double>(numbers);
    };
    compare_tensor(before, results[index], std::move(expected), load, errors);
  }
  return errors;
}

}  // namespace gdnjit::reference

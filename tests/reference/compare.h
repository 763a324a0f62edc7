// Compares one output tensor with its reference.
#pragma once

#include <gdnjit/dtype.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "tests/reference/workload.h"

namespace gdnjit::reference {

// Collects the elements of one output. Ratios are relative to the whole tensor's rms and largest value; below the
// smallest magnitude the dtype resolves well (kFloor) the error is judged absolutely, so a reference of
// zeros asks for zeros.
class ErrorMeter {
 public:
  void add(double value, double reference);
  OutputError finish(std::string tensor, DType dtype, double tolerance) const;

 private:
  double error_squares_ = 0;
  double reference_squares_ = 0;
  double max_error_ = 0;
  double max_reference_ = 0;
  std::int64_t count_ = 0;
  bool finite_ = true;
};

// The entry for elements that must keep their bits: `changed` of them did not.
OutputError untouched_error(std::string tensor, std::int64_t changed);

// What a call must leave in one tensor. Elements outside of all regions must keep their bits.
struct Expectation {
  struct Region {
    std::int64_t first = 0;  // element
    std::int64_t count = 0;
    bool zeros = false;                                // padding: judged exactly
    std::function<std::span<const double>()> numbers;  // the reference, computed when it is first asked for
  };
  double tolerance = 0;  // of all regions' numbers together
  std::vector<Region> regions;
};

// What a region's elements should be; valid until the next call.
using RegionNumbers = std::function<std::span<const double>(const Expectation::Region&)>;

// Appends one entry for the numbers, and one more if elements that must keep their bits (or be zeros) did not.
void compare_tensor(const HostTensor& before, const HostTensor& after, Expectation expected,
                    const RegionNumbers& numbers, std::vector<OutputError>& errors);

// A workload whose outputs are judged by an expectation for each; inputs must keep their bits.
class ExpectedWorkload : public CallWorkload {
 public:
  const std::vector<HostTensor>& tensors() const override { return tensors_; }
  std::vector<OutputError> compare(const std::vector<HostTensor>& results) const override;
  std::vector<OutputError> compare_with(const std::vector<HostTensor>& others,
                                        const std::vector<HostTensor>& results) const override;

 protected:
  std::vector<HostTensor> tensors_;  // filled by the constructor of the derived class

 private:
  virtual Expectation expectation(const HostTensor& tensor) const = 0;
};

}  // namespace gdnjit::reference

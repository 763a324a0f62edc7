// Compares one output tensor with its reference.
#pragma once

#include <gdnjit/dtype.h>

#include <cstdint>
#include <string>

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

}  // namespace gdnjit::reference

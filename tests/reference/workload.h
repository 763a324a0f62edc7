// A Workload makes the inputs of one problem, knows the right answer in double precision, and judges outputs.
// Tests, `gdn-tune verify` and the tuner use the same ones.
#pragma once

#include <gdnjit/dtype.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "codegen/operator.h"

namespace gdnjit::reference {

// How hard the inputs are.
enum class Inputs : unsigned char {
  typical,  // unit-normal q, k, v; mild decay
  brutal,   // A_log up to 16, a fraction of the gates exactly 0, some zero q, k and v vectors
};

// One tensor's bytes in host memory, dense and row-major with the shape of its TensorSpec.
struct HostTensor {
  TensorSpec spec;
  std::vector<std::byte> bytes;
};

// How far one output is from the reference.
struct OutputError {
  std::string tensor;
  double rms_ratio = 0;  // rms(x - ref) / rms(ref)
  double max_ratio = 0;  // max |x - ref| / max |ref|
  double tolerance = 0;  // on rms_ratio, from gdn.md section 6
  bool finite = true;    // false: NaN or infinity where the reference has none, so an element was not written
  bool passed() const { return finite && rms_ratio <= tolerance; }
};

class Workload {
 public:
  virtual ~Workload() = default;
  // In the order of Operator::tensors(problem). Outputs and scratch memory are poisoned with NaN. In-out tensors hold
  // their input.
  virtual const std::vector<HostTensor>& tensors() const = 0;
  // Compares what a device left in the tensors (same order) with the reference, every element.
  // Elements that must stay untouched (padded rows, unselected slots) are compared bit for bit. Scratch memory is not
  // looked at.
  virtual std::vector<OutputError> compare(const std::vector<HostTensor>& results) const = 0;
  // Tensors that decide which parts of others a call reads, drawn anew, with their places in tensors(). For timing:
  // what one call left in the caches must not serve the next. There are none where calls read everything.
  virtual std::vector<std::pair<std::size_t, HostTensor>> redraw(std::uint64_t /*seed*/) const { return {}; }
};

// A workload for tensors that somebody else made.
class CallWorkload : public Workload {
 public:
  // Compares with what another run of the same call left, where the call writes. A tensor of `others` without bytes is
  // left out. Each of the two runs may be off by the tolerance of compare(), so it is doubled here.
  virtual std::vector<OutputError> compare_with(const std::vector<HostTensor>& others,
                                                const std::vector<HostTensor>& results) const = 0;
};

// Throws invalid_argument for an operator without a workload.
std::unique_ptr<Workload> make_workload(std::string_view operator_name, const FieldMap& problem, Inputs inputs,
                                        std::uint64_t seed);

// The same for given tensors: `call` as Operator::describe_call() tells it, and the bytes of what the call reads, in
// that order; those of outputs are not looked at. Throws invalid_argument for indices that a kernel could not follow:
// slots outside of their pool, a row written twice, sequences that end before they begin.
std::unique_ptr<CallWorkload> make_call_workload(std::string_view operator_name, const CallDescription& call,
                                                 std::vector<std::vector<std::byte>> contents);

}  // namespace gdnjit::reference

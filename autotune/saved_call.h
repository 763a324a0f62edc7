// A call from a file that Capture or another program wrote. docs/capture.md has the form.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "codegen/operator.h"
#include "tests/reference/workload.h"

namespace gdnjit::autotune {

struct SavedCall {
  const Operator* op = nullptr;
  CallDescription call;                        // complete; shapes are the file's
  std::vector<std::vector<std::byte>> before;  // by tensor; empty for those that a call only writes
  std::vector<reference::HostTensor> after;    // by tensor; without bytes where the file has none
  std::optional<FieldMap> tiles;               // that it ran with
  std::string device, version;                 // where it ran; "" if the file does not say
  std::string failed;                          // the message, if the call failed

  bool has_outputs() const;
};

// Throws Error(io) for a file that cannot be read or breaks the format of safetensors, invalid_argument (naming the
// file) for one whose tensors do not make a call of its operator and problem.
SavedCall read_call(const std::filesystem::path& file);

}  // namespace gdnjit::autotune

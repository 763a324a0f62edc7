// The memory that a call's tensors cover, for the emulator's checks.
#pragma once

#include <span>

#include "codegen/operator.h"
#include "runtime/device.h"

namespace gdnjit {

// Writes one range per tensor that is not empty and returns how many. A range reaches from the lowest to the highest
// element of the strided view. Ranges that overlap and differ in role (a state updated in place, an output inside a
// wider buffer) become in_out: the emulator could not tell whose access it sees.
// REQUIRES: `out` holds tensors.size() ranges; `specs` are the tensors' specs.
std::size_t buffer_ranges(std::span<const TensorView> tensors, std::span<const TensorSpec> specs,
                          std::span<BufferRange> out);

}  // namespace gdnjit

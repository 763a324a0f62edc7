// A call's tensors copied to the host.
#pragma once

#include <cstddef>
#include <vector>

#include "runtime/device.h"

namespace gdnjit {

// The elements of a strided view, dense and row-major. Waits for `stream`. On the emulator the view may lie in ordinary
// host memory. A view of many short runs is copied with the bytes between them, if those are not many more.
std::vector<std::byte> dense_copy(Device& device, const TensorView& view, Stream stream);

}  // namespace gdnjit

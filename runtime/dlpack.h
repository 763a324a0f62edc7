// DLPack tensors as views.
#pragma once

#include <dlpack/dlpack.h>
#include <gdnjit/tensor.h>

#include <string_view>

#include "runtime/device.h"

namespace gdnjit {

// Where tensors of a device lie.
DLDevice dlpack_device(const DeviceInfo& device, int ordinal);

// An empty view for nullptr (a tensor that the problem does not use, or that pack() will miss). Throws invalid_argument
// naming `name`: another device, an element type without a DType, a rank above kMaxRank, no shape.
TensorView view_of(const DLTensor* tensor, std::string_view name, DLDevice device);

}  // namespace gdnjit

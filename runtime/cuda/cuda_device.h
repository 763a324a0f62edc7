// The Device of an NVIDIA GPU, over the driver interface alone: no CUDA toolkit and no runtime library.
#pragma once

#include <memory>

#include "runtime/cuda/driver_library.h"
#include "runtime/device.h"

namespace gdnjit::cuda {

// GPU number `ordinal` (as CUDA_VISIBLE_DEVICES leaves them), in its primary context, so memory and streams of other
// libraries in the process work. Throws Error: device_unavailable, unsupported, out_of_memory, device_failed.
// REQUIRES: `driver` outlives the device.
std::unique_ptr<Device> make_cuda_device(const DriverTable& driver, int ordinal);

// The same over this machine's driver. Throws Error(device_unavailable) with the reason if there is none.
std::unique_ptr<Device> make_cuda_device(int ordinal);

}  // namespace gdnjit::cuda

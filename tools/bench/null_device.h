// A device that takes every call and does nothing, so that what remains is the project's own cost.
#pragma once

#include <memory>

#include "runtime/device.h"

namespace gdnjit::bench {

// It passes for a GPU of sm_90a: plans take the path that they take on one.
std::unique_ptr<Device> make_null_device();

}  // namespace gdnjit::bench

// The driver's own checks of a launch's geometry.
#pragma once

#include <cstddef>

#include "codegen/operator.h"
#include "runtime/emulator/program.h"

namespace gdnjit::emulator {

// Throws Error(device_failed) naming the kernel, the value and the limit.
void check_geometry(const Program& program, const DeviceTraits& traits, const LaunchGeometry& geometry,
                    std::size_t parameter_bytes);

// The cluster of a checked launch: the kernel's own or the caller's. Returns whether anybody asked for one.
bool cluster_size(const Program& program, const LaunchGeometry& geometry, std::uint32_t (&size)[3]);

}  // namespace gdnjit::emulator

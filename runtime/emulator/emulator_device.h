// The emulator: a Device that executes the PTX of a kernel on CPU cores and checks and counts what it does.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "runtime/device.h"

namespace gdnjit {

// What a launch is checked for: bounds, permissions, initialisation, barriers and deadlock always; races unless
// they are not wanted: they take about a third of the time.
enum class EmulatorChecks : unsigned char { memory, races };

// A device with the traits of a typical card of `arch`: sm_80 A100, sm_86 RTX 3090, sm_89 RTX 4090, sm_90a H200, sm_100
// B200, sm_103 B300, sm_120 RTX 5090. Throws Error(unsupported) for another name.
//
// Device addresses are host addresses: a launch may name ordinary host memory as its buffers. Everything completes on
// return and in order; launches of several threads run one after the other, each on all cores. A fault throws
// Error(device_failed) from launch() with its report; the buffers then hold what was written until then.
// A block that issues more than `instruction_limit` instructions is taken to hang.
std::unique_ptr<Device> make_emulator(std::string_view arch, EmulatorChecks checks = EmulatorChecks::races,
                                      std::uint64_t instruction_limit = 1ULL << 31);

}  // namespace gdnjit

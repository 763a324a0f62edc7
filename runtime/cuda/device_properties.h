// What the driver says of a GPU, in the project's terms.
#pragma once

#include "runtime/cuda/driver_api.h"
#include "runtime/device.h"

namespace gdnjit::cuda {

// Name, traits, memory and driver version. Throws Error(unsupported) for a GPU that no known architecture fits.
DeviceInfo read_device_info(const DriverTable& driver, DeviceOrdinal device);

// The newest known architecture whose binaries run on compute capability `major`.`minor`: 9.0 -> "sm_90a",
// 8.7 -> "sm_86" (binaries run on later minors of their major). "" if there is none.
std::string architecture_for(int major, int minor);

// Copy bandwidth to expect: two transfers a clock over the bus, of which 90 % arrive. An H200 (3201 MHz, 6144 bits)
// gives 4.4e6 bytes/us.
double memory_bandwidth(int clock_khz, int bus_bits);

}  // namespace gdnjit::cuda

// How many blocks of a kernel one multiprocessor holds at once, and which of its limits decides.
#pragma once

#include <string_view>

#include "codegen/operator.h"

namespace gdnjit {

struct Occupancy {
  int blocks = 0;               // resident on one multiprocessor; 0: a block does not fit at all
  int warps = 0;                // resident
  double share = 0;             // of the warps that the multiprocessor has room for
  std::string_view limited_by;  // "registers", "shared memory", "threads", "blocks"
};

// `registers` of a thread as ptxas says, `shared_bytes` of a block, static and dynamic. Registers are given to warps in
// units of 256, and the system takes 1 KiB of shared memory for every block.
Occupancy occupancy(const DeviceTraits& device, int registers, int threads, int shared_bytes);

}  // namespace gdnjit

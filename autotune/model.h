// An estimate of a kernel's time from what the emulator counted, for machines that cannot time it. It ranks tiles; it
// does not predict. Everything made from it carries the basis `modelled` and is never compared with measurements.
//
// Per block, from the counters: bytes m (32-byte sectors, read and written), warp instructions i, shared-memory
// wavefronts s. With n blocks of w warps on P multiprocessors (SMs):
//
//   resident  r = min over the SM's limits of blocks, threads, registers and shared memory   (occupancy)
//   share     b = ceil(n / P)                blocks of the busiest SM: the tail effect
//   rounds    f = ceil(b / r)                how often that SM is refilled
//   flight    y = min(b, r) * w * min(8 load instructions, those of one warp) * their bytes    in flight on that SM
//
//   memory     m n / bandwidth                         the device's limit
//   one SM     m b / min(64 B a clock, y / latency)    Little's law: few warps cannot saturate memory
//   issue      i b / (4 a clock)
//   chain      f * (i / w) * 4 clocks                  one warp's instructions follow each other
//   shared     s b / (1 a clock)
//
//   time = launch + latency + (sum of the five terms ^ 4) ^ (1/4)
//
// The fourth-power sum is a maximum without corners: the terms overlap almost, not quite. Spills add one load or
// store instruction for every 4 bytes of every thread.
#pragma once

#include <cstdint>

#include "codegen/operator.h"
#include "runtime/counters.h"

namespace gdnjit::autotune {

struct ModelInput {
  LaunchCounters counters;  // of a launch that may have had a smaller batch
  LaunchGeometry geometry;  // of the launch to be estimated
  int registers = 0;        // a thread
  int shared_bytes = 0;     // a block, static and dynamic
  int spill_bytes = 0;      // a thread, loads and stores
  DeviceTraits device;
};

inline constexpr double kLaunchUs = 2.5;
inline constexpr double kLatencyUs = 0.7;
inline constexpr double kClocksPerUs = 1700;

struct ModelResult {
  double time_us = 0;
  int resident_blocks = 0;  // r; 0 if a block does not fit on an SM at all
  double memory_us = 0, one_sm_us = 0, issue_us = 0, chain_us = 0, shared_us = 0;
};

// Deterministic. A launch of no blocks takes the launch time; a block that does not fit takes forever (infinity).
ModelResult model(const ModelInput& input);

}  // namespace gdnjit::autotune

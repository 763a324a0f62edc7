// One launch: all blocks of a grid on all worker threads.
#pragma once

#include <vector>

#include "runtime/counters.h"
#include "runtime/emulator/exec/handlers.h"
#include "runtime/emulator/exec/warp.h"
#include "runtime/emulator/thread_pool.h"

namespace gdnjit::emulator {

struct LaunchCounts {
  LaunchCounters counters;
  std::vector<BufferTraffic> traffic;  // by buffer, in address order
  std::vector<LineProfile> profile;    // of a profiled launch
};

// Runs the grid and returns what it counted. Throws the report of the lowest block that faults.
LaunchCounts run_grid(const LaunchState& launch, const ExecutionSet& set, ThreadPool& pool);

}  // namespace gdnjit::emulator

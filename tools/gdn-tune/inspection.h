// What one kernel costs on one architecture: ptxas's figures, occupancy, and what the emulator counts, line by line.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cache/kernel_cache.h"
#include "codegen/occupancy.h"
#include "runtime/counters.h"
#include "runtime/runtime_impl.h"
#include "tools/gdn-tune/selection.h"

namespace gdnjit::tool {

struct Inspection {
  const SelectedProblem* selected = nullptr;
  std::string arch;
  FieldMap tiles;
  std::size_t kernel = 0;  // its index in the call
  LaunchGeometry geometry;
  cache::KernelCache::BinaryPtr binary;  // ready, or a failed compile
  Occupancy occupancy;                   // of a ready one
  Footprint floor;                       // of the call
  std::optional<LaunchCounters> counters;
  std::vector<LineProfile> profile;  // of the same launch
  std::string counters_note;         // where they were counted, or why there are none

  int shared_bytes() const { return binary->static_shared_bytes + static_cast<int>(geometry.shared_bytes); }
};

// The kernels of a call, in order. Compiles them, or takes the binaries from the cache; then compiles once more with
// line information and runs that on the emulator, unless the call moves more than `most_counted_bytes`. A refused
// source and a launch that fails are outcomes. Throws Error as make_plan otherwise.
std::vector<Inspection> inspect(Runtime::Impl& runtime, const SelectedProblem& selected, const FieldMap& tiles,
                                std::int64_t most_counted_bytes);

}  // namespace gdnjit::tool

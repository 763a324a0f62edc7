// Everything there is to know about one problem on one device, gathered by `explain`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cache/kernel_cache.h"
#include "runtime/counters.h"
#include "runtime/runtime_impl.h"
#include "tools/gdn-tune/selection.h"

namespace gdnjit::tool {

struct Explanation {
  const SelectedProblem* selected = nullptr;
  FieldMap bucket;  // what tuning records are kept for
  FieldMap tiles;
  TilesFrom tiles_from = TilesFrom::heuristic;
  std::string why;  // a sentence about tiles_from
  std::shared_ptr<const Instance> instance;
  cache::KernelCache::BinaryPtr binary;  // ready, or a failed compile
  bool compiled = false;                 // by this call
  std::vector<std::string> templates;    // the files that the source includes, directly or not
  Footprint floor;
  std::vector<cache::TuningRecord> records;  // of the bucket, any device
  std::optional<LaunchCounters> counters;
  std::vector<BufferTraffic> traffic;  // of the same launch, by tensor
  std::optional<Error> failure;        // of the counted launch
  std::string counters_note;           // where they were counted, or why there are none
};

// Compiles if it must and may. A refused source is an outcome, and so is a launch that fails. Throws Error as
// make_plan otherwise. Counts a launch if it moves at most `most_counted_bytes`.
Explanation explain(Runtime::Impl& runtime, const SelectedProblem& selected, std::int64_t most_counted_bytes);

}  // namespace gdnjit::tool

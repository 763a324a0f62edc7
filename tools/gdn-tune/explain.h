// Everything there is to know about one problem on one device, gathered by `explain`.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "cache/kernel_cache.h"
#include "runtime/counters.h"
#include "runtime/runtime_impl.h"
#include "tools/gdn-tune/selection.h"

namespace gdnjit::tool {

struct ExplainedKernel {
  const KernelSpec* spec = nullptr;  // of the explanation's instance
  LaunchGeometry geometry;
  cache::KernelCache::BinaryPtr binary;  // ready, or a failed compile
  bool compiled = false;                 // by this call
  std::vector<std::string> templates;    // the files that the source includes, directly or not
  std::optional<LaunchCounters> counters;
  std::vector<BufferTraffic> traffic;  // of the same launch, by tensor
};

struct Explanation {
  const SelectedProblem* selected = nullptr;
  FieldMap bucket;  // what tuning records are kept for
  FieldMap tiles;
  TilesFrom tiles_from = TilesFrom::heuristic;
  std::string why;  // a sentence about tiles_from
  std::shared_ptr<const Instance> instance;
  std::vector<ExplainedKernel> kernels;  // in the order of their launches
  Footprint floor;
  std::vector<cache::TuningRecord> records;  // of the bucket, any device
  std::optional<Error> failure;              // of the counted call
  std::string counters_note;                 // where it was counted, or why it was not

  // Whether the compiler refused a kernel.
  bool refused() const {
    return std::any_of(kernels.begin(), kernels.end(), [](const ExplainedKernel& kernel) {
      return kernel.binary->status == cache::BinaryStatus::compile_failed;
    });
  }
};

// Compiles if it must and may. A refused source is an outcome, and so is a launch that fails. Throws Error as
// make_plan otherwise. Counts a call if it moves at most `most_counted_bytes`.
Explanation explain(Runtime::Impl& runtime, const SelectedProblem& selected, std::int64_t most_counted_bytes);

}  // namespace gdnjit::tool

// Finds the best tiles of problems on a device: compiles candidates on all cores, checks each against the
// double-precision reference, times those that are right (or ranks them by the model on a device that cannot
// time), stores every result at once, and chooses.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cache/record.h"
#include "codegen/operator.h"
#include "runtime/runtime_impl.h"

namespace gdnjit::autotune {

class Evaluator;  // autotune/evaluator.h

struct TuneRequest {
  const Operator* op = nullptr;
  FieldMap problem;  // partial problems are completed; what is tuned is their bucket
};

struct TunerOptions {
  bool force = false;                            // tune again what is already recorded
  bool cold_l2 = true;                           // rotate the inputs past the L2 between launches
  std::string deployment = "graph";              // or "stream": how the timed launches are issued
  double margin = 0.03;                          // the default stays unless beaten by this much
  int rounds = 9;                                // interleaved timing rounds
  int worker_timeout_ms = 60'000;                // per candidate
  std::vector<std::string> worker_command = {};  // how to start a worker process; empty: in this process
  int compile_threads = 0;                       // 0: one per core
  int shard_index = 0, shard_count = 1;
};

struct TuneProgress {
  std::size_t done = 0, total = 0;  // candidates
  double eta_s = 0;
  std::string current;  // "gdn.step B=64 H=16 HV=32 ...: block_v=32 ..."
};

struct TuneOutcome {
  const Operator* op = nullptr;
  FieldMap problem;          // complete
  bool cached = false;       // found, not tuned now
  cache::TuningRecord best;  // best.chosen is false if no candidate was right: then the default's record
  cache::TuningRecord default_record;
  std::vector<cache::TuningRecord> candidates;
  int binary_bytes = 0;  // the winner's cubin
  // default time over best time; 1 means the default won
  double gain() const {
    return best.time_us > 0 && default_record.time_us > 0 ? default_record.time_us / best.time_us : 1.0;
  }
};

// Returns an outcome per request of this shard, in order. `progress` is called from one thread at a time. A true
// `stop` ends after the running candidates; what was measured is stored, and a later call goes on from there. The
// outcomes then are those of the finished problems. Throws Error for bad options and for what is no candidate's
// fault (no NVRTC, no memory, a device that is gone).
std::vector<TuneOutcome> tune(Runtime::Impl& runtime, const std::vector<TuneRequest>& requests,
                              const TunerOptions& options,
                              const std::function<void(const TuneProgress&)>& progress = {},
                              const std::function<bool()>& stop = {});

// The same with an evaluator of the caller's.
std::vector<TuneOutcome> tune_with(Evaluator& evaluator, Runtime::Impl& runtime,
                                   const std::vector<TuneRequest>& requests, const TunerOptions& options,
                                   const std::function<void(const TuneProgress&)>& progress = {},
                                   const std::function<bool()>& stop = {});

// The requests of shard `index` of `count`: every request belongs to exactly one shard. Throws invalid_argument.
std::vector<TuneRequest> shard_of(const std::vector<TuneRequest>& requests, int index, int count);

}  // namespace gdnjit::autotune

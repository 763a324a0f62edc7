// The kernels of gdn.chunk launched by hand, below the operator: a config, sequences, and the double-precision answer.
#pragma once

#include <gdnjit/gdn.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/device.h"
#include "templates/gdn/chunk_config.cuh"
#include "tests/reference/gdn_layer.h"
#include "tests/reference/workload.h"

namespace gdnjit::tests {

// A config as the host's value and as the text that the compiled source holds.
struct ChunkSource {
  gdn::ChunkConfig config;
  std::string text;
};
#define GDNJIT_CHUNK_CONFIG(...) \
  ::gdnjit::tests::ChunkSource { ::gdnjit::gdn::ChunkConfig{__VA_ARGS__}, "ChunkConfig{" #__VA_ARGS__ "}" }

// What one call works on. Every tensor is a padded view: gaps between tokens, sequences and states that nobody may
// read hold NaN, and those that nobody may write must keep it. Sequences with slots: the middle one of three or more is
// padding, the last one of five or more stores no final state.
class ChunkCall {
 public:
  // Dense batches have sequences of one length.
  ChunkCall(const ChunkSource& source, const std::vector<int>& lengths, reference::Inputs inputs, std::uint64_t seed,
            const std::string& arch = "sm_90a", bool check_races = true);
  ~ChunkCall();
  ChunkCall(const ChunkCall&) = delete;
  ChunkCall& operator=(const ChunkCall&) = delete;

  // The numbers of the call. Change them before the first launch, and call round() then.
  reference::LayerInputs& numbers();
  void round();  // to what the tensors' types hold

  LaunchCounters prepare();
  LaunchCounters scan();
  Device& device() const;

  // What is known of a chunk of a sequence and a value head.
  struct Record {
    std::vector<double> a, p;                         // [64, 64]
    std::vector<double> state, query, key, strength;  // [64], the factors
    double decay = 1;
  };
  Record record(int sequence, int chunk, int hv) const;           // as prepare left it
  Record expected_record(int sequence, int chunk, int hv) const;  // in double precision

  // Of o, final states and checkpoints, against the recurrence; an infinite one if an element changed that no kernel
  // may touch.
  struct Errors {
    double o = 0, state = 0, checkpoints = 0;
  };
  Errors errors() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

// rms(x - reference) / rms(reference); infinite if x is not finite.
double rms_ratio(const std::vector<double>& x, const std::vector<double>& reference);

}  // namespace gdnjit::tests

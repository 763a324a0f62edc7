// Which tiles serve a problem on a device: from the tuning records, or the operator's default. The order:
//
//   exact      the chosen record of this device and this problem's bucket
//   bucket     this device, all fields equal but B: the nearest measured B, if B lies inside the measured range
//   hint       the same two steps among other devices of the same architecture
//   heuristic  Operator::default_tiles
//
// Outside the measured range nothing is extrapolated: tiles tuned for small batches made large ones slower than
// the default elsewhere. Measured and modelled records never mix: a GPU takes measured ones, the emulator modelled.
//
// An operator that is made of others has tiles of its own, found like this, and those of its parts, found for each part
// like this for itself.
#pragma once

#include <gdnjit/runtime.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cache/kernel_cache.h"
#include "codegen/operator.h"
#include "runtime/device.h"

namespace gdnjit {

struct TileChoice {
  FieldMap tiles;
  TilesFrom from = TilesFrom::heuristic;     // of the operator's own
  std::shared_ptr<const Instance> instance;  // of the problem with these tiles
};

// With `use_records` false the answer is the heuristic. A record whose tiles cannot serve the problem (made by
// another version, or a hint that does not fit) is passed over with a warning. `problem` is complete.
TileChoice choose_tiles(const cache::KernelCache& cache, const DeviceInfo& device, const Operator& op,
                        const FieldMap& problem, bool use_records);

// The basis whose records count on this device.
cache::TuningBasis tuning_basis_of(const DeviceInfo& device);

// The record among `rows` that serves `bucket`, a complete problem as Operator::tuning_bucket returns it, by the
// rules above: at B itself, or the nearest measured B (the smaller of two equally near in ratio) of one device.
// Rows that are not chosen, not ok or of another basis do not count. Deployment "graph" goes before "stream", and
// an earlier row before a later one.
struct RecordMatch {
  const cache::TuningRecord* record = nullptr;
  bool exact = false;
};
std::optional<RecordMatch> match_record(const std::vector<cache::TuningRecord>& rows, const FieldMap& bucket,
                                        cache::TuningBasis basis);

}  // namespace gdnjit

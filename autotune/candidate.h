// The candidates of one problem, and which tuning records still speak of them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cache/record.h"
#include "codegen/operator.h"
#include "codegen/templates.h"
#include "runtime/support/digest.h"

namespace gdnjit::autotune {

struct Candidate {
  FieldMap tiles;
  std::string text;  // fields_text(tiles), as records store it
  bool is_default = false;
  std::shared_ptr<const Instance> instance;   // null: the operator refused the tiles
  std::string refusal;                        // then: why
  std::vector<Digest> requests;               // of the instance's kernels
  std::optional<cache::TuningRecord> record;  // known result
};

// The digest of all kernels of a candidate that has an instance; with a toolchain it makes the key of its record.
Digest request_of(const Candidate& candidate);

// The search space in its fixed order. The heuristic default is always one of them.
Candidate make_candidate(const Operator& op, const FieldMap& problem, const FieldMap& tiles, const DeviceTraits& device,
                         const TemplateSet& templates);
std::vector<Candidate> make_candidates(const Operator& op, const FieldMap& problem, const DeviceTraits& device,
                                       const TemplateSet& templates);

// True if the record was made from the very kernels that this candidate would compile to now, by `toolchain`
// ("": by any, on a machine that has none).
bool speaks_of(const cache::TuningRecord& record, const Candidate& candidate, const std::string& toolchain);

}  // namespace gdnjit::autotune

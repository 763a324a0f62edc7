#include "autotune/candidate.h"

#include <algorithm>

#include "codegen/kernel_spec.h"
#include "runtime/support/check.h"

namespace gdnjit::autotune {
Candidate make_candidate(const Operator& op, const FieldMap& problem, const FieldMap& tiles, const DeviceTraits& device,
                         const TemplateSet& templates) {
  Candidate candidate;
  candidate.tiles = tiles;
  candidate.text = fields_text(tiles);
  try {
    candidate.instance = op.instantiate(problem, tiles, Target{device.arch});
    for (const KernelSpec& spec : candidate.instance->kernels()) {
      candidate.requests.push_back(request_digest(spec, templates));
    }
  } catch (const Error& error) {
    if (error.code() != ErrorCode::invalid_argument && error.code() != ErrorCode::unsupported) throw;
    candidate.instance = nullptr;
    candidate.refusal = error.what();
  }
  return candidate;
}

Digest request_of(const Candidate& candidate) { return call_digest(candidate.requests); }

std::vector<Candidate> make_candidates(const Operator& op, const FieldMap& problem, const DeviceTraits& device,
                                       const TemplateSet& templates) {
  const std::string standard = fields_text(op.default_tiles(problem, device));
  std::vector<FieldMap> space = op.search_space(problem, device);
  const auto is_standard = [&](const FieldMap& tiles) { return fields_text(tiles) == standard; };
  if (std::none_of(space.begin(), space.end(), is_standard)) space.insert(space.begin(), parse_fields(standard));

  std::vector<Candidate> candidates;
  for (const FieldMap& tiles : space) {
    candidates.push_back(make_candidate(op, problem, tiles, device, templates));
    candidates.back().is_default = is_standard(tiles);
  }
  return candidates;
}

bool speaks_of(const cache::TuningRecord& record, const Candidate& candidate, const std::string& toolchain) {
  if (candidate.instance == nullptr || record.tiles != candidate.text) return false;
  if (!toolchain.empty() && record.toolchain != toolchain) return false;
  return record.key == kernel_key(request_of(candidate), record.toolchain);
}

}  // namespace gdnjit::autotune

#include "tests/reference/moe_align.h"

#include <algorithm>

namespace gdnjit::reference {
namespace {

using moe::AlignLayout;
using moe::AlignProblem;

// The pairs of each expert that is here, in order.
std::vector<std::vector<std::int64_t>> pairs_by_expert(const AlignProblem& problem, std::span<const std::int64_t> ids,
                                                       std::span<const std::int64_t> expert_map) {
  std::vector<std::vector<std::int64_t>> pairs(static_cast<std::size_t>(problem.experts));
  const auto known = problem.expert_map ? static_cast<std::int64_t>(expert_map.size()) : problem.experts;
  for (std::size_t pair = 0; pair < ids.size(); ++pair) {
    std::int64_t expert = ids[pair];
    if (expert < 0 || expert >= known) continue;
    if (problem.expert_map) expert = expert_map[static_cast<std::size_t>(expert)];
    if (expert < 0 || expert >= problem.experts) continue;
    pairs[static_cast<std::size_t>(expert)].push_back(static_cast<std::int64_t>(pair));
  }
  return pairs;
}

}  // namespace

AlignOutputs align(const AlignProblem& problem, std::span<const std::int64_t> topk_ids,
                   std::span<const std::int64_t> expert_map) {
  const auto nobody = static_cast<std::int64_t>(topk_ids.size());
  AlignOutputs outputs;
  std::int64_t dropped = 0;
  std::int64_t expert = 0;
  for (const std::vector<std::int64_t>& pairs : pairs_by_expert(problem, topk_ids, expert_map)) {
    const auto count = static_cast<std::int64_t>(pairs.size());
    if (problem.layout == AlignLayout::masked) {
      const std::int64_t used = std::min(count, problem.max_rows);
      outputs.masked_pair_ids.insert(outputs.masked_pair_ids.end(), pairs.begin(), pairs.begin() + used);
      outputs.masked_pair_ids.resize(static_cast<std::size_t>((expert + 1) * problem.max_rows), nobody);
      outputs.masked_m.push_back(used);
      dropped += count - used;
    } else {
      const std::int64_t blocks = (count + problem.block_m - 1) / problem.block_m;
      outputs.sorted_pair_ids.insert(outputs.sorted_pair_ids.end(), pairs.begin(), pairs.end());
      outputs.grouped_layout.resize(outputs.sorted_pair_ids.size(), expert);
      outputs.expert_ids.resize(outputs.expert_ids.size() + static_cast<std::size_t>(blocks), expert);
      outputs.sorted_pair_ids.resize(outputs.expert_ids.size() * static_cast<std::size_t>(problem.block_m), nobody);
      outputs.grouped_layout.resize(outputs.sorted_pair_ids.size(), -1);
    }
    ++expert;
  }
  if (problem.layout == AlignLayout::masked) {
    outputs.dropped = {dropped};
    return outputs;
  }
  outputs.total_padded = {static_cast<std::int64_t>(outputs.sorted_pair_ids.size())};
  // No expert has more than block_m - 1 rows of padding, and one without pairs has none.
  const std::int64_t most = nobody + std::min<std::int64_t>(nobody, problem.experts) * (problem.block_m - 1);
  const auto rows = static_cast<std::size_t>(most / problem.block_m * problem.block_m);
  outputs.sorted_pair_ids.resize(rows, nobody);
  outputs.expert_ids.resize(rows / static_cast<std::size_t>(problem.block_m), -1);
  outputs.grouped_layout.resize(rows, -1);
  return outputs;
}

}  // namespace gdnjit::reference

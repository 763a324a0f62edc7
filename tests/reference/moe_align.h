// moe.align as gdnjit/moe_align.h defines it.
#pragma once

#include <gdnjit/moe_align.h>

#include <cstdint>
#include <span>
#include <vector>

namespace gdnjit::reference {

// What a call leaves in each of its outputs; those that the layout does not have are empty.
struct AlignOutputs {
  std::vector<std::int64_t> sorted_pair_ids, expert_ids, total_padded, grouped_layout;
  std::vector<std::int64_t> masked_pair_ids, masked_m, dropped;
};

// `expert_map` is empty if the problem has none.
AlignOutputs align(const moe::AlignProblem& problem, std::span<const std::int64_t> topk_ids,
                   std::span<const std::int64_t> expert_map);

}  // namespace gdnjit::reference

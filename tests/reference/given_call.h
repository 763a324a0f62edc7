// Calls whose tensors somebody else made: their tensors, and the rules that their indices must keep before a reference
// or a kernel may follow them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "tests/reference/gdn_recurrent.h"
#include "tests/reference/gdn_step.h"
#include "tests/reference/workload.h"

namespace gdnjit::reference {

// The call's tensors, those that it only writes poisoned. Throws invalid_argument where contents and shape disagree.
std::vector<HostTensor> given_tensors(const CallDescription& call, std::vector<std::vector<std::byte>> contents);

// Throw invalid_argument naming tensor, place, value and rule.
void require_valid_indices(const gdn::StepProblem& problem, const std::vector<HostTensor>& tensors);
// `checkpoint_rows`: rows of the pool where further states of the call go, -1 for none.
void require_valid_indices(const gdn::RecurrentProblem& problem, const std::vector<HostTensor>& tensors,
                           std::span<const std::int64_t> checkpoint_rows = {});

}  // namespace gdnjit::reference

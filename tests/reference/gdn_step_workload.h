// The workload of "gdn.step": tensors by name, packed layouts, slots, and the comparison.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "tests/reference/workload.h"

namespace gdnjit::reference {

std::unique_ptr<Workload> make_gdn_step_workload(const FieldMap& problem, Inputs inputs, std::uint64_t seed);
std::unique_ptr<CallWorkload> make_gdn_step_workload(const CallDescription& call,
                                                     std::vector<std::vector<std::byte>> contents);

}  // namespace gdnjit::reference

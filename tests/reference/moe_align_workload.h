// The workload of "moe.align": ids that are typical, or none, all the same, or not experts at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "tests/reference/workload.h"

namespace gdnjit::reference {

std::unique_ptr<Workload> make_moe_align_workload(const FieldMap& problem, Inputs inputs, std::uint64_t seed);
std::unique_ptr<CallWorkload> make_moe_align_workload(const CallDescription& call,
                                                      std::vector<std::vector<std::byte>> contents);

}  // namespace gdnjit::reference

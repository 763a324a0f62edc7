// The workloads of "moe.up", "moe.down" and "moe.forward".
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "tests/reference/workload.h"

namespace gdnjit::reference {

std::unique_ptr<Workload> make_moe_up_workload(const FieldMap& problem, Inputs inputs, std::uint64_t seed);
std::unique_ptr<CallWorkload> make_moe_up_workload(const CallDescription& call,
                                                   std::vector<std::vector<std::byte>> contents);
std::unique_ptr<Workload> make_moe_down_workload(const FieldMap& problem, Inputs inputs, std::uint64_t seed);
std::unique_ptr<CallWorkload> make_moe_down_workload(const CallDescription& call,
                                                     std::vector<std::vector<std::byte>> contents);
std::unique_ptr<Workload> make_moe_forward_workload(const FieldMap& problem, Inputs inputs, std::uint64_t seed);
std::unique_ptr<CallWorkload> make_moe_forward_workload(const CallDescription& call,
                                                        std::vector<std::vector<std::byte>> contents);

}  // namespace gdnjit::reference

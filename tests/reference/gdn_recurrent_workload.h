// The workloads of "gdn.recurrent" and "gdn.chunk": sequences of all lengths, dense or ragged, and the comparison.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "tests/reference/workload.h"

namespace gdnjit::reference {

std::unique_ptr<Workload> make_gdn_recurrent_workload(const FieldMap& problem, Inputs inputs, std::uint64_t seed);
std::unique_ptr<CallWorkload> make_gdn_recurrent_workload(const CallDescription& call,
                                                          std::vector<std::vector<std::byte>> contents);
std::unique_ptr<Workload> make_gdn_chunk_workload(const FieldMap& problem, Inputs inputs, std::uint64_t seed);
std::unique_ptr<CallWorkload> make_gdn_chunk_workload(const CallDescription& call,
                                                      std::vector<std::vector<std::byte>> contents);

}  // namespace gdnjit::reference

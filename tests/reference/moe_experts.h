// The two expert products in double precision, as gdnjit/moe_options.h writes them; with activations=fp8 of inputs that
// they round to e4m3 as the kernels must.
#pragma once

#include <gdnjit/moe.h>

#include <cstdint>
#include <vector>

#include "tests/reference/moe_weights.h"

namespace gdnjit::reference {

// The expert of every pair m slots + s: a number below E, E for the shared expert, or -1 where there is none.
std::vector<int> experts_of_pairs(const moe::ExpertsProblem& problem, const HostTensor& ids, const HostTensor* map);

// h [M, slots, h_row] from x [M, D]; NaN in rows without an expert and behind a row's own numbers.
std::vector<double> expert_up(const moe::ExpertsProblem& problem, const std::vector<double>& x,
                              const std::vector<int>& experts, const std::vector<HostTensor>& tensors);

// The shared expert's weights [M]: sigmoid(x shared_gate).
std::vector<double> shared_weights(const moe::ExpertsProblem& problem, const std::vector<double>& x,
                                   const std::vector<double>& gate);

// y [M, D] from h [M, slots, h_row] and weights [M, slots].
std::vector<double> expert_down(const moe::ExpertsProblem& problem, const std::vector<double>& h,
                                const std::vector<double>& weights, const std::vector<int>& experts,
                                const std::vector<HostTensor>& tensors);

double activation(const moe::ExpertsProblem& problem, double gate, double up);

}  // namespace gdnjit::reference

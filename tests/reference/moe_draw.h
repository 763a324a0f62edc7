// Inputs of MoE calls: ids of every kind, and weights of the experts that they name. Weights of the others stay
// poisoned (NaN wherever a format has one), so that a read of a wrong expert shows.
#pragma once

#include <gdnjit/moe.h>

#include <cstdint>
#include <vector>

#include "tests/reference/workload.h"

namespace gdnjit::reference {

// Ids and map. Typical: distinct experts for each token, drawn evenly. Brutal: tokens that name one expert twice,
// ids of -1 and out of range, and in every other call all tokens on one expert.
void draw_ids(const moe::ExpertsProblem& problem, Inputs kind, std::uint64_t seed, std::vector<HostTensor>& tensors);

// Weights [M, k], positive and normalised.
void draw_topk_weights(HostTensor& tensor, std::uint64_t seed);

// Data, scales, zeros and biases of `experts` (numbers below E, E for the shared one) in every tensor of weights.
// Products of unit-normal inputs are about 1.
void draw_weights(const moe::ExpertsProblem& problem, const std::vector<int>& experts, std::uint64_t seed,
                  std::vector<HostTensor>& tensors);

// Unit-normal numbers; brutal ones differ in size by row.
void draw_normal(HostTensor& tensor, Inputs kind, std::uint64_t seed);

}  // namespace gdnjit::reference

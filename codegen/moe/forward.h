// moe.forward: a whole layer of experts as the operators that it is made of, one after another.
#pragma once

#include <gdnjit/moe_forward.h>

#include <cstddef>
#include <span>
#include <vector>

#include "codegen/operator.h"

namespace gdnjit::moe {

const Operator& forward_operator();

// Checks every rule. Throws invalid_argument.
ForwardProblem complete_forward(ForwardProblem problem);

// The problems of the parts.
RouteProblem route_of(const ForwardProblem& problem);
ExpertsProblem experts_of(const ForwardProblem& problem);

// In call order: what route reads, what up reads, what down reads, the workspace, y; nothing twice.
std::vector<TensorSpec> forward_tensors(const ForwardProblem& problem);

inline constexpr std::size_t kMaxForwardTensors = 32;

// Puts the arguments into that order and returns their number. Allocates nothing.
std::size_t gather_forward_args(const ForwardProblem& problem, const ForwardArgs& args,
                                std::span<TensorView, kMaxForwardTensors> tensors);

}  // namespace gdnjit::moe

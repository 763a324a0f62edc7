// gdn.recurrent on the host. Its template is templates/gdn/recurrent.cuh; what it shares with gdn.step is
// codegen/gdn/layer.h.
#pragma once

#include <gdnjit/gdn.h>

#include <cstdint>
#include <span>
#include <vector>

#include "codegen/gdn/layer.h"
#include "codegen/operator.h"
#include "gdn/step_config.cuh"

namespace gdnjit::gdn {

const Operator& recurrent_operator();

// Fills in the scale and checks every rule. Throws invalid_argument.
RecurrentProblem complete_recurrent(RecurrentProblem problem);

// The problem's layer; T is the most that gdn.step serves, which stands for "many" where tiles are chosen.
StepProblem layer_of(const RecurrentProblem& problem);

StepConfig recurrent_config(const RecurrentProblem& problem, const StepTiles& tiles);

// The tensors that the problem uses, in call order.
std::vector<TensorSpec> recurrent_tensors(const RecurrentProblem& problem);

CallDescription describe_recurrent(RecurrentProblem problem, std::span<const TensorView> tensors);

inline constexpr std::size_t kMaxRecurrentTensors = 13;

// Puts the arguments into the order of recurrent_tensors and returns their number. Allocates nothing.
std::size_t gather_recurrent_args(const RecurrentProblem& problem, const RecurrentArgs& args,
                                  std::span<TensorView, kMaxRecurrentTensors> tensors);

// The kernel's parameter block from tensors in that order. Returns the number of sequences.
std::int64_t pack_recurrent(const RecurrentProblem& problem, const StepConfig& config,
                            std::span<const TensorView> tensors, StepParams& params);

}  // namespace gdnjit::gdn

// gdn.step on the host: the one operator file. Its template is templates/gdn/step.cuh; what it shares with
// gdn.recurrent is codegen/gdn/layer.h.
#pragma once

#include <gdnjit/gdn.h>

#include <cstdint>
#include <span>
#include <vector>

#include "codegen/gdn/layer.h"
#include "codegen/operator.h"
#include "gdn/step_config.cuh"

namespace gdnjit::gdn {

const Operator& step_operator();

// Fills in the scale and checks every rule. Throws invalid_argument ("T=17: must be 1 to 16").
StepProblem complete_step(StepProblem problem);

// The kernel's config: the problem's fields, those that a choice makes meaningless reset to their defaults.
StepConfig step_config(const StepProblem& problem, const StepTiles& tiles);

// The tensors that the problem uses, in call order.
std::vector<TensorSpec> step_tensors(const StepProblem& problem);

CallDescription describe_step(StepProblem problem, std::span<const TensorView> tensors);

inline constexpr std::size_t kMaxStepTensors = 24;

// Puts the arguments into the order of step_tensors and returns their number. An empty state_out means in place, and so
// does an empty conv_state_out. Throws invalid_argument if one is given apart from its input in a pool. Allocates
// nothing.
std::size_t gather_step_args(const StepProblem& problem, const StepArgs& args,
                             std::span<TensorView, kMaxStepTensors> tensors);

// The kernel's parameter block from tensors in that order. Returns B. REQUIRES: if the problem is a mixer, `params` is
// the base of MixerParams.
std::int64_t pack_step(const StepProblem& problem, const StepConfig& config, std::span<const TensorView> tensors,
                       StepParams& params);

}  // namespace gdnjit::gdn

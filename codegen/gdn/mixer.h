// What gdn.step has on the host for a mixer: the convolution before the recurrence and the gated norm behind it
// (templates/gdn/mixer.cuh).
#pragma once

#include <gdnjit/gdn.h>

#include <cstdint>
#include <span>
#include <vector>

#include "codegen/gdn/layer_args.h"
#include "codegen/operator.h"
#include "gdn/mixer_params.cuh"

namespace gdnjit::gdn {

inline bool is_mixer(const StepProblem& problem) {
  return problem.conv_width > 0 || problem.gated_norm != GatedNorm::none;
}

// Throws invalid_argument ("conv_width=5: must be 0 (none), 2, 3 or 4").
void check_mixer(const StepProblem& problem);

// The config's fields of a mixer, those that a choice makes meaningless at their defaults.
void set_mixer(const StepProblem& problem, StepConfig& config);

// The tensors of a mixer lie together, behind those of the states and before o: which there are, in StepArgs' order.
void add_mixer_specs(const StepProblem& problem, std::vector<TensorSpec>& tensors);
std::size_t mixer_tensor_count(const StepProblem& problem);
std::size_t gather_mixer_args(const StepProblem& problem, const StepArgs& args, std::span<TensorView> tensors);

// `slots`: rows of the pool. REQUIRES: q, k, v and the states are packed.
void pack_mixer(const StepProblem& problem, std::int64_t B, std::int64_t slots, TensorReader& reader,
                MixerParams& params);

// What the convolution's states and operations add at the least; its other tensors are counted as tensors.
void add_mixer_footprint(const StepProblem& problem, Footprint& footprint);

}  // namespace gdnjit::gdn

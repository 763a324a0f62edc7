// gdn.step on the host: the one operator file. Its template is templates/gdn/step.cuh.
#pragma once

#include <gdnjit/gdn.h>

#include <concepts>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "codegen/operator.h"
#include "gdn/step_config.cuh"

namespace gdnjit::gdn {

// What the tuner may choose. Names are those of StepConfig.
struct StepTiles {
  int block_v = 32;
  int block_k = 128;
  int lanes_k = 8;
  int warps = 4;
  device::CacheHint cache_hint = device::CacheHint::normal;

  friend bool operator==(const StepTiles&, const StepTiles&) = default;
};

template <typename Self, typename Visitor>
requires std::same_as<std::remove_const_t<Self>, StepTiles>
constexpr void visit_fields(Self& tiles, Visitor&& visit) {
  visit("block_v", tiles.block_v);
  visit("block_k", tiles.block_k);
  visit("lanes_k", tiles.lanes_k);
  visit("warps", tiles.warps);
  visit("cache_hint", tiles.cache_hint);
}

const Operator& step_operator();

// Fills in the scale and checks every rule. Throws invalid_argument ("HV=20: must be a multiple of H=16").
StepProblem complete_step(StepProblem problem);

// The kernel's config: the problem's fields, those that a choice makes meaningless reset to their defaults.
StepConfig step_config(const StepProblem& problem, const StepTiles& tiles);

// Candidates in the order that decides ties, the default first.
StepTiles default_step_tiles(const StepProblem& problem, const DeviceTraits& device);
std::vector<StepTiles> step_search_space(const StepProblem& problem, const DeviceTraits& device);

// The tensors that the problem uses, in call order.
std::vector<TensorSpec> step_tensors(const StepProblem& problem);

inline constexpr std::size_t kMaxStepTensors = 14;

// Puts the arguments into the order of step_tensors and returns their number. An empty state_out means in place.
// Throws invalid_argument if state_out is given apart from state_in in a pool. Allocates nothing.
std::size_t gather_step_args(const StepProblem& problem, const StepArgs& args,
                             std::span<TensorView, kMaxStepTensors> tensors);

// The kernel's parameter block from tensors in that order. Returns B.
std::int64_t pack_step(const StepProblem& problem, const StepConfig& config, std::span<const TensorView> tensors,
                       StepParams& params);

}  // namespace gdnjit::gdn

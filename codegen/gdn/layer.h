// What gdn.step and gdn.recurrent share on the host. Both describe their layer by a StepProblem, their kernel by a
// StepConfig and a call by StepParams.
#pragma once

#include <gdnjit/gdn.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "codegen/kernel_text.h"
#include "codegen/operator.h"
#include "codegen/tensor_reader.h"
#include "gdn/step_config.cuh"

namespace gdnjit::gdn {

// What the tuner may choose. Names are those of StepConfig.
struct StepTiles {
  int block_v = 32;
  int block_k = 128;
  int lanes_k = 8;
  int warps = 4;
  device::CacheHint cache_hint = device::CacheHint::normal;
  int turns = 1;
  bool quick_compile = false;

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
  visit("turns", tiles.turns);
  visit("quick_compile", tiles.quick_compile);
}

// The rules of a layer's dimensions, dtypes and options. Fills in the scale. Throws invalid_argument ("HV=20: must be a
// multiple of H=16").
void complete_layer(StepProblem& layer);

// Elements of q and k that one access may take.
int key_vector(const StepProblem& layer);

// The config's fields that both kernels take from a layer, those that a choice makes meaningless at their defaults.
// key_chunk follows from the layer and lanes_k alone, so that the order of sums over K does too.
StepConfig layer_config(const StepProblem& layer, const StepTiles& tiles);

// Candidates in the order that decides ties, the default first. Defaults of layers that differ in T or in what happens
// to the states have equal lanes_k.
StepTiles default_step_tiles(const StepProblem& layer, const DeviceTraits& device);
std::vector<StepTiles> step_search_space(const StepProblem& layer, const DeviceTraits& device);

// An Instance of one kernel, but for pack() and geometries().
class LayerInstance : public Instance {
 public:
  // Throws invalid_argument for tiles that cannot work, unsupported for an option that the target lacks.
  LayerInstance(const KernelText& text, const StepConfig& config, const StepTiles& tiles, const Target& target);

  std::span<const KernelSpec> kernels() const override { return {&spec_, 1}; }

 protected:
  const StepConfig& config() const { return config_; }
  LaunchGeometry geometry(std::int64_t batch) const;

 private:
  StepConfig config_;
  KernelSpec spec_;
};

// What must move at the least: `states_read` and `states_written` states for each of the batch's sequences, and every
// other tensor once.
Footprint layer_footprint(const StepProblem& layer, const std::vector<TensorSpec>& tensors, std::int64_t states_read,
                          std::int64_t states_written, std::int64_t tokens);

}  // namespace gdnjit::gdn

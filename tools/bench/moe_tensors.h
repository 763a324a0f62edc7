// Tensors of an MoE call for benchmarks: numbers that cost nothing to make, as weights of gigabytes are not drawn one
// by one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/plan.h"

namespace gdnjit::bench {

// k different experts of each token, all of them about equally often.
std::vector<std::int32_t> even_ids(std::int64_t tokens, int k, int experts, std::uint32_t seed = 1);

// The tensors of a plan, in device memory. `draws` calls share all of them but ids and logits: each has its own, so
// that its weights come from memory.
class MoeTensors {
 public:
  MoeTensors(Device& device, const OperatorPlan& plan, int k, int experts, int draws = 1);

  int draws() const { return static_cast<int>(views_.size()); }
  std::span<const TensorView> views(int draw = 0) const { return views_[static_cast<std::size_t>(draw)]; }

 private:
  std::vector<DeviceBuffer> memory_;
  std::vector<std::vector<TensorView>> views_;  // by draw
};

}  // namespace gdnjit::bench

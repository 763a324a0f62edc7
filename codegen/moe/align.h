// moe.align on the host. Its template is templates/moe/align.cuh.
#pragma once

#include <gdnjit/moe_align.h>

#include <cstddef>
#include <span>
#include <vector>

#include "codegen/operator.h"
#include "moe/align_config.cuh"

namespace gdnjit::moe {

const Operator& align_operator();

// What the tuner may choose. Names are those of AlignConfig.
struct AlignTiles {
  int warps = 8;
  int cluster = 1;

  friend bool operator==(const AlignTiles&, const AlignTiles&) = default;
};

template <typename Self, typename Visitor>
requires std::same_as<std::remove_const_t<Self>, AlignTiles>
constexpr void visit_fields(Self& tiles, Visitor&& visit) {
  visit("warps", tiles.warps);
  visit("cluster", tiles.cluster);
}

// Fills in known_experts and checks every rule. Throws invalid_argument ("block_m=0: must be 1 to 1024").
AlignProblem complete_align(AlignProblem problem);

AlignConfig align_config(const AlignProblem& problem, const AlignTiles& tiles);

// The tensors that the problem uses, in call order.
std::vector<TensorSpec> align_tensors(const AlignProblem& problem);

inline constexpr std::size_t kMaxAlignTensors = 6;

// Puts the arguments into the order of align_tensors and returns their number. Allocates nothing.
std::size_t gather_align_args(const AlignProblem& problem, const AlignArgs& args,
                              std::span<TensorView, kMaxAlignTensors> tensors);

// The kernel's parameter block from tensors in that order.
void pack_align(const AlignProblem& problem, std::span<const TensorView> tensors, AlignParams& params);

}  // namespace gdnjit::moe

// The grouped class of expert products on the host: its tiles, its kernels and their launches. A call sorts its pairs
// by expert (templates/moe/align.cuh), rounds its inputs to e4m3 if the problem says so (quantize.cuh), multiplies
// (grouped.cuh, grouped_sm90.cuh), and, in the second product, adds up (combine.cuh).
#pragma once

#include <gdnjit/moe.h>

#include <concepts>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

#include "codegen/moe/experts.h"
#include "codegen/operator.h"
#include "moe/grouped_config.cuh"

namespace gdnjit::moe {

// What the tuner may choose. Names are those of GroupedConfig.
struct GroupedTiles {
  ExpertPath path = ExpertPath::mma;
  int block_m = 64;
  int block_n = 64;
  int block_k = 64;
  int stages = 4;
  int warps = 8;
  int group_m = 16;
  int blocks = 0;  // wgmma: blocks of a launch, each of which takes tile after tile; 0: one for every tile

  friend bool operator==(const GroupedTiles&, const GroupedTiles&) = default;
};

template <typename Self, typename Visitor>
requires std::same_as<std::remove_const_t<Self>, GroupedTiles>
constexpr void visit_fields(Self& tiles, Visitor&& visit) {
  visit("path", tiles.path);
  visit("block_m", tiles.block_m);
  visit("block_n", tiles.block_n);
  visit("block_k", tiles.block_k);
  visit("stages", tiles.stages);
  visit("warps", tiles.warps);
  visit("group_m", tiles.group_m);
  visit("blocks", tiles.blocks);
}

GroupedConfig grouped_config(const ExpertsProblem& problem, const GroupedTiles& tiles, bool down);
CombineConfig combine_config(const ExpertsProblem& problem);
QuantizeConfig quantize_config(const ExpertsProblem& problem, bool down);

// Whether few enough tokens share an expert for the matvec class.
bool prefers_matvec(const ExpertsProblem& problem);
GroupedTiles default_grouped_tiles(const ExpertsProblem& problem, bool down, const DeviceTraits& device);
// Candidates in the order that decides ties, the default first.
std::vector<GroupedTiles> grouped_search_space(const ExpertsProblem& problem, bool down, const DeviceTraits& device);

// Bytes of the workspace that serve calls of up to that many tokens, with any tiles.
std::int64_t grouped_workspace_bytes(const ExpertsProblem& problem, bool down, std::int64_t tokens);

// Throws invalid_argument for tiles that cannot work, unsupported for what the target lacks.
std::shared_ptr<const Instance> make_grouped(const ExpertsProblem& problem, const GroupedTiles& tiles, bool down,
                                             const Target& target);

}  // namespace gdnjit::moe

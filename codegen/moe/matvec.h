// The matvec class of expert products on the host: its tiles, its kernels' configs and their launches. Templates:
// templates/moe/matvec_up.cuh and matvec_down.cuh.
#pragma once

#include <gdnjit/moe.h>

#include <concepts>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "codegen/call.h"
#include "codegen/kernel_spec.h"
#include "codegen/moe/experts.h"
#include "codegen/operator.h"
#include "moe/matvec_config.cuh"

namespace gdnjit::moe {

// What the tuner may choose. Names are those of MatvecConfig, but for the number of blocks, which shapes no kernel.
struct MatvecTiles {
  int row_tiles = 1;
  int warps_n = 1;
  int warps_k = 4;
  int column_tiles = 1;
  int blocks = 0;  // moe.up: blocks of a launch, whose teams take item after item; 0: a team for every item
  int stages = 4;
  int cluster = 1;

  friend bool operator==(const MatvecTiles&, const MatvecTiles&) = default;
};

template <typename Self, typename Visitor>
requires std::same_as<std::remove_const_t<Self>, MatvecTiles>
constexpr void visit_fields(Self& tiles, Visitor&& visit) {
  visit("row_tiles", tiles.row_tiles);
  visit("warps_n", tiles.warps_n);
  visit("warps_k", tiles.warps_k);
  visit("column_tiles", tiles.column_tiles);
  visit("blocks", tiles.blocks);
  visit("stages", tiles.stages);
  visit("cluster", tiles.cluster);
}

MatvecConfig matvec_config(const ExpertsProblem& problem, const MatvecTiles& tiles, bool down);

MatvecTiles default_matvec_tiles(const ExpertsProblem& problem, bool down, const DeviceTraits& device);
// Candidates in the order that decides ties, the default first.
std::vector<MatvecTiles> matvec_search_space(const ExpertsProblem& problem, bool down, const DeviceTraits& device);

// One of the two kernels with its tiles.
class MatvecKernel {
 public:
  // Throws invalid_argument for tiles that cannot work, unsupported for an option that the target lacks.
  MatvecKernel(const ExpertsProblem& problem, const MatvecTiles& tiles, bool down, const Target& target);

  const KernelSpec& spec() const { return spec_; }
  const MatvecConfig& config() const { return config_; }
  LaunchGeometry geometry(std::int64_t tokens) const;

 private:
  MatvecConfig config_;
  std::int64_t chunk_tokens_ = 0;  // of config_, which searches for them: a call does not
  int blocks_;
  KernelSpec spec_;
};

}  // namespace gdnjit::moe

// moe.up and moe.down: the two expert products of a layer as operators.
#pragma once

#include <gdnjit/moe.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "codegen/moe/experts.h"
#include "codegen/operator.h"
#include "moe/grouped_config.cuh"

namespace gdnjit::moe {

// What the tuner may choose: which class multiplies, and the tiles of that class (MatvecTiles, GroupedTiles). Those of
// the other hold their defaults.
struct ProductTiles {
  ExpertPath path = ExpertPath::matvec;
  int row_tiles = 1;
  int warps_n = 1;
  int warps_k = 4;
  int column_tiles = 1;
  int block_m = 64;
  int block_n = 64;
  int block_k = 64;
  int warps = 8;
  int group_m = 16;
  int blocks = 0;
  int stages = 4;  // of both
  int cluster = 1;

  friend bool operator==(const ProductTiles&, const ProductTiles&) = default;
};

template <typename Self, typename Visitor>
requires std::same_as<std::remove_const_t<Self>, ProductTiles>
constexpr void visit_fields(Self& tiles, Visitor&& visit) {
  visit("path", tiles.path);
  visit("row_tiles", tiles.row_tiles);
  visit("warps_n", tiles.warps_n);
  visit("warps_k", tiles.warps_k);
  visit("column_tiles", tiles.column_tiles);
  visit("block_m", tiles.block_m);
  visit("block_n", tiles.block_n);
  visit("block_k", tiles.block_k);
  visit("warps", tiles.warps);
  visit("group_m", tiles.group_m);
  visit("blocks", tiles.blocks);
  visit("stages", tiles.stages);
  visit("cluster", tiles.cluster);
}

const Operator& up_operator();
const Operator& down_operator();

// The tensors that the problem uses, in call order.
std::vector<TensorSpec> up_tensors(const ExpertsProblem& problem);
std::vector<TensorSpec> down_tensors(const ExpertsProblem& problem);

inline constexpr std::size_t kMaxUpTensors = 16;
inline constexpr std::size_t kMaxDownTensors = 16;

// Put the arguments into that order and return their number. Allocate nothing.
std::size_t gather_up_args(const ExpertsProblem& problem, const UpArgs& args,
                           std::span<TensorView, kMaxUpTensors> tensors);
std::size_t gather_down_args(const ExpertsProblem& problem, const DownArgs& args,
                             std::span<TensorView, kMaxDownTensors> tensors);

// A kernel's parameters from tensors in that order, and the workspace, which may be empty. `weight_vector`: the bytes
// of a row of weights that the kernel takes in one access. Return M.
std::int64_t pack_up(const ExpertsProblem& problem, int weight_vector, std::span<const TensorView> tensors,
                     MatvecParams& params, TensorView& workspace);
std::int64_t pack_down(const ExpertsProblem& problem, int weight_vector, std::span<const TensorView> tensors,
                       MatvecParams& params, TensorView& workspace);

}  // namespace gdnjit::moe

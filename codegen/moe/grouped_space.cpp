// The tiles of the grouped class: when it is used at all, the default that needs no measurement, and the candidates of
// the search.
#include <algorithm>

#include "codegen/moe/grouped.h"
#include "moe/grouped_sm90_config.cuh"

namespace gdnjit::moe {
namespace {

// Pairs that an expert gets on average, of those that get any.
double share_of(const ExpertsProblem& problem) {
  const std::int64_t tokens = std::max<std::int64_t>(problem.tokens, 1);
  return static_cast<double>(tokens) * problem.top_k / expected_experts(problem, tokens);
}

// Registers that a lane needs beside its sums.
int estimated_registers(const GroupedConfig& config) {
  const int tiles_m = config.warp_m() / kGroupedRows, tiles_n = config.warp_n() / kGroupedColumns * config.gates();
  const int sums = 4 * tiles_m * tiles_n * (config.keeps_groups() ? 2 : 1);
  const int scales = config.scaled() ? 2 * tiles_n * (config.zero_point == ZeroPoint::eight ? 1 : 2) : 0;
  const int operands = 8 * tiles_m * config.in_parts() + 8 * config.weight_parts();
  return sums + scales + operands + 64;
}

bool fits(const GroupedConfig& config, const DeviceTraits& device) {
  if (config.fault() != nullptr || config.shared_bytes() > device.shared_bytes_per_block) return false;
  const int registers = estimated_registers(config);
  return registers <= 255 && registers * config.threads() <= device.registers_per_sm;
}

// Every candidate that multiplies by wgmma. One block an SM goes from tile to tile, or each tile has a block.
std::vector<GroupedTiles> wgmma_tiles(const ExpertsProblem& problem, bool down, const DeviceTraits& device) {
  std::vector<GroupedTiles> space;
  if (device.arch != "sm_90a") return space;
  const int gates = grouped_config(problem, {}, down).gates();
  const auto add = [&](int block_m, int rows, int stages, int group_m, int blocks) {
    const GroupedTiles tiles{ExpertPath::wgmma,         block_m, rows / gates, 64, stages, 8,
                             group_m / (block_m / 128), blocks};
    const GroupedConfig config = grouped_config(problem, tiles, down);
    if (sm90_fault(config) != nullptr || tiles.block_n >= 2 * config.most_outputs()) return;
    if (GroupedSm90Plan(config).shared_bytes <= device.shared_bytes_per_block) space.push_back(tiles);
  };
  // Two blocks that share the weights' way pay for twice the padding where an expert has many rows.
  constexpr double kClusterShare = 512;
  const int first = share_of(problem) >= kClusterShare ? 256 : 128;
  for (const int block_m : {first, 384 - first}) {
    for (const int rows : {256, 128}) {
      for (const int blocks : {device.sm_count, 0}) {
        for (const int group_m : {16, 8, 32}) add(block_m, rows, rows == 256 ? 4 : 6, group_m, blocks);
      }
    }
  }
  return space;
}

}  // namespace

bool prefers_matvec(const ExpertsProblem& problem) {
  return problem.batch_invariant || (problem.tokens <= 64 && share_of(problem) <= 8.0);
}

GroupedTiles default_grouped_tiles(const ExpertsProblem& problem, bool down, const DeviceTraits& device) {
  // Tiles of 128 rows pay where most of them are used.
  constexpr double kWgmmaShare = 48;
  const double share = share_of(problem);
  if (share >= kWgmmaShare) {
    const std::vector<GroupedTiles> wgmma = wgmma_tiles(problem, down, device);
    if (!wgmma.empty()) return wgmma.front();
  }
  GroupedTiles tiles;
  tiles.block_m = share <= 12 ? 16 : share <= 32 ? 32 : share <= 96 ? 64 : 128;
  tiles.warps = tiles.block_m <= 32 ? 4 : 8;
  tiles.block_n = !down && is_gated(problem.activation) ? 64 : 128;
  tiles.block_k = (down ? problem.h_dtype : problem.io_dtype) == DType::f32 ? 32 : 64;
  while (tiles.stages > 2 && !fits(grouped_config(problem, tiles, down), device)) --tiles.stages;
  while (tiles.block_n > 32 && !fits(grouped_config(problem, tiles, down), device)) tiles.block_n /= 2;
  while (tiles.block_m > 16 && !fits(grouped_config(problem, tiles, down), device)) tiles.block_m /= 2;
  return tiles;
}

std::vector<GroupedTiles> grouped_search_space(const ExpertsProblem& problem, bool down, const DeviceTraits& device) {
  std::vector<GroupedTiles> space{default_grouped_tiles(problem, down, device)};
  const auto add = [&](const GroupedTiles& tiles) {
    if (std::find(space.begin(), space.end(), tiles) == space.end()) space.push_back(tiles);
  };
  for (const GroupedTiles& tiles : wgmma_tiles(problem, down, device)) add(tiles);
  const double share = share_of(problem);
  const bool wide_inputs = (down ? problem.h_dtype : problem.io_dtype) == DType::f32;
  for (const int block_m : {128, 64, 32, 16}) {
    if (block_m > 4 * share || 8 * block_m < share) continue;  // mostly padding; or weights for few rows at a time
    for (const int block_n : {64, 128, 256}) {
      for (const int block_k : {64, 128, 32}) {
        if (block_k == 32 && !wide_inputs) continue;
        for (const int stages : {4, 3}) {
          for (const int warps : {8, 4}) {
            const GroupedTiles tiles{
                .block_m = block_m, .block_n = block_n, .block_k = block_k, .stages = stages, .warps = warps};
            const GroupedConfig config = grouped_config(problem, tiles, down);
            if (fits(config, device) && block_n < 2 * config.most_outputs()) add(tiles);
          }
        }
      }
    }
  }
  return space;
}

}  // namespace gdnjit::moe

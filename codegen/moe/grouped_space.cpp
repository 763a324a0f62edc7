// The tiles of the grouped class: when it is used at all, the default that needs no measurement, and the candidates of
// the search.
#include <algorithm>
#include <cmath>
#include <optional>

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

// Operations for each byte that a product moves at the least: the weights of the experts that are chosen, and a row of
// inputs and one of results for every pair.
double intensity_of(const ExpertsProblem& problem, bool down) {
  const std::int64_t tokens = std::max<std::int64_t>(problem.tokens, 1);
  const ProductShape shape = down ? down_shape(problem, false) : up_shape(problem, false);
  const double pairs = static_cast<double>(tokens) * problem.top_k;
  const double row_bytes = down ? 1.0 * shape.columns * dtype_bytes(problem.h_dtype) + 4.0 * shape.rows
                                : 1.0 * shape.columns * dtype_bytes(problem.io_dtype) +
                                      1.0 * problem.intermediate_size * dtype_bytes(problem.h_dtype);
  const double weights = expected_experts(problem, tokens) * static_cast<double>(weight_bytes(problem, shape));
  return 2.0 * pairs * shape.rows * shape.columns / (weights + pairs * row_bytes);
}

std::optional<GroupedTiles> usable_wgmma(const ExpertsProblem& problem, bool down, const DeviceTraits& device,
                                         const GroupedTiles& tiles) {
  const GroupedConfig config = grouped_config(problem, tiles, down);
  if (device.arch != "sm_90a" || sm90_fault(config) != nullptr) return std::nullopt;
  if (tiles.block_n >= 2 * config.most_outputs()) return std::nullopt;
  if (GroupedSm90Plan(config).shared_bytes > device.shared_bytes_per_block) return std::nullopt;
  return tiles;
}

// `rows` of weights a block.
GroupedTiles wgmma_tiles(const ExpertsProblem& problem, bool down, int block_m, int rows) {
  return {.path = ExpertPath::wgmma,
          .block_m = block_m,
          .block_n = rows / grouped_config(problem, {}, down).gates(),
          .block_k = problem.activations == ActivationFormat::fp8 ? 128 : 64,
          .stages = rows == 256 ? 4 : 6,
          .warps = 8};
}

// What was best on an H200 for Mixtral and DeepSeek-V3 at M = 1024 to 8192 (docs/kernels/moe_grouped.md). Where the
// matrix units decide, one block an SM goes from tile to tile, so that loads go on while sums are stored. Where memory
// decides, one block a tile leaves the next tile to whichever SM is free: fixed shares lost up to 18 %, and also in
// moe.down of e4m3, whose sums of one tile take as long to store as to compute. The roofs cross at 184 operations a
// byte (790 TFLOP/s, 4.3 TB/s), for e4m3 at twice as many; DeepSeek-V3 at M = 8192 has 237, Mixtral at 1024 has 246.
std::optional<GroupedTiles> default_wgmma_tiles(const ExpertsProblem& problem, bool down, const DeviceTraits& device) {
  constexpr double kMatrixBound = 240;
  constexpr double kOneGroup = 32;  // blocks of rows that pass the weights at once, so these are read once
  const double share = share_of(problem);
  const bool e4m3 = problem.activations == ActivationFormat::fp8;
  const double matrix_bound_from = e4m3 ? 2 * kMatrixBound : kMatrixBound;
  for (const int rows : {256, 128}) {
    GroupedTiles tiles = wgmma_tiles(problem, down, 128, rows);
    const bool matrix_bound = intensity_of(problem, down) >= matrix_bound_from;
    const double pairs = static_cast<double>(problem.tokens) * problem.top_k;
    const double blocks_of_rows = pairs / share * std::ceil(share / tiles.block_m);
    tiles.blocks = matrix_bound && !(e4m3 && down) ? device.sm_count : 0;
    tiles.group_m = !matrix_bound ? 8 : blocks_of_rows <= kOneGroup ? 32 : 16;
    if (auto usable = usable_wgmma(problem, down, device, tiles)) return usable;
  }
  return std::nullopt;
}

}  // namespace

bool prefers_matvec(const ExpertsProblem& problem) {
  if (problem.activations == ActivationFormat::fp8) return false;
  return problem.batch_invariant || (problem.tokens <= 64 && share_of(problem) <= 8.0);
}

GroupedTiles default_grouped_tiles(const ExpertsProblem& problem, bool down, const DeviceTraits& device) {
  // A tile of 128 rows has 128 operations for each byte of weights, below where the roofs cross: while an expert's rows
  // fit one tile, padding costs no time. From 32 pairs an expert on that was measured.
  constexpr double kWgmmaShare = 24;
  const double share = share_of(problem);
  if (problem.activations == ActivationFormat::fp8) {
    // Nothing else multiplies e4m3, and no bits of a row depend on these tiles.
    return default_wgmma_tiles(problem, down, device).value_or(wgmma_tiles(problem, down, 128, 128));
  }
  if (share >= kWgmmaShare) {
    if (const auto tiles = default_wgmma_tiles(problem, down, device)) return *tiles;
  }
  GroupedTiles tiles;
  // 16.5: the estimated share of 16 tokens an expert is a hair more than 16.
  tiles.block_m = share <= 16.5 ? 16 : share <= 32 ? 32 : share <= 96 ? 64 : 128;
  tiles.warps = tiles.block_m <= 32 ? 4 : 8;
  tiles.block_n = !down && is_gated(problem.activation) ? 64 : 128;
  tiles.block_k = (down ? problem.h_dtype : problem.io_dtype) == DType::f32 ? 32 : 64;
  if (weight_bits(problem.weights) == 4 && tiles.block_k == 64 && tiles.block_m <= 32) {
    // 64 bytes of a row of weights side by side, where 64 numbers are 32: on an H200 Mixtral's int4 at M = 64 took 242
    // us for 288 (up) and 143 for 200 (down).
    tiles.block_k = 128;
    tiles.stages = 3;
  }
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
  for (const int block_m : {128, 256}) {
    for (const int rows : {256, 128}) {
      for (const int blocks : {device.sm_count, 0}) {
        for (const int group_m : {16, 8, 32}) {
          GroupedTiles tiles = wgmma_tiles(problem, down, block_m, rows);
          tiles.blocks = blocks;
          tiles.group_m = group_m / (block_m / 128);
          if (usable_wgmma(problem, down, device, tiles)) add(tiles);
        }
      }
    }
  }
  if (problem.activations == ActivationFormat::fp8) return space;
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

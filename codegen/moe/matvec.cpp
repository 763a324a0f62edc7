#include "codegen/moe/matvec.h"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>
#include <string>

#include "codegen/fields.h"
#include "codegen/kernel_text.h"
#include "codegen/moe/options_names.h"
#include "codegen/moe/product_config.h"
#include "runtime/support/check.h"

namespace gdnjit::moe {
namespace {

static_assert(every_field_visited<MatvecConfig>() && every_field_visited<MatvecTiles>());

// Without a number of blocks ptxas spills a few registers for the sake of a third block that has no use.
constexpr std::string_view kBounds = "Kernel::kThreads, 1";
constexpr KernelText kUp{.space = "moe",
                         .operator_name = "moe.up",
                         .entry = "gdnjit_moe_up_matvec",
                         .header = "moe/matvec_up.cuh",
                         .kernel = "MatvecUp",
                         .config = "MatvecConfig",
                         .params = "MatvecParams",
                         .parameter_bytes = sizeof(MatvecParams),
                         .bounds = kBounds};
constexpr KernelText kDown{.space = "moe",
                           .operator_name = "moe.down",
                           .entry = "gdnjit_moe_down_matvec",
                           .header = "moe/matvec_down.cuh",
                           .kernel = "MatvecDown",
                           .config = "MatvecConfig",
                           .params = "MatvecParams",
                           .parameter_bytes = sizeof(MatvecParams),
                           .bounds = kBounds};

// Registers that a warp's lane needs, from what it holds at once. An estimate for pruning; ptxas has the last word.
int estimated_registers(const MatvecConfig& config) {
  const int inputs = config.column_tiles == 1 && config.in_parts() == 1 ? 8 * config.chunks() : 4 * config.column_tiles;
  const int rows = config.product_tiles() * 2 * (4 + (config.scaled() ? 2 : 0));  // codes, scales
  const int sums = config.product_tiles() * config.column_tiles * 8 + config.column_tiles * 4;
  return std::min(inputs + rows + sums + (config.down ? 28 : 36), 255);
}

// Blocks that an SM holds at once by registers, threads and shared memory.
int blocks_per_sm(const MatvecConfig& config, int pairs, const DeviceTraits& device) {
  const int by_registers = device.registers_per_sm / (estimated_registers(config) * config.threads());
  const int by_memory = device.shared_bytes_per_sm / (config.shared_bytes(pairs) + 1024);
  return std::max(1, std::min(by_registers, by_memory));
}

// A token's bits follow from the tiles, so they must not follow from M.
std::int64_t tokens_for_tiles(const ExpertsProblem& problem) {
  constexpr std::int64_t kInvariantTokens = 8;
  return problem.batch_invariant ? kInvariantTokens : std::max<std::int64_t>(problem.tokens, 1);
}

// Tokens that an expert's weights serve at once: half of what an expert gets on average. A group more costs a second
// pass, whose weights the L2 still has; a tile of columns more costs every pass as many products, and inputs are loaded
// where they are used. (On an H200 at 2.3 tokens an expert gpt-oss's moe.up took 470 us with one tile, for two tokens,
// and 554 with two; at 1.4 Kimi K2's int4:32 503 and 813.)
int default_column_tiles(const ExpertsProblem& problem, const MatvecConfig& config) {
  const std::int64_t tokens = tokens_for_tiles(problem);
  const double share = static_cast<double>(tokens) * problem.top_k / expected_experts(problem, tokens);
  int column_tiles = 1;
  while (column_tiles < 4 && 2 * column_tiles * kTileColumns / config.group_columns() < share &&
         2 * column_tiles * kTileColumns / config.group_columns() <= 8) {
    column_tiles *= 2;
  }
  return column_tiles;
}

// Of moe.up as many blocks as the device holds at once.
MatvecTiles with_blocks(const ExpertsProblem& problem, MatvecTiles tiles, bool down, const DeviceTraits& device) {
  if (down) return tiles;
  const MatvecConfig config = matvec_config(problem, tiles, down);
  const std::int64_t tokens = std::min<std::int64_t>(tokens_for_tiles(problem), config.chunk_tokens());
  const int pairs = static_cast<int>(tokens) * config.slots();
  tiles.blocks = device.sm_count * blocks_per_sm(config, pairs, device);
  return tiles;
}

int power_below(double value) { return static_cast<int>(std::bit_floor(static_cast<unsigned>(std::max(value, 1.0)))); }

int steps_of(const MatvecConfig& config) { return (config.in_features(false) + config.step_k() - 1) / config.step_k(); }

// Groups of pairs that a call with evenly spread ids has.
double expected_groups(const ExpertsProblem& problem) {
  return expected_experts(problem, tokens_for_tiles(problem)) + (problem.shared_size > 0 ? 1 : 0);
}

// Four warps share an item, so that the last turn, which leaves teams without one, is short; eight of long rows, whose
// pieces lie side by side in memory then (on an H200 bf16 at D = 2048: 110 us for 122 at M = 16), unless many
// experts' groups are small, which are bound by instructions. One team a block while there are items for no more.
void choose_up(const MatvecConfig& config, double groups, const DeviceTraits& device, MatvecTiles& tiles) {
  constexpr int kLongRow = 32;  // steps
  const int steps = steps_of(config);
  const bool small_groups = config.group_columns() > 1 && groups >= 24;
  tiles.warps_k = steps >= kLongRow && !small_groups ? 8 : std::min(power_below(steps), 4);
  tiles.warps_n = (small_groups || tiles.warps_k == 8 ? 16 : 8) / tiles.warps_k;
  if (groups * config.tiles_n() <= 4.0 * device.sm_count) tiles.warps_n = std::max(1, tiles.warps_n / 2);
}

// How moe.down gives rows of y to blocks: row_tiles of 16 to as many blocks as a cluster has.
struct RowSplit {
  int row_tiles, cluster;
};
constexpr RowSplit kRowSplits[] = {{1, 1}, {2, 1}, {2, 2}, {3, 2}, {1, 2}, {2, 4}};

// What share of the memory's rate a block draws, measured on an H200 (docs/kernels/moe_matvec.md). 4-bit weights are
// bound by instructions, of which inputs' are shared by the tiles of a warp.
double share_of_memory(const MatvecConfig& config, int row_tiles) {
  if (config.group_columns() > 1) return row_tiles == 1 ? 0.50 : 0.72;
  if (config.bits() == 4) return row_tiles == 1 ? 0.67 : 0.75;
  if (config.bits() == 8) return row_tiles == 1 ? 0.86 : 0.80;
  return row_tiles == 1 ? 0.81 : 0.90;
}

// A block has an SM to itself, so what counts is how full the last turn of blocks is: the split with the shortest
// estimate of turns times (what a block costs before and after its weights, and its weights). Then as many warps as
// registers are good for, in teams of two at least (128 bytes of a row side by side: a sixth of the time less than with
// teams of one), and no more teams than a block has groups.
void choose_down(const MatvecConfig& config, double groups, const DeviceTraits& device, MatvecTiles& tiles) {
  constexpr double kBlockUs = 3.0, kClusterUs = 1.0;
  const double bytes = groups * config.hidden_size * config.in_features(false) * config.bits() / 8.0;
  const double rate = device.memory_bytes_per_us / device.sm_count;
  double shortest = 0.0;
  for (const RowSplit& split : kRowSplits) {
    if (split.cluster > 1 && !has_clusters(device.arch)) continue;
    const int rows = split.row_tiles * kTileRows;
    const int blocks = (config.hidden_size + rows - 1) / rows * split.cluster;
    const int turns = (blocks + device.sm_count - 1) / device.sm_count;
    const double block_us = kBlockUs + (split.cluster > 1 ? kClusterUs : 0.0) +
                            bytes / blocks / (rate * share_of_memory(config, split.row_tiles));
    if (shortest != 0.0 && turns * block_us >= shortest) continue;
    shortest = turns * block_us;
    tiles.row_tiles = split.row_tiles;
    tiles.cluster = split.cluster;
  }
  const double own_groups = groups / tiles.cluster;
  const int warps = tiles.row_tiles == 1 && own_groups >= 16 ? 24 : 16;
  tiles.warps_k = std::clamp(power_below(warps / own_groups), 2, 16);
  tiles.warps_k = std::min(tiles.warps_k, power_below(steps_of(config)));
  tiles.warps_n = warps / tiles.warps_k;
}

// Whether the device can hold a block, with the most pairs that one takes.
bool fits(const MatvecConfig& config, const DeviceTraits& device) {
  return config.fault() == nullptr && (config.cluster == 1 || has_clusters(device.arch)) &&
         config.shared_bytes(config.chunk_tokens() * config.slots()) <= device.shared_bytes_per_block &&
         estimated_registers(config) * config.threads() <= device.registers_per_sm;
}

bool worth_trying(const ExpertsProblem& problem, const MatvecTiles& tiles, bool down, const DeviceTraits& device) {
  const MatvecConfig config = matvec_config(problem, tiles, down);
  if (!fits(config, device)) return false;
  const int steps = steps_of(config);
  if (config.warps_k > static_cast<int>(std::bit_ceil(static_cast<unsigned>(steps))))
    return false;  // warps without a step
  // Many warps are for moe.down, which has one block an SM; moe.up has several.
  return config.warps() >= 4 && (down || config.warps() <= 16) && (!down || config.warps() >= 8);
}

}  // namespace

MatvecConfig matvec_config(const ExpertsProblem& problem, const MatvecTiles& tiles, bool down) {
  MatvecConfig config;
  set_product_fields(problem, down, config);
  config.out_dtype = down ? problem.output_dtype : problem.h_dtype;
  config.shared_gate = problem.shared_gate;
  config.id_dtype = problem.id_dtype;
  config.expert_map = problem.expert_map;
  config.programmatic = problem.programmatic;
  config.row_tiles = tiles.row_tiles;
  config.warps_n = tiles.warps_n;
  config.warps_k = tiles.warps_k;
  config.column_tiles = tiles.column_tiles;
  config.stages = tiles.stages;
  config.cluster = tiles.cluster;

  int groups = config.groups(config.in_features(false));
  if (problem.shared_size > 0) groups = std::gcd(groups, config.groups(config.in_features(true)));
  // Scales of a row side by side in one access, where every row begins at a multiple of it.
  while (2 * config.scale_vector <= config.lane_scales() && groups % (2 * config.scale_vector) == 0 &&
         2 * config.scale_vector * config.scale_bytes() <= 16) {
    config.scale_vector *= 2;
  }
  return config;
}

MatvecTiles default_matvec_tiles(const ExpertsProblem& problem, bool down, const DeviceTraits& device) {
  MatvecTiles tiles;
  const MatvecConfig config = matvec_config(problem, tiles, down);
  tiles.column_tiles = default_column_tiles(problem, config);
  tiles.stages = 2;  // more gained nothing for any format (docs/kernels/moe_matvec.md)
  const double groups = expected_groups(problem);
  if (down) {
    choose_down(config, groups, device, tiles);
    // Every warp of a team keeps sums of all pairs; those of a call are not to need two chunks for it.
    const std::int64_t wanted = std::min<std::int64_t>(tokens_for_tiles(problem), kChunkPairs / config.slots());
    while (tiles.warps_k > 2 && matvec_config(problem, tiles, down).chunk_tokens() < wanted) {
      tiles.warps_k /= 2;
      tiles.warps_n *= 2;
    }
  } else {
    choose_up(config, groups, device, tiles);
  }
  const auto too_much = [&] { return !fits(matvec_config(problem, tiles, down), device); };
  while (tiles.stages > 1 && too_much()) --tiles.stages;
  while (tiles.warps_n > 1 && too_much()) tiles.warps_n /= 2;
  return with_blocks(problem, tiles, down, device);
}

std::vector<MatvecTiles> matvec_search_space(const ExpertsProblem& problem, bool down, const DeviceTraits& device) {
  std::vector<MatvecTiles> space{default_matvec_tiles(problem, down, device)};
  const MatvecTiles first = space[0];
  const auto add = [&](MatvecTiles tiles) {
    tiles = with_blocks(problem, tiles, down, device);
    if (std::find(space.begin(), space.end(), tiles) != space.end()) return;
    if (worth_trying(problem, tiles, down, device)) space.push_back(tiles);
  };
  for (const int column_tiles : {1, 2, 4}) {
    MatvecTiles other = first;
    other.column_tiles = column_tiles;
    add(other);
  }
  for (const int stages : {3, 4}) {
    MatvecTiles other = first;
    other.stages = stages;
    add(other);
  }
  for (const RowSplit& split : kRowSplits) {
    if (!down && (split.cluster > 1 || split.row_tiles > 2)) continue;
    for (const int warps_k : {2, 4, 8, 1, 16}) {
      for (const int warps : {4, 8, 16, 24}) {
        if (warps % warps_k != 0) continue;
        add({split.row_tiles, warps / warps_k, warps_k, first.column_tiles, 0, 2, split.cluster});
      }
    }
  }
  return space;
}

MatvecKernel::MatvecKernel(const ExpertsProblem& problem, const MatvecTiles& tiles, bool down, const Target& target)
    : config_(matvec_config(problem, tiles, down)), blocks_(tiles.blocks) {
  const char* fault = config_.fault();
  require(fault == nullptr, "tiles {}: {}", fields_text(to_fields(tiles)), fault == nullptr ? "" : fault);
  require(blocks_ >= 0 && (!down || blocks_ == 0), "tiles {}: blocks must be 0{}", fields_text(to_fields(tiles)),
          down ? " of moe.down, whose blocks follow from its rows" : " or more");
  require(config_.cluster == 1 || has_clusters(target.arch), "tiles {}: {} has no clusters, so cluster must be 1",
          fields_text(to_fields(tiles)), target.arch);
  check_programmatic(config_.programmatic, target);
  chunk_tokens_ = config_.chunk_tokens();
  const KernelText& text = down ? kDown : kUp;
  const std::string signature =
      fmt::format("{}.{} {}", text.operator_name, text.kernel, fields_text(to_fields(config_)));
  spec_ = kernel_spec(text, signature, designated_initializer(config_), config_.threads(), target);
}

LaunchGeometry MatvecKernel::geometry(std::int64_t tokens) const {
  const std::int64_t chunks = (tokens + chunk_tokens_ - 1) / chunk_tokens_;
  require(chunks <= 65535, "M={}: the matvec class serves up to {} tokens a call", tokens, 65535 * chunk_tokens_);
  const std::int64_t pairs = std::min(tokens, chunk_tokens_) * config_.slots();
  std::int64_t blocks = config_.tiles_n() * config_.cluster;
  if (!config_.down) {
    // The most teams that pairs can keep busy; groups are as many at most.
    blocks = (pairs * config_.tiles_n() + config_.warps_n - 1) / config_.warps_n;
    if (blocks_ > 0) blocks = std::min<std::int64_t>(blocks, blocks_);
  }
  LaunchGeometry geometry;
  geometry.grid[0] = tokens == 0 ? 0 : static_cast<std::uint32_t>(blocks);
  geometry.grid[1] = static_cast<std::uint32_t>(chunks);
  geometry.cluster[0] = static_cast<std::uint32_t>(config_.cluster);
  geometry.block[0] = static_cast<std::uint32_t>(config_.threads());
  geometry.shared_bytes = static_cast<std::uint32_t>(config_.shared_bytes(static_cast<int>(pairs)));
  geometry.programmatic = config_.programmatic;
  return geometry;
}

}  // namespace gdnjit::moe

// Which tiles gdn.step tries, and which it takes without trying.
//
// A lane holds lane_state_bytes of state between load and store. More bytes a lane mean fewer warps and less
// repeated work on q, k and the gates; fewer bytes mean more warps for small batches and fewer registers.
#include <algorithm>
#include <array>

#include "codegen/gdn/step.h"
#include "runtime/support/check.h"

namespace gdnjit::gdn {
namespace {

// The axes of the search, best guess first.
constexpr std::array kLanesK{8, 16, 4, 32};
constexpr std::array kLaneBytes{128, 256, 64};
constexpr std::array kWarps{4, 2, 8, 1};
// A pass of at most this many keys a lane: q, k and decay of a pass stay in registers beside the state.
constexpr int kMaxLaneKeys = 32;
constexpr int kMaxRegisters = 255;

int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

// Registers of a lane, from what it must hold at once. An estimate for pruning; ptxas has the last word.
int estimated_registers(const StepConfig& config) {
  const int state = config.lane_state_bytes() / 4;
  const int keys = config.lane_keys() * (gate_is_per_channel(config.gate) ? 3 : 2);
  return state + keys + 3 * config.lane_values() + 40;
}

// Tiles with about `lane_bytes` of state a lane and the fewest passes that registers allow.
StepTiles make_tiles(const StepProblem& problem, int lanes_k, int lane_bytes, int warps, device::CacheHint hint) {
  StepTiles tiles{.block_v = 1, .block_k = 1, .lanes_k = lanes_k, .warps = warps, .cache_hint = hint};
  StepConfig config = step_config(problem, tiles);
  // Keys of a pass: all of K if a lane can hold its share, else equal passes.
  const int key_step = lanes_k * (problem.state_layout == StateLayout::vk ? config.state_vector : 1);
  int passes = 1;
  while (round_up((problem.head_dim_k + passes - 1) / passes, key_step) / lanes_k > kMaxLaneKeys) ++passes;
  tiles.block_k = round_up((problem.head_dim_k + passes - 1) / passes, key_step);
  config = step_config(problem, tiles);
  // In layout kv wider key chunks read q and k in fewer accesses, at the price of masked keys.
  const int column_bytes = config.lane_keys() * dtype_bytes(problem.state_dtype);
  const int chunk = config.value_chunk();
  const int values = std::max(1, lane_bytes / (column_bytes * chunk)) * chunk;
  tiles.block_v = warps * (32 / lanes_k) * values;
  return tiles;
}

bool worth_trying(const StepProblem& problem, const StepTiles& tiles, const DeviceTraits& device) {
  const StepConfig config = step_config(problem, tiles);
  if (config.fault() != nullptr) return false;
  const int registers = estimated_registers(config);
  if (registers > kMaxRegisters || registers * config.threads() > device.registers_per_sm) return false;
  // Lanes with nothing to do: a lane's first key beyond K, or a block wider than V by more than half.
  if (config.lanes_k * config.key_chunk > round_up(problem.head_dim_k, config.key_chunk * 4)) return false;
  return tiles.block_v < 2 * round_up(problem.head_dim_v, config.warps * config.lanes_v() * config.value_chunk());
}

// Every head's columns in blocks that no warp leaves empty: a narrower block if V is small.
StepTiles fitted(const StepProblem& problem, StepTiles tiles) {
  const int lane_columns = tiles.block_v / tiles.warps;
  while (tiles.warps > 1 && tiles.block_v - lane_columns * tiles.warps / 2 >= problem.head_dim_v) {
    tiles.warps /= 2;
    tiles.block_v /= 2;
  }
  return tiles;
}

}  // namespace

StepTiles default_step_tiles(const StepProblem& problem, const DeviceTraits& device) {
  // 128 bytes a lane keep 4 KiB a warp in flight; with at least 16 warps an SM that is more than the 40-60 KiB an
  // SM needs to saturate memory. If the batch is too small to give every SM 8 warps, narrower warps spread it.
  const std::int64_t wanted_warps = 8LL * device.sm_count;
  for (const int lanes_k : kLanesK) {
    for (const int lane_bytes : {128, 64, 32}) {
      const StepTiles tiles = fitted(problem, make_tiles(problem, lanes_k, lane_bytes, kWarps.front(), device::CacheHint::normal));
      if (!worth_trying(problem, tiles, device)) continue;
      const int warp_v = tiles.block_v / tiles.warps;
      const std::int64_t warps = problem.batch * problem.heads_v * ((problem.head_dim_v + warp_v - 1) / warp_v);
      if (warps >= wanted_warps || lane_bytes == 32) return tiles;
    }
  }
  // Any K and V: one warp, one key and one column a lane at a time is always possible.
  for (int lanes_k = 4; lanes_k >= 1; lanes_k /= 2) {
    StepTiles tiles = make_tiles(problem, lanes_k, 16, 1, device::CacheHint::normal);
    if (step_config(problem, tiles).fault() == nullptr) return tiles;
  }
  GDNJIT_CHECK(false, "no tiles for K={} V={}", problem.head_dim_k, problem.head_dim_v);
}

std::vector<StepTiles> step_search_space(const StepProblem& problem, const DeviceTraits& device) {
  std::vector<StepTiles> space{default_step_tiles(problem, device)};
  const auto add = [&](const StepTiles& tiles) {
    if (!worth_trying(problem, tiles, device)) return;
    if (std::find(space.begin(), space.end(), tiles) == space.end()) space.push_back(tiles);
  };
  for (const int lanes_k : kLanesK) {
    for (const int lane_bytes : kLaneBytes) {
      for (const int warps : kWarps) {
        add(fitted(problem, make_tiles(problem, lanes_k, lane_bytes, warps, device::CacheHint::normal)));
      }
    }
  }
  // Streaming hints change what the caches keep, not the shape: tried on the middle shapes.
  for (const int lanes_k : {8, 16}) {
    for (const int lane_bytes : {128, 256}) {
      add(fitted(problem, make_tiles(problem, lanes_k, lane_bytes, kWarps.front(), device::CacheHint::streaming)));
    }
  }
  // Two walks in half-size passes: fewer registers, the second read from the L2.
  StepTiles halves = make_tiles(problem, 8, 128, kWarps.front(), device::CacheHint::normal);
  if (halves.block_k % 2 == 0) halves.block_k /= 2;
  add(fitted(problem, halves));
  return space;
}

}  // namespace gdnjit::gdn

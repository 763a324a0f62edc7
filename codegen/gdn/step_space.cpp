// Which tiles gdn.step and gdn.recurrent try, and which they take without trying.
//
// A lane holds lane_state_bytes of state between load and store. More bytes a lane mean fewer warps and less
// repeated work on q, k and the gates; fewer bytes mean more warps for small batches and fewer registers.
#include <algorithm>
#include <array>
#include <optional>

#include "codegen/gdn/layer.h"
#include "codegen/gdn/mixer.h"
#include "runtime/support/check.h"

namespace gdnjit::gdn {
namespace {

// The axes of the search, best guess first.
constexpr std::array kLanesK{16, 8, 4, 32};
constexpr std::array kLaneBytes{128, 256, 64};
constexpr std::array kWarps{4, 2, 8};
constexpr int kSectorBytes = 32;  // what the memory system moves
// A pass of at most this many keys a lane: q, k and decay of a pass stay in registers beside the state.
constexpr int kMaxLaneKeys = 32;
constexpr int kMaxRegisters = 255;
constexpr int kRegistersOf12Warps = 168;  // of 65,536 an SM

int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

// Registers of a lane, from what it must hold at once. An estimate for pruning; ptxas has the last word.
int estimated_registers(const StepProblem& layer, const StepConfig& config) {
  const int packed = config.lane_state_bytes() / 4;
  const bool per_channel = gate_is_per_channel(config.gate);
  const int keys = config.lane_keys() * (per_channel ? 3 : 2);
  const int rest = 3 * config.lane_values() + 40;
  if (layer.tokens == 1) return packed + keys + rest;
  // Over several tokens the state is fp32, beside the next token's inputs and a tree's root.
  const int next =
      (2 * config.lane_keys() * dtype_bytes(config.io_dtype) + 3) / 4 + (per_channel ? config.lane_keys() : 0);
  return config.lane_keys() * config.lane_values() + keys + next + (layer.tree ? packed : 0) + rest;
}

// Of all sequences and heads.
std::int64_t state_bytes(const StepProblem& problem) {
  return problem.batch * problem.heads_v * problem.head_dim_k * problem.head_dim_v * dtype_bytes(problem.state_dtype);
}

// The values of lanes_k to try.
std::vector<int> lane_choices(const StepProblem& layer) {
  if (layer.sum_lanes != 0) return {layer.sum_lanes};
  return {kLanesK.begin(), kLanesK.end()};
}

// Tiles with about `lane_bytes` of state a lane and the fewest passes that registers allow.
StepTiles make_tiles(const StepProblem& problem, int lanes_k, int lane_bytes, int warps, device::CacheHint hint) {
  StepTiles tiles{.block_v = 1, .block_k = 1, .lanes_k = lanes_k, .warps = warps, .cache_hint = hint};
  StepConfig config = layer_config(problem, tiles);
  // Keys of a pass: all of K if a lane can hold its share, else equal passes.
  const int key_step = lanes_k * config.key_chunk;
  int passes = 1;
  while (round_up((problem.head_dim_k + passes - 1) / passes, key_step) / lanes_k > kMaxLaneKeys) ++passes;
  tiles.block_k = round_up((problem.head_dim_k + passes - 1) / passes, key_step);
  config = layer_config(problem, tiles);
  const int column_bytes = config.lane_keys() * dtype_bytes(problem.state_dtype);
  const int chunk = config.value_chunk();
  const int values = std::max(1, lane_bytes / (column_bytes * chunk)) * chunk;
  tiles.block_v = warps * (32 / lanes_k) * values;
  return tiles;
}

// True if neighbouring lanes of an access cover `bytes` in a row, or all that a row has.
bool covers_run(const StepProblem& problem, const StepTiles& tiles, int bytes) {
  const StepConfig config = layer_config(problem, tiles);
  const bool is_vk = problem.state_layout == StateLayout::vk;
  const int run = (is_vk ? config.lanes_k : config.lanes_v()) * config.state_vector * dtype_bytes(problem.state_dtype);
  const int row = (is_vk ? problem.head_dim_k : problem.head_dim_v) * dtype_bytes(problem.state_dtype);
  return run >= std::min(bytes, row);
}

bool worth_trying(const StepProblem& problem, const StepTiles& tiles, const DeviceTraits& device) {
  const StepConfig config = layer_config(problem, tiles);
  if (config.fault() != nullptr) return false;
  const int registers = estimated_registers(problem, config);
  if (registers > kMaxRegisters || registers * config.threads() > device.registers_per_sm) return false;
  // Neighbouring lanes must touch whole sectors, or the state is moved more than once.
  if (!covers_run(problem, tiles, kSectorBytes)) return false;
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

// Blocks that may share a head: those that share a norm lie in one cluster.
int most_head_blocks(const StepProblem& problem, const DeviceTraits& device) {
  if (problem.gated_norm == GatedNorm::none) return problem.head_dim_v;
  return has_clusters(device.arch) ? kMaxCluster : 1;
}

// The fewest turns that serve a head's columns with that many blocks.
StepTiles with_turns(const StepProblem& problem, StepTiles tiles, int head_blocks) {
  tiles.turns = (layer_config(problem, tiles).blocks_v() + head_blocks - 1) / head_blocks;
  return tiles;
}

// One block for all of V, or nothing if its lanes had to hold more than pays. On an H200 it beat the cluster by 23 to
// 52 % (B = 1 to 256, K = V = 128): nobody waits for a cluster, and q and k are convolved once a head. 64 elements a
// lane leave room for a second block on the SM, which loads while the first one computes. More tokens need the
// registers of half; without clusters it is turns for them, which make one block too, in the 80 registers of fewer
// elements.
std::optional<StepTiles> one_block(const StepProblem& problem, StepTiles tiles, const DeviceTraits& device) {
  if (problem.tokens > 1 && !has_clusters(device.arch)) return std::nullopt;
  const int most_elements = problem.tokens == 1 ? 64 : 32;
  for (const int warps : {8, 16}) {
    tiles.warps = warps;
    const StepConfig shape = layer_config(problem, tiles);
    tiles.block_v = round_up(problem.head_dim_v, warps * shape.lanes_v() * shape.value_chunk());
    const StepConfig config = layer_config(problem, tiles);
    if (config.lane_keys() * config.lane_values() > most_elements) continue;
    if (worth_trying(problem, tiles, device)) return tiles;
  }
  return std::nullopt;
}

// A mixer's default. Where one block cannot have all of V, turns follow one another, so a block that must take some is
// wider first.
StepTiles mixer_default(const StepProblem& problem, StepTiles tiles, const DeviceTraits& device) {
  constexpr int kMostWarps = 8;
  // There the tuner chose to evict first up to states of 32 MiB (B = 16), and not from 128 MiB (B = 64) on.
  if (problem.tokens == 1 && state_bytes(problem) >= device.l2_bytes) tiles.cache_hint = device::CacheHint::normal;
  if (layer_config(problem, tiles).blocks_v() > 1) {
    if (const auto whole = one_block(problem, tiles, device)) return *whole;
  }
  const int most = most_head_blocks(problem, device);
  while (2 * tiles.warps <= kMostWarps && layer_config(problem, tiles).blocks_v() > most) {
    StepTiles wider = tiles;
    wider.warps *= 2;
    wider.block_v *= 2;
    if (!worth_trying(problem, with_turns(problem, wider, most), device)) break;
    tiles = wider;
  }
  return with_turns(problem, tiles, most);
}

std::int64_t total_warps(const StepProblem& problem, const StepTiles& tiles) {
  const int warp_v = tiles.block_v / tiles.warps;
  return problem.batch * problem.heads_v * ((problem.head_dim_v + warp_v - 1) / warp_v);
}

// The default for one token.
StepTiles default_decode_tiles(const StepProblem& problem, const DeviceTraits& device) {
  // 32 fp32 elements a lane keep 4 KiB a warp in flight in 72 registers; the 28 warps that then fit an SM hold
  // more than the 40-60 KiB that saturate its share of the memory. If the batch is too small to give every SM 7
  // warps, warps of half the width spread it; still narrower ones lost 10 to 24 % on an H200, with all of them
  // resident. 16 lanes a column there were the best or within 2 % of it from B * HV = 8 to 8192, 8 lanes within 13 %.
  // With enough warps neighbouring lanes cover at least 64 bytes, what memory moves at once: in layout kv runs of 32
  // bytes cost 18 % (B = 64: 82.6 against 69.8 us), so there it is 8 lanes.
  const std::int64_t wanted_warps = 7LL * device.sm_count;
  StepTiles best;
  int best_bytes = 0;
  for (const int lane_elements : {32, 16}) {
    const int lane_bytes = lane_elements * dtype_bytes(problem.state_dtype);
    const int least_run = lane_elements == 32 ? 2 * kSectorBytes : kSectorBytes;
    for (const int lanes_k : lane_choices(problem)) {
      const StepTiles tiles =
          fitted(problem, make_tiles(problem, lanes_k, lane_bytes, kWarps.front(), device::CacheHint::normal));
      if (!worth_trying(problem, tiles, device) || !covers_run(problem, tiles, least_run)) continue;
      const int bytes = layer_config(problem, tiles).lane_state_bytes();
      if (best_bytes == 0 || bytes <= lane_bytes || bytes < best_bytes) {
        best = tiles;
        best_bytes = bytes;
      }
      if (bytes <= lane_bytes) break;
    }
    if (best_bytes != 0 && total_warps(problem, best) >= wanted_warps) return best;
  }
  if (best_bytes != 0) return best;
  // Any K and V: one warp with as few lanes along K as needed.
  const int most_lanes = problem.sum_lanes != 0 ? problem.sum_lanes : 4;
  const int fewest_lanes = problem.sum_lanes != 0 ? problem.sum_lanes : 1;
  for (int lanes_k = most_lanes; lanes_k >= fewest_lanes; lanes_k /= 2) {
    const StepTiles tiles = make_tiles(problem, lanes_k, 16, 1, device::CacheHint::normal);
    if (layer_config(problem, tiles).fault() == nullptr) return tiles;
  }
  fail(ErrorCode::internal, "no tiles for K={} V={}; please report it", problem.head_dim_k, problem.head_dim_v);
}

// The default of the recurrence alone.
StepTiles default_layer_tiles(const StepProblem& problem, const DeviceTraits& device) {
  // All T of a layer take lanes_k from its decode step, so that verifying gives the bits of decoding; only the columns
  // of a warp differ.
  StepProblem decode = problem;
  decode.tokens = 1;
  decode.tree = false;
  StepTiles tiles = default_decode_tiles(decode, device);
  // On an H200 evicting the state first gained up to 10 % where it is not far larger than the L2, and 20 % with several
  // tokens; one token on much larger states lost 2 to 4 %, in layout kv 7 % from the L2's size on.
  const int most = problem.state_layout == StateLayout::kv ? 1 : 4;  // times the L2
  if (problem.tokens > 1 || state_bytes(problem) < most * device.l2_bytes)
    tiles.cache_hint = device::CacheHint::streaming;
  if (problem.tokens == 1) return tiles;
  // From about four tokens on issue slots decide, not memory. With few lanes a column, twice the columns share the work
  // on q, k and the norms; with 16 lanes that lost 20 to 30 %, since 12 warps of an SM wait for each other's shuffles.
  const StepConfig config = layer_config(problem, tiles);
  StepTiles wider = tiles;
  wider.block_v *= 2;
  const bool pays = problem.tokens >= 4 && tiles.lanes_k <= 8 && config.lane_keys() * config.lane_values() <= 32 &&
                    total_warps(problem, wider) >= 7LL * device.sm_count;
  if (pays && worth_trying(problem, wider, device) &&
      estimated_registers(problem, layer_config(problem, wider)) <= kRegistersOf12Warps) {
    return wider;
  }
  // What several tokens need more of is registers: fewer columns, as long as a warp has more than one chunk.
  while (estimated_registers(problem, layer_config(problem, tiles)) > kMaxRegisters) {
    StepTiles narrower = tiles;
    narrower.block_v /= 2;
    if (tiles.block_v % 2 != 0 || layer_config(problem, narrower).fault() != nullptr) break;
    tiles = narrower;
  }
  return tiles;
}

}  // namespace

StepTiles default_step_tiles(const StepProblem& problem, const DeviceTraits& device) {
  if (!is_mixer(problem)) return default_layer_tiles(problem, device);
  StepProblem bare = problem;
  bare.conv_width = 0;
  bare.gated_norm = GatedNorm::none;
  return mixer_default(problem, default_layer_tiles(bare, device), device);
}

std::vector<StepTiles> step_search_space(const StepProblem& problem, const DeviceTraits& device) {
  std::vector<StepTiles> space{default_step_tiles(problem, device)};
  const auto add_with = [&](int head_blocks, const StepTiles& base) {
    const StepTiles tiles = is_mixer(problem) ? with_turns(problem, base, head_blocks) : base;
    if (!worth_trying(problem, tiles, device)) return;
    if (std::find(space.begin(), space.end(), tiles) == space.end()) space.push_back(tiles);
  };
  const auto add = [&](const StepTiles& tiles) { add_with(most_head_blocks(problem, device), tiles); };
  for (const int lanes_k : lane_choices(problem)) {
    for (const int lane_bytes : kLaneBytes) {
      for (const int warps : kWarps) {
        add(fitted(problem, make_tiles(problem, lanes_k, lane_bytes, warps, device::CacheHint::normal)));
      }
    }
  }
  // Streaming hints change what the caches keep, not the shape: tried on the middle shapes.
  for (const int lanes_k : lane_choices(problem)) {
    if (problem.sum_lanes == 0 && lanes_k != 8 && lanes_k != 16) continue;
    for (const int lane_bytes : {128, 256}) {
      add(fitted(problem, make_tiles(problem, lanes_k, lane_bytes, kWarps.front(), device::CacheHint::streaming)));
      if (!is_mixer(problem)) continue;
      // A block for all of V: no cluster waits, and q and k are convolved once a head.
      for (const int warps : {4, 8, 16}) {
        add_with(1, fitted(problem, make_tiles(problem, lanes_k, lane_bytes, warps, device::CacheHint::streaming)));
      }
    }
  }
  // Two walks in half-size passes: fewer registers, the second read from the L2. Several tokens would read T + 1 times.
  if (problem.tokens > 1) return space;
  const int lanes_k = problem.sum_lanes != 0 ? problem.sum_lanes : 8;
  StepTiles halves = make_tiles(problem, lanes_k, 128, kWarps.front(), device::CacheHint::normal);
  if (halves.block_k % 2 == 0) halves.block_k /= 2;
  add(fitted(problem, halves));
  return space;
}

}  // namespace gdnjit::gdn

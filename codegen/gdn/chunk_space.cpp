// The tiles of gdn.chunk: the default that needs no measurement, and the candidates of the search.
#include <algorithm>
#include <cstdint>

#include "codegen/gdn/chunk.h"
#include "runtime/support/check.h"

namespace gdnjit::gdn {
namespace {

// Of the portable scan: what a thread holds beside its part of S^T, and at most at all.
constexpr int kOtherRegisters = 110;
constexpr int kMostRegisters = 255;

std::int64_t ceil_div(std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit; }

int shared_bytes(const ChunkConfig& config, ChunkPath path) {
  return path == ChunkPath::mma ? chunk_scan_plan(config).shared_bytes : ChunkSm90Plan(config).shared_bytes;
}

bool fits(const ChunkLayout& layout, const ChunkScanTiles& tiles, const DeviceTraits& device) {
  if (tiles.path == ChunkPath::wgmma && device.arch != "sm_90a") return false;
  const ChunkConfig config = layout.scan(tiles, ChunkPass::whole);
  const char* fault = tiles.path == ChunkPath::mma ? chunk_scan_fault(config) : config.sm90_fault();
  return fault == nullptr && shared_bytes(config, tiles.path) <= device.shared_bytes_per_block;
}

// Whether the state stays in registers.
bool holds_state(const ChunkLayout& layout, const ChunkScanTiles& tiles, const DeviceTraits& device) {
  const ChunkConfig config = layout.scan(tiles, ChunkPass::whole);
  const int registers = static_cast<int>(ceil_div(config.padded_k() / 16, tiles.split_k)) * 8 + kOtherRegisters;
  return registers <= kMostRegisters && registers * chunk_scan_threads(config) <= device.registers_per_sm;
}

std::int64_t heads(const ChunkLayout& layout) {
  return std::max<std::int64_t>(layout.problem.batch, 1) * layout.problem.heads_v;
}

// As few warps to a state as hold it comfortably: sums over them pass through shared memory.
int default_split(const ChunkLayout& layout) {
  const int padded = layout.scan({}, ChunkPass::whole).padded_k();
  int split = 1;
  while (split < 4 && padded / 2 / split > 64 && 32 * split <= padded) split *= 2;
  return split;
}

// The segments of a sequence with a warm-up that take the least time, if each has an SM of its own: a chunk that only
// warms up takes three fifths of one with an output (5.2 of 8.4 products).
int warmup_segments(const ChunkLayout& layout, std::int64_t blocks, const DeviceTraits& device) {
  const std::int64_t chunks = ceil_div(layout.problem.tokens, kChunk), warmup = layout.warmup_chunks();
  const std::int64_t most = std::min<std::int64_t>({kMaxChunkSegments, device.sm_count / blocks, chunks / 8});
  int best = 1;
  std::int64_t least = 5 * chunks;
  for (int segments = 2; segments <= most; ++segments) {
    const std::int64_t own = ceil_div(chunks, segments), time = 5 * own + 3 * warmup;
    if (own + warmup < chunks && time < least) best = segments, least = time;
  }
  return best;
}

// The largest block of V that gives most SMs a block, of what fits; two stages before one.
ChunkScanTiles default_mma(const ChunkLayout& layout, const DeviceTraits& device) {
  const std::int64_t V = layout.problem.head_dim_v;
  int block_v = 64;
  while (block_v > 16 && (block_v / 2 >= V || heads(layout) * ceil_div(V, block_v) * 4 < 3LL * device.sm_count)) {
    block_v /= 2;
  }
  const int split = default_split(layout);
  for (const int stages : {2, 1}) {
    for (int block = block_v; block >= 16; block /= 2) {
      ChunkScanTiles tiles{.block_v = block, .split_k = split, .stages = stages};
      if (!fits(layout, tiles, device) || !holds_state(layout, tiles, device)) continue;
      if (layout.warms_up()) tiles.segments = warmup_segments(layout, heads(layout) * ceil_div(V, block), device);
      return tiles;
    }
  }
  const ChunkScanTiles least{.block_v = 16, .split_k = split, .stages = 1};
  if (fits(layout, least, device)) return least;
  fail(ErrorCode::unsupported,
       "K={}: a chunk takes {} bytes of shared memory, {} has {} for a block; gdn.recurrent "
       "serves any K",
       layout.problem.head_dim_k, shared_bytes(layout.scan(least, ChunkPass::whole), least.path), device.arch,
       device.shared_bytes_per_block);
}

// Measured on an H200: 64 or 128 rows of V a block, whichever the SMs are through with sooner; three stages, but two
// for 128 rows with up to two value heads a key head (one was not measured; H = 16, HV = 32: 412 us for 431 on 4 x 8192
// tokens, 123 for 125 on 8 x 1024; with four of them, H = 8, two lose 3 %); segments where 64 rows a block leave most
// SMs idle.
ChunkScanTiles default_wgmma(const ChunkLayout& layout, const DeviceTraits& device) {
  const std::int64_t V = layout.problem.head_dim_v, blocks = heads(layout) * ceil_div(V, 64);
  ChunkScanTiles tiles{.path = ChunkPath::wgmma, .block_v = 64, .stages = 3};
  if (V > 64) {
    // Waves of blocks, by what a chunk takes in each, in units of 10 ns.
    const std::int64_t narrow = 108 * ceil_div(blocks, device.sm_count);
    const std::int64_t wide = 165 * ceil_div(heads(layout) * ceil_div(V, 128), device.sm_count);
    if (wide < narrow) tiles.block_v = 128;
    if (tiles.block_v == 128 && layout.problem.heads_v <= 2 * layout.problem.heads_k) tiles.stages = 2;
  }
  while (tiles.stages > 2 && !fits(layout, tiles, device)) --tiles.stages;
  if (!fits(layout, tiles, device)) tiles.block_v = 64;
  if (layout.warms_up()) {
    tiles.segments = warmup_segments(layout, heads(layout) * ceil_div(V, tiles.block_v), device);
  } else if (4 * blocks <= device.sm_count) {
    const std::int64_t wanted = std::min<std::int64_t>(device.sm_count / blocks, layout.problem.tokens / 512);
    tiles.segments = static_cast<int>(std::clamp<std::int64_t>(wanted, 1, kMaxChunkSegments));
  }
  return tiles;
}

// Whether so many segments are worth a try.
bool may_pay(const ChunkLayout& layout, int segments, const DeviceTraits& device) {
  const std::int64_t V = layout.problem.head_dim_v, chunks = ceil_div(layout.problem.tokens, kChunk);
  return heads(layout) * ceil_div(V, 64) * segments <= 2LL * device.sm_count &&
         layout.problem.tokens / 512 >= segments && ceil_div(chunks, segments) + layout.warmup_chunks() < chunks;
}

}  // namespace

ChunkScanTiles default_chunk_tiles(const ChunkLayout& layout, const DeviceTraits& device) {
  const ChunkScanTiles wgmma = default_wgmma(layout, device);
  return fits(layout, wgmma, device) ? wgmma : default_mma(layout, device);
}

std::vector<ChunkScanTiles> chunk_search_space(const ChunkLayout& layout, const DeviceTraits& device) {
  std::vector<ChunkScanTiles> space{default_chunk_tiles(layout, device)};
  const auto add = [&](const ChunkScanTiles& tiles) {
    if (fits(layout, tiles, device) && std::find(space.begin(), space.end(), tiles) == space.end()) {
      space.push_back(tiles);
    }
  };
  const std::int64_t V = layout.problem.head_dim_v;
  for (const int block_v : {64, 128}) {
    if (block_v == 128 && V <= 64) continue;
    for (const int stages : {3, 2, 4}) {
      for (const int segments : {1, 2, 4, 8}) {
        if (segments == 1 || (stages == 3 && may_pay(layout, segments, device))) {
          add({.path = ChunkPath::wgmma, .block_v = block_v, .stages = stages, .segments = segments});
        }
      }
    }
  }
  for (const int block_v : {64, 32, 16, 128}) {
    if (block_v / 2 >= V && block_v > 16) continue;
    for (const int split_k : {1, 2, 4}) {
      for (const int stages : {2, 1, 3}) {
        const ChunkScanTiles tiles{.block_v = block_v, .split_k = split_k, .stages = stages};
        const ChunkConfig config = layout.scan(tiles, ChunkPass::whole);
        if (chunk_scan_fault(config) != nullptr || !holds_state(layout, tiles, device)) continue;
        add(tiles);
        for (const int segments : {2, 4, 8}) {
          if (!layout.warms_up() || stages != 2 || !may_pay(layout, segments, device)) continue;
          ChunkScanTiles cut = tiles;
          cut.segments = segments;
          add(cut);
        }
      }
    }
  }
  return space;
}

}  // namespace gdnjit::gdn

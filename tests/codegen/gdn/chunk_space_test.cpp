// The tiles of gdn.chunk: defaults that always fit, candidates that fit, and refusals.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "codegen/gdn/chunk.h"
#include "codegen/gdn/chunk_names.h"
#include "tests/support/error_of.h"

using namespace gdnjit;
using namespace gdnjit::gdn;

namespace {

DeviceTraits device_of(const std::string& arch) {
  DeviceTraits device;
  device.arch = arch;
  const bool small = arch == "sm_86" || arch == "sm_89" || arch == "sm_120";
  if (arch == "sm_80") device.shared_bytes_per_block = 166912;
  if (small) device.shared_bytes_per_block = 101376;
  return device;
}

ChunkLayout layout_of(const ChunkProblem& problem) { return ChunkLayout(complete_chunk(problem)); }

void check_fits(const ChunkLayout& layout, const ChunkScanTiles& tiles, const DeviceTraits& device) {
  const auto instance = chunk_operator().instantiate(to_fields(layout.problem), to_fields(tiles), Target{device.arch});
  for (const LaunchGeometry& geometry : instance->geometries()) {
    CHECK(static_cast<int>(geometry.shared_bytes) <= device.shared_bytes_per_block);
    CHECK(geometry.block[0] <= 512);
  }
}

}  // namespace

TEST_CASE("every shape and dtype has a default that fits on every architecture, and only candidates that fit") {
  for (const std::string& arch : known_architectures()) {
    const DeviceTraits device = device_of(arch);
    for (const int K : {1, 16, 33, 60, 64, 96, 100, 128, 192, 256}) {
      for (const int V : {1, 17, 64, 100, 128, 512}) {
        for (const DType io : {DType::bf16, DType::f32}) {
          CAPTURE(arch);
          CAPTURE(K);
          CAPTURE(V);
          const ChunkLayout layout = layout_of({.batch = 2,
                                                .tokens = 4096,
                                                .heads_k = 2,
                                                .heads_v = 4,
                                                .head_dim_k = K,
                                                .head_dim_v = V,
                                                .io_dtype = io});
          const std::vector<ChunkScanTiles> space = chunk_search_space(layout, device);
          CHECK(space.front() == default_chunk_tiles(layout, device));
          for (const ChunkScanTiles& tiles : space) {
            check_fits(layout, tiles, device);
            CHECK(std::count(space.begin(), space.end(), tiles) == 1);
            CHECK((tiles.path == ChunkPath::mma || arch == "sm_90a"));
          }
        }
      }
    }
  }
}

TEST_CASE("the default takes wgmma where it can, wide blocks for many heads and segments for few") {
  const DeviceTraits device;
  const auto tiles = [&](ChunkProblem problem) { return default_chunk_tiles(layout_of(problem), device); };
  const ChunkScanTiles many = tiles({.batch = 4, .tokens = 8192, .heads_v = 64});
  CHECK(many.path == ChunkPath::wgmma);
  CHECK(many.block_v == 128);
  CHECK(many.segments == 1);
  const ChunkScanTiles few = tiles({.tokens = 8192, .heads_k = 2, .heads_v = 8});
  CHECK(few.block_v == 64);
  CHECK(few.segments == 8);
  CHECK(tiles({.tokens = 512, .heads_k = 2, .heads_v = 8}).segments == 1);
  CHECK(tiles({.head_dim_k = 256}).path == ChunkPath::mma);
  CHECK(tiles({.io_dtype = DType::f32}).path == ChunkPath::mma);
  CHECK(tiles({.output_dtype = DType::f32}).path == ChunkPath::mma);
  CHECK(tiles({.head_dim_v = 60}).path == ChunkPath::mma);
  CHECK(tiles({.io_alignment = 4}).path == ChunkPath::mma);
  CHECK(tiles({.head_dim_k = 256}).split_k == 2);
}

TEST_CASE("with a warm-up, segments are as many as make a sequence's longest way shortest, on both paths") {
  const auto segments = [](ChunkProblem problem, const char* arch) {
    problem.heads_k = problem.heads_v = 2;
    problem.head_dim_v = 64;
    return default_chunk_tiles(layout_of(problem), device_of(arch)).segments;
  };
  for (const char* arch : {"sm_90a", "sm_80"}) {
    CAPTURE(std::string(arch));
    CHECK(segments({.tokens = 8192, .warmup = 128}, arch) == 8);
    CHECK(segments({.tokens = 1024, .warmup = 128}, arch) == 2);
    // 32 chunks with 16 ahead of each segment: no number of segments leaves less than 8 + 16 of them.
    CHECK(segments({.tokens = 2048, .warmup = 1024}, arch) == 4);
    CHECK(segments({.tokens = 2048, .warmup = 2048}, arch) == 1);
    CHECK(segments({.batch = 64, .tokens = 8192, .warmup = 128}, arch) == 1);  // enough blocks without
  }
  CHECK(segments({.tokens = 8192}, "sm_80") == 1);
  // What the search tries has segments on both paths, but none that take longer than the whole.
  const ChunkLayout layout = layout_of({.tokens = 4096, .heads_k = 1, .heads_v = 1, .head_dim_v = 64, .warmup = 2100});
  int mma = 0, wgmma = 0;
  for (const ChunkScanTiles& tiles : chunk_search_space(layout, {})) {
    if (tiles.segments == 1) continue;
    ++(tiles.path == ChunkPath::mma ? mma : wgmma);
    CHECK(tiles.segments >= 4);  // two of 32 chunks would take 32 + 33 of 64
  }
  CHECK(mma >= 2);
  CHECK(wgmma >= 2);
}

TEST_CASE("few heads are spread over more blocks than many") {
  const DeviceTraits device = device_of("sm_80");
  CHECK(default_chunk_tiles(layout_of({.heads_k = 2, .heads_v = 4}), device).block_v <
        default_chunk_tiles(layout_of({.batch = 16}), device).block_v);
}

TEST_CASE("a K that no block has room for is refused, and says what serves it") {
  const Error error = error_of([] { default_chunk_tiles(layout_of({.head_dim_k = 1024}), device_of("sm_120")); });
  CHECK(error.code() == ErrorCode::unsupported);
  CHECK(std::string(error.what()).starts_with("K=1024: a chunk takes "));
  CHECK(std::string(error.what()).ends_with("sm_120 has 101376 for a block; gdn.recurrent serves any K"));
}

TEST_CASE("tiles that cannot work are refused by name") {
  const auto refusal = [](const char* problem, const char* tiles, const char* arch = "sm_90a") {
    return error_of([&] { chunk_operator().instantiate(parse_fields(problem), parse_fields(tiles), Target{arch}); });
  };
  CHECK(std::string(refusal("", "block_v=24").what()) ==
        "tiles path=mma block_v=24 split_k=1 stages=2 segments=1: block_v must be a multiple of 16");
  CHECK(std::string(refusal("", "segments=2").what())
            .ends_with("path=mma does not cut sequences without a warmup: segments must be 1"));
  CHECK(std::string(refusal("", "path=wgmma segments=9").what()).ends_with("segments must be 1 to 8"));
  CHECK(std::string(refusal("", "path=wgmma split_k=2").what())
            .ends_with("path=wgmma does not split K: split_k must be 1"));
  CHECK(std::string(refusal("K=256", "path=wgmma").what()).find("K up to 128") != std::string::npos);
  CHECK(refusal("", "path=wgmma", "sm_100").code() == ErrorCode::unsupported);
  CHECK(refusal("programmatic=true", "", "sm_80").code() == ErrorCode::unsupported);
}

TEST_CASE("tuning buckets round sequences and tokens") {
  const FieldMap bucket = chunk_operator().tuning_bucket(parse_fields("B=5 T=3000"));
  CHECK(find_field(bucket, "B") == "8");
  CHECK(find_field(bucket, "T") == "4096");
  CHECK(find_field(chunk_operator().tuning_bucket(parse_fields("T=100000")), "T") == "8192");
}

TEST_CASE("the least that must move is every tensor once, and the states that are read and written") {
  const Footprint plain = chunk_operator().footprint(parse_fields("B=2 T=640 H=1 HV=2 K=64 V=32"));
  const std::int64_t tokens = 2 * 640, state = 2 * 2 * 64 * 32 * 4;
  CHECK(plain.bytes_read == tokens * (2 * 64 + 2 * 32 + 2 + 2) * 2 + 2 * 2 * 4);
  CHECK(plain.bytes_written == tokens * 2 * 32 * 2 + state);
  const Footprint kept = chunk_operator().footprint(
      parse_fields("B=2 T=640 H=1 HV=2 K=64 V=32 initial_state=dense checkpoints=dense checkpoint_every=128"));
  CHECK(kept.bytes_read == plain.bytes_read + state);
  CHECK(kept.bytes_written == plain.bytes_written + 5 * state);
}

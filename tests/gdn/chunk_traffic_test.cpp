// What gdn.chunk's kernels move and how, by the emulator's counters, against the count in docs/kernels/gdn_chunk.md.
#include <doctest/doctest.h>

#include <map>
#include <string>

#include "tests/gdn/chunk_fixture.h"

using namespace gdnjit;
using namespace gdnjit::gdn;
using namespace gdnjit::tests;

namespace {

struct Bytes {
  std::uint64_t read = 0, written = 0;
};

std::map<std::string, Bytes> traffic(const ChunkCall& call) {
  std::map<std::string, Bytes> result;
  for (const BufferTraffic& buffer : call.device().last_traffic()) {
    result[buffer.name] = {32 * buffer.sectors_read, 32 * buffer.sectors_written};
  }
  return result;
}

constexpr int kChunks = 3;
constexpr std::uint64_t kRow = 256;  // K = 128, bf16
constexpr std::uint64_t kTriangles = 2 * 5120, kFactors = 4 * 256 + 16;

}  // namespace

TEST_CASE("prepare reads q and k once a key head and writes a record of 11 KiB a value head") {
  ChunkCall call(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 4), {64 * kChunks}, reference::Inputs::typical, 3);
  const LaunchCounters counters = call.prepare();
  const auto bytes = traffic(call);
  CHECK(bytes.at("q").read == kChunks * 64 * kRow);
  CHECK(bytes.at("k").read == kChunks * 64 * kRow);
  // Two rounds of 32 tokens a value head, 18 bytes apart here.
  CHECK(bytes.at("gate").read == kChunks * 4 * 2 * 32 * 18);
  CHECK(bytes.at("beta").read == kChunks * 4 * 2 * 32 * 18);
  // The last sector of the factors holds 16 bytes.
  CHECK(bytes.at("workspace").written == kChunks * 4 * (kTriangles + kFactors + 16));
  CHECK(bytes.at("workspace").read == 0);
  // Outside of the diagonal blocks' substitution nothing conflicts.
  CHECK(static_cast<double>(counters.shared_wavefronts) < 1.05 * static_cast<double>(counters.shared_wavefronts_ideal));
}

TEST_CASE("the scan reads a chunk once a block of V, writes each state and output once, and has no bank conflicts") {
  for (const bool first : {true, false}) {
    const ChunkSource source =
        first ? GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .initial_state = StatePlace::dense)
              : GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .initial_state = StatePlace::dense, .block_v = 32);
    CAPTURE(source.text);
    ChunkCall call(source, {64 * kChunks}, reference::Inputs::typical, 3);
    call.prepare();
    const LaunchCounters counters = call.scan();
    const auto bytes = traffic(call);
    const std::uint64_t blocks = first ? 2 : 4;
    CHECK(bytes.at("q").read == blocks * kChunks * 64 * kRow);
    CHECK(bytes.at("k").read == blocks * kChunks * 64 * kRow);
    CHECK(bytes.at("workspace").read == blocks * kChunks * (kTriangles + kFactors + 16));
    CHECK(bytes.at("v").read == kChunks * 64 * kRow);
    CHECK(bytes.at("o").written == kChunks * 64 * kRow);
    CHECK(bytes.at("state_in").read == 128 * 128 * 4);
    CHECK(bytes.at("state_out").written == 128 * 128 * 4);
    CHECK(counters.shared_wavefronts == counters.shared_wavefronts_ideal);
    // Per chunk and 16 rows: 64 products of 16 x 8 x 16 with each of k, q and the update's k, 20 with each triangle.
    CHECK(counters.tensor_core_macs == kChunks * 8 * (3 * 64 + 2 * 20) * 16 * 8 * 16);
  }
}

TEST_CASE("other rows do not conflict either") {
  for (const ChunkSource& source :
       {GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 96, .head_dim_v = 48, .block_v = 48),
        GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 64, .head_dim_v = 32, .io_dtype = DType::f32,
        .tiles = ChunkTiles::key_head, .io_vector = 4, .block_v = 32),
        GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 64, .head_dim_v = 16, .block_v = 16,
        .split_k = 2)}) {
    CAPTURE(source.text);
    ChunkCall call(source, {128}, reference::Inputs::typical, 3);
    call.prepare();
    const LaunchCounters counters = call.scan();
    CHECK(counters.shared_wavefronts == counters.shared_wavefronts_ideal);
  }
}

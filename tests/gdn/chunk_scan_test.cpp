// gdn.chunk's kernels together, launched by hand, against the recurrence in double precision.
#include <doctest/doctest.h>

#include <cstdlib>

#include "tests/gdn/chunk_fixture.h"

using namespace gdnjit;
using namespace gdnjit::gdn;
using namespace gdnjit::tests;
using reference::Inputs;

namespace {

void check(const ChunkSource& source, const std::vector<int>& lengths, Inputs inputs = Inputs::typical,
           const std::string& arch = "sm_90a") {
  CAPTURE(source.text);
  ChunkCall call(source, lengths, inputs, 7, arch);
  call.prepare();
  call.scan();
  const ChunkCall::Errors errors = call.errors();
  INFO("o ", errors.o, " state ", errors.state, " checkpoints ", errors.checkpoints);
  if (std::getenv("V")) MESSAGE(errors.o << " " << errors.state << " " << errors.checkpoints);
  CHECK(errors.o < 5e-3);
  CHECK(errors.state < 5e-3);
  CHECK(errors.checkpoints < 5e-3);
}

}  // namespace

TEST_CASE("sequences of every length around the edges of blocks and chunks") {
  for (int length : {1, 2, 15, 16, 17, 31, 32, 61, 63, 64, 65, 75, 91, 121, 127, 128, 251, 256}) {
    CAPTURE(length);
    check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 64, .head_dim_v = 64), {length});
  }
}

TEST_CASE("every dimension, dtype and alignment") {
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 3), {150, 150});
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 2, .heads_v = 2, .head_dim_k = 60, .head_dim_v = 60, .io_dtype = DType::f16,
                            .output_dtype = DType::f16, .tiles = ChunkTiles::key_head, .io_vector = 4),
        {100});
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 96, .head_dim_v = 192, .io_dtype = DType::f16,
                            .output_dtype = DType::f32, .io_vector = 8),
        {100});
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 100, .head_dim_v = 100, .io_dtype = DType::f32,
                            .output_dtype = DType::f32, .tiles = ChunkTiles::key_head, .io_vector = 4),
        {100});
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 100, .head_dim_v = 100,
                            .tiles = ChunkTiles::key_head, .io_vector = 2, .block_v = 32),
        {100});
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 33, .head_dim_v = 17,
                            .tiles = ChunkTiles::key_head, .io_vector = 1, .state_vector = 1, .block_v = 16),
        {100});
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 192, .head_dim_v = 64), {100});
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 256, .head_dim_v = 64), {100});
}

TEST_CASE("states: dense and in pools, both layouts, every dtype, checkpoints, padding") {
  const std::vector<int> ragged{70, 0, 130, 64, 200, 3};
  check(GDNJIT_CHUNK_CONFIG(.ragged = true, .heads_k = 1, .heads_v = 2, .head_dim_k = 32, .head_dim_v = 32,
                            .initial_state = StatePlace::pool, .final_state = StatePlace::pool,
                            .checkpoints = StatePlace::pool, .block_v = 32),
        ragged);
  check(GDNJIT_CHUNK_CONFIG(.ragged = true, .heads_k = 1, .heads_v = 2, .head_dim_k = 32, .head_dim_v = 32,
                            .state_dtype = DType::bf16, .slot_dtype = DType::i64, .state_layout = StateLayout::kv,
                            .initial_state = StatePlace::pool, .final_state = StatePlace::dense,
                            .checkpoints = StatePlace::dense, .pad_sentinel = PadSentinel::zero,
                            .pad_policy = PadPolicy::skip, .block_v = 16),
        ragged);
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 40, .head_dim_v = 24, .state_dtype = DType::f16,
                            .initial_state = StatePlace::dense, .final_state = StatePlace::pool,
                            .checkpoints = StatePlace::dense, .checkpoint_chunks = 2, .block_v = 32),
        {260, 260, 260});
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 33, .head_dim_v = 17, .state_dtype = DType::bf16,
                            .state_layout = StateLayout::kv, .initial_state = StatePlace::pool,
                            .final_state = StatePlace::none, .tiles = ChunkTiles::key_head, .io_vector = 1,
                            .state_vector = 1, .block_v = 16),
        {100, 100, 100});
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 32, .head_dim_v = 32,
                            .initial_state = StatePlace::dense, .checkpoints = StatePlace::dense,
                            .write_output = false, .block_v = 32),
        {130, 130});
}

TEST_CASE("every tile") {
  for (const char* arch : {"sm_80", "sm_120"}) {
    check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 64, .head_dim_v = 32, .block_v = 16,
                              .split_k = 2, .stages = 1),
          {300}, Inputs::typical, arch);
    check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 80, .head_dim_v = 32, .block_v = 32,
                              .split_k = 2, .stages = 3),
          {300}, Inputs::typical, arch);
    check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 144, .head_dim_v = 32,
                              .initial_state = StatePlace::dense, .block_v = 32, .split_k = 4, .stages = 2),
          {300}, Inputs::typical, arch);
    check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 64, .head_dim_v = 128, .block_v = 128,
                              .split_k = 1, .stages = 4),
          {300}, Inputs::typical, arch);
  }
}

TEST_CASE("gates and vectors of every size") {
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 64, .head_dim_v = 32, .block_v = 32), {200},
        Inputs::brutal);
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 64, .head_dim_v = 32, .norm = Norm::max_eps,
                            .gate = Gate::none, .beta = Beta::two_sigmoid, .block_v = 32),
        {200}, Inputs::brutal);
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 64, .head_dim_v = 32, .io_dtype = DType::f16,
                            .norm = Norm::add_eps, .gate = Gate::alpha, .beta = Beta::given, .block_v = 32),
        {200}, Inputs::brutal);
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 64, .head_dim_v = 32, .io_dtype = DType::f16,
                            .gate = Gate::log, .block_v = 32),
        {200}, Inputs::brutal);
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 64, .head_dim_v = 32, .io_dtype = DType::f32,
                            .norm = Norm::none, .gate = Gate::none, .beta = Beta::none, .tiles = ChunkTiles::key_head,
                            .io_vector = 4, .block_v = 32),
        {200}, Inputs::brutal);
}

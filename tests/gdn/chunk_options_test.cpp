// gdn.chunk's kernels together, launched by hand: states, tiles and inputs of every kind.
#include <doctest/doctest.h>

#include "tests/gdn/chunk_check.h"

using namespace gdnjit;
using namespace gdnjit::gdn;
using namespace gdnjit::tests;
using reference::Inputs;

TEST_CASE("states: dense and in pools, both layouts, every dtype, checkpoints, padding") {
  const std::vector<int> ragged{70, 0, 130, 64, 200, 3};
  check_chunk(GDNJIT_CHUNK_CONFIG(.ragged = true, .heads_k = 1, .heads_v = 2, .head_dim_k = 32, .head_dim_v = 32,
                                  .initial_state = StatePlace::pool, .final_state = StatePlace::pool,
                                  .checkpoints = StatePlace::pool, .block_v = 32),
              ragged);
  check_chunk(GDNJIT_CHUNK_CONFIG(.ragged = true, .heads_k = 1, .heads_v = 2, .head_dim_k = 32, .head_dim_v = 32,
                                  .state_dtype = DType::bf16, .slot_dtype = DType::i64, .state_layout = StateLayout::kv,
                                  .initial_state = StatePlace::pool, .final_state = StatePlace::dense,
                                  .checkpoints = StatePlace::dense, .pad_sentinel = PadSentinel::zero,
                                  .pad_policy = PadPolicy::skip, .block_v = 16),
              ragged);
  check_chunk(
      GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 40, .head_dim_v = 24, .state_dtype = DType::f16,
                          .initial_state = StatePlace::dense, .final_state = StatePlace::pool,
                          .checkpoints = StatePlace::dense, .checkpoint_chunks = 2, .block_v = 32),
      {260, 260, 260});
  check_chunk(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 33, .head_dim_v = 17,
                                  .state_dtype = DType::bf16, .state_layout = StateLayout::kv,
                                  .initial_state = StatePlace::pool, .final_state = StatePlace::none,
                                  .tiles = ChunkTiles::key_head, .io_vector = 1, .state_vector = 1, .block_v = 16),
              {100, 100, 100});
  check_chunk(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 32, .head_dim_v = 32,
                                  .initial_state = StatePlace::dense, .checkpoints = StatePlace::dense,
                                  .write_output = false, .block_v = 32),
              {130, 130});
}

TEST_CASE("every tile") {
  for (const char* arch : {"sm_80", "sm_120"}) {
    check_chunk(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 64, .head_dim_v = 32, .block_v = 16,
                                    .split_k = 2, .stages = 1),
                {300}, Inputs::typical, arch);
    check_chunk(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 48, .head_dim_v = 32, .block_v = 16,
                                    .split_k = 2, .stages = 3),
                {300}, Inputs::typical, arch);
    check_chunk(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 144, .head_dim_v = 32,
                                    .initial_state = StatePlace::dense, .block_v = 32, .split_k = 4, .stages = 1),
                {300}, Inputs::typical, arch);
    check_chunk(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 64, .head_dim_v = 64, .block_v = 64,
                                    .split_k = 1, .stages = 1),
                {300}, Inputs::typical, arch);
  }
}

TEST_CASE("gates and vectors of every size") {
  check_chunk(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 64, .head_dim_v = 32, .block_v = 32), {200},
              Inputs::brutal);
  check_chunk(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 64, .head_dim_v = 32, .norm = Norm::max_eps,
                                  .gate = Gate::none, .beta = Beta::two_sigmoid, .block_v = 32),
              {200}, Inputs::brutal);
  check_chunk(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 64, .head_dim_v = 32,
                                  .io_dtype = DType::f16, .norm = Norm::add_eps, .gate = Gate::alpha,
                                  .beta = Beta::given, .tiles = ChunkTiles::key_head, .block_v = 32),
              {200}, Inputs::brutal);
  check_chunk(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 64, .head_dim_v = 32,
                                  .io_dtype = DType::f16, .gate = Gate::log, .block_v = 32),
              {200}, Inputs::brutal);
  check_chunk(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 64, .head_dim_v = 32,
                                  .io_dtype = DType::f32, .norm = Norm::none, .gate = Gate::none, .beta = Beta::none,
                                  .tiles = ChunkTiles::key_head, .io_vector = 4, .block_v = 32),
              {200}, Inputs::brutal);
}

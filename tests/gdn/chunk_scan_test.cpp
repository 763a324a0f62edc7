// gdn.chunk's kernels together, launched by hand, against the recurrence in double precision.
#include <doctest/doctest.h>

#include "tests/gdn/chunk_check.h"

using namespace gdnjit;
using namespace gdnjit::gdn;
using namespace gdnjit::tests;
using reference::Inputs;

// (More lengths: chunk_shapes_test.cpp.)
TEST_CASE("sequences of one token, of all but one of a chunk, and of one more than two chunks") {
  for (int length : {1, 63, 129}) {
    check_chunk(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 64, .head_dim_v = 64), {length, length});
  }
}

TEST_CASE("every dimension, dtype and alignment") {
  check_chunk(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 3), {150, 150});
  check_chunk(
      GDNJIT_CHUNK_CONFIG(.heads_k = 2, .heads_v = 2, .head_dim_k = 60, .head_dim_v = 60, .io_dtype = DType::f16,
                          .output_dtype = DType::f16, .tiles = ChunkTiles::key_head, .io_vector = 4),
      {100});
  check_chunk(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 96, .head_dim_v = 192,
                                  .io_dtype = DType::f16, .output_dtype = DType::f32, .io_vector = 8),
              {100});
  check_chunk(
      GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 100, .head_dim_v = 100, .io_dtype = DType::f32,
                          .output_dtype = DType::f32, .tiles = ChunkTiles::key_head, .io_vector = 4),
      {100});
  check_chunk(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 100, .head_dim_v = 100,
                                  .tiles = ChunkTiles::key_head, .io_vector = 2, .block_v = 32),
              {100});
  check_chunk(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 33, .head_dim_v = 17,
                                  .tiles = ChunkTiles::key_head, .io_vector = 1, .state_vector = 1, .block_v = 16),
              {100});
  check_chunk(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 192, .head_dim_v = 64), {100});
  check_chunk(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 256, .head_dim_v = 64), {100});
}

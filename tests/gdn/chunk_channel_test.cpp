// gdn.chunk with gates per key channel, launched by hand.
#include <algorithm>

#include "tests/gdn/chunk_check.h"

using namespace gdnjit;
using namespace gdnjit::gdn;
using namespace gdnjit::tests;
using reference::Inputs;

TEST_CASE("gates per channel, typical and brutal") {
  for (Inputs inputs : {Inputs::typical, Inputs::brutal}) {
    check_chunk(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_v = 64, .gate = Gate::channel_raw,
                                    .tiles = ChunkTiles::value_head),
                {150}, inputs);
    check_chunk(GDNJIT_CHUNK_CONFIG(.ragged = true, .heads_k = 2, .heads_v = 4, .head_dim_k = 64, .head_dim_v = 32,
                                    .gate = Gate::channel_sigmoid, .head_map = HeadMap::modulo,
                                    .initial_state = StatePlace::pool, .final_state = StatePlace::pool,
                                    .tiles = ChunkTiles::value_head, .block_v = 32),
                {70, 0, 130, 3, 64}, inputs, "sm_80");
    check_chunk(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 33, .head_dim_v = 17,
                                    .io_dtype = DType::f16, .gate_dtype = DType::f32, .norm = Norm::max_eps,
                                    .gate = Gate::channel_log, .beta = Beta::two_sigmoid,
                                    .tiles = ChunkTiles::value_head, .io_vector = 1, .state_vector = 1, .block_v = 32),
                {100}, inputs);
    check_chunk(
        GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 192, .head_dim_v = 32, .io_dtype = DType::f32,
                            .norm = Norm::none, .gate = Gate::channel_raw, .checkpoints = StatePlace::dense,
                            .tiles = ChunkTiles::value_head, .io_vector = 4, .block_v = 32, .split_k = 2, .stages = 1),
        {130}, inputs);
  }
}

TEST_CASE("channels that forget beside channels that do not, in one sub-chunk") {
  // Channel 0 decays by e^-30 a token in some sub-chunks, which is beyond what a factor can hold, the others hardly.
  const ChunkSource source =
      GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 32, .head_dim_v = 16, .io_dtype = DType::f16,
                          .output_dtype = DType::f16, .gate_dtype = DType::f32, .gate = Gate::channel_log,
                          .beta = Beta::given, .tiles = ChunkTiles::value_head, .block_v = 16);
  ChunkCall call(source, {64}, Inputs::typical, 11);
  std::vector<double>& gates = call.numbers().a;
  for (std::size_t i = 0; i < gates.size(); ++i) {
    const std::size_t token = i / 32, channel = i % 32;
    const bool forgets = channel == 0 && (token / 16 == 1 || token / 16 == 3);
    gates[i] = forgets ? (token % 5 == 0 ? -0.1 : -30.0) : channel == 1 ? -1e6 * (token == 20 ? 1.0 : 0.0) : -0.05;
  }
  call.round();
  call.prepare();
  call.scan();
  CHECK(call.errors().o < 1e-3);
  CHECK(call.errors().state < 1e-3);
}

#include <doctest/doctest.h>

#include <algorithm>
#include <map>

#include "codegen/gdn/options_names.h"
#include "codegen/gdn/recurrent.h"
#include "codegen/gdn/step.h"

using namespace gdnjit;
using namespace gdnjit::gdn;

TEST_CASE("every shape, layout and dtype has a default that fits, and only candidates that fit") {
  const DeviceTraits device;
  for (const int K : {1, 2, 3, 32, 33, 60, 64, 96, 100, 128, 192, 256, 512, 1000, 8192}) {
    for (const int V : {1, 3, 17, 60, 64, 100, 128, 192, 512, 8192}) {
      for (const StateLayout layout : {StateLayout::kv, StateLayout::vk}) {
        for (const DType state : {DType::f32, DType::bf16}) {
          for (const std::int64_t B : {1, 1024}) {
            StepProblem problem{
                .batch = B, .head_dim_k = K, .head_dim_v = V, .state_dtype = state, .state_layout = layout};
            problem = complete_step(problem);
            CAPTURE(K);
            CAPTURE(V);
            const StepTiles tiles = default_step_tiles(problem, device);
            CHECK(step_config(problem, tiles).fault() == nullptr);
            const std::vector<StepTiles> space = step_search_space(problem, device);
            CHECK(space.front() == tiles);
            for (const StepTiles& candidate : space) {
              CHECK(step_config(problem, candidate).fault() == nullptr);
              CHECK(std::count(space.begin(), space.end(), candidate) == 1);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("a small batch is spread over more warps than a large one") {
  const DeviceTraits device;
  const auto warp_v = [&](std::int64_t B) {
    const StepTiles tiles = default_step_tiles(complete_step({.batch = B}), device);
    return tiles.block_v / tiles.warps;
  };
  CHECK(warp_v(1) < warp_v(64));
}

TEST_CASE("a state that a warp cannot hold is walked twice") {
  const DeviceTraits device;
  StepProblem problem = complete_step({.head_dim_k = 1024, .head_dim_v = 1024});
  const StepConfig config = step_config(problem, default_step_tiles(problem, device));
  CHECK(config.passes() > 1);
  CHECK(config.passes() * config.block_k >= 1024);
}

TEST_CASE("the default's lanes touch whole sectors") {
  const DeviceTraits device;
  for (const StateLayout layout : {StateLayout::kv, StateLayout::vk}) {
    for (const DType state : {DType::f32, DType::bf16, DType::f16}) {
      const StepProblem problem = complete_step({.state_dtype = state, .state_layout = layout});
      const StepConfig config = step_config(problem, default_step_tiles(problem, device));
      const int lanes = layout == StateLayout::vk ? config.lanes_k : config.lanes_v();
      CHECK(lanes * config.state_vector * dtype_bytes(state) >= 32);
    }
  }
}

TEST_CASE("defaults of a layer sum over K in one order, whatever T and whatever happens to the states") {
  const DeviceTraits device;
  for (const int K : {33, 60, 64, 96, 100, 128, 192, 256, 300, 512, 1000, 2048}) {
    for (const StateLayout layout : {StateLayout::kv, StateLayout::vk}) {
      for (const Gate gate : {Gate::raw, Gate::channel_raw}) {
        for (const std::int64_t B : {1, 64}) {
          StepProblem problem{.batch = B, .head_dim_k = K, .gate = gate, .state_layout = layout};
          problem = complete_step(problem);
          const StepConfig decode = step_config(problem, default_step_tiles(problem, device));
          for (const int T : {2, 4, 16}) {
            for (const bool tree : {false, true}) {
              CAPTURE(K);
              CAPTURE(T);
              problem.tokens = T;
              problem.tree = tree;
              const StepConfig verify = step_config(problem, default_step_tiles(problem, device));
              CHECK(verify.fault() == nullptr);
              CHECK(verify.lanes_k == decode.lanes_k);
              CHECK(verify.key_chunk == decode.key_chunk);
            }
          }
          const RecurrentProblem prompt{.batch = B, .head_dim_k = K, .gate = gate, .state_layout = layout};
          const StepTiles tiles = default_step_tiles(layer_of(complete_recurrent(prompt)), device);
          const StepConfig recurrent = recurrent_config(prompt, tiles);
          CHECK(recurrent.lanes_k == decode.lanes_k);
          CHECK(recurrent.key_chunk == decode.key_chunk);
        }
      }
    }
  }
}

TEST_CASE("the order of sums follows from the layer and lanes_k, not from other tiles") {
  const DeviceTraits device;
  for (const int K : {60, 100, 128, 300, 512}) {
    for (const StateLayout layout : {StateLayout::kv, StateLayout::vk}) {
      const StepProblem problem = complete_step({.head_dim_k = K, .state_layout = layout});
      std::map<int, int> chunk_of_lanes;
      for (const StepTiles& tiles : step_search_space(problem, device)) {
        const StepConfig config = step_config(problem, tiles);
        const auto [place, is_new] = chunk_of_lanes.emplace(config.lanes_k, config.key_chunk);
        CHECK(place->second == config.key_chunk);
      }
    }
  }
}

TEST_CASE("sum_lanes keeps every candidate to its lanes, on any device and for any batch") {
  for (const int lanes : {1, 4, 8, 32}) {
    for (const int K : {33, 100, 128, 512}) {
      for (const std::int64_t B : {1, 1024}) {
        for (const int T : {1, 8}) {
          const StepProblem problem = complete_step({.batch = B, .tokens = T, .head_dim_k = K, .sum_lanes = lanes});
          for (const StepTiles& tiles : step_search_space(problem, {})) {
            CHECK(tiles.lanes_k == lanes);
            CHECK(step_config(problem, tiles).fault() == nullptr);
          }
        }
      }
    }
  }
}

TEST_CASE("from four tokens on a large batch with few lanes a column takes wider warps, a small one stays spread") {
  const auto warp_v = [](std::int64_t B, int T, int sum_lanes) {
    const StepTiles tiles = default_step_tiles(complete_step({.batch = B, .tokens = T, .sum_lanes = sum_lanes}), {});
    return tiles.block_v / tiles.warps;
  };
  CHECK(warp_v(64, 2, 8) == warp_v(64, 1, 8));
  CHECK(warp_v(64, 4, 8) == 2 * warp_v(64, 1, 8));
  CHECK(warp_v(1, 16, 8) == warp_v(1, 1, 8));
  CHECK(warp_v(64, 4, 16) == warp_v(64, 1, 16));
}

TEST_CASE("the default takes 16 lanes a column where runs allow, and evicts first what the L2 cannot keep") {
  const auto tiles = [](std::int64_t B, int T, StateLayout layout) {
    return default_step_tiles(complete_step({.batch = B, .tokens = T, .state_layout = layout}), {});
  };
  for (const std::int64_t B : {1, 16, 64, 1024}) CHECK(tiles(B, 1, StateLayout::vk).lanes_k == 16);
  CHECK(tiles(64, 1, StateLayout::kv).lanes_k == 8);
  CHECK(tiles(64, 1, StateLayout::vk).cache_hint == device::CacheHint::streaming);
  CHECK(tiles(256, 1, StateLayout::vk).cache_hint == device::CacheHint::normal);
  CHECK(tiles(256, 4, StateLayout::vk).cache_hint == device::CacheHint::streaming);
  CHECK(tiles(8, 1, StateLayout::kv).cache_hint == device::CacheHint::streaming);
  CHECK(tiles(64, 1, StateLayout::kv).cache_hint == device::CacheHint::normal);
}

// What the grouped class moves, and that its main loops meet no bank conflicts, by the emulator's counters.
#include <doctest/doctest.h>

#include "tests/moe/grouped_check.h"

using namespace gdnjit;
using namespace gdnjit::tests;

TEST_CASE("the main loops meet no bank conflicts, and inputs, weights and results move as often as tiles say") {
  for (const char* weights : {"bf16", "int8", "int4", "nvfp4"}) {
    for (const char* block_k : {"32", "64", "128"}) {
      CAPTURE(weights);
      CAPTURE(block_k);
      const auto runtime = emulator_runtime("sm_90a");
      const FieldMap problem =
          find_operator("moe.down")
              .complete(parse_fields(fmt::format("M=64 D=256 I=512 E=1 k=1 weights={} group_size=128", weights)));
      const auto tiles =
          tiles_text(fmt::format("path=mma block_m=32 block_n=128 block_k={} warps=4 stages=2", block_k));
      const auto plan = make_plan(*runtime, find_operator("moe.down"), problem, tiles);
      const auto workload = reference::make_workload("moe.down", problem, reference::Inputs::typical, 5);
      const auto result = autotune::check(*plan, *workload);
      CHECK(result.passed());
      REQUIRE(result.counts.size() == 3);
      const LaunchCounters& product = result.counts[1].counters;
      CHECK(product.shared_wavefronts == product.shared_wavefronts_ideal);
      for (const BufferTraffic& buffer : result.counts[1].traffic) {
        // Two blocks of outputs read h, two blocks of rows the weights.
        if (buffer.name == "h") CHECK(32 * buffer.sectors_read == 2 * 64 * 512 * 2);
        if (buffer.name == "w2" && std::string(weights) == "bf16") CHECK(32 * buffer.sectors_read == 2 * 256 * 512 * 2);
        if (buffer.name == "workspace") CHECK(32 * buffer.sectors_written == 64 * 256 * 4);
      }
    }
  }
}

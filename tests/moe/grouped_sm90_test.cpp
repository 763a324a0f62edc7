// The grouped class with wgmma against the reference, by one block and by clusters of two.
#include <doctest/doctest.h>

#include "tests/moe/grouped_check.h"

using namespace gdnjit;
using namespace gdnjit::tests;

TEST_CASE("wgmma: both products, formats, orders of gate and up, tails, shared experts, one block for all tiles") {
  const std::vector<int> ids{3, 1, 1, 4, -1, 5, 7, 2, 1, 0, 6, 1};
  const auto tiles = [](int block_m, int block_n, int stages, int blocks) {
    return fmt::format("path=wgmma block_m={} block_n={} block_k=64 warps=8 stages={} group_m=2 blocks={}", block_m,
                       block_n, stages, blocks);
  };
  for (const char* op : {"moe.up", "moe.down"}) {
    for (const int block_m : {128, 256}) {  // 256: a cluster of two blocks
      CAPTURE(op);
      CAPTURE(block_m);
      CHECK(check_routing(op, "M=150 D=136 I=96 E=8 k=2", ids, tiles(block_m, 64, 4, 0)) == "");
      CHECK(check_routing(op,
                          "M=150 D=72 I=176 E=8 k=2 shared_size=112 shared_gate=true gate_order=interleaved "
                          "up_bias=true down_bias=true",
                          ids, tiles(block_m, 128, 3, 4)) == "");
      CHECK(check_routing(op,
                          "M=260 D=256 I=80 E=8 k=1 io=f16 h=f16 weights=f16 gate_order=up_gate activation=swiglu_oai",
                          ids, tiles(block_m, 48, 3, 2)) == "");
      CHECK(check_routing(op, "M=140 D=320 I=64 E=8 k=2 activation=relu2", {5}, tiles(block_m, 192, 3, 2)) == "");
    }
  }
}

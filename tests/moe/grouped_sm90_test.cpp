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

TEST_CASE("wgmma: 64 rows that are all padding are neither multiplied nor brought") {
  // 70, 30 and 2 rows of three experts: of a tile's halves 2, 1 and 1 have something to do.
  std::vector<int> ids(70, 3);
  ids.insert(ids.end(), 30, 0);
  ids.insert(ids.end(), 2, 6);
  for (const int block_m : {128, 256}) {
    CAPTURE(block_m);
    const auto tiles = fmt::format("path=wgmma block_m={} block_n=128 block_k=64 warps=8 stages=4 blocks=0", block_m);
    const auto result = routing_result("moe.down", "M=102 D=128 I=192 E=8 k=1", ids, tiles);
    CHECK_MESSAGE(result.passed(), result.text());
    REQUIRE(result.counts.size() == 3);
    CHECK(result.counts[1].counters.tensor_core_macs == 4 * 64 * 128 * 192);
    for (const BufferTraffic& buffer : result.counts[1].traffic) {
      if (buffer.name == "h") CHECK(32 * buffer.sectors_read == 102 * 192 * 2);
      if (buffer.name == "w2") CHECK(32 * buffer.sectors_read == 3 * 128 * 192 * 2);
    }
    const auto even = routing_result("moe.up", "M=102 D=128 I=64 E=8 k=1 shared_size=64", ids, tiles);
    CHECK_MESSAGE(even.passed(), even.text());
    // And two halves of the shared expert's tile.
    CHECK(even.counts[1].counters.tensor_core_macs == 6 * 64 * 256 * 128);
  }
}

TEST_CASE(
    "by default one block an SM goes from tile to tile where the matrix units decide, else each tile has a block") {
  const auto tiles = [](const char* op, const char* text) {
    const Operator& product = find_operator(op);
    const FieldMap chosen = product.default_tiles(product.complete(parse_fields(text)), DeviceTraits{});
    return fmt::format("{} {} {} {} {}", *find_field(chosen, "path"), *find_field(chosen, "block_m"),
                       *find_field(chosen, "block_n"), *find_field(chosen, "group_m"), *find_field(chosen, "blocks"));
  };
  const std::string mixtral = "D=4096 I=14336 E=8 k=2 M=", deepseek = "D=7168 I=2048 E=256 k=8 M=";
  CHECK(tiles("moe.up", (mixtral + "1024").c_str()) == "wgmma 128 128 32 132");
  CHECK(tiles("moe.up", (mixtral + "4096").c_str()) == "wgmma 128 128 16 132");
  CHECK(tiles("moe.down", (mixtral + "8192").c_str()) == "wgmma 128 256 16 132");
  CHECK(tiles("moe.up", (deepseek + "1024").c_str()) == "wgmma 128 128 8 0");
  CHECK(tiles("moe.down", (deepseek + "4096").c_str()) == "wgmma 128 256 8 0");
  CHECK(tiles("moe.down", (deepseek + "8192").c_str()) == "wgmma 128 256 8 0");
  CHECK(tiles("moe.up", (deepseek + "512").c_str()).substr(0, 3) == "mma");
}

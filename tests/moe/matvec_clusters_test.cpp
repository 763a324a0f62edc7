// moe.down whose rows are shared by the blocks of a cluster: right however rows and groups are split, and the same bits
// as of one block.
#include <doctest/doctest.h>

#include "tests/moe/grouped_check.h"

using namespace gdnjit;
using namespace gdnjit::tests;

namespace {

const Operator& down() { return find_operator("moe.down"); }

std::string_view cluster_of(const FieldMap& tiles) { return find_field(tiles, "cluster").value(); }

std::vector<std::byte> y_of(Runtime::Impl& runtime, const FieldMap& problem, std::string_view tiles) {
  const auto workload = reference::make_workload("moe.down", problem, reference::Inputs::typical, 3);
  HostCall call(workload->tensors());
  make_plan(runtime, down(), problem, tiles_text(tiles))->run(call.views(), nullptr);
  return call["y"].bytes;
}

}  // namespace

TEST_CASE("every split of rows and groups is right, also behind the last row and in several chunks of tokens") {
  const auto runtime = emulator_runtime("sm_90a");
  for (const char* shape :
       {"M=3 D=200 I=96 E=8 k=2 weights=int4 group_size=32", "M=9 D=64 I=80 E=4 k=2 weights=bf16 shared_size=112",
        "M=1 D=136 I=64 E=4 k=1 weights=mxfp4", "M=90 D=32 I=16 E=8 k=8 weights=int8 down_bias=true"}) {
    const FieldMap problem = down().complete(parse_fields(shape));
    for (const char* tiles : {"row_tiles=1 cluster=2 warps_n=2 warps_k=2", "row_tiles=2 cluster=2 warps_n=3 warps_k=1",
                              "row_tiles=3 cluster=2 warps_n=1 warps_k=2", "row_tiles=2 cluster=4 warps_n=2 warps_k=1",
                              "row_tiles=4 cluster=8 warps_n=1 warps_k=1"}) {
      CAPTURE(std::string(shape));
      CAPTURE(std::string(tiles));
      CHECK(check_problem(*runtime, down(), problem, tiles_text(tiles), reference::Inputs::brutal, 7) == "");
    }
  }
}

TEST_CASE("a cluster changes no bit") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap problem =
      down().complete(parse_fields("M=9 D=96 I=128 E=8 k=4 weights=int4 group_size=64 shared_size=64"));
  const std::vector<std::byte> alone = y_of(*runtime, problem, "row_tiles=2 cluster=1 warps_n=2 warps_k=2");
  for (const char* tiles : {"row_tiles=2 cluster=2 warps_n=2 warps_k=2", "row_tiles=2 cluster=4 warps_n=1 warps_k=2",
                            "row_tiles=1 cluster=2 warps_n=4 warps_k=2"}) {
    CAPTURE(std::string(tiles));
    CHECK(y_of(*runtime, problem, tiles) == alone);
  }
}

TEST_CASE("tiles whose sums are too many for a block's memory take fewer pairs at once") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap problem = down().complete(parse_fields("M=40 D=32 I=1024 E=4 k=8 weights=bf16 expert_map=true"));
  CHECK(check_problem(*runtime, down(), problem, tiles_text("row_tiles=2 cluster=1 warps_n=1 warps_k=8 stages=2"),
                      reference::Inputs::typical, 7) == "");
}

TEST_CASE("clusters that cannot be are refused, and not chosen where there are none") {
  const FieldMap problem = down().complete(parse_fields("M=64 D=2048 I=512 E=256 k=8 weights=int4"));
  const auto hopper = emulator_runtime("sm_90a");
  CHECK(cluster_of(down().default_tiles(problem, hopper->device().info().traits)) == "2");
  const auto refusal = [&](Runtime::Impl& runtime, std::string_view tiles) {
    return thrown([&] { make_plan(runtime, down(), problem, tiles_text(tiles)); });
  };
  CHECK(refusal(*hopper, "row_tiles=1 cluster=4").find("cluster must divide 2 row_tiles") != std::string::npos);
  for (const char* arch : {"sm_80", "sm_120"}) {
    CAPTURE(std::string(arch));
    const auto runtime = emulator_runtime(arch);
    const DeviceTraits& traits = runtime->device().info().traits;
    CHECK(refusal(*runtime, "row_tiles=1 cluster=2").find("has no clusters, so cluster must be 1") !=
          std::string::npos);
    CHECK(cluster_of(down().default_tiles(problem, traits)) == "1");
    for (const FieldMap& tiles : down().search_space(problem, traits)) CHECK(cluster_of(tiles) == "1");
  }
}

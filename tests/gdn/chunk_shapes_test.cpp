// gdn.chunk over the shapes that the public kernels are tested with: head dimensions, lengths, ragged batches; three
// value heads to a key head.
#include "tests/gdn/chunk_check.h"
#include "tests/gdn/emulator_fixture.h"

using namespace gdnjit;
using namespace gdnjit::gdn;
using namespace gdnjit::tests;
using reference::Inputs;

namespace {

void check_dimension(const std::string& arch, int dimension, const char* rest) {
  const auto runtime = emulator_runtime(arch);
  const FieldMap problem =
      parse_fields(fmt::format("B=1 T=91 H=1 HV=3 K={} V={} initial_state=dense {}", dimension, dimension, rest));
  INFO(arch << " " << fields_text(problem));
  CHECK(check_problem(*runtime, chunk(), problem, std::nullopt, Inputs::typical, 5) == "");
}

void check_batch(const std::vector<int>& lengths, Inputs inputs) {
  const ChunkSource source = GDNJIT_CHUNK_CONFIG(.ragged = true, .heads_k = 1, .heads_v = 3, .head_dim_k = 32,
                                                 .head_dim_v = 16, .final_state = StatePlace::dense, .block_v = 16);
  CAPTURE(lengths.size());
  ChunkCall call(source, lengths, inputs, 7, "sm_90a", false);
  call.prepare();
  call.scan();
  CHECK(call.errors().o < 5e-3);
  CHECK(call.errors().state < 5e-3);
}

// Around the edges of blocks and chunks.
const std::vector<int> kEdges{1, 2, 15, 16, 17, 31, 32, 61, 63, 64, 65, 75, 91, 121, 127, 128, 251, 256};

}  // namespace

TEST_CASE("the smallest head dimension, an odd one and a large one, with the default tiles of two architectures") {
  for (const int dimension : {60, 100}) check_dimension("sm_80", dimension, "");
  check_dimension("sm_90a", 96, "io=f16 output=f16");
}

TEST_CASE("ragged batches of every length around the edges of blocks and chunks, and of none") {
  check_batch(kEdges, Inputs::typical);
  check_batch({0, 70, 0, 0, 64, 0}, Inputs::brutal);
  check_batch({0}, Inputs::typical);
}

TEST_CASE("head dimensions from 60 to 256, with the default tiles of two architectures" *
          doctest::test_suite("sweep")) {
  for (const int dimension : {60, 64, 96, 100, 128, 192, 256}) check_dimension("sm_80", dimension, "");
  for (const int dimension : {64, 96, 128}) check_dimension("sm_90a", dimension, "io=f16 output=f16");
}

TEST_CASE("ragged batches of many lengths, and long ones" * doctest::test_suite("sweep")) {
  const std::vector<std::vector<int>> batches{
      kEdges,
      {500},
      {1000},
      {15},
      {256, 244, 500},
      {15, 85, 200, 900, 800},
      {31, 63, 93, 123, 150, 500},
      {0, 70, 0, 0, 64, 0},
      {0},
  };
  for (const std::vector<int>& lengths : batches) {
    for (const Inputs inputs : {Inputs::typical, Inputs::brutal}) check_batch(lengths, inputs);
  }
}

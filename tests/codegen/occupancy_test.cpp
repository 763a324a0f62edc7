#include "codegen/occupancy.h"

#include <doctest/doctest.h>

namespace gdnjit {
namespace {

TEST_CASE("each limit of a multiprocessor decides in its turn") {
  const DeviceTraits h200;
  const Occupancy small = occupancy(h200, 32, 64, 0);
  CHECK(small.blocks == 32);
  CHECK(small.warps == 64);
  CHECK(small.share == doctest::Approx(1.0));
  const Occupancy threads = occupancy(h200, 32, 256, 0);
  CHECK(threads.blocks == 8);
  const Occupancy registers = occupancy(h200, 128, 128, 0);
  CHECK(registers.blocks == 4);
  CHECK(registers.limited_by == "registers");
  CHECK(registers.share == doctest::Approx(0.25));
  const Occupancy shared = occupancy(h200, 32, 128, 100 << 10);
  CHECK(shared.blocks == 2);
  CHECK(shared.limited_by == "shared memory");
  CHECK(occupancy(h200, 32, 32, 0).limited_by == "blocks");
}

TEST_CASE("registers are given in units: 79 of them cost as much as 80") {
  const DeviceTraits h200;
  CHECK(occupancy(h200, 79, 128, 0).blocks == occupancy(h200, 80, 128, 0).blocks);
  CHECK(occupancy(h200, 81, 128, 0).blocks < occupancy(h200, 80, 128, 0).blocks);
}

TEST_CASE("a block that does not fit has no occupancy") {
  const DeviceTraits h200;
  CHECK(occupancy(h200, 32, 128, h200.shared_bytes_per_block + 1).blocks == 0);
  CHECK(occupancy(h200, 255, 1024, 0).blocks == 0);
  CHECK(occupancy(h200, 255, 1024, 0).limited_by == "registers");
}

}  // namespace
}  // namespace gdnjit

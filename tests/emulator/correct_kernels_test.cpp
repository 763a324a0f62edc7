// Kernels that are right give no report, and the right result.
#include "tests/emulator/correct_kernels.h"

namespace gdnjit::tests {
namespace {

TEST_CASE("correct kernels give no report") {
  for (const Sample& sample : correct_kernels()) {
    CAPTURE(sample.name);
    CHECK(report_of(sample.source, sample.trial) == "");
  }
}

std::vector<int> result_of(const std::string& name) {
  std::vector<int> result;
  for (const Sample& sample : correct_kernels()) {
    if (sample.name == name) CHECK(report_of(sample.source, sample.trial, &result) == "");
  }
  return result;
}

TEST_CASE("correct kernels compute what they should") {
  CHECK(result_of("a tree reduction")[0] == 63 * 64 / 2);
  CHECK(result_of("turning round in place")[5] == 6);
  CHECK(result_of("an exchange within warps")[0] == 0 + 1 + 1 + 2);
  const std::vector<int> buffered = result_of("double buffering with cp.async");
  const std::vector<int> consumed = result_of("a producer and consumers");
  for (int i = 0; i < 64; ++i) {
    int sum = 0;
    for (int tile = 0; tile < 8; ++tile) {
      for (int k = 0; k < 4; ++k) sum += tile * 256 + (i + 17) % 64 * 4 + k;
    }
    CHECK(buffered[static_cast<std::size_t>(i)] == sum);
    sum = 0;
    for (int tile = 0; tile < 6; ++tile) {
      for (int k = 0; k < 4; ++k) sum += tile * 256 + i / 32 * 128 + k * 32 + i % 32;
    }
    CHECK(consumed[static_cast<std::size_t>(i)] == sum);
  }
  CHECK(result_of("bulk stores of a tile")[2 * 64 + 5] == 7);
  CHECK(result_of("wgmma")[300] == 2 * 16 * 2);
  CHECK(result_of("the last block")[64 + 9] == 16 * 9);
  CHECK(result_of("a semaphore with fences")[64 + 9] == 8 * 9);
  CHECK(result_of("a semaphore with acquire and release")[64 + 9] == 8 * 9);
  CHECK(result_of("an exchange in a cluster")[64 + 3] == 60 + 0);
}

}  // namespace
}  // namespace gdnjit::tests

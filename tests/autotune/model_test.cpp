#include "autotune/model.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <vector>

using namespace gdnjit;
using namespace gdnjit::autotune;

namespace {

// About what a decode step of 64 sequences and 32 heads looks like, counted on 64 of its blocks.
ModelInput typical() {
  ModelInput input;
  input.geometry.grid[0] = 8192;
  input.geometry.block[0] = 128;
  input.registers = 64;
  input.counters.blocks = 64;
  input.counters.warps = 256;
  input.counters.sectors_read = 64 * 520;
  input.counters.sectors_written = 64 * 512;
  input.counters.global_load_instructions = 64 * 40;
  input.counters.warp_instructions = 64 * 4 * 400;
  return input;
}

double time_after(const std::function<void(ModelInput&)>& change) {
  ModelInput input = typical();
  change(input);
  return model(input).time_us;
}

}  // namespace

TEST_CASE("more work of any kind never takes less time") {
  const double base = model(typical()).time_us;
  CHECK(time_after([](ModelInput& i) { i.counters.sectors_read *= 2; }) > base);
  CHECK(time_after([](ModelInput& i) { i.counters.sectors_written *= 2; }) > base);
  CHECK(time_after([](ModelInput& i) { i.counters.warp_instructions *= 2; }) > base);
  CHECK(time_after([](ModelInput& i) { i.counters.shared_wavefronts += 64 * 1000; }) > base);
  CHECK(time_after([](ModelInput& i) { i.spill_bytes = 64; }) > base);
  CHECK(time_after([](ModelInput& i) { i.registers = 255; }) >= base);
  CHECK(time_after([](ModelInput& i) { i.shared_bytes = 200000; }) >= base);
  CHECK(time_after([](ModelInput& i) { i.device.memory_bytes_per_us /= 2; }) > base);
  double before = 0;
  for (std::uint32_t blocks = 1; blocks < 40000; blocks = blocks * 5 / 4 + 1) {
    const double now = time_after([&](ModelInput& i) { i.geometry.grid[0] = blocks; });
    CHECK(now >= before);
    before = now;
  }
}

TEST_CASE("a large batch comes near to the memory's limit and not below it") {
  ModelInput input = typical();
  input.geometry.grid[0] = 131072;
  const ModelResult result = model(input);
  CHECK(result.memory_us == doctest::Approx(32.0 * 1032 * 131072 / 4.3e6));
  CHECK(result.time_us > result.memory_us);
  CHECK(result.time_us < 1.2 * result.memory_us);
}

TEST_CASE("few warps on an SM cannot saturate its memory path") {
  const ModelResult full = model(typical());
  ModelInput starved = typical();
  starved.shared_bytes = 220000;  // one block an SM
  const ModelResult alone = model(starved);
  CHECK(full.resident_blocks == 8);
  CHECK(alone.resident_blocks == 1);
  CHECK(alone.one_sm_us > 2 * full.one_sm_us);
}

TEST_CASE("the busiest SM sets the time: one block more than a whole round costs a round") {
  ModelInput input = typical();
  input.geometry.grid[0] = 132;
  const ModelResult even = model(input);
  input.geometry.grid[0] = 133;
  const ModelResult odd = model(input);
  CHECK(odd.issue_us == doctest::Approx(2 * even.issue_us));
}

TEST_CASE("counts of a smaller batch stand for the larger one") {
  ModelInput small = typical();
  ModelInput large = typical();
  const auto scale = [](std::uint64_t& count) { count *= 7; };
  scale(large.counters.blocks);
  scale(large.counters.warps);
  scale(large.counters.sectors_read);
  scale(large.counters.sectors_written);
  scale(large.counters.global_load_instructions);
  scale(large.counters.warp_instructions);
  CHECK(model(small).time_us == model(large).time_us);
}

TEST_CASE("occupancy follows the tightest limit") {
  const auto resident = [](const std::function<void(ModelInput&)>& change) {
    ModelInput input = typical();
    change(input);
    return model(input).resident_blocks;
  };
  CHECK(resident([](ModelInput& i) { i.registers = 32; }) == 16);  // threads: 2048 / 128
  CHECK(resident([](ModelInput& i) { i.registers = 128; }) == 4);  // registers: 65536 / (128 * 128)
  CHECK(resident([](ModelInput& i) { i.registers = 65; }) == 7);   // granted in steps of 8
  CHECK(resident([](ModelInput& i) {
          i.geometry.block[0] = 32;
          i.registers = 32;
        }) == 32);  // blocks
  CHECK(resident([](ModelInput& i) { i.shared_bytes = 100000; }) == 2);
}

TEST_CASE("nothing to do takes the launch, and what cannot run takes forever") {
  CHECK(time_after([](ModelInput& i) { i.geometry.grid[0] = 0; }) == kLaunchUs);
  CHECK(std::isinf(time_after([](ModelInput& i) { i.shared_bytes = 300000; })));
  CHECK(std::isinf(time_after([](ModelInput& i) {
    i.registers = 256;
    i.geometry.block[0] = 1024;
  })));
}

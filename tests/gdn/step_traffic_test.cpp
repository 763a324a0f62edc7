// What a step moves, counted: these are performance tests that need no GPU.
#include <doctest/doctest.h>

#include "autotune/device_tensors.h"
#include "tests/gdn/emulator_fixture.h"

using namespace gdnjit;
using namespace gdnjit::tests;

namespace {

LaunchCounters count(Runtime::Impl& runtime, const FieldMap& problem,
                     const std::optional<FieldMap>& tiles = std::nullopt) {
  const auto plan = make_plan(runtime, step(), problem, tiles);
  const auto workload = reference::make_workload("gdn.step", step().complete(problem), reference::Inputs::typical, 1);
  autotune::DeviceTensors tensors(runtime.device(), workload->tensors(), 256);
  tensors.upload(workload->tensors(), nullptr);
  plan->run(tensors.views(), nullptr);
  const LaunchCounters* counters = runtime.device().last_counters();
  REQUIRE(counters != nullptr);
  return *counters;
}

// Bytes moved over the least that could be: sectors against the operator's footprint.
double read_ratio(const LaunchCounters& counters, const FieldMap& problem) {
  return 32.0 * static_cast<double>(counters.sectors_read) / static_cast<double>(step().footprint(problem).bytes_read);
}
double write_ratio(const LaunchCounters& counters, const FieldMap& problem) {
  return 32.0 * static_cast<double>(counters.sectors_written) /
         static_cast<double>(step().footprint(problem).bytes_written);
}

}  // namespace

TEST_CASE("the state is read once and written once, within 2 percent, for K=V=128") {
  const auto runtime = emulator_runtime("sm_90a");
  for (const char* text : {"state=f32 state_layout=vk", "state=f32 state_layout=kv", "state=bf16 state_layout=vk",
                           "state=bf16 state_layout=kv", "state=f32 state_store=pool"}) {
    const FieldMap problem = step().complete(parse_fields(std::string("B=4 H=4 HV=8 ") + text));
    count(*runtime, problem);
    const double element_bytes = std::string_view(text).find("bf16") != std::string_view::npos ? 2 : 4;
    const bool pool = std::string_view(text).find("pool") != std::string_view::npos;
    const double sequences = pool ? 3 : 4;  // the pool's inputs hold one padded row, which touches no state
    const double sectors = sequences * 8 * 128 * 128 * element_bytes / 32;
    double read = 0;
    double written = 0;
    for (const BufferTraffic& buffer : runtime->device().last_traffic()) {
      if (!buffer.name.starts_with("state")) continue;
      read += static_cast<double>(buffer.sectors_read);
      written += static_cast<double>(buffer.sectors_written);
    }
    CAPTURE(std::string(text));
    CHECK(read == doctest::Approx(sectors).epsilon(0.02));
    CHECK(written == doctest::Approx(sectors).epsilon(0.02));
  }
}

TEST_CASE("T tokens read the state once and write it at most once, plus once for each state that is kept") {
  const auto runtime = emulator_runtime("sm_90a");
  struct Expected {
    const char* text;
    double written;  // states a sequence
    double read = 1;
  };
  for (const Expected& expected :
       {Expected{"T=2", 1}, Expected{"T=8", 1}, Expected{"T=16 state_layout=kv", 1}, Expected{"T=4 state=bf16", 1},
        Expected{"T=4 update_state=false", 0}, Expected{"T=4 state_steps=dense", 5},
        Expected{"T=4 state_steps=dense update_state=false", 4}, Expected{"T=4 num_accepted=dense", 1},
        Expected{"T=4 write_output=false", 1}, Expected{"T=8 tree=true update_state=false", 0}}) {
    CAPTURE(std::string(expected.text));
    const FieldMap problem = step().complete(parse_fields(std::string("B=4 H=2 HV=4 ") + expected.text));
    count(*runtime, problem);
    double read = 0, written = 0;
    for (const BufferTraffic& buffer : runtime->device().last_traffic()) {
      if (buffer.name.find("state") == std::string::npos) continue;
      read += static_cast<double>(buffer.sectors_read);
      written += static_cast<double>(buffer.sectors_written);
    }
    const double bytes = std::string_view(expected.text).find("bf16") != std::string_view::npos ? 2 : 4;
    const double sectors = 4 * 4 * 128 * 128 * bytes / 32;
    CHECK(read / sectors == doctest::Approx(expected.read).epsilon(0.02));
    CHECK(written / sectors == doctest::Approx(expected.written).epsilon(0.02));
  }
}

TEST_CASE("what every warp reads beside its state stays small") {
  const auto runtime = emulator_runtime("sm_90a");
  for (const char* text : {"state=f32 state_layout=vk", "state=f32 state_layout=kv", "state=bf16 state_layout=vk"}) {
    const FieldMap problem = step().complete(parse_fields(std::string("B=64 H=1 HV=2 ") + text));
    CAPTURE(text);
    const LaunchCounters counters = count(*runtime, problem);
    // Every warp reads q and k of its head: 512 bytes for 4 KiB of state (fp32) or 2 KiB (bf16), and its v and gates,
    // all from the caches.
    CHECK(read_ratio(counters, problem) < 1.36);
    CHECK(write_ratio(counters, problem) < 1.02);
  }
}

TEST_CASE("a step issues few instructions for each state element and no barrier") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap problem = step().complete(parse_fields("B=2 H=2 HV=4"));
  const FieldMap tiles = parse_fields("block_v=32 block_k=128 lanes_k=8 warps=4 cache_hint=normal");
  const LaunchCounters counters = count(*runtime, problem, tiles);
  const double elements = 2.0 * 4 * 128 * 128;
  CHECK(static_cast<double>(counters.lane_instructions) / elements < 26);
  CHECK(counters.shared_load_instructions == 0);
  CHECK(counters.block_barriers == 0);
}

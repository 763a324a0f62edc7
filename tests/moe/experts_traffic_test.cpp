// What the matvec class moves, counted: these are performance tests that need no GPU.
#include <doctest/doctest.h>

#include <algorithm>

#include "autotune/device_tensors.h"
#include "codegen/moe/experts.h"
#include "codegen/moe/options_names.h"
#include "tests/gdn/emulator_fixture.h"

using namespace gdnjit;
using namespace gdnjit::tests;

namespace {

struct Counted {
  LaunchCounters counters;
  std::vector<BufferTraffic> traffic;

  double bytes_of(std::string_view prefix) const {
    double bytes = 0;
    for (const BufferTraffic& buffer : traffic) {
      if (buffer.name.starts_with(prefix)) bytes += 32.0 * static_cast<double>(buffer.sectors_read);
    }
    return bytes;
  }
};

Counted count(const Operator& op, const FieldMap& problem, const std::optional<FieldMap>& tiles = std::nullopt) {
  const auto runtime = emulator_runtime("sm_90a");
  const auto plan = make_plan(*runtime, op, problem, tiles);
  const auto workload = reference::make_workload(op.name(), problem, reference::Inputs::typical, 1);
  autotune::DeviceTensors tensors(runtime->device(), workload->tensors(), 256);
  tensors.upload(workload->tensors(), nullptr);
  plan->run(tensors.views(), nullptr);
  const LaunchCounters* counters = runtime->device().last_counters();
  REQUIRE(counters != nullptr);
  return {*counters, runtime->device().last_traffic()};
}

}  // namespace

TEST_CASE("for one token the chosen experts' weights are read once, within 3 percent, and nobody else's") {
  for (const char* format : {"weights=int4 group_size=128", "weights=int4 group_size=32", "weights=bf16",
                             "weights=int8", "weights=fp8_block", "weights=mxfp4", "weights=nvfp4"}) {
    for (const char* name : {"moe.up", "moe.down"}) {
      const Operator& op = find_operator(name);
      const FieldMap problem = op.complete(parse_fields(std::string("M=1 D=512 I=256 E=16 k=4 ") + format));
      const auto experts = from_fields<moe::ExpertsProblem>(problem);
      const bool down = op.name() == "moe.down";
      const moe::ProductShape shape = down ? moe::down_shape(experts, false) : moe::up_shape(experts, false);
      const Counted counted = count(op, problem);
      std::vector<TensorSpec> specs;
      moe::add_weight_specs(experts, shape, false, specs);
      double codes = 4.0 * dtype_bytes(specs[0].dtype);
      for (std::size_t axis = 1; axis < specs[0].shape.size(); ++axis)
        codes *= static_cast<double>(specs[0].shape[axis]);
      double read = 0;
      for (const BufferTraffic& buffer : counted.traffic) {
        if (buffer.name == specs[0].name) read += 32.0 * static_cast<double>(buffer.sectors_read);
      }
      CAPTURE(std::string(format));
      CAPTURE(std::string(name));
      CHECK(read == doctest::Approx(codes).epsilon(0.03));
    }
  }
}

TEST_CASE("tokens that share an expert share the stream of its weights") {
  const Operator& op = find_operator("moe.up");
  const std::string shape = " D=512 I=64 E=1 k=1 weights=int4";
  const FieldMap tiles = op.default_tiles(op.complete(parse_fields("M=1" + shape)), DeviceTraits{});
  const auto read = [&](const char* tokens) {
    return count(op, op.complete(parse_fields(tokens + shape)), tiles).bytes_of("w1");
  };
  const double one = read("M=1");
  CHECK(read("M=8") == one);
  CHECK(read("M=9") == 2 * one);
}

TEST_CASE("shared memory is read and written without bank conflicts") {
  for (const char* name : {"moe.up", "moe.down"}) {
    const Operator& op = find_operator(name);
    const Counted counted = count(op, op.complete(parse_fields("M=1 D=2048 I=512 E=8 k=2 weights=int4")));
    const auto conflicts = counted.counters.shared_wavefronts - counted.counters.shared_wavefronts_ideal;
    CAPTURE(std::string(name));
    // The ring is free of them. What is left are the sums of a block, once: 64 stores of 16 rows.
    CHECK(static_cast<double>(conflicts) < 0.06 * static_cast<double>(counted.counters.shared_wavefronts_ideal));
  }
}

// The decode step kernel, as the code generator makes it, on every architecture. tests/gdn judges its options; here is
// that it loads in every form, that it is right, and how fast the emulator runs it.
#include <doctest/doctest.h>

#include <ctime>

#include "codegen/registry.h"
#include "tests/emulator/fixture.h"
#include "tests/reference/workload.h"

namespace gdnjit::tests {
namespace {

struct StepRun {
  LaunchCounters counters;
  double core_seconds = 0;
  std::vector<reference::OutputError> errors;
};

StepRun run_step(Device& device, const std::string& problem_text, const FieldMap* tiles = nullptr, int repeats = 1) {
  const Operator& op = find_operator("gdn.step");
  const std::string& arch = device.info().traits.arch;
  const FieldMap problem = op.complete(parse_fields(problem_text));
  const auto instance =
      op.instantiate(problem, tiles != nullptr ? *tiles : op.default_tiles(problem, device.info().traits), {arch});
  const std::string& ptx = compile_ptx(instance->kernels()[0].source, instance->kernels()[0].entry, arch);
  const auto kernel = device.load({instance->kernels()[0].entry, ptx, {}});
  const auto workload = reference::make_workload("gdn.step", problem, reference::Inputs::typical, 7);

  std::vector<DeviceBuffer> buffers;
  std::vector<TensorView> views;
  std::vector<BufferRange> ranges;
  for (const reference::HostTensor& tensor : workload->tensors()) {
    buffers.emplace_back(device, tensor.bytes.size(), tensor.spec.name);
    if (tensor.spec.role != TensorRole::output)
      device.copy_in(buffers.back().data(), tensor.bytes.data(), tensor.bytes.size(), nullptr);
    TensorView view{
        .data = buffers.back().data(), .dtype = tensor.spec.dtype, .rank = static_cast<int>(tensor.spec.shape.size())};
    std::int64_t stride = 1;
    for (std::size_t axis = tensor.spec.shape.size(); axis-- > 0;) {
      view.shape[axis] = tensor.spec.shape[axis];
      view.strides[axis] = stride;
      stride *= tensor.spec.shape[axis];
    }
    views.push_back(view);
    ranges.push_back({view.data, tensor.bytes.size(), tensor.spec.name, tensor.spec.role});
  }
  Call call;
  instance->pack(views, device, call);
  const gdnjit::Launch& launch = call.launches()[0];

  StepRun result;
  const std::clock_t begin = std::clock();
  for (int repeat = 0; repeat < repeats; ++repeat)
    device.launch(*kernel, launch.geometry, launch.parameters, nullptr, ranges);
  result.core_seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC / repeats;
  result.counters = *device.last_counters();
  std::vector<reference::HostTensor> outputs = workload->tensors();
  for (std::size_t i = 0; i < outputs.size(); ++i)
    device.copy_out(outputs[i].bytes.data(), views[i].data, outputs[i].bytes.size(), nullptr);
  result.errors = workload->compare(outputs);
  return result;
}

TEST_CASE("the step kernel agrees with the reference on every architecture") {
  for (const char* arch : {"sm_80", "sm_90a", "sm_100", "sm_120"}) {
    for (const char* problem :
         {"B=2 H=2 HV=4 K=128 V=128", "B=1 H=1 HV=2 K=96 V=100 io=f16 output=f16 state=bf16 state_layout=kv",
          "B=2 H=2 HV=4 K=64 V=64 gate=channel_raw beta=two_sigmoid norm=max_eps state=f16"}) {
      CAPTURE(arch);
      CAPTURE(problem);
      for (const reference::OutputError& error : run_step(emulator(arch), problem).errors) {
        CAPTURE(error.tensor);
        CAPTURE(error.rms_ratio);
        CHECK(error.passed());
      }
    }
  }
}

TEST_CASE("every candidate of the search space loads") {
  const Operator& op = find_operator("gdn.step");
  Device& device = emulator();
  const FieldMap problem = op.complete(parse_fields("B=1 H=1 HV=1 K=128 V=128"));
  const std::vector<FieldMap> space = op.search_space(problem, device.info().traits);
  REQUIRE(!space.empty());
  // Compiling is what takes the time; a sample spread over the space is enough here.
  for (std::size_t index = 0; index < space.size(); index += 1 + space.size() / 12) {
    CAPTURE(fields_text(space[index]));
    for (const reference::OutputError& error : run_step(device, "B=1 H=1 HV=1 K=128 V=128", &space[index]).errors)
      CHECK(error.passed());
  }
}

TEST_CASE("the state is stored once, every counter is deterministic") {
  const StepRun first = run_step(emulator(), "B=4 H=4 HV=8 K=128 V=128");
  const StepRun second = run_step(emulator(), "B=4 H=4 HV=8 K=128 V=128");
  CHECK(std::memcmp(&first.counters, &second.counters, sizeof(LaunchCounters)) == 0);
  const double state_sectors = 4.0 * 8 * 128 * 128 * 4 / 32;
  CHECK(static_cast<double>(first.counters.sectors_written) >= state_sectors);
  CHECK(static_cast<double>(first.counters.sectors_written) < 1.05 * state_sectors);
  CHECK(first.counters.shared_wavefronts == first.counters.shared_wavefronts_ideal);
}

// The goal is 1e9 lane instructions per second and core in a release build; the bound here only catches a collapse,
// since tests run on shared and instrumented machines.
TEST_CASE("the speed of the step kernel is reported") {
  for (const EmulatorChecks checks : {EmulatorChecks::memory, EmulatorChecks::races}) {
    const auto device = make_emulator("sm_90a", checks);
    const StepRun run = run_step(*device, "B=8 H=16 HV=32 K=128 V=128", nullptr, 3);
    const double rate = static_cast<double>(run.counters.lane_instructions) / run.core_seconds;
    const std::string what = checks == EmulatorChecks::races ? "all checks on: " : "all checks but races: ";
    MESSAGE("step kernel, " << what << rate / 1e9 << "e9 lane instructions per second and core, "
                            << run.core_seconds * 1e3 << " ms of core time");
    CHECK(rate > 1e6);
  }
}

}  // namespace
}  // namespace gdnjit::tests

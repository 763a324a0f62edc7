// Several decode steps of one Gated DeltaNet layer of Qwen3-Next-80B, the state fed back from step to step, each step
// compared with the recurrence in double precision.
//
//   decode [--tp N] [--batch B] [--steps N] [--seed N]
//
// Device, cache and policy come from GDNJIT_* variables. Exit codes: 0; 11 if an output misses its tolerance; else
// that of the error.
#include <fmt/format.h>
#include <gdnjit/gdnjit.h>

#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/fields.h"
#include "codegen/gdn/options_names.h"
#include "tests/reference/compare.h"
#include "tests/reference/gdn_step.h"
#include "tests/reference/gdn_step_layout.h"
#include "tests/reference/numeric.h"
#include "tests/reference/workload.h"

namespace {

using namespace gdnjit;

// One layer of the model on one of `tp` GPUs. What is not set keeps the defaults of gdn.h: bf16 inputs, fp32 state.
gdn::StepProblem layer(int tp, int batch) {
  require(tp == 1 || tp == 2 || tp == 4 || tp == 8 || tp == 16, "--tp {}: must divide 16 key heads", tp);
  require(batch >= 1, "--batch {}: must be at least 1", batch);
  return {.batch = batch, .heads_k = 16 / tp, .heads_v = 32 / tp, .head_dim_k = 128, .head_dim_v = 128};
}

// Tensors in device memory, by name, made like the workload's.
class DeviceTensors {
 public:
  DeviceTensors(Runtime& runtime, const std::vector<reference::HostTensor>& like) : runtime_(runtime) {
    for (const auto& host : like) {
      TensorView& view = views_[host.spec.name];
      view = {.data = runtime.allocate(host.bytes.size(), host.spec.name), .dtype = host.spec.dtype};
      std::int64_t stride = 1;
      view.rank = static_cast<int>(host.spec.shape.size());
      for (std::size_t axis = host.spec.shape.size(); axis-- > 0;) {
        view.shape[axis] = host.spec.shape[axis];
        view.strides[axis] = stride;
        stride *= view.shape[axis];
      }
    }
  }
  ~DeviceTensors() {
    for (const auto& [name, view] : views_) runtime_.release(view.data);
  }
  DeviceTensors(const DeviceTensors&) = delete;
  DeviceTensors& operator=(const DeviceTensors&) = delete;

  const TensorView& operator[](const std::string& name) const { return views_.at(name); }
  void upload(const reference::HostTensor& host) {
    runtime_.copy_in(views_.at(host.spec.name).data, host.bytes.data(), host.bytes.size());
  }
  std::vector<double> download(const std::string& name) const {
    const TensorView& view = views_.at(name);
    std::vector<std::byte> bytes(static_cast<std::size_t>(view.elements() * dtype_bytes(view.dtype)));
    runtime_.copy_out(bytes.data(), view.data, bytes.size());
    return reference::load_all(view.dtype, bytes);
  }

 private:
  Runtime& runtime_;
  std::map<std::string, TensorView> views_;
};

reference::OutputError compare(const std::string& name, DType dtype, double tolerance,
                               const std::vector<double>& values, const std::vector<double>& wanted) {
  reference::ErrorMeter meter;
  for (std::size_t i = 0; i < wanted.size(); ++i) meter.add(values.at(i), wanted[i]);
  return meter.finish(name, dtype, tolerance);
}

// Returns whether every output of every step was within its tolerance.
bool decode(Runtime& runtime, const gdn::StepProblem& problem, int steps, std::uint64_t seed) {
  // 1. A plan: the kernel for this problem on this device, from the cache or compiled now.
  const gdn::StepPlan plan = gdn::plan(runtime, problem);
  const PlanInfo& info = plan.info();
  const KernelInfo& kernel = info.kernels.front();
  fmt::print("device:  {}\nproblem: {}\nkernel:  {} ({}, tiles {}: {}, {} registers)\n", runtime.device_name(),
             info.problem, kernel.key, kernel.compiled ? "compiled now" : "from the cache",
             tiles_from_text(info.tiles_from), info.tiles, kernel.registers);

  // 2. Memory. state_in is left out of the loop below: the kernel updates it in place.
  const auto inputs_of = [&](int step) {
    return reference::make_workload("gdn.step", to_fields(problem), reference::Inputs::typical, seed + step);
  };
  const auto first = inputs_of(0);
  DeviceTensors device(runtime, first->tensors());
  reference::StepInputs wanted_inputs = reference::unpack_inputs(problem, first->tensors());
  std::vector<double> wanted_state = wanted_inputs.state;
  for (const auto& tensor : first->tensors()) device.upload(tensor);
  const gdn::StepArgs args{.q = device["q"],
                           .k = device["k"],
                           .v = device["v"],
                           .a = device["a"],
                           .b = device["b"],
                           .a_log = device["a_log"],
                           .dt_bias = device["dt_bias"],
                           .state_in = device["state_in"],
                           .o = device["o"]};

  // 3. The steps: new inputs, the old state, one launch, and the same in double precision.
  bool passed = true;
  for (int step = 0; step < steps; ++step) {
    const auto workload = inputs_of(step);
    for (const auto& tensor : workload->tensors()) {
      if (!tensor.spec.name.starts_with("state")) device.upload(tensor);
    }
    plan.run(args);

    wanted_inputs = reference::unpack_inputs(problem, workload->tensors());
    wanted_inputs.state = wanted_state;
    const reference::StepOutputs wanted = reference::step(problem, wanted_inputs);
    wanted_state = wanted.state;
    const auto o = compare("o", problem.output_dtype, 3e-3, device.download("o"), wanted.o);
    const auto state = compare("state", problem.state_dtype, 1e-5, device.download("state_in"), wanted.state);
    fmt::print("step {:2}: o off by {:.1e} (at most {:.0e}), state by {:.1e} (at most {:.0e})\n", step + 1, o.rms_ratio,
               o.tolerance, state.rms_ratio, state.tolerance);
    passed = passed && o.passed() && state.passed();
  }
  return passed;
}

int flag(int argc, char** argv, std::string_view name, int value) {
  for (int i = 1; i + 1 < argc; i += 2) {
    if (argv[i] == name) parse_field(name, argv[i + 1], value);
  }
  return value;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    for (int i = 1; i < argc; i += 2) {
      const std::string_view name = argv[i];
      require((name == "--tp" || name == "--batch" || name == "--steps" || name == "--seed") && i + 1 < argc,
              "usage: decode [--tp N] [--batch B] [--steps N] [--seed N]");
    }
    const gdn::StepProblem problem = layer(flag(argc, argv, "--tp", 1), flag(argc, argv, "--batch", 1));
    Runtime runtime;
    const bool passed = decode(runtime, problem, flag(argc, argv, "--steps", 4),
                               static_cast<std::uint64_t>(flag(argc, argv, "--seed", 1)));
    fmt::print("{}\n", passed ? "every step agrees with the reference" : "MISMATCH: an output misses its tolerance");
    return passed ? EXIT_SUCCESS : static_cast<int>(ErrorCode::mismatch);
  } catch (const Error& error) {
    fmt::print(stderr, "decode: {}\n", error.what());
    return static_cast<int>(error.code());
  }
}

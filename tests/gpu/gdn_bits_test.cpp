// On a real GPU, where another compiler has the last word on the arithmetic: verifying T tokens, decoding them one by
// one and gdn.recurrent leave the same bits, and every option is right against the reference.
#include <doctest/doctest.h>

#include <cstdio>
#include <memory>
#include <string>

#include "autotune/checker.h"
#include "autotune/device_tensors.h"
#include "codegen/registry.h"
#include "runtime/cuda/cuda_device.h"
#include "runtime/plan.h"
#include "runtime/runtime_impl.h"
#include "runtime/support/check.h"

using namespace gdnjit;
using reference::HostTensor;

namespace {

// Null, with the reason printed, where the test cannot run.
std::unique_ptr<Runtime::Impl> gpu_runtime() {
  if (const auto reason = cuda::cuda_unavailable_reason()) {
    std::printf("SKIPPED: %s\n", reason->c_str());
    return nullptr;
  }
  Options options = Options::from_environment();
  options.device = "cuda";
  options.policy = Policy::heuristic;
  options.cache_directory.clear();
  return std::make_unique<Runtime::Impl>(options);
}

FieldMap with(FieldMap fields, std::string_view changes) {
  for (const auto& [name, value] : parse_fields(changes)) set_field(fields, name, value);
  return fields;
}

bool has_tokens(std::string_view name) {
  return name == "q" || name == "k" || name == "v" || name == "packed" || name == "a" || name == "b" || name == "o";
}

// The tensors of one problem on the device, for plans of other operators and other T.
class HeldTensors {
 public:
  HeldTensors(Runtime::Impl& runtime, const std::vector<HostTensor>& tensors)
      : tensors_(tensors), device_tensors_(runtime.device(), tensors, 256) {
    device_tensors_.upload(tensors_, nullptr);
  }

  TensorView view(std::string_view name) const {
    for (std::size_t index = 0; index < tensors_.size(); ++index) {
      if (tensors_[index].spec.name == name) return device_tensors_.views()[index];
    }
    return {};
  }

  // Tokens [first, first + count); the state in place once it has been read.
  void run(const OperatorPlan& plan, std::int64_t first, std::int64_t count) {
    std::vector<TensorView> views;
    for (const TensorSpec& spec : plan.tensors()) {
      TensorView tensor = view(spec.name == "state_in" && first > 0 ? "state_out" : spec.name);
      if (has_tokens(spec.name)) {
        tensor.data = static_cast<std::byte*>(tensor.data) + first * tensor.strides[1] * dtype_bytes(tensor.dtype);
        tensor.shape[1] = count;
      }
      views.push_back(tensor);
    }
    plan.run(views, nullptr);
  }

  std::vector<std::byte> bytes(std::string_view name) const {
    for (const HostTensor& tensor : device_tensors_.download(nullptr)) {
      if (tensor.spec.name == name) return tensor.bytes;
    }
    return {};
  }

 private:
  std::vector<HostTensor> tensors_;
  autotune::DeviceTensors device_tensors_;
};

}  // namespace

TEST_CASE("on the GPU too, T tokens in one call, T calls and gdn.recurrent leave the same bits") {
  const auto runtime = gpu_runtime();
  if (!runtime) return;
  const Operator& step = find_operator("gdn.step");
  for (const char* text : {"B=1 T=4", "B=64 T=2", "B=64 T=8", "B=16 T=16 state_layout=kv", "B=8 T=4 gate=channel_raw",
                           "B=8 T=4 H=30 HV=30 K=96 V=192 beta=two_sigmoid", "B=4 T=5 H=6 HV=6 K=256 V=512",
                           "B=4 T=3 H=2 HV=6 K=60 V=100", "B=4 T=3 io=f16 norm=max_eps gate=log beta=given",
                           "B=4 T=3 input_layout=qkvz", "B=4 T=3 H=1 HV=1 K=1100 V=16"}) {
    CAPTURE(text);
    const FieldMap fields = step.complete(with(parse_fields(text), "output=f32"));
    const auto inputs = reference::make_workload("gdn.step", fields, reference::Inputs::typical, 1)->tensors();
    std::int64_t T = 0;
    parse_field("T", *find_field(fields, "T"), T);

    HeldTensors verified(*runtime, inputs), decoded(*runtime, inputs), recurred(*runtime, inputs);
    verified.run(*make_plan(*runtime, step, fields), 0, T);
    const auto decode = make_plan(*runtime, step, with(fields, "T=1"));
    for (std::int64_t t = 0; t < T; ++t) decoded.run(*decode, t, 1);
    const FieldMap prompt = with(with(parse_fields(text), "output=f32"), "initial_state=dense");
    recurred.run(*make_plan(*runtime, find_operator("gdn.recurrent"), prompt), 0, T);
    runtime->device().synchronize(nullptr);
    for (const char* name : {"o", "state_out"}) {
      CHECK(verified.bytes(name) == decoded.bytes(name));
      CHECK(recurred.bytes(name) == decoded.bytes(name));
    }
  }
}

TEST_CASE("on the GPU trees, roll-back, ragged batches and programmatic launches are right") {
  const auto runtime = gpu_runtime();
  if (!runtime) return;
  const std::string pool = "state_store=pool state_steps=pool num_accepted=pool";
  const auto check = [&](std::string_view name, const std::string& text) {
    CAPTURE(text);
    const Operator& op = find_operator(name);
    const FieldMap fields = op.complete(parse_fields(text));
    const auto plan = make_plan(*runtime, op, fields);
    for (const auto kind : {reference::Inputs::typical, reference::Inputs::brutal}) {
      const auto result = autotune::check(*plan, *reference::make_workload(name, fields, kind, 2));
      CHECK_MESSAGE(result.passed(), result.text());
    }
  };
  check("gdn.step", "B=9 T=8 H=4 HV=8 tree=true");
  check("gdn.step", "B=9 T=8 H=4 HV=8 tree=true state_steps=dense");
  check("gdn.step", "B=9 T=6 H=4 HV=8 tree=true " + pool);
  check("gdn.step", "B=9 T=4 H=4 HV=8 state=bf16 state_layout=kv update_state=false " + pool);
  check("gdn.step", "B=9 T=4 H=4 HV=8 write_output=false num_accepted=dense");
  check("gdn.recurrent", "B=9 T=40 H=4 HV=8 ragged=true initial_state=pool final_state=pool");
  check("gdn.recurrent", "B=9 T=40 H=4 HV=8 state=bf16 gate=channel_raw");
  if (!runtime->device().info().traits.arch.starts_with("sm_8")) {
    check("gdn.step", "B=9 T=1 H=4 HV=8 programmatic=true");
    check("gdn.step", "B=9 T=4 H=4 HV=8 programmatic=true");
  }
}

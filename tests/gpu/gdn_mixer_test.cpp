// gdn.step as a mixer on a real GPU, where blocks run when they like: right against the reference, and with the
// convolution's state in place the same bits as with old and new apart.
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

FieldMap mixer(const std::string& text) {
  return find_operator("gdn.step").complete(parse_fields("conv_width=4 gated_norm=silu " + text));
}

const std::vector<std::byte>& bytes_of(const std::vector<HostTensor>& tensors, std::string_view name) {
  for (const HostTensor& tensor : tensors) {
    if (tensor.spec.name == name) return tensor.bytes;
  }
  FAIL("no tensor ", std::string(name));
  return tensors[0].bytes;
}

}  // namespace

TEST_CASE("on the GPU mixers are right, with every tile of the search space") {
  const auto runtime = gpu_runtime();
  if (!runtime) return;
  const Operator& op = find_operator("gdn.step");
  const std::string pool = "state_store=pool state_steps=pool num_accepted=pool";
  std::vector<std::string> problems{"B=9 H=4 HV=12 input_layout=mixed_qkv",
                                    "B=9 H=4 HV=8 state=bf16 state_layout=kv input_layout=qkvz conv_bias=true",
                                    "B=9 T=4 H=4 HV=8 " + pool,
                                    "B=9 T=8 H=4 HV=8 tree=true " + pool,
                                    "B=9 T=16 H=4 HV=8 io=f32 output=f32 conv_state=f32",
                                    "B=5 H=6 HV=6 K=256 V=512",
                                    "B=5 H=3 HV=3 K=96 V=192 conv_width=3 gated_norm=sigmoid",
                                    "B=5 H=2 HV=6 K=60 V=100 conv_width=2"};
  if (!runtime->device().info().traits.arch.starts_with("sm_8"))
    problems.emplace_back("B=9 H=4 HV=8 programmatic=true");
  for (const std::string& text : problems) {
    const FieldMap fields = mixer(text);
    const auto workload = reference::make_workload("gdn.step", fields, reference::Inputs::typical, 2);
    for (const FieldMap& tiles : op.search_space(fields, runtime->device().info().traits)) {
      INFO(text << ", tiles " << fields_text(tiles));
      const auto result = autotune::check(*make_plan(*runtime, op, fields, tiles), *workload);
      CHECK_MESSAGE(result.passed(), result.text());
    }
  }
}

TEST_CASE("on the GPU the convolution's state may be in place, though blocks of a key head run waves apart") {
  const auto runtime = gpu_runtime();
  if (!runtime) return;
  for (const char* text : {"B=256 H=4 HV=32", "B=64 T=4 H=16 HV=32", "B=300 H=1 HV=3 V=96"}) {
    CAPTURE(text);
    const FieldMap fields = mixer(text);
    const auto plan = make_plan(*runtime, find_operator("gdn.step"), fields);
    const auto inputs = reference::make_workload("gdn.step", fields, reference::Inputs::typical, 3)->tensors();
    autotune::DeviceTensors tensors(runtime->device(), inputs, 256);
    tensors.upload(inputs, nullptr);
    plan->run(tensors.views(), nullptr);
    const std::vector<HostTensor> apart = tensors.download(nullptr);

    std::vector<TensorView> in_place = tensors.views();
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      for (std::size_t j = 0; j < inputs.size(); ++j) {
        const std::string& out = inputs[i].spec.name;
        if (out.ends_with("state_out") && inputs[j].spec.name == out.substr(0, out.size() - 3) + "in") {
          in_place[i] = in_place[j];
        }
      }
    }
    for (int repeat = 0; repeat < 20; ++repeat) {
      tensors.upload(inputs, nullptr);
      plan->run(in_place, nullptr);
      const std::vector<HostTensor> now = tensors.download(nullptr);
      CHECK(bytes_of(now, "o") == bytes_of(apart, "o"));
      CHECK(bytes_of(now, "state_in") == bytes_of(apart, "state_out"));
      CHECK(bytes_of(now, "conv_state_in") == bytes_of(apart, "conv_state_out"));
      CHECK(bytes_of(now, "conv_ticket") == bytes_of(inputs, "conv_ticket"));
    }
  }
}

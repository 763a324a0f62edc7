// The grouped class of moe.up and moe.down on a real GPU: every tile of its search space, formats and options, and a
// launch of many thousands of rows.
#include <doctest/doctest.h>

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "autotune/checker.h"
#include "codegen/registry.h"
#include "runtime/cuda/cuda_device.h"
#include "runtime/plan.h"
#include "runtime/runtime_impl.h"

using namespace gdnjit;

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

// Tiles of the grouped class, every `step`-th; two runs of each must agree in all bits.
void check_tiles(Runtime::Impl& runtime, const char* operator_name, const std::string& text, std::size_t step) {
  const Operator& op = find_operator(operator_name);
  const FieldMap problem = op.complete(parse_fields(text));
  const auto workload = reference::make_workload(operator_name, problem, reference::Inputs::typical, 11);
  const auto space = op.search_space(problem, runtime.device().info().traits);
  for (std::size_t i = 0; i < space.size(); i += step) {
    if (*find_field(space[i], "path") == "matvec") continue;
    INFO(operator_name << " " << text << ", tiles " << fields_text(space[i]));
    const auto plan = make_plan(runtime, op, problem, space[i]);
    const autotune::CheckResult result = autotune::check(*plan, *workload);
    CHECK_MESSAGE(result.passed(), result.text());
  }
}

}  // namespace

TEST_CASE("on the GPU every tile of the grouped class is right") {
  const auto runtime = gpu_runtime();
  if (!runtime) return;
  for (const char* op : {"moe.up", "moe.down"}) {
    check_tiles(*runtime, op, "M=300 D=512 I=352 E=8 k=2", 1);
    check_tiles(*runtime, op, "M=700 D=1024 I=704 E=16 k=4 shared_size=512 shared_gate=true", 3);
    check_tiles(*runtime, op,
                "M=300 D=512 I=352 E=8 k=2 io=f16 h=f16 weights=f16 up_bias=true down_bias=true gate_order=interleaved",
                5);
  }
}

TEST_CASE("on the GPU every format is right in the grouped class") {
  const auto runtime = gpu_runtime();
  if (!runtime) return;
  for (const char* op : {"moe.up", "moe.down"}) {
    for (const char* weights : {"int4 zero_point=packed", "int4 group_size=32 zero_point=real", "int8 group_size=0",
                                "fp8_block", "mxfp4", "nvfp4", "bf16 io=f32 h=f32", "f16"}) {
      check_tiles(*runtime, op, std::string("M=300 D=512 I=352 E=8 k=2 gate_order=interleaved weights=") + weights, 7);
    }
  }
}

TEST_CASE("on the GPU both products are right on e4m3") {
  const auto runtime = gpu_runtime();
  if (!runtime) return;
  for (const char* op : {"moe.up", "moe.down"}) {
    const std::string fp8 = "weights=fp8_block activations=fp8 ";
    check_tiles(*runtime, op, fp8 + "M=300 D=512 I=352 E=8 k=2", 1);
    check_tiles(*runtime, op, fp8 + "M=700 D=1024 I=704 E=16 k=4 shared_size=512 shared_gate=true", 3);
    check_tiles(*runtime, op, fp8 + "M=300 D=4096 I=336 E=8 k=2 gate_order=interleaved up_bias=true down_bias=true", 3);
    check_tiles(*runtime, op, fp8 + "M=5 D=512 I=352 E=64 k=8 io=f16 h=f16", 5);
    check_tiles(*runtime, op, fp8 + "M=4096 D=256 I=128 E=256 k=8 expert_map=true", 7);
  }
}

TEST_CASE("on the GPU many experts share a launch of many thousands of rows") {
  const auto runtime = gpu_runtime();
  if (!runtime) return;
  for (const char* op : {"moe.up", "moe.down"}) {
    check_tiles(*runtime, op, "M=4096 D=256 I=128 E=256 k=8 shared_size=128", 4);
    check_tiles(*runtime, op, "M=4096 D=256 I=128 E=256 k=8 expert_map=true id_dtype=i64", 9);
  }
}

// moe.route and moe.align on a real GPU, with every tile of their search spaces, from one token to many thousands.
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

// Both kinds of inputs with every tile; two runs of each must agree in all bits.
void check_everywhere(Runtime::Impl& runtime, const char* operator_name, const char* text) {
  const std::string& arch = runtime.device().info().traits.arch;
  if (arch.starts_with("sm_8") && std::string_view(text).find("programmatic") != std::string_view::npos) return;
  const Operator& op = find_operator(operator_name);
  const FieldMap problem = op.complete(parse_fields(text));
  for (const FieldMap& tiles : op.search_space(problem, runtime.device().info().traits)) {
    const auto plan = make_plan(runtime, op, problem, tiles);
    for (const auto inputs : {reference::Inputs::typical, reference::Inputs::brutal}) {
      INFO(text << ", tiles " << fields_text(tiles) << ", inputs " << static_cast<int>(inputs));
      const auto workload = reference::make_workload(operator_name, problem, inputs, 11);
      const autotune::CheckResult result = autotune::check(*plan, *workload);
      CHECK_MESSAGE(result.passed(), result.text());
    }
  }
}

}  // namespace

TEST_CASE("on the GPU tokens are routed right") {
  const auto runtime = gpu_runtime();
  if (!runtime) return;
  for (const char* text :
       {"M=1 E=256 k=8 renormalize=true logits=bf16", "M=5000 E=256 k=8 renormalize=true logits=bf16",
        "M=333 E=256 k=8 scoring=sigmoid selection_bias=true renormalize=true groups=8 groups_kept=4 "
        "group_score=top2_sum scaling=2.5",
        "M=333 E=384 k=8 scoring=sigmoid selection_bias=true bias_dtype=bf16",
        "M=77 E=32 k=4 scoring=topk_softmax "
        "router_bias=true logits=f16 id_dtype=i64",
        "M=77 E=160 k=6 groups=8 groups_kept=3 scaling=16", "M=77 E=513 k=11 softcap=30 programmatic=true",
        "M=77 E=1024 k=32 logits=bf16", "M=77 E=1024 k=32", "M=3 E=1 k=1"}) {
    check_everywhere(*runtime, "moe.route", text);
  }
}

TEST_CASE("on the GPU pairs are sorted by expert") {
  const auto runtime = gpu_runtime();
  if (!runtime) return;
  for (const char* text :
       {"M=1 k=8 E=256", "M=64 k=8 E=256 block_m=64", "M=4096 k=8 E=256 block_m=64",
        "M=20000 k=10 E=512 block_m=128 layout=contiguous", "M=5000 k=8 E=256 layout=masked max_rows=200",
        "M=777 k=8 E=64 expert_map=true known_experts=256 id_dtype=i64",
        "M=777 k=32 E=1024 block_m=24 programmatic=true", "M=0 k=8 E=256"}) {
    check_everywhere(*runtime, "moe.align", text);
  }
}

// NVRTC on the step kernel, one thread, from source text to PTX and cubin.
#include <string>
#include <variant>

#include "codegen/gdn/options_names.h"
#include "codegen/registry.h"
#include "runtime/runtime_impl.h"
#include "runtime/support/heap.h"
#include "tools/bench/fixture.h"

namespace gdnjit::bench {
namespace {

void compile_step(benchmark::State& state, const std::string& arch) {
  const ScratchFolder scratch;
  const Runtime runtime = null_runtime(scratch.path());
  const Operator& op = find_operator("gdn.step");
  const FieldMap problem = op.complete(to_fields(qwen3_next_step(64)));
  const Target target = parse_target(arch);
  const auto instance = op.instantiate(problem, op.default_tiles(problem, DeviceTraits{.arch = arch}), target);
  Compiler& compiler = runtime.impl().compiler();
  std::size_t cubin_bytes = 0;
  for (auto _ : state) {
    const CompileResult result = compiler.compile(instance->kernels()[0]);
    const auto* kernel = std::get_if<CompiledKernel>(&result);
    if (kernel == nullptr) {
      state.SkipWithError("NVRTC refused the kernel");
      break;
    }
    cubin_bytes = kernel->cubin.size();
  }
  state.counters["cubin_bytes"] = static_cast<double>(cubin_bytes);
  state.SetLabel(compiler.toolchain());
}

// As gdn-tune compiles, which keeps its heap; behind the others, for it stays kept.
void compile_step_in_tool(benchmark::State& state, const std::string& arch) {
  keep_heap();
  compile_step(state, arch);
}

// One compile a repetition, so that the median that is reported is one over compiles.
BENCHMARK_CAPTURE(compile_step, sm_90a, "sm_90a")->Iterations(1)->Repetitions(15)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(compile_step, sm_80, "sm_80")->Iterations(1)->Repetitions(15)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(compile_step, sm_100, "sm_100")->Iterations(1)->Repetitions(15)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(compile_step_in_tool, sm_90a, "sm_90a")
    ->Iterations(1)
    ->Repetitions(15)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace gdnjit::bench

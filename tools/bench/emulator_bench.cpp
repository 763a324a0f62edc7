// The emulator's speed on the step kernel, with its checks on.
#include "runtime/runtime_impl.h"
#include "tools/bench/fixture.h"

namespace gdnjit::bench {
namespace {

void emulate_step(benchmark::State& state) {
  const ScratchFolder scratch;
  Options options = Options::from_environment();
  options.cache_directory = scratch.path();
  options.device = "emulator";
  Runtime runtime(options);
  const gdn::StepProblem problem = qwen3_next_step(state.range(0));
  const StepTensors tensors(runtime, problem);
  const gdn::StepPlan plan = gdn::plan(runtime, problem);
  std::uint64_t lane_instructions = 0;
  for (auto _ : state) {
    plan.run(tensors.args());
    lane_instructions += runtime.impl().device().last_counters()->lane_instructions;
  }
  state.counters["lane_instructions"] =
      benchmark::Counter(static_cast<double>(lane_instructions), benchmark::Counter::kIsRate);
}
BENCHMARK(emulate_step)->Arg(1)->Arg(8)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace gdnjit::bench

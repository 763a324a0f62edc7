// The decode step on a GPU against its floor, B = 1..1024: the table of docs/performance.md; verification of T tokens
// and gdn.recurrent beside it. Run `gdn-tune tune` on the same problems first; without records the default tiles are
// timed.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "autotune/timer.h"
#include "codegen/gdn/options_names.h"
#include "codegen/gdn/step.h"
#include "codegen/registry.h"
#include "runtime/device_choice.h"
#include "runtime/runtime_impl.h"
#include "tests/reference/workload.h"
#include "tools/bench/fixture.h"

namespace gdnjit::bench {
namespace {

double median(std::vector<double> samples) {
  const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
  std::nth_element(samples.begin(), middle, samples.end());
  return *middle;
}

// Launches in a graph replay, states rotated past the L2.
void time_problem(benchmark::State& state, const Operator& op, const FieldMap& fields) {
  Runtime& runtime = machine_runtime();
  const FieldMap problem = op.complete(fields);
  const auto plan = make_plan(runtime.impl(), op, problem);
  const auto workload = reference::make_workload(op.name(), problem, reference::Inputs::typical, 1);
  double time_us = 0;
  for (auto _ : state) {
    time_us = median(autotune::time_plans({plan}, *workload, autotune::TimingOptions{}).front());
    state.SetIterationTime(time_us * 1e-6);
  }
  const Footprint footprint = op.footprint(problem);
  const auto bytes = static_cast<double>(footprint.bytes_read + footprint.bytes_written);
  const double floor_us = bytes / runtime.impl().device().info().traits.memory_bytes_per_us;
  state.counters["floor_us"] = floor_us;
  state.counters["of_floor"] = floor_us / time_us;
  state.counters["GB/s"] = bytes / time_us * 1e-3;
  state.SetLabel(plan->info().tiles + " (" + std::string(tiles_from_text(plan->info().tiles_from)) + ")");
}

void decode_step(benchmark::State& state) {
  time_problem(state, find_operator("gdn.step"), to_fields(qwen3_next_step(state.range(0))));
}

// Arguments B and T.
void verify_step(benchmark::State& state) {
  gdn::StepProblem problem = qwen3_next_step(state.range(0));
  problem.tokens = static_cast<int>(state.range(1));
  time_problem(state, find_operator("gdn.step"), to_fields(problem));
}

void recurrent(benchmark::State& state) {
  const gdn::RecurrentProblem problem{.batch = state.range(0), .tokens = state.range(1)};
  time_problem(state, find_operator("gdn.recurrent"), to_fields(problem));
}

}  // namespace

void register_decode_benchmarks() {
  const DeviceSources sources = system_device_sources();
  if (sources.cuda_device_count() == 0) {
    fmt::print(stderr, "decode_step is left out: {}\n", sources.cuda_unavailable_reason());
    return;
  }
  benchmark::RegisterBenchmark("decode_step", decode_step)
      ->RangeMultiplier(2)
      ->Range(1, 1024)
      ->Iterations(1)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark("verify_step", verify_step)
      ->ArgsProduct({{1, 8, 64, 256}, {2, 3, 4, 8, 16}})
      ->Iterations(1)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark("recurrent", recurrent)
      ->ArgsProduct({{1, 64}, {16, 64, 256}})
      ->Iterations(1)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}

}  // namespace gdnjit::bench

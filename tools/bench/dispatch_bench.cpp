// What a call costs on the host once its kernel is loaded.
#include <array>

#include "codegen/gdn/options_names.h"
#include "codegen/registry.h"
#include "runtime/device.h"
#include "runtime/runtime_impl.h"
#include "tools/bench/fixture.h"

namespace gdnjit::bench {
namespace {

// A runtime with the plans of eight batch sizes in its cache, shared by the benchmarks of this file.
class Planned {
 public:
  static Planned& instance() {
    static Planned planned;
    return planned;
  }
  static constexpr std::size_t kProblems = 8;
  Runtime& runtime() { return runtime_; }
  const gdn::StepProblem& problem(std::size_t index) const { return problems_[index % kProblems]; }
  const gdn::StepArgs& args() const { return tensors_.args(); }

 private:
  Planned() : runtime_(null_runtime(scratch_.path())), tensors_(runtime_, qwen3_next_step(1)) {
    for (std::size_t index = 0; index < kProblems; ++index) {
      problems_[index] = qwen3_next_step(std::int64_t{1} << index);
      gdn::plan(runtime_, problems_[index]);
    }
  }
  ScratchFolder scratch_;
  Runtime runtime_;
  StepTensors tensors_;
  std::array<gdn::StepProblem, kProblems> problems_;
};

// The same layer again and again: the thread's memo answers.
void plan_lookup_same_problem(benchmark::State& state) {
  Planned& planned = Planned::instance();
  for (auto _ : state) benchmark::DoNotOptimize(gdn::plan(planned.runtime(), planned.problem(0)));
}
BENCHMARK(plan_lookup_same_problem);

// Eight problems in turn: the hash map answers.
void plan_lookup_eight_problems(benchmark::State& state) {
  Planned& planned = Planned::instance();
  std::size_t index = 0;
  for (auto _ : state) benchmark::DoNotOptimize(gdn::plan(planned.runtime(), planned.problem(index++)));
}
BENCHMARK(plan_lookup_eight_problems)->ThreadRange(1, 2);

// Argument checks, the parameter block and the grid: all that a held plan does before the driver's launch.
void run_held_plan(benchmark::State& state) {
  Planned& planned = Planned::instance();
  const gdn::StepPlan plan = gdn::plan(planned.runtime(), planned.problem(0));
  for (auto _ : state) plan.run(planned.args());
}
BENCHMARK(run_held_plan);

// Look-up and run: the whole host side of a call that holds no plan.
void step_call(benchmark::State& state) {
  Planned& planned = Planned::instance();
  for (auto _ : state) gdn::step(planned.runtime(), planned.problem(0), planned.args());
}
BENCHMARK(step_call);

// From a problem to the generated source: what a plan that is not in the plan cache pays first.
void write_source(benchmark::State& state) {
  const Operator& op = find_operator("gdn.step");
  const FieldMap problem = op.complete(to_fields(qwen3_next_step(1)));
  const FieldMap tiles = op.default_tiles(problem, DeviceTraits{});
  for (auto _ : state) benchmark::DoNotOptimize(op.instantiate(problem, tiles, Target{}));
}
BENCHMARK(write_source)->Unit(benchmark::kMicrosecond);

// The key of that source, with every template that it includes.
void derive_key(benchmark::State& state) {
  const Operator& op = find_operator("gdn.step");
  const FieldMap problem = op.complete(to_fields(qwen3_next_step(1)));
  const auto instance = op.instantiate(problem, op.default_tiles(problem, DeviceTraits{}), Target{});
  const TemplateSet& templates = TemplateSet::embedded();
  for (auto _ : state)
    benchmark::DoNotOptimize(kernel_key(request_digest(instance->kernels()[0], templates), "nvrtc 13.0.88"));
}
BENCHMARK(derive_key)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace gdnjit::bench

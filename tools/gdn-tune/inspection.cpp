#include "tools/gdn-tune/inspection.h"

#include "autotune/checker.h"
#include "autotune/evaluator.h"
#include "runtime/emulator/emulator_device.h"
#include "runtime/plan.h"
#include "runtime/support/check.h"
#include "tools/gdn-tune/binary.h"
#include "tools/gdn-tune/units.h"

namespace gdnjit::tool {
namespace {

// Another compiler's results with the templates' lines in them.
class LineInfoCompiler : public Compiler {
 public:
  explicit LineInfoCompiler(Compiler& compiler) : compiler_(compiler) {}
  std::string toolchain() override { return compiler_.toolchain(); }
  CompileResult compile(const KernelSpec& spec) override {
    KernelSpec with_lines = spec;
    with_lines.line_info = true;
    return compiler_.compile(with_lines);
  }

 private:
  Compiler& compiler_;
};

// In a runtime of its own, whose cache is memory: binaries with lines are for nobody else.
void count(Runtime::Impl& runtime, Inspection& inspection) {
  Options options = runtime.options();
  options.cache_directory.clear();
  options.read_only_caches.clear();
  options.policy = Policy::heuristic;
  Runtime::Impl profiled(options, make_emulator(inspection.arch),
                         std::make_unique<LineInfoCompiler>(runtime.compiler()));
  const Operator& op = *inspection.selected->op;
  const FieldMap& problem = inspection.selected->problem;
  const auto plan = make_plan(profiled, op, problem, inspection.tiles);
  const auto workload = reference::make_workload(op.name(), problem, reference::Inputs::typical, 1);
  profiled.device().set_profiling(true);
  autotune::check(*plan, *workload);
  if (const LaunchCounters* counters = profiled.device().last_counters()) inspection.counters = *counters;
  inspection.profile = profiled.device().last_profile();
  inspection.counters_note = "counted on the " + profiled.device().info().name;
}

}  // namespace

Inspection inspect(Runtime::Impl& runtime, const SelectedProblem& selected, const FieldMap& tiles,
                   std::int64_t most_counted_bytes) {
  const Operator& op = *selected.op;
  Inspection inspection;
  inspection.selected = &selected;
  inspection.arch = runtime.device().info().traits.arch;
  inspection.tiles = tiles;
  const auto instance = op.instantiate(selected.problem, tiles, Target{inspection.arch});
  inspection.geometry = instance->geometry(autotune::batch_of(selected.problem));
  inspection.floor = op.footprint(selected.problem);
  inspection.binary = find_or_build(runtime, selected, instance->spec()).binary;
  if (inspection.binary->status != cache::BinaryStatus::ready) {
    inspection.counters_note = "not counted: the compile failed";
    return inspection;
  }
  const std::uint32_t(&block)[3] = inspection.geometry.block;
  inspection.occupancy = occupancy(runtime.device().info().traits, inspection.binary->registers,
                                   static_cast<int>(block[0] * block[1] * block[2]), inspection.shared_bytes());
  const std::int64_t bytes = inspection.floor.bytes_read + inspection.floor.bytes_written;
  if (bytes > most_counted_bytes) {
    inspection.counters_note = fmt::format("not counted: {} would move; --counters-mb raises the limit of {}",
                                           bytes_text(bytes), bytes_text(most_counted_bytes));
    return inspection;
  }
  try {
    count(runtime, inspection);
  } catch (const Error& error) {
    inspection.counters_note = fmt::format("not counted: {}", error.what());
  }
  return inspection;
}

}  // namespace gdnjit::tool

#include "tools/gdn-tune/inspection.h"

#include <algorithm>
#include <utility>

#include "autotune/checker.h"
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
void count(Runtime::Impl& runtime, std::vector<Inspection>& inspections) {
  const Inspection& first = inspections.front();
  Options options = runtime.options();
  options.cache_directory.clear();
  options.read_only_caches.clear();
  options.policy = Policy::heuristic;
  Runtime::Impl profiled(options, make_emulator(first.arch), std::make_unique<LineInfoCompiler>(runtime.compiler()));
  const Operator& op = *first.selected->op;
  const FieldMap& problem = first.selected->problem;
  const auto plan = make_plan(profiled, op, problem, first.tiles);
  const auto workload = reference::make_workload(op.name(), problem, reference::Inputs::typical, 1);
  profiled.device().set_profiling(true);
  autotune::CheckResult result = autotune::check(*plan, *workload);
  for (Inspection& inspection : inspections) inspection.counters_note = "not counted: nothing to launch";
  for (autotune::KernelCounts& counts : result.counts) {
    Inspection& inspection = inspections[counts.kernel];
    inspection.counters = counts.counters;
    inspection.profile = std::move(counts.profile);
    inspection.counters_note = "counted on the " + profiled.device().info().name;
  }
}

Inspection inspect_kernel(Runtime::Impl& runtime, const SelectedProblem& selected, const KernelSpec& spec,
                          const LaunchGeometry& geometry) {
  Inspection inspection;
  inspection.selected = &selected;
  inspection.arch = runtime.device().info().traits.arch;
  inspection.geometry = geometry;
  inspection.binary = find_or_build(runtime, selected, spec).binary;
  if (inspection.binary->status == cache::BinaryStatus::ready) {
    const std::uint32_t(&block)[3] = geometry.block;
    inspection.occupancy = occupancy(runtime.device().info().traits, inspection.binary->registers,
                                     static_cast<int>(block[0] * block[1] * block[2]), inspection.shared_bytes());
  }
  return inspection;
}

bool all_ready(const std::vector<Inspection>& inspections) {
  return std::all_of(inspections.begin(), inspections.end(), [](const Inspection& inspection) {
    return inspection.binary->status == cache::BinaryStatus::ready;
  });
}

}  // namespace

std::vector<Inspection> inspect(Runtime::Impl& runtime, const SelectedProblem& selected, const FieldMap& tiles,
                                std::int64_t most_counted_bytes) {
  const Operator& op = *selected.op;
  const auto instance = op.instantiate(selected.problem, tiles, Target{runtime.device().info().traits.arch});
  const std::vector<LaunchGeometry> geometries = instance->geometries();
  const Footprint floor = op.footprint(selected.problem);
  std::vector<Inspection> inspections;
  for (std::size_t kernel = 0; kernel < geometries.size(); ++kernel) {
    inspections.push_back(inspect_kernel(runtime, selected, instance->kernels()[kernel], geometries[kernel]));
    inspections.back().tiles = tiles;
    inspections.back().kernel = kernel;
    inspections.back().floor = floor;
  }
  const std::int64_t bytes = floor.bytes_read + floor.bytes_written;
  std::string note;
  if (!all_ready(inspections)) {
    note = "not counted: the compile failed";
  } else if (bytes > most_counted_bytes) {
    note = fmt::format("not counted: {} would move; --counters-mb raises the limit of {}", bytes_text(bytes),
                       bytes_text(most_counted_bytes));
  } else {
    try {
      count(runtime, inspections);
      return inspections;
    } catch (const Error& error) {
      note = fmt::format("not counted: {}", error.what());
    }
  }
  for (Inspection& inspection : inspections) inspection.counters_note = note;
  return inspections;
}

}  // namespace gdnjit::tool

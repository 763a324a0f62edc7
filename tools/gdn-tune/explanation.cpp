#include <utility>

#include "autotune/checker.h"
#include "runtime/device_choice.h"
#include "runtime/plan.h"
#include "runtime/support/check.h"
#include "runtime/tile_lookup.h"
#include "tools/gdn-tune/binary.h"
#include "tools/gdn-tune/explain.h"
#include "tools/gdn-tune/units.h"

namespace gdnjit::tool {
namespace {

std::string why(const Runtime::Impl& runtime, const Explanation& explanation) {
  const std::string& device = runtime.device().info().name;
  if (runtime.options().policy == Policy::heuristic) return "policy heuristic: tuning records are not looked at";
  switch (explanation.tiles_from) {
    case TilesFrom::exact: return fmt::format("tuned for this problem on {}", device);
    case TilesFrom::bucket:
      return fmt::format("tuned on {} for the nearest batch, which lies inside the measured range", device);
    case TilesFrom::hint: return fmt::format("tuned on another device of {}", runtime.device().info().traits.arch);
    case TilesFrom::given: return "given";
    case TilesFrom::heuristic: break;
  }
  return explanation.records.empty() ? "the default: no tuning record for this problem"
                                     : fmt::format("the default: none of {} fits this device and basis",
                                                   plural(explanation.records.size(), "tuning record"));
}

// Runs the call once on the emulator: the device itself, or one of the device's architecture beside it.
void count(Runtime::Impl& runtime, std::int64_t most_bytes, Explanation& explanation) {
  const Operator& op = *explanation.selected->op;
  const std::int64_t bytes = explanation.floor.bytes_read + explanation.floor.bytes_written;
  if (bytes > most_bytes) {
    explanation.counters_note = fmt::format("not counted: {} would move; --counters-mb raises the limit of {}",
                                            bytes_text(bytes), bytes_text(most_bytes));
    return;
  }
  std::unique_ptr<Runtime::Impl> beside;
  Runtime::Impl* emulating = &runtime;
  if (runtime.device().info().kind != DeviceKind::emulator) {
    Options options = runtime.options();
    options.set("device", "emulator:" + runtime.device().info().traits.arch);
    beside = std::make_unique<Runtime::Impl>(options);
    emulating = beside.get();
  }
  const auto plan = make_plan(*emulating, op, explanation.selected->problem, explanation.tiles);
  const auto workload =
      reference::make_workload(op.name(), explanation.selected->problem, reference::Inputs::typical, 1);
  for (autotune::KernelCounts& counts : autotune::check(*plan, *workload).counts) {
    explanation.kernels[counts.kernel].counters = counts.counters;
    explanation.kernels[counts.kernel].traffic = std::move(counts.traffic);
  }
  explanation.counters_note = "counted on the " + plan->device().info().name;
}

std::vector<ExplainedKernel> explain_kernels(Runtime::Impl& runtime, const SelectedProblem& selected,
                                             const Instance& instance) {
  const std::vector<LaunchGeometry> geometries = instance.geometries();
  std::vector<ExplainedKernel> kernels;
  for (const KernelSpec& spec : instance.kernels()) {
    ExplainedKernel kernel;
    kernel.spec = &spec;
    kernel.geometry = geometries[kernels.size()];
    for (const TemplateFile* file : runtime.templates().closure(spec.source)) kernel.templates.push_back(file->name);
    const FoundBinary found = find_or_build(runtime, selected, spec);
    kernel.binary = found.binary;
    kernel.compiled = found.compiled;
    kernels.push_back(std::move(kernel));
  }
  return kernels;
}

}  // namespace

Explanation explain(Runtime::Impl& runtime, const SelectedProblem& selected, std::int64_t most_counted_bytes) {
  const Operator& op = *selected.op;
  const DeviceInfo& device = runtime.device().info();
  Explanation explanation;
  explanation.selected = &selected;
  // A plan tunes if it must; from here on the record is there.
  if (runtime.options().policy == Policy::tune_on_miss) make_plan(runtime, op, selected.problem);
  explanation.bucket = op.complete(op.tuning_bucket(selected.problem));
  explanation.records = runtime.cache().find_tuning(op.name(), fields_text(explanation.bucket), "");
  const TileChoice choice =
      choose_tiles(runtime.cache(), device, op, selected.problem, runtime.options().policy != Policy::heuristic);
  explanation.tiles = choice.tiles;
  explanation.tiles_from = choice.from;
  explanation.why = why(runtime, explanation);
  explanation.instance = choice.instance;
  explanation.floor = op.footprint(selected.problem);
  explanation.kernels = explain_kernels(runtime, selected, *choice.instance);
  if (!explanation.refused()) {
    try {
      count(runtime, most_counted_bytes, explanation);
    } catch (const Error& error) {
      explanation.failure = error;
      explanation.counters_note = fmt::format("not counted: {}", error.what());
    }
  } else {
    explanation.counters_note = "not counted: the compile failed";
  }
  return explanation;
}

}  // namespace gdnjit::tool

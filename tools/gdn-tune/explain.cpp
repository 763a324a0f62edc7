// gdn-tune explain: what a problem becomes on a device, and why.
#include "tools/gdn-tune/explain.h"

#include <fmt/format.h>

#include <algorithm>

#include "autotune/tune_hook.h"
#include "codegen/registry.h"
#include "runtime/support/check.h"
#include "tools/gdn-tune/command.h"
#include "tools/gdn-tune/interrupt.h"
#include "tools/gdn-tune/report.h"
#include "tools/gdn-tune/runtime_arguments.h"
#include "tools/gdn-tune/units.h"

namespace gdnjit::tool {
namespace {

constexpr std::int64_t kSectorBytes = 32;

std::string extent_text(const std::uint32_t (&extent)[3]) {
  return fmt::format("{} x {} x {}", extent[0], extent[1], extent[2]);
}

std::string sector_bytes_text(std::uint64_t sectors) {
  return bytes_text(static_cast<std::int64_t>(sectors) * kSectorBytes);
}

// "2.1 MB in sectors, 1.01 of the least"
std::string traffic_text(std::uint64_t sectors, std::int64_t least) {
  const std::int64_t bytes = static_cast<std::int64_t>(sectors) * kSectorBytes;
  const std::string moved = fmt::format("{} in sectors of 32 bytes", sector_bytes_text(sectors));
  if (least <= 0) return moved;
  return fmt::format("{}, {:.3f} of the least", moved, static_cast<double>(bytes) / static_cast<double>(least));
}

class ExplainCommand : public Command {
 public:
  void declare(Arguments& arguments) override {
    selection_.declare(arguments);
    arguments.group("Explaining");
    arguments.flag("source", source_, "Print the generated source and nothing else");
    arguments.flag("ptx", ptx_, "Print the PTX and nothing else");
    arguments.flag("log", log_, "Add the compiler's log");
    arguments.option("counters-mb", counters_mb_, 0,
                     "Count launches on the emulator that move at most N MB (default 64)");
    runtime_.declare_device(arguments);
    runtime_.declare_cache(arguments);
    runtime_.declare_compiler(arguments);
  }

  Result run(Console& console) override {
    const Selection selection = select_problems(selection_, operators());
    for (const std::string& note : selection.notes) console.note(note);
    require(!selection.problems.empty(), "no problem is left to explain");
    Runtime::Impl runtime(runtime_.options());
    autotune::register_tune_hook(runtime);
    Result result;
    result.report["device"] = runtime.device().info().name;
    result.report["cache"] = runtime.cache().file().string();
    result.report["problems"] = Json::array();
    for (const SelectedProblem& selected : selection.problems) {
      if (interrupted()) {
        result.exit_code = kInterruptedExitCode;
        break;
      }
      const Explanation explanation =
          explain(runtime, selected, source_ || ptx_ ? -1 : static_cast<std::int64_t>(counters_mb_) << 20);
      result.report["problems"].push_back(json_of_explanation(explanation));
      print(console, runtime, explanation);
      if (explanation.refused()) {
        result.exit_code = static_cast<int>(ErrorCode::compile_failed);
      } else if (explanation.failure) {
        result.exit_code = static_cast<int>(explanation.failure->code());
      }
    }
    return result;
  }

 private:
  void print(const Console& console, const Runtime::Impl& runtime, const Explanation& explanation) const {
    for (const ExplainedKernel& kernel : explanation.kernels) {
      if (source_) console.print(kernel.spec->source + "\n");
      if (ptx_) console.print(kernel.binary->ptx + "\n");
    }
    if (source_ || ptx_) return;
    print_choice(console, runtime, explanation);
    for (const ExplainedKernel& kernel : explanation.kernels) print_kernel(console, runtime, kernel);
    print_records(console, explanation);
    print_counters(console, explanation);
    for (const ExplainedKernel& kernel : explanation.kernels) {
      const bool refused = kernel.binary->status == cache::BinaryStatus::compile_failed;
      if (log_ || refused)
        console.print(fmt::format("\nCompiler log of {}\n{}\n", kernel.binary->entry, kernel.binary->log));
    }
    console.print("\n");
  }

  static void line(const Console& console, std::string_view label, const std::string& text) {
    console.print(fmt::format("  {} {}\n", console.styled(fmt::format("{:<10}", label), Style::faint), text));
  }

  static void print_choice(const Console& console, const Runtime::Impl& runtime, const Explanation& explanation) {
    const SelectedProblem& selected = *explanation.selected;
    const std::string origin = origin_text(selected);
    console.print(
        console.styled(fmt::format("{} on {}", selected.op->name(), runtime.device().info().name), Style::strong) +
        (origin.empty() ? "" : " for " + origin) + "\n");
    line(console, "problem", fields_text(selected.problem));
    line(console, "bucket", fields_text(explanation.bucket));
    line(console, "tiles", fields_text(explanation.tiles));
    line(console, "why", fmt::format("{} ({})", explanation.why, tiles_from_text(explanation.tiles_from)));
  }

  static void print_kernel(const Console& console, const Runtime::Impl& runtime, const ExplainedKernel& kernel) {
    const cache::BinaryRecord& binary = *kernel.binary;
    const LaunchGeometry& geometry = kernel.geometry;
    line(console, "signature", binary.signature);
    line(console, "key", binary.key.hex());
    line(console, "binary",
         binary.status == cache::BinaryStatus::compile_failed
             ? console.styled(fmt::format("refused by {}", binary.toolchain), Style::bad)
             : fmt::format("{} of cubin, {} of PTX, made by {} for {} in {:.0f} ms, {}",
                           bytes_text(static_cast<std::int64_t>(binary.cubin.size())),
                           bytes_text(static_cast<std::int64_t>(binary.ptx.size())), binary.toolchain, binary.arch,
                           binary.compile_ms, kernel.compiled ? "now" : "found in the cache"));
    line(console, "ptxas",
         fmt::format("{} registers, {} B spilled, {} B stack, {} B static shared memory", binary.registers,
                     binary.spill_store_bytes + binary.spill_load_bytes, binary.stack_bytes,
                     binary.static_shared_bytes));
    line(console, "launch",
         fmt::format("grid {}, block {}, {} B dynamic shared memory", extent_text(geometry.grid),
                     extent_text(geometry.block), geometry.shared_bytes));
    line(console, "source",
         fmt::format("{} lines, entry {}, in {} under the key; --source prints it",
                     std::count(binary.source.begin(), binary.source.end(), '\n'), binary.entry,
                     runtime.cache().file().string()));
    line(console, "templates", fmt::format("{}", fmt::join(kernel.templates, " ")));
  }

  static void print_records(const Console& console, const Explanation& explanation) {
    if (explanation.records.empty()) return;
    Table table({{"tiles", Table::Align::left, true},
                 {"time", Table::Align::right},
                 {"basis"},
                 {"status"},
                 {"error", Table::Align::right},
                 {"device", Table::Align::left, true},
                 {"note", Table::Align::left, true}});
    std::vector<cache::TuningRecord> records = explanation.records;
    std::stable_sort(records.begin(), records.end(), [](const auto& a, const auto& b) {
      return std::pair(a.status != cache::TuningStatus::ok, a.time_us) <
             std::pair(b.status != cache::TuningStatus::ok, b.time_us);
    });
    for (const cache::TuningRecord& record : records) {
      const bool ok = record.status == cache::TuningStatus::ok;
      std::string note = record.chosen ? "chosen" : record.is_default ? "default" : "";
      if (!record.reason.empty()) note += (note.empty() ? "" : ": ") + record.reason;
      table.add_row({{record.tiles, record.chosen ? Style::strong : Style::plain},
                     ok ? microseconds_text(record.time_us) : "",
                     std::string(basis_text(record.basis)),
                     {std::string(status_text(record.status)), ok ? Style::plain : Style::bad},
                     error_text(record.error),
                     record.device,
                     note});
    }
    console.print(fmt::format("\nTuning records of the bucket\n"));
    console.print(table);
  }

  static void print_counters(const Console& console, const Explanation& explanation) {
    console.print(fmt::format("\nA call ({})\n", explanation.counters_note));
    line(console, "least",
         fmt::format("{} read, {} written, {} operations", bytes_text(explanation.floor.bytes_read),
                     bytes_text(explanation.floor.bytes_written),
                     count_text(static_cast<std::uint64_t>(explanation.floor.flops))));
    std::uint64_t sectors_read = 0, sectors_written = 0;
    for (const ExplainedKernel& kernel : explanation.kernels) {
      sectors_read += kernel.counters ? kernel.counters->sectors_read : 0;
      sectors_written += kernel.counters ? kernel.counters->sectors_written : 0;
    }
    if (sectors_read + sectors_written == 0) return;
    line(console, "read", traffic_text(sectors_read, explanation.floor.bytes_read));
    line(console, "written", traffic_text(sectors_written, explanation.floor.bytes_written));
    for (const ExplainedKernel& kernel : explanation.kernels) {
      if (explanation.kernels.size() > 1) console.print(fmt::format("  {}\n", kernel.binary->entry));
      print_counters(console, kernel);
    }
  }

  static void print_counters(const Console& console, const ExplainedKernel& kernel) {
    if (!kernel.counters) return;
    for (const BufferTraffic& buffer : kernel.traffic) {
      if (buffer.sectors_read + buffer.sectors_written == 0) continue;  // variables of the module
      line(console, "  " + buffer.name,
           fmt::format("{} read, {} written", sector_bytes_text(buffer.sectors_read),
                       sector_bytes_text(buffer.sectors_written)));
    }
    for (const auto& [name, value] : counter_list(*kernel.counters)) {
      if (value > 0) console.print(fmt::format("  {:<26} {:>16}\n", name, count_text(value)));
    }
  }

  static Json json_of_kernel(const ExplainedKernel& kernel) {
    const LaunchGeometry& geometry = kernel.geometry;
    Json json = {
        {"signature", kernel.spec->signature},
        {"key", kernel.binary->key.hex()},
        {"compiled", kernel.compiled},
        {"binary", json_of(*kernel.binary)},
        {"log", kernel.binary->log},
        {"source", kernel.spec->source},
        {"templates", kernel.templates},
        {"launch", {{"grid", geometry.grid}, {"block", geometry.block}, {"shared_bytes", geometry.shared_bytes}}}};
    if (kernel.counters) {
      json["counters"] = json_of(*kernel.counters);
      for (const BufferTraffic& buffer : kernel.traffic) {
        json["traffic"][buffer.name] = {{"sectors_read", buffer.sectors_read},
                                        {"sectors_written", buffer.sectors_written}};
      }
    }
    return json;
  }

  static Json json_of_explanation(const Explanation& explanation) {
    const SelectedProblem& selected = *explanation.selected;
    Json records = Json::array(), kernels = Json::array();
    for (const cache::TuningRecord& record : explanation.records) records.push_back(json_of(record));
    for (const ExplainedKernel& kernel : explanation.kernels) kernels.push_back(json_of_kernel(kernel));
    return {{"operator", selected.op->name()},
            {"origins", selected.origins},
            {"problem", json_of(selected.problem)},
            {"bucket", json_of(explanation.bucket)},
            {"tiles", json_of(explanation.tiles)},
            {"tiles_from", tiles_from_text(explanation.tiles_from)},
            {"why", explanation.why},
            {"kernels", kernels},
            {"least",
             {{"bytes_read", explanation.floor.bytes_read},
              {"bytes_written", explanation.floor.bytes_written},
              {"flops", explanation.floor.flops}}},
            {"records", records},
            {"counters_note", explanation.counters_note}};
  }

  SelectionArguments selection_;
  RuntimeArguments runtime_;
  bool source_ = false;
  bool ptx_ = false;
  bool log_ = false;
  int counters_mb_ = 64;
};

}  // namespace

std::unique_ptr<Command> make_explain_command() { return std::make_unique<ExplainCommand>(); }

}  // namespace gdnjit::tool

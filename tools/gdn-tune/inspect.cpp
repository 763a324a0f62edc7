// gdn-tune inspect: what kernels cost, without a GPU: registers, occupancy, traffic, and the lines that cause it.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "codegen/registry.h"
#include "runtime/support/check.h"
#include "tools/gdn-tune/command.h"
#include "tools/gdn-tune/inspection.h"
#include "tools/gdn-tune/interrupt.h"
#include "tools/gdn-tune/report.h"
#include "tools/gdn-tune/runtime_arguments.h"
#include "tools/gdn-tune/tiles_choice.h"
#include "tools/gdn-tune/units.h"

namespace gdnjit::tool {
namespace {

constexpr double kSectorBytes = 32;

std::string ratio_of(double value, double least) { return least > 0 ? fmt::format("{:.3f}", value / least) : ""; }

std::string percent(double share) { return fmt::format("{:.0f} %", 100 * share); }

std::string place_text(const LineProfile& line) {
  return line.file.empty() ? fmt::format("PTX line {}", line.line) : fmt::format("{}:{}", line.file, line.line);
}

// "gdnjit_gdn_step qwen3-next-80b".
std::string kernel_text(const Inspection& inspection) {
  const std::string origin = origin_text(*inspection.selected);
  return origin.empty() ? inspection.binary->entry : fmt::format("{} {}", inspection.binary->entry, origin);
}

class InspectCommand : public Command {
 public:
  void declare(Arguments& arguments) override {
    selection_.declare(arguments);
    arguments.group("Inspecting");
    arguments.list("arch", archs_, "ARCH,..|all", "Architectures (default: the device's)");
    arguments.option("lines", lines_, 0, "Source lines to show, busiest first (default 12)");
    arguments.option("counters-mb", counters_mb_, 0,
                     "Count launches on the emulator that move at most N MB (default 64; 0: none)");
    tiles_.declare(arguments);
    runtime_.declare_cache(arguments);
    runtime_.declare_compiler(arguments);
  }

  Result run(Console& console) override {
    const Selection selection = select_problems(selection_, operators());
    for (const std::string& note : selection.notes) console.note(note);
    require(!selection.problems.empty(), "no problem is left to inspect");
    const std::vector<std::unique_ptr<Runtime::Impl>> runtimes = open_runtimes(runtime_.options(), archs_);
    std::vector<Inspection> inspections;
    Result result;
    for (const SelectedProblem& selected : selection.problems) {
      for (const auto& runtime : runtimes) {
        for (const FieldMap& tiles : tiles_.tiles_of(selected, *runtime)) {
          if (interrupted()) {
            result.exit_code = kInterruptedExitCode;
            break;
          }
          for (Inspection& kernel : inspect(*runtime, selected, tiles, static_cast<std::int64_t>(counters_mb_) << 20)) {
            inspections.push_back(std::move(kernel));
          }
        }
      }
    }
    print_figures(console, inspections);
    print_counts(console, inspections);
    for (const Inspection& inspection : inspections) print_lines(console, inspection);
    result.report["kernels"] = Json::array();
    for (const Inspection& inspection : inspections) {
      result.report["kernels"].push_back(json_of_inspection(inspection));
      if (inspection.binary->status == cache::BinaryStatus::compile_failed)
        result.exit_code = static_cast<int>(ErrorCode::compile_failed);
    }
    return result;
  }

 private:
  static void print_figures(const Console& console, const std::vector<Inspection>& inspections) {
    Table table({{"arch"},
                 {"kernel", Table::Align::left, true},
                 {"tiles", Table::Align::left, true},
                 {"regs", Table::Align::right},
                 {"spills", Table::Align::right},
                 {"stack", Table::Align::right},
                 {"shared", Table::Align::right},
                 {"threads", Table::Align::right},
                 {"blocks/SM", Table::Align::right},
                 {"occupancy", Table::Align::right},
                 {"limit"},
                 {"cubin", Table::Align::right}});
    for (const Inspection& inspection : inspections) {
      const cache::BinaryRecord& binary = *inspection.binary;
      const std::string kernel = kernel_text(inspection);
      if (binary.status != cache::BinaryStatus::ready) {
        table.add_row({inspection.arch,
                       kernel,
                       fields_text(inspection.tiles),
                       "",
                       "",
                       "",
                       "",
                       "",
                       "",
                       "",
                       {"refused by " + binary.toolchain, Style::bad},
                       ""});
        continue;
      }
      const std::uint32_t(&block)[3] = inspection.geometry.block;
      const int spills = binary.spill_store_bytes + binary.spill_load_bytes;
      table.add_row({inspection.arch,
                     kernel,
                     fields_text(inspection.tiles),
                     fmt::format("{}", binary.registers),
                     {bytes_text(spills), spills == 0 ? Style::plain : Style::bad},
                     bytes_text(binary.stack_bytes),
                     bytes_text(inspection.shared_bytes()),
                     fmt::format("{}", block[0] * block[1] * block[2]),
                     fmt::format("{}", inspection.occupancy.blocks),
                     percent(inspection.occupancy.share),
                     std::string(inspection.occupancy.limited_by),
                     bytes_text(static_cast<std::int64_t>(binary.cubin.size()))});
    }
    console.print(table);
  }

  // "read" and "written" are sectors over the least bytes; "conflicts" shared wavefronts over the ideal.
  static void print_counts(const Console& console, const std::vector<Inspection>& inspections) {
    Table table({{"arch"},
                 {"kernel", Table::Align::left, true},
                 {"read", Table::Align::right},
                 {"written", Table::Align::right},
                 {"conflicts", Table::Align::right},
                 {"warp instr", Table::Align::right},
                 {"lanes on", Table::Align::right},
                 {"tensor MACs", Table::Align::right},
                 {"divergent", Table::Align::right},
                 {"barriers", Table::Align::right}});
    for (const Inspection& inspection : inspections) {
      if (!inspection.counters) {
        console.note(fmt::format("{} on {}: {}", inspection.binary->entry, inspection.arch, inspection.counters_note));
        continue;
      }
      const LaunchCounters& c = *inspection.counters;
      table.add_row(
          {inspection.arch, kernel_text(inspection),
           ratio_of(static_cast<double>(c.sectors_read) * kSectorBytes,
                    static_cast<double>(inspection.floor.bytes_read)),
           ratio_of(static_cast<double>(c.sectors_written) * kSectorBytes,
                    static_cast<double>(inspection.floor.bytes_written)),
           ratio_of(static_cast<double>(c.shared_wavefronts), static_cast<double>(c.shared_wavefronts_ideal)),
           count_text(c.warp_instructions),
           percent(static_cast<double>(c.lane_instructions) / (32.0 * static_cast<double>(c.warp_instructions))),
           count_text(c.tensor_core_macs), count_text(c.divergent_branches), count_text(c.block_barriers)});
    }
    if (table.empty()) return;
    console.print(
        "\nOne launch on the emulator: sectors over the least bytes of the call, shared wavefronts over the ideal\n");
    console.print(table);
  }

  void print_lines(const Console& console, const Inspection& inspection) const {
    if (inspection.profile.empty() || lines_ == 0) return;
    Table table({{"line", Table::Align::left, true},
                 {"instructions", Table::Align::right},
                 {"share", Table::Align::right},
                 {"read", Table::Align::right},
                 {"written", Table::Align::right},
                 {"wavefronts", Table::Align::right},
                 {"conflicts", Table::Align::right}});
    const auto total = static_cast<double>(inspection.counters->warp_instructions);
    const auto shown = std::min(inspection.profile.size(), static_cast<std::size_t>(lines_));
    const auto bytes = [](std::uint64_t sectors) {
      return sectors == 0 ? std::string() : bytes_text(static_cast<std::int64_t>(sectors * 32));
    };
    for (std::size_t i = 0; i < shown; ++i) {
      const LineProfile& line = inspection.profile[i];
      const bool uses_shared = line.shared_wavefronts != 0;
      table.add_row(
          {place_text(line), count_text(line.warp_instructions),
           percent(static_cast<double>(line.warp_instructions) / total), bytes(line.sectors_read),
           bytes(line.sectors_written), uses_shared ? count_text(line.shared_wavefronts) : "",
           ratio_of(static_cast<double>(line.shared_wavefronts), static_cast<double>(line.shared_wavefronts_ideal))});
    }
    console.print(fmt::format("\nBusiest lines of {} on {} ({} of {})\n", inspection.binary->entry, inspection.arch,
                              shown, plural(inspection.profile.size(), "line")));
    console.print(table);
  }

  static Json json_of_inspection(const Inspection& inspection) {
    Json json = {
        {"operator", inspection.selected->op->name()},
        {"origins", inspection.selected->origins},
        {"problem", json_of(inspection.selected->problem)},
        {"arch", inspection.arch},
        {"tiles", json_of(inspection.tiles)},
        {"kernel", inspection.kernel},
        {"binary", json_of(*inspection.binary)},
        {"shared_bytes", inspection.shared_bytes()},
        {"occupancy",
         {{"blocks_per_sm", inspection.occupancy.blocks},
          {"warps_per_sm", inspection.occupancy.warps},
          {"share", inspection.occupancy.share},
          {"limited_by", inspection.occupancy.limited_by}}},
        {"least", {{"bytes_read", inspection.floor.bytes_read}, {"bytes_written", inspection.floor.bytes_written}}},
        {"counters_note", inspection.counters_note}};
    if (inspection.counters) json["counters"] = json_of(*inspection.counters);
    json["lines"] = Json::array();
    for (const LineProfile& line : inspection.profile) {
      json["lines"].push_back({{"file", line.file},
                               {"line", line.line},
                               {"warp_instructions", line.warp_instructions},
                               {"lane_instructions", line.lane_instructions},
                               {"sectors_read", line.sectors_read},
                               {"sectors_written", line.sectors_written},
                               {"shared_wavefronts", line.shared_wavefronts},
                               {"shared_wavefronts_ideal", line.shared_wavefronts_ideal},
                               {"tensor_core_macs", line.tensor_core_macs}});
    }
    return json;
  }

  SelectionArguments selection_;
  RuntimeArguments runtime_;
  TilesArguments tiles_{"chosen"};
  std::vector<std::string> archs_;
  int lines_ = 12;
  int counters_mb_ = 64;
};

}  // namespace

std::unique_ptr<Command> make_inspect_command() { return std::make_unique<InspectCommand>(); }

}  // namespace gdnjit::tool

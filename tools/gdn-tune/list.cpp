// gdn-tune list: what a cache file holds.
#include <fmt/format.h>

#include "cache/maintenance.h"
#include "tools/gdn-tune/cache_file.h"
#include "tools/gdn-tune/command.h"
#include "tools/gdn-tune/report.h"
#include "tools/gdn-tune/units.h"

namespace gdnjit::tool {
namespace {

class ListCommand : public Command {
 public:
  void declare(Arguments& arguments) override {
    arguments.group("Rows");
    arguments.flag("binaries", binaries_, "Binaries only");
    arguments.flag("tuning", tuning_, "Tuning records only");
    arguments.flag("failed", failed_, "Failed compiles and rejected candidates only");
    arguments.flag("chosen", chosen_, "Chosen tuning records only");
    arguments.option("op", op_, "NAME", "Of this operator");
    arguments.option("arch", arch_, "ARCH", "Of this architecture");
    cache_.declare(arguments);
  }

  Result run(Console& console) override {
    const std::filesystem::path file = cache_.file();
    Result result;
    result.report["file"] = file.string();
    result.report["binaries"] = Json::array();
    result.report["tuning"] = Json::array();
    if (!exists(cache_, file)) {
      console.print(fmt::format("{} does not exist yet: nothing is cached\n", file.string()));
      return result;
    }
    const bool both = binaries_ == tuning_;
    if (both ? !chosen_ : binaries_) list_binaries(console, file, result.report["binaries"]);
    if (both || tuning_) list_tuning(console, file, result.report["tuning"]);
    console.print(fmt::format("{} and {} in {}\n", plural(result.report["binaries"].size(), "binary row"),
                              plural(result.report["tuning"].size(), "tuning record"), file.string()));
    return result;
  }

 private:
  template <typename Record>
  bool wanted(const Record& record) const {
    return (op_.empty() || record.operator_name == op_) && (arch_.empty() || record.arch == arch_);
  }

  void list_binaries(const Console& console, const std::filesystem::path& file, Json& rows) const {
    Table table({{"key"},
                 {"operator"},
                 {"arch"},
                 {"toolchain"},
                 {"regs", Table::Align::right},
                 {"spills", Table::Align::right},
                 {"size", Table::Align::right},
                 {"compile", Table::Align::right},
                 {"made"},
                 {"signature", Table::Align::left, true}});
    for (const cache::BinaryRecord& record : cache::list_binaries(file, true)) {
      const bool ready = record.status == cache::BinaryStatus::ready;
      if (!wanted(record) || (failed_ && ready)) continue;
      rows.push_back(json_of(record));
      if (!ready) rows.back()["log"] = record.log;
      table.add_row({record.key.hex().substr(0, 12), record.operator_name, record.arch, record.toolchain,
                     fmt::format("{}", record.registers),
                     fmt::format("{} B", record.spill_store_bytes + record.spill_load_bytes),
                     ready ? Table::Cell{bytes_text(static_cast<std::int64_t>(record.cubin.size() + record.ptx.size()))}
                           : Table::Cell{"refused", Style::bad},
                     fmt::format("{:.0f} ms", record.compile_ms), age_text(now_unix_s() - record.created_unix_s),
                     record.signature});
    }
    if (!table.empty()) {
      console.print(table);
      console.print("\n");
    }
  }

  void list_tuning(const Console& console, const std::filesystem::path& file, Json& rows) const {
    Table table({{"operator"},
                 {"device", Table::Align::left, true},
                 {"problem", Table::Align::left, true},
                 {"tiles", Table::Align::left, true},
                 {"time", Table::Align::right},
                 {"basis"},
                 {"status"},
                 {"error", Table::Align::right},
                 {"note"}});
    for (const cache::TuningRecord& record : cache::list_tuning(file)) {
      const bool ok = record.status == cache::TuningStatus::ok;
      if (!wanted(record) || (failed_ && ok) || (chosen_ && !record.chosen)) continue;
      rows.push_back(json_of(record));
      table.add_row({record.operator_name,
                     record.device,
                     record.problem,
                     record.tiles,
                     ok ? microseconds_text(record.time_us) : "",
                     std::string(basis_text(record.basis)),
                     {std::string(status_text(record.status)), ok ? Style::plain : Style::bad},
                     error_text(record.error),
                     record.chosen       ? "chosen"
                     : record.is_default ? "default"
                                         : ""});
    }
    if (!table.empty()) {
      console.print(table);
      console.print("\n");
    }
  }

  CacheFileArguments cache_;
  bool binaries_ = false, tuning_ = false, failed_ = false, chosen_ = false;
  std::string op_, arch_;
};

}  // namespace

std::unique_ptr<Command> make_list_command() { return std::make_unique<ListCommand>(); }

}  // namespace gdnjit::tool

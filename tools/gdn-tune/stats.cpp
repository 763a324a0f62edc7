// gdn-tune stats: how full the cache and its layers are.
#include <fmt/format.h>

#include "cache/maintenance.h"
#include "tools/gdn-tune/cache_file.h"
#include "tools/gdn-tune/command.h"
#include "tools/gdn-tune/report.h"
#include "tools/gdn-tune/units.h"

namespace gdnjit::tool {
namespace {

class StatsCommand : public Command {
 public:
  void declare(Arguments& arguments) override { cache_.declare(arguments); }

  Result run(Console& console) override {
    Table table({{"file", Table::Align::left, true},
                 {"size", Table::Align::right},
                 {"binaries", Table::Align::right},
                 {"images", Table::Align::right},
                 {"refused", Table::Align::right},
                 {"tuning", Table::Align::right},
                 {"newest"},
                 {"schema", Table::Align::right}});
    Result result;
    result.report["limit_bytes"] = cache_.runtime.options().cache_limit_bytes;
    result.report["files"] = Json::array();
    for (const std::filesystem::path& file : cache_.files()) {
      if (!exists(cache_, file)) {
        table.add_row({file.string(), {"not there", Style::faint}, "", "", "", "", "", ""});
        result.report["files"].push_back({{"file", file.string()}, {"exists", false}});
        continue;
      }
      const cache::FileSummary summary = cache::summarize(file);
      const bool filled = summary.newest_unix_s > 0;
      table.add_row({file.string(), bytes_text(summary.file_bytes), fmt::format("{}", summary.binaries),
                     bytes_text(summary.binary_bytes), fmt::format("{}", summary.failures),
                     fmt::format("{}", summary.tuning_rows),
                     filled ? age_text(now_unix_s() - summary.newest_unix_s) : "",
                     fmt::format("{}", summary.schema_version)});
      result.report["files"].push_back(json_of_summary(summary));
    }
    console.print(table);
    console.print(fmt::format("\nBinaries beyond {} are dropped, the least recently used first.\n",
                              bytes_text(cache_.runtime.options().cache_limit_bytes)));
    return result;
  }

 private:
  static Json json_of_summary(const cache::FileSummary& summary) {
    return {{"file", summary.file.string()},          {"exists", true},
            {"file_bytes", summary.file_bytes},       {"binaries", summary.binaries},
            {"binary_bytes", summary.binary_bytes},   {"failures", summary.failures},
            {"tuning_rows", summary.tuning_rows},     {"oldest_unix_s", summary.oldest_unix_s},
            {"newest_unix_s", summary.newest_unix_s}, {"schema_version", summary.schema_version}};
  }

  CacheFileArguments cache_;
};

}  // namespace

std::unique_ptr<Command> make_stats_command() { return std::make_unique<StatsCommand>(); }

}  // namespace gdnjit::tool

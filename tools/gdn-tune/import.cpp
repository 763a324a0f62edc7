// gdn-tune import: tuning records from the text that export writes.
#include <fmt/format.h>

#include "cache/maintenance.h"
#include "tools/gdn-tune/cache_file.h"
#include "tools/gdn-tune/command.h"
#include "tools/gdn-tune/units.h"

namespace gdnjit::tool {
namespace {

class ImportCommand : public Command {
 public:
  void declare(Arguments& arguments) override {
    arguments.positional("FILE", inputs_, 1, 1000, "Files written by export");
    cache_.declare(arguments);
  }

  Result run(Console& console) override {
    const std::filesystem::path file = cache_.file();
    std::int64_t rows = 0;
    for (const std::filesystem::path& input : inputs_) rows += cache::import_tuning(file, input);
    Result result;
    result.report["file"] = file.string();
    result.report["rows"] = rows;
    console.print(fmt::format("{} (records and choices) added to {}\n", plural(static_cast<std::uint64_t>(rows), "row"),
                              file.string()));
    return result;
  }

 private:
  std::vector<std::filesystem::path> inputs_;
  CacheFileArguments cache_;
};

}  // namespace

std::unique_ptr<Command> make_import_command() { return std::make_unique<ImportCommand>(); }

}  // namespace gdnjit::tool

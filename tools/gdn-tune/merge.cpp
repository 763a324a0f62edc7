// gdn-tune merge: joins the results of several machines or shards.
#include <fmt/format.h>

#include "cache/maintenance.h"
#include "tools/gdn-tune/cache_file.h"
#include "tools/gdn-tune/command.h"
#include "tools/gdn-tune/units.h"

namespace gdnjit::tool {
namespace {

class MergeCommand : public Command {
 public:
  void declare(Arguments& arguments) override {
    arguments.positional("FILE", from_, 1, 100'000, "Cache files whose rows are added");
    arguments.group("Target");
    arguments.option("into", into_, "FILE", "The cache file to add to (default: the user's)");
    cache_.declare_cache(arguments);
  }

  Result run(Console& console) override {
    CacheFileArguments target{.runtime = cache_, .chosen = into_};
    const std::filesystem::path into = target.file();
    const std::int64_t rows = cache::merge(into, from_);
    Result result;
    result.report["into"] = into.string();
    result.report["from"] = Json::array();
    for (const std::filesystem::path& file : from_) result.report["from"].push_back(file.string());
    result.report["rows"] = rows;
    console.print(fmt::format("{} added to {} from {}\n", plural(static_cast<std::uint64_t>(rows), "row"),
                              into.string(), plural(from_.size(), "file")));
    return result;
  }

 private:
  std::vector<std::filesystem::path> from_;
  std::filesystem::path into_;
  RuntimeArguments cache_;
};

}  // namespace

std::unique_ptr<Command> make_merge_command() { return std::make_unique<MergeCommand>(); }

}  // namespace gdnjit::tool

// gdn-tune check: looks for damage in cache files.
#include <fmt/format.h>

#include "cache/maintenance.h"
#include "runtime/support/check.h"
#include "tools/gdn-tune/cache_file.h"
#include "tools/gdn-tune/command.h"

namespace gdnjit::tool {
namespace {

class CheckCommand : public Command {
 public:
  void declare(Arguments& arguments) override {
    arguments.positional("FILE", files_, 0, 1000, "Cache files (default: the user's and its layers)");
    cache_.declare(arguments);
  }

  Result run(Console& console) override {
    const bool named = !files_.empty();
    Result result;
    result.report["files"] = Json::array();
    for (const std::filesystem::path& file : named ? files_ : cache_.files()) {
      if (!named && !exists(cache_, file)) {
        console.print(fmt::format("{}  not there\n", file.string()));
        continue;
      }
      if (!std::filesystem::exists(file)) fail(ErrorCode::io, "{}: there is no such file", file.string());
      const std::vector<std::string> problems = cache::verify(file);
      result.report["files"].push_back({{"file", file.string()}, {"sound", problems.empty()}, {"problems", problems}});
      console.print(
          fmt::format("{}  {}\n", file.string(),
                      problems.empty() ? console.styled("sound", Style::good) : console.styled("damaged", Style::bad)));
      for (const std::string& problem : problems) console.print("  " + problem + "\n");
      if (!problems.empty()) result.exit_code = static_cast<int>(ErrorCode::io);
    }
    if (result.exit_code != 0) {
      console.print("\nDamaged rows and files are never loaded: they are dropped at the next use and made again.\n");
    }
    return result;
  }

 private:
  std::vector<std::filesystem::path> files_;
  CacheFileArguments cache_;
};

}  // namespace

std::unique_ptr<Command> make_check_command() { return std::make_unique<CheckCommand>(); }

}  // namespace gdnjit::tool

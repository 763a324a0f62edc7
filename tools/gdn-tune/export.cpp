// gdn-tune export: tuning records as reviewable text, or a cache file fit to be shipped as a layer.
#include <fmt/format.h>

#include "cache/maintenance.h"
#include "runtime/support/check.h"
#include "tools/gdn-tune/cache_file.h"
#include "tools/gdn-tune/command.h"

namespace gdnjit::tool {
namespace {

class ExportCommand : public Command {
 public:
  void declare(Arguments& arguments) override {
    arguments.positional("OUTPUT", outputs_, 1, 1, "The file to write");
    arguments.group("Form");
    arguments.flag("as-layer", layer_, "A whole cache file for read-only use, with its SHA-256, instead of text");
    cache_.declare(arguments);
  }

  Result run(Console& console) override {
    const std::filesystem::path file = cache_.file();
    const std::filesystem::path& output = outputs_.front();
    if (!exists(cache_, file)) fail(ErrorCode::io, "{} does not exist yet: there is nothing to export", file.string());
    Result result;
    result.report["file"] = file.string();
    result.report["output"] = output.string();
    if (layer_) {
      const std::string digest = cache::export_layer(file, output);
      result.report["sha256"] = digest;
      console.print(fmt::format("{} written, SHA-256 {}\n", output.string(), digest));
    } else {
      cache::export_tuning(file, output);
      console.print(fmt::format("Tuning records of {} written to {}\n", file.string(), output.string()));
    }
    return result;
  }

 private:
  std::vector<std::filesystem::path> outputs_;
  CacheFileArguments cache_;
  bool layer_ = false;
};

}  // namespace

std::unique_ptr<Command> make_export_command() { return std::make_unique<ExportCommand>(); }

}  // namespace gdnjit::tool

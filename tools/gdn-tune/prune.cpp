// gdn-tune prune: drops binaries by age, size, toolchain or failure. Tuning records are small and dear: they stay.
#include <fmt/format.h>

#include "cache/kernel_cache.h"
#include "cache/maintenance.h"
#include "codegen/templates.h"
#include "runtime/nvrtc.h"
#include "runtime/support/check.h"
#include "tools/gdn-tune/cache_file.h"
#include "tools/gdn-tune/command.h"
#include "tools/gdn-tune/units.h"

namespace gdnjit::tool {
namespace {

constexpr std::int64_t kSecondsPerDay = 86400;

class PruneCommand : public Command {
 public:
  void declare(Arguments& arguments) override {
    arguments.group("What to drop (one at the least)");
    arguments.option("keep-mb", keep_mb_, 0, "Least recently used binaries beyond N MB");
    arguments.option("older-than", older_than_days_, 0, "Binaries not used for N days");
    arguments.flag("failures", rule_.failures, "Stored failures, so that they are tried again");
    arguments.flag("other-toolchains", other_toolchains_, "Binaries of other toolchains than this machine's NVRTC");
    arguments.option("keep-toolchain", rule_.toolchain_not, "NAME", "Binaries of other toolchains than this one");
    arguments.flag("dry-run", rule_.dry_run, "Say what would go, and drop nothing");
    cache_.declare(arguments);
    cache_.runtime.declare_compiler(arguments);
  }

  Result run(Console& console) override {
    if (keep_mb_ >= 0) rule_.keep_bytes = keep_mb_ << 20;
    if (older_than_days_ >= 0) rule_.older_than_s = older_than_days_ * kSecondsPerDay;
    if (other_toolchains_) rule_.toolchain_not = this_toolchain();
    require(rule_.keep_bytes >= 0 || rule_.older_than_s >= 0 || rule_.failures || !rule_.toolchain_not.empty(),
            "say what to drop: --keep-mb, --older-than, --failures, --other-toolchains or --keep-toolchain");
    const std::filesystem::path file = cache_.file();
    Result result;
    result.report["file"] = file.string();
    result.report["dry_run"] = rule_.dry_run;
    std::int64_t dropped = 0, freed = 0;
    if (exists(cache_, file)) {
      const std::int64_t before = cache::summarize(file).file_bytes;
      dropped = cache::prune(file, rule_);
      freed = before - cache::summarize(file).file_bytes;
    }
    result.report["rows"] = dropped;
    result.report["bytes_freed"] = freed;
    const std::string rows = plural(static_cast<std::uint64_t>(dropped), "row");
    console.print(rule_.dry_run
                      ? fmt::format("{} would go from {}\n", rows, file.string())
                      : fmt::format("{} dropped from {}, {} freed\n", rows, file.string(), bytes_text(freed)));
    return result;
  }

 private:
  std::string this_toolchain() const {
    const Options options = cache_.runtime.options();
    cache::CacheOptions cache_options;
    cache_options.directory = options.cache_directory;
    cache::KernelCache cache(cache_options);
    const std::string remembered = remembered_toolchain(options, cache);
    return remembered.empty() ? open_nvrtc(options, TemplateSet::embedded(), cache).toolchain : remembered;
  }

  CacheFileArguments cache_;
  cache::PruneRule rule_;
  std::int64_t keep_mb_ = -1, older_than_days_ = -1;
  bool other_toolchains_ = false;
};

}  // namespace

std::unique_ptr<Command> make_prune_command() { return std::make_unique<PruneCommand>(); }

}  // namespace gdnjit::tool

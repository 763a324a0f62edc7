#include "tools/gdn-tune/cache_file.h"

#include "cache/user_file.h"
#include "runtime/support/check.h"

namespace gdnjit::tool {

void CacheFileArguments::declare(Arguments& arguments) {
  runtime.declare_cache(arguments);
  arguments.option("file", chosen, "FILE", "This cache file instead of the user's");
}

std::filesystem::path CacheFileArguments::file() const {
  if (!chosen.empty()) return chosen;
  const Options options = runtime.options();
  require(!options.cache_directory.empty(), "the cache is kept in memory only: name a folder with --cache-dir");
  return options.cache_directory / cache::kFileName;
}

std::vector<std::filesystem::path> CacheFileArguments::files() const {
  std::vector<std::filesystem::path> files{file()};
  if (!chosen.empty()) return files;
  const Options options = runtime.options();
  files.insert(files.end(), options.read_only_caches.begin(), options.read_only_caches.end());
  return files;
}

bool exists(const CacheFileArguments& arguments, const std::filesystem::path& file) {
  std::error_code ignored;
  if (std::filesystem::exists(file, ignored)) return true;
  if (file == arguments.chosen) fail(ErrorCode::io, "{}: there is no such file", file.string());
  return false;
}

}  // namespace gdnjit::tool

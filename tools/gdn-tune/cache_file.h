// Which cache file a maintenance command is about.
#pragma once

#include <filesystem>
#include <vector>

#include "tools/gdn-tune/runtime_arguments.h"

namespace gdnjit::tool {

struct CacheFileArguments {
  RuntimeArguments runtime;
  std::filesystem::path chosen;  // --file

  void declare(Arguments& arguments);

  // --file, or the user's cache file. Throws invalid_argument if the cache is memory only.
  std::filesystem::path file() const;
  // file(), then the read-only layers unless --file was given.
  std::vector<std::filesystem::path> files() const;
};

// True if `file` is there. A cache that nobody has used yet is an empty one, but a file named by the user must exist:
// then this throws io.
bool exists(const CacheFileArguments& arguments, const std::filesystem::path& file);

}  // namespace gdnjit::tool

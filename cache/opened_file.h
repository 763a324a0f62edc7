// A cache file that an operator named: unlike the cache itself, maintenance says when something does not work.
#pragma once

#include <filesystem>

#include "cache/store.h"

namespace gdnjit::cache {

class OpenedFile {
 public:
  enum class For { reading, writing, writing_or_making };

  // Throws Error(io) that names the file and what to do.
  OpenedFile(const std::filesystem::path& file, For purpose);

  Store& store() { return store_; }
  Database& database() { return database_; }
  // Throws Error(io) if anything failed since the file was opened. `doing`: "pruning".
  void check(std::string_view doing);

 private:
  std::filesystem::path file_;
  Database database_;
  Store store_;
};

}  // namespace gdnjit::cache

// Settings of a Runtime. from_environment() is the only place that reads the environment.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace gdnjit {

// What plan() may do when a kernel or its tuning is not in the cache.
enum class Policy : unsigned char {
  heuristic,     // ignore tuning records; compile the default tiles if needed
  cached,        // use tuning records; compile if needed (the default)
  tune_on_miss,  // tune when no record fits, inside plan() and never under graph capture
  strict,        // a miss is an error, named in the miss file that gdn-tune consumes
};

struct Options {
  // "auto": the first GPU, or the emulator if there is none (said once). "cuda", "cuda:1", "emulator", "emulator:sm_80".
  std::string device = "auto";
  Policy policy = Policy::cached;
  std::filesystem::path cache_directory;                    // GDNJIT_CACHE_DIR; default: the user's cache folder
  std::vector<std::filesystem::path> read_only_caches;      // GDNJIT_CACHE_LAYERS, separated by ':'
  std::int64_t cache_limit_bytes = 1LL << 30;               // GDNJIT_CACHE_LIMIT_MB
  std::filesystem::path nvrtc_library;                      // GDNJIT_NVRTC; empty: searched
  std::filesystem::path templates_directory;                // GDNJIT_TEMPLATES; empty: the embedded ones
  std::filesystem::path miss_file;                          // GDNJIT_MISS_FILE; default: misses.jsonl in the cache folder
  int compile_threads = 0;                                  // 0: one per core

  // Defaults overridden by GDNJIT_* variables. Throws invalid_argument for a value that cannot be read.
  static Options from_environment();
};

}  // namespace gdnjit

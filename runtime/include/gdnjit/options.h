// Settings of a Runtime. from_environment() is the only place that reads the environment.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace gdnjit {

// What plan() may do when a kernel or its tuning is not in the cache.
enum class Policy : unsigned char {
  heuristic,     // ignore tuning records; compile the default tiles if needed
  cached,        // use tuning records; compile if needed (the default)
  tune_on_miss,  // tune when no record fits, inside plan() and never under graph capture
  strict,        // never compile: a kernel that is not in the cache is an error, named in the miss file for gdn-tune
};

// Where NVRTC may lie when Options::nvrtc_library is empty, beside the loader's path and the usual places.
struct NvrtcSearch {
  std::vector<std::filesystem::path> toolkit_folders;  // CUDA_HOME, CUDA_PATH
  std::vector<std::filesystem::path> nvrtc_folders;    // ~/.local/share/gdnjit/nvrtc, where set-up unpacks the wheel
  std::vector<std::filesystem::path> python_prefixes;  // VIRTUAL_ENV, CONDA_PREFIX
  std::filesystem::path home;                          // HOME: below it .local and .pyenv
};

// Every option has a name (in brackets) for set(), and a variable GDNJIT_<NAME IN CAPITALS>.
struct Options {
  // [device] "auto": the first GPU, or the emulator if there is none (said once). "cuda", "cuda:1", "emulator",
  // "emulator:sm_80".
  std::string device = "auto";
  Policy policy = Policy::cached;         // [policy]
  std::filesystem::path cache_directory;  // [cache_dir] empty or "none": kernels stay in memory only
  // [cache_layers] cache files, separated by ':', searched after the user's; "<file>#sha256=<hex>" pins the content.
  std::vector<std::filesystem::path> read_only_caches;
  std::int64_t cache_limit_bytes = 1LL << 30;  // [cache_limit_mb]
  std::filesystem::path nvrtc_library;         // [nvrtc] library or its folder; empty: searched
  std::filesystem::path templates_directory;   // [templates] empty: the embedded ones
  std::filesystem::path miss_file;             // [miss_file] default: misses.jsonl in the cache folder
  int compile_threads = 0;                     // [compile_threads] 0: one per core
  // [emulator_checks] "races": all checks; "memory": all but races, for half the time.
  bool emulator_races = true;
  // [capture] a folder: the calls of all plans are written there, one file each (docs/capture.md). Each call then waits
  // for its stream, twice. Empty: off.
  std::filesystem::path capture_directory;
  std::int64_t capture_limit_bytes = 1LL << 30;  // [capture_limit_mb] of all files of a runtime
  std::int64_t capture_files = 100;              // [capture_files] as many at the most
  NvrtcSearch nvrtc_search;

  // The defaults, the user's cache folder (XDG_CACHE_HOME or ~/.cache, then gdnjit), and what GDNJIT_* variables
  // say. An empty variable counts as unset. With no folder to be found the cache is memory only, and one warning
  // says so. Throws invalid_argument naming the variable, its value and what is allowed.
  static Options from_environment();

  // Sets one option from text. Throws invalid_argument naming the option, the value and what is allowed.
  void set(std::string_view name, std::string_view value);

  // Sets options from "device=emulator;policy=strict;cache_dir=/var/cache/gdnjit": pairs separated by ';' or
  // newlines, so that paths may hold spaces.
  void set_all(std::string_view text);
};

}  // namespace gdnjit

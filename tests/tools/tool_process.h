// Runs the built gdn-tune, as a user would.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace gdnjit::tool {

// A folder below the system's temporary one that goes when the test is over.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

struct Ran {
  int exit_code = -1;  // 128 + signal if one ended it
  std::string out;
  std::string error;
  double seconds = 0;

  // Standard output as one JSON object; null if it is not.
  nlohmann::json json() const { return nlohmann::json::parse(out, nullptr, false); }
};

using Words = std::vector<std::string>;
using Variables = std::vector<std::pair<std::string, std::string>>;  // an empty value unsets

// A gdn-tune with its own cache folder, on the emulator. Other GDNJIT_ variables are unset, but for GDNJIT_NVRTC.
class Tool {
 public:
  explicit Tool(std::filesystem::path cache) : cache_(std::move(cache)) {}

  const std::filesystem::path& cache() const { return cache_; }
  std::filesystem::path cache_file() const { return cache_ / "kernels.db"; }

  Ran operator()(const Words& words, const Variables& variables = {}) const;
  // On a pseudo terminal, which `out` then holds: both streams as a person would see them.
  Ran on_terminal(const Words& words, const Variables& variables = {}) const;
  // Sends SIGINT `count` times: after `delay_ms`, then every 100 ms.
  Ran interrupted(const Words& words, int delay_ms, int count) const;

 private:
  [[noreturn]] void execute(const Words& words, const Variables& variables) const;

  std::filesystem::path cache_;
};

}  // namespace gdnjit::tool

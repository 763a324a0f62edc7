#include <doctest/doctest.h>
#include <gdnjit/options.h>
#include <stdlib.h>

#include <map>
#include <optional>
#include <string>

#include "runtime/support/check.h"
#include "runtime/support/log.h"
#include "tests/runtime/fakes.h"

using namespace gdnjit;

namespace {

// Sets variables, and puts back what was there. Tests of one process run one after another.
class Environment {
 public:
  Environment() {
    for (const char* name :
         {"GDNJIT_DEVICE", "GDNJIT_POLICY", "GDNJIT_CACHE_DIR", "GDNJIT_CACHE_LAYERS", "GDNJIT_CACHE_LIMIT_MB",
          "GDNJIT_NVRTC", "GDNJIT_TEMPLATES", "GDNJIT_MISS_FILE", "GDNJIT_COMPILE_THREADS", "GDNJIT_EMULATOR_CHECKS",
          "GDNJIT_CAPTURE", "GDNJIT_CAPTURE_LIMIT_MB", "GDNJIT_CAPTURE_FILES", "CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV",
          "CONDA_PREFIX", "XDG_CACHE_HOME", "HOME"}) {
      const char* value = getenv(name);
      saved_[name] = value == nullptr ? std::nullopt : std::optional<std::string>(value);
      unsetenv(name);
    }
    set("HOME", "/users/somebody");
  }
  ~Environment() {
    for (const auto& [name, value] : saved_) {
      if (value) {
        setenv(name.c_str(), value->c_str(), 1);
      } else {
        unsetenv(name.c_str());
      }
    }
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  void set(const char* name, const char* value) { setenv(name, value, 1); }
  void unset(const char* name) { unsetenv(name); }

 private:
  std::map<std::string, std::optional<std::string>> saved_;
};

std::string message_of(const char* variable, const char* value) {
  Environment environment;
  environment.set(variable, value);
  try {
    Options::from_environment();
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_argument);
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("an empty environment gives the defaults and the cache folder below HOME") {
  Environment environment;
  const Options options = Options::from_environment();
  CHECK(options.device == "auto");
  CHECK(options.policy == Policy::cached);
  CHECK(options.cache_directory == "/users/somebody/.cache/gdnjit");
  CHECK(options.cache_limit_bytes == 1LL << 30);
  CHECK(options.read_only_caches.empty());
  CHECK(options.capture_directory.empty());
  CHECK(options.nvrtc_library.empty());
  CHECK(options.nvrtc_search.home == "/users/somebody");
  CHECK(options.nvrtc_search.toolkit_folders.empty());
}

TEST_CASE("every variable reaches its option") {
  fakes::TemporaryFolder folder;
  Environment environment;
  environment.set("GDNJIT_DEVICE", "emulator:sm_80");
  environment.set("GDNJIT_POLICY", "strict");
  environment.set("GDNJIT_CACHE_DIR", "/var/cache/a");
  environment.set("GDNJIT_CACHE_LAYERS", "/site/cache:/shipped/cache");
  environment.set("GDNJIT_CACHE_LIMIT_MB", "64");
  environment.set("GDNJIT_NVRTC", "/opt/libnvrtc.so.13");
  environment.set("GDNJIT_TEMPLATES", folder.path().c_str());
  environment.set("GDNJIT_MISS_FILE", "/tmp/misses.jsonl");
  environment.set("GDNJIT_COMPILE_THREADS", "3");
  environment.set("GDNJIT_EMULATOR_CHECKS", "memory");
  environment.set("GDNJIT_CAPTURE", "/tmp/calls");
  environment.set("GDNJIT_CAPTURE_LIMIT_MB", "2");
  environment.set("GDNJIT_CAPTURE_FILES", "5");
  environment.set("CUDA_HOME", "/usr/local/cuda-13");
  environment.set("CUDA_PATH", "/usr/local/cuda-12");
  environment.set("VIRTUAL_ENV", "/users/somebody/venv");
  const Options options = Options::from_environment();
  CHECK(options.device == "emulator:sm_80");
  CHECK(options.policy == Policy::strict);
  CHECK(options.cache_directory == "/var/cache/a");
  CHECK(options.read_only_caches == std::vector<std::filesystem::path>{"/site/cache", "/shipped/cache"});
  CHECK(options.cache_limit_bytes == 64LL << 20);
  CHECK(options.nvrtc_library == "/opt/libnvrtc.so.13");
  CHECK(options.templates_directory == folder.path());
  CHECK(options.miss_file == "/tmp/misses.jsonl");
  CHECK(options.compile_threads == 3);
  CHECK(!options.emulator_races);
  CHECK(options.capture_directory == "/tmp/calls");
  CHECK(options.capture_limit_bytes == 2LL << 20);
  CHECK(options.capture_files == 5);
  CHECK(options.nvrtc_search.toolkit_folders ==
        std::vector<std::filesystem::path>{"/usr/local/cuda-13", "/usr/local/cuda-12"});
  CHECK(options.nvrtc_search.python_prefixes == std::vector<std::filesystem::path>{"/users/somebody/venv"});
}

TEST_CASE("XDG_CACHE_HOME goes before HOME, unless it is relative") {
  Environment environment;
  environment.set("XDG_CACHE_HOME", "/xdg");
  CHECK(Options::from_environment().cache_directory == "/xdg/gdnjit");
  environment.set("XDG_CACHE_HOME", "xdg");
  CHECK(Options::from_environment().cache_directory == "/users/somebody/.cache/gdnjit");
}

TEST_CASE("without HOME the cache is memory only and one warning says so") {
  Environment environment;
  environment.unset("HOME");
  int warnings = 0;
  set_warning_sink([&](std::string_view message) {
    ++warnings;
    CHECK(message.find("memory only") != std::string_view::npos);
    CHECK(message.find("GDNJIT_CACHE_DIR") != std::string_view::npos);
  });
  CHECK(Options::from_environment().cache_directory.empty());
  CHECK(Options::from_environment().cache_directory.empty());
  CHECK(warnings == 1);
  environment.set("GDNJIT_CACHE_DIR", "none");
  CHECK(Options::from_environment().cache_directory.empty());
  set_warning_sink({});
}

TEST_CASE("a bad value names the variable, the value and what is allowed") {
  CHECK(message_of("GDNJIT_POLICY", "fast") ==
        "GDNJIT_POLICY=fast: must be one of heuristic, cached, tune_on_miss, strict");
  CHECK(message_of("GDNJIT_DEVICE", "gpu").starts_with("GDNJIT_DEVICE=gpu: must be auto, cuda,"));
  CHECK(message_of("GDNJIT_DEVICE", "cuda:x").starts_with("GDNJIT_DEVICE=cuda:x: must be auto, cuda,"));
  CHECK(message_of("GDNJIT_DEVICE", "cuda:-1").starts_with("GDNJIT_DEVICE=cuda:-1: must be"));
  CHECK(message_of("GDNJIT_DEVICE", "auto:1").starts_with("GDNJIT_DEVICE=auto:1: must be"));
  CHECK(message_of("GDNJIT_DEVICE", "emulator:sm_81").find("sm_80") != std::string::npos);
  CHECK(message_of("GDNJIT_CACHE_LIMIT_MB", "1GB").starts_with("GDNJIT_CACHE_LIMIT_MB=1GB: must be a whole number"));
  CHECK(message_of("GDNJIT_CACHE_LIMIT_MB", "0").starts_with("GDNJIT_CACHE_LIMIT_MB=0: must be a whole number"));
  CHECK(message_of("GDNJIT_TEMPLATES", "/no/such/folder").starts_with("GDNJIT_TEMPLATES=/no/such/folder: must be a"));
  CHECK(message_of("GDNJIT_EMULATOR_CHECKS", "all").starts_with("GDNJIT_EMULATOR_CHECKS=all: must be races"));
  CHECK(message_of("GDNJIT_CAPTURE_FILES", "0").starts_with("GDNJIT_CAPTURE_FILES=0: must be a whole number from 1"));
  CHECK(message_of("GDNJIT_COMPILE_THREADS", "many").starts_with("GDNJIT_COMPILE_THREADS=many: must be"));
}

TEST_CASE("set_all takes pairs on lines or between semicolons") {
  Options options;
  options.set_all(" device=emulator ;policy=heuristic;\n cache_dir=/a folder/with spaces\n\n");
  CHECK(options.device == "emulator");
  CHECK(options.policy == Policy::heuristic);
  CHECK(options.cache_directory == "/a folder/with spaces");
  CHECK_THROWS_WITH_AS(options.set_all("polcy=strict"), "unknown option 'polcy' (did you mean 'policy'?)", Error);
  CHECK_THROWS_WITH_AS(options.set_all("strict"), "option 'strict': must have the form name=value", Error);
  CHECK_THROWS_WITH_AS(options.set("policy", "x"), "policy=x: must be one of heuristic, cached, tune_on_miss, strict",
                       Error);
}

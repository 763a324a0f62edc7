// A fresh process whose kernel is in the cache: from nothing to a plan that can launch.
#include <fmt/format.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "runtime/support/check.h"
#include "tools/bench/fixture.h"

namespace gdnjit::bench {
namespace {

using Clock = std::chrono::steady_clock;

Runtime open_runtime(const std::filesystem::path& cache_directory, const std::string& device) {
  if (device == "null") return null_runtime(cache_directory);
  Options options = Options::from_environment();
  options.cache_directory = cache_directory;
  options.device = device;
  return Runtime(options);
}

// Runs this program with kColdProcessArgument and returns the seconds that it prints.
double cold_process_seconds(const std::filesystem::path& cache_directory, const std::string& device) {
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  const std::string command =
      fmt::format("'{}' {} '{}' {}", self, kColdProcessArgument, cache_directory.string(), device);
  FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) fail(ErrorCode::io, "starting {} failed", command);
  std::array<char, 64> line{};
  const bool read = std::fgets(line.data(), line.size(), pipe) != nullptr;
  if (pclose(pipe) != 0 || !read) fail(ErrorCode::io, "the process {} failed", command);
  return std::strtod(line.data(), nullptr);
}

void cold_process(benchmark::State& state, const std::string& device) {
  const ScratchFolder scratch;
  {
    Runtime runtime = open_runtime(scratch.path(), device);
    gdn::plan(runtime, qwen3_next_step(64));
  }
  for (auto _ : state) state.SetIterationTime(cold_process_seconds(scratch.path(), device));
}
// Loading is nothing on the null device and reads the PTX on the emulator; a GPU adds its driver's start.
BENCHMARK_CAPTURE(cold_process, null_device, "null")
    ->UseManualTime()
    ->Iterations(1)
    ->Repetitions(31)
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(cold_process, emulator, "emulator")
    ->UseManualTime()
    ->Iterations(1)
    ->Repetitions(31)
    ->Unit(benchmark::kMicrosecond);

}  // namespace

int run_cold_process(const std::filesystem::path& cache_directory, const std::string& device) {
  const auto begin = Clock::now();
  Runtime runtime = open_runtime(cache_directory, device);
  const gdn::StepPlan plan = gdn::plan(runtime, qwen3_next_step(64));
  const std::chrono::duration<double> seconds = Clock::now() - begin;
  require(!plan.info().compiled(), "the cold process compiled: the cache in {} was not warm", cache_directory.string());
  fmt::print("{:.9f}\n", seconds.count());
  return 0;
}

}  // namespace gdnjit::bench

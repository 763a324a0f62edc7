// What the benchmarks share: a scratch folder, runtimes, and the step problem of Qwen3-Next-80B.
#pragma once

#include <benchmark/benchmark.h>
#include <gdnjit/gdn.h>
#include <gdnjit/runtime.h>

#include <filesystem>
#include <functional>
#include <span>
#include <vector>

#include "runtime/plan.h"

namespace gdnjit::bench {

// A new empty folder, removed with everything in it at the end.
class ScratchFolder {
 public:
  ScratchFolder();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// H=16, HV=32, K=V=128, bf16 with an fp32 state.
gdn::StepProblem qwen3_next_step(std::int64_t batch);

// A runtime on the null device with its cache in `cache_directory`; NVRTC as the environment says.
Runtime null_runtime(const std::filesystem::path& cache_directory);

// The tensors of a step call in memory of the runtime's device, zeroed.
class StepTensors {
 public:
  StepTensors(Runtime& runtime, const gdn::StepProblem& problem);
  ~StepTensors();
  StepTensors(const StepTensors&) = delete;
  StepTensors& operator=(const StepTensors&) = delete;
  const gdn::StepArgs& args() const { return args_; }

 private:
  TensorView make(const char* name, DType dtype, std::initializer_list<std::int64_t> shape);
  Runtime& runtime_;
  std::vector<void*> memory_;
  gdn::StepArgs args_;
};

// The machine's own runtime and cache, on its GPU: what is timed is what a user gets.
Runtime& machine_runtime();

// The median of graph replays of `calls`, which enqueues them on a stream; of one call.
double replay_us(Device& device, const std::function<void(Stream)>& calls);
double replay_us(Device& device, const OperatorPlan& plan, std::span<const TensorView> tensors);

// Benchmarks that need a GPU; without one they are left out and the reason is printed.
void register_decode_benchmarks();
void register_prefill_benchmarks();
void register_experts_benchmarks();
void register_few_tokens_benchmarks();

// A benchmark of a fresh process calls the program again with this argument and a folder; see cold_process.cpp.
inline constexpr char kColdProcessArgument[] = "--cold-process";
int run_cold_process(const std::filesystem::path& cache_directory, const std::string& device);

}  // namespace gdnjit::bench

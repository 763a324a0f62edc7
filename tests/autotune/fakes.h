// A device with its own clock, an operator and a compiler whose kernels behave as their tiles say. The kernel
// doubles numbers: out[i] = 2 in[i].
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "autotune/evaluator.h"
#include "autotune/timer.h"
#include "codegen/compiler.h"
#include "codegen/operator.h"
#include "runtime/device.h"
#include "runtime/plan.h"
#include "runtime/runtime_impl.h"
#include "tests/reference/workload.h"

namespace gdnjit::tests {

// What a fake kernel does. Written into its source, read back from its image.
struct Behaviour {
  std::string does = "good";  // good, wrong, unwritten, outside, unstable, fault, lost
  double time_us = 10;
  double jitter_us = 0;  // alternates around time_us
};

class FakeDevice : public Device {
 public:
  explicit FakeDevice(DeviceKind kind = DeviceKind::cuda);
  ~FakeDevice() override;

  const DeviceInfo& info() const override { return info_; }
  void* allocate(std::size_t bytes, std::string_view name) override;
  void release(void* memory) noexcept override;
  void copy_in(void* device, const void* host, std::size_t bytes, Stream stream) override;
  void copy_out(void* host, const void* device, std::size_t bytes, Stream stream) override;
  void fill(void* device, std::uint8_t value, std::size_t bytes, Stream stream) override;
  Stream create_stream() override { return this; }
  void destroy_stream(Stream) noexcept override {}
  void synchronize(Stream stream) override;
  std::unique_ptr<Kernel> load(const KernelImage& image) override;
  void launch(const Kernel& kernel, const LaunchGeometry& geometry, std::span<const std::byte> parameters,
              Stream stream, std::span<const BufferRange> buffers) override;
  std::unique_ptr<Event> create_event() override;
  std::unique_ptr<Graph> capture(Stream stream, const std::function<void(Stream)>& work) override;
  const LaunchCounters* last_counters() const override;

  DeviceInfo info_;
  double clock_us = 0;
  double drift_per_launch_us = 0;  // every launch makes the next ones slower: a warming device
  int launches = 0;
  int graph_launches = 0;
  std::size_t live_allocations = 0;
  std::vector<const void*> inputs_seen;  // of each launch, in order

 private:
  std::vector<std::function<void()>>* recording_ = nullptr;
  bool lost_ = false;
  LaunchCounters counters_;
};

// Candidates by name, in the search space's order; tiles are "kernel=<name>".
class FakeOperator : public Operator {
 public:
  std::vector<std::pair<std::string, Behaviour>> space;
  std::string standard;      // name of the default; empty: the first
  bool prepared = false;     // a call of every candidate begins with one more kernel, the same for all, of 3 us
  bool list_default = true;  // false: search_space() forgets the default

  std::string_view name() const override { return "fake.double"; }
  FieldMap complete(const FieldMap& problem) const override;
  FieldMap tuning_bucket(const FieldMap& problem) const override;
  FieldMap default_tiles(const FieldMap& problem, const DeviceTraits& device) const override;
  std::vector<FieldMap> search_space(const FieldMap& problem, const DeviceTraits& device) const override;
  std::shared_ptr<const Instance> instantiate(const FieldMap& problem, const FieldMap& tiles,
                                              const Target& target) const override;
  std::vector<TensorSpec> tensors(const FieldMap& problem) const override;
  CallDescription describe_call(const FieldMap& problem, std::span<const TensorView>) const override {
    return {problem, tensors(problem)};
  }
  Footprint footprint(const FieldMap& problem) const override;

  std::string default_name() const { return standard.empty() ? space.front().first : standard; }
  FieldMap tiles(const std::string& kernel) const { return {{"kernel", kernel}}; }
};

// Counts compiles; refuses sources that contain "does=uncompilable".
class FakeCompiler : public Compiler {
 public:
  explicit FakeCompiler(std::string toolchain = "fake 1.0") : toolchain_(std::move(toolchain)) {}
  std::string toolchain() override { return toolchain_; }
  CompileResult compile(const KernelSpec& spec) override;

 private:
  std::string toolchain_;
};

// Inputs 1..n, outputs poisoned; compare() asks for twice the inputs.
class FakeWorkload : public reference::Workload {
 public:
  FakeWorkload(const Operator& op, const FieldMap& problem);
  const std::vector<reference::HostTensor>& tensors() const override { return tensors_; }
  std::vector<reference::OutputError> compare(const std::vector<reference::HostTensor>& results) const override;

 private:
  std::vector<reference::HostTensor> tensors_;
};

// A folder that is removed with its contents.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// A runtime on a fake device; `device` stays the runtime's.
struct FakeRuntime {
  explicit FakeRuntime(DeviceKind kind = DeviceKind::cuda, const std::filesystem::path& cache = {},
                       const std::string& toolchain = "fake 1.0",
                       const std::vector<std::filesystem::path>& layers = {});
  FakeDevice* device = nullptr;
  std::unique_ptr<Runtime::Impl> impl;
};

// A LocalEvaluator that counts, for an operator of this file.
class CountingEvaluator : public autotune::Evaluator {
 public:
  CountingEvaluator(Runtime::Impl& runtime, const Operator& op);
  autotune::Checked check(const Operator& op, const FieldMap& problem, const FieldMap& tiles) override;
  std::vector<autotune::Timed> time(const Operator& op, const FieldMap& problem, const std::vector<FieldMap>& tiles,
                                    const autotune::TimingOptions& options) override;

  std::vector<std::string> checked;  // tiles, in order
  int races = 0;

 private:
  autotune::LocalEvaluator local_;
};

}  // namespace gdnjit::tests

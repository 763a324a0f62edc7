// The library's entry: a Runtime owns a device, a cache and a compiler; plan() makes a launchable kernel for a
// problem; a plan's run() only launches.
#pragma once

#include <gdnjit/error.h>
#include <gdnjit/gdn.h>
#include <gdnjit/gdn_chunk.h>
#include <gdnjit/options.h>
#include <gdnjit/tensor.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gdnjit {

class Device;        // runtime/device.h
class OperatorPlan;  // runtime/plan.h

// How a plan's tiles were found.
enum class TilesFrom : unsigned char {
  exact,      // a tuning record of this device and problem bucket
  bucket,     // same device, the nearest measured batch inside the measured range
  hint,       // a record of the same architecture, another device
  heuristic,  // the operator's default
  given,      // named by the caller: the tuner and the tools
};

// "exact", "bucket", ...
std::string_view tiles_from_text(TilesFrom from);

struct KernelInfo {
  std::string entry;      // "gdnjit_gdn_step"
  std::string signature;  // canonical text
  std::string key;        // 32 hexadecimal digits
  bool compiled = false;  // false: the binary came from the cache
  int registers = 0;
  int spill_bytes = 0;
  int shared_bytes = 0;  // static and dynamic
};

struct PlanInfo {
  std::string operator_name;
  std::string problem;  // canonical text
  std::string tiles;
  TilesFrom tiles_from = TilesFrom::heuristic;
  std::vector<KernelInfo> kernels;  // of one call, in the order of their launches

  // Whether any of them was compiled for this plan.
  bool compiled() const {
    return std::any_of(kernels.begin(), kernels.end(), [](const KernelInfo& kernel) { return kernel.compiled; });
  }
};

// Thread-safe. Destroy it after all plans made from it.
// Throws Error: invalid_argument for an option, device_unavailable, io for a templates folder.
class Runtime {
 public:
  explicit Runtime(const Options& options = Options::from_environment());
  ~Runtime();
  Runtime(Runtime&&) noexcept;
  Runtime& operator=(Runtime&&) noexcept;
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  // "NVIDIA H200 (sm_90a)" or "emulator of sm_90a".
  std::string device_name() const;
  bool is_emulator() const;

  // Device memory, for programs without an allocator of their own. 256-byte aligned.
  void* allocate(std::size_t bytes, std::string_view name = "buffer");
  void release(void* memory) noexcept;
  void copy_in(void* device, const void* host, std::size_t bytes, void* stream = nullptr);
  void copy_out(void* host, const void* device, std::size_t bytes, void* stream = nullptr);
  void synchronize(void* stream = nullptr);

  class Impl;  // runtime/runtime_impl.h
  explicit Runtime(std::unique_ptr<Impl> impl);
  Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

namespace gdn {

// A step ready to run. Cheap to copy; keeps its kernel loaded.
class StepPlan {
 public:
  struct Prepared;  // runtime/gdn_step.h

  StepPlan() = default;
  explicit StepPlan(std::shared_ptr<const Prepared> prepared) : prepared_(std::move(prepared)) {}
  explicit operator bool() const { return prepared_ != nullptr; }

  // Launches on `stream` and returns. Allocates nothing, synchronises nothing, never compiles; legal inside CUDA
  // graph capture. B is taken from the tensors; B = 0 is a no-op. Throws invalid_argument before any device work.
  // With StateStore::dense an empty state_out means in place; with StateStore::pool there is one state, state_in.
  // On the emulator the tensors may be ordinary host memory, and the call returns when the kernel is done.
  void run(const StepArgs& args, void* stream = nullptr) const;

  // What the kernel is and where it came from. Like run(), throws invalid_argument on a default-made plan.
  const PlanInfo& info() const;

 private:
  std::shared_ptr<const Prepared> prepared_;
};

// May compile, load or (policy tune_on_miss) tune. Repeated calls with an equal problem are a look-up below 50 ns.
// Throws Error: invalid_argument, nvrtc_missing, compile_failed, strict_miss, device_failed.
StepPlan plan(Runtime& runtime, const StepProblem& problem);

// plan(...).run(...). While `stream` is captured nothing is tuned, whatever the policy; plan before the capture all the
// same, because loading a kernel is not legal in every capture mode.
void step(Runtime& runtime, const StepProblem& problem, const StepArgs& args, void* stream = nullptr);

// The same for any number of tokens. B and T are taken from the tensors; B = 0 is a no-op, and with T = 0 (or a
// sequence without tokens) the final state is the initial one. An empty state_out means in place where both states are
// dense.
class RecurrentPlan {
 public:
  struct Prepared;  // runtime/gdn_recurrent.h

  RecurrentPlan() = default;
  explicit RecurrentPlan(std::shared_ptr<const Prepared> prepared) : prepared_(std::move(prepared)) {}
  explicit operator bool() const { return prepared_ != nullptr; }

  void run(const RecurrentArgs& args, void* stream = nullptr) const;
  const PlanInfo& info() const;

 private:
  std::shared_ptr<const Prepared> prepared_;
};

RecurrentPlan plan(Runtime& runtime, const RecurrentProblem& problem);
void recurrent(Runtime& runtime, const RecurrentProblem& problem, const RecurrentArgs& args, void* stream = nullptr);

// Chunked prefill: the same again by several kernels on the tensor cores. A run needs a workspace (workspace_bytes());
// with T = 0 the final state is the initial one.
class ChunkPlan {
 public:
  struct Prepared;  // runtime/gdn_chunk.h

  ChunkPlan() = default;
  explicit ChunkPlan(std::shared_ptr<const Prepared> prepared) : prepared_(std::move(prepared)) {}
  explicit operator bool() const { return prepared_ != nullptr; }

  void run(const ChunkArgs& args, void* stream = nullptr) const;
  const PlanInfo& info() const;

 private:
  std::shared_ptr<const Prepared> prepared_;
};

ChunkPlan plan(Runtime& runtime, const ChunkProblem& problem);
void chunk(Runtime& runtime, const ChunkProblem& problem, const ChunkArgs& args, void* stream = nullptr);

}  // namespace gdn

}  // namespace gdnjit

// A device, a compiler and an operator without GPU, NVRTC and template, which count what is asked of them.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "codegen/compiler.h"
#include "codegen/operator.h"
#include "runtime/device.h"
#include "runtime/runtime_impl.h"

namespace gdnjit::fakes {

// What a fake remembers outlives it: the Runtime owns the fakes themselves.
struct DeviceLog {
  std::atomic<int> loads{0};
  std::atomic<int> unloads{0};
  std::atomic<int> launches{0};
  std::atomic<int> copies_out{0};
  bool capturing = false;
  bool launch_fails = false;
  std::atomic<std::size_t> discarded_bytes{0};
  bool listing = false;  // whether launches put their kernels' names into `entries`, in order
  std::vector<std::string> entries;
  // Of the first launch.
  std::string entry;
  LaunchGeometry geometry;
  std::vector<std::byte> parameters;
  std::vector<BufferRange> ranges;
};

DeviceInfo emulator_info(std::string arch = "sm_90a");
DeviceInfo gpu_info(std::string name = "NVIDIA H200", std::string arch = "sm_90a");

std::unique_ptr<Device> make_device(std::shared_ptr<DeviceLog> log, DeviceInfo info = emulator_info());

struct CompilerLog {
  std::atomic<int> compiles{0};
  std::string toolchain = "nvrtc 13.0.1";
  bool missing = false;  // toolchain() and compile() throw nvrtc_missing
  bool refuses = false;  // compile() is a CompileFailure
};

std::unique_ptr<Compiler> make_compiler(std::shared_ptr<CompilerLog> log);

// "fake.scale": y [B,N] = x [B,N] * factor. Tiles: width, which must divide N. Buckets round B up to a power of two.
// With prepared=true a call is two kernels, of which the first is the same for every width, with scratch memory
// between them.
const Operator& scale_operator();

// A folder that goes away with the object.
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

// A runtime over fakes, with their logs.
struct Bench {
  explicit Bench(Options options = {}, DeviceInfo info = emulator_info(), CompilerLog* settings = nullptr);

  std::shared_ptr<DeviceLog> device = std::make_shared<DeviceLog>();
  std::shared_ptr<CompilerLog> compiler = std::make_shared<CompilerLog>();
  Runtime::Impl runtime;
};

}  // namespace gdnjit::fakes

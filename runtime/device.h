// A Device runs kernels: the CUDA driver or the emulator behind one interface. Nothing above this line of the
// project knows which one it talks to, except to say so to the user.
#pragma once

#include <gdnjit/error.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "codegen/operator.h"
#include "codegen/tensor_map.h"
#include "runtime/counters.h"

namespace gdnjit {

enum class DeviceKind : unsigned char { cuda, emulator };

struct DeviceInfo {
  DeviceKind kind = DeviceKind::cuda;
  std::string name;  // "NVIDIA H200", "emulator of sm_90a"
  DeviceTraits traits;
  std::int64_t memory_bytes = 0;
  std::string driver;  // "CUDA driver 13.0", "" on the emulator
  // Identity for tuning records: name, SM count and memory class. H100 and H200 differ here, not in arch.
  std::string tuning_identity() const;
};

// A CUstream on a GPU, ignored by the emulator (which runs everything in order). nullptr is the default stream.
using Stream = void*;

// What a device needs to load a kernel: both forms come from one compile.
struct KernelImage {
  std::string_view entry;
  std::string_view ptx;              // used by the emulator
  std::span<const std::byte> cubin;  // used by the CUDA driver
};

// A loaded kernel. Destroying it unloads it; the Device must outlive it.
class Kernel {
 public:
  virtual ~Kernel() = default;
};

// Memory that a launch may touch, with its name for reports. The emulator accepts accesses to these ranges only
// (to all live allocations if a launch names none); the CUDA device ignores them.
struct BufferRange {
  void* begin = nullptr;
  std::size_t bytes = 0;
  std::string_view name;
  // input: a store is a fault; output: a load before a store of the same launch is a fault.
  TensorRole role = TensorRole::in_out;
};

class Event {
 public:
  virtual ~Event() = default;
  virtual void record(Stream stream) = 0;
  // Microseconds from `earlier` to this event; waits for both.
  virtual double microseconds_since(const Event& earlier) const = 0;
};

// A captured sequence of launches, replayed as one. On the emulator: a list.
class Graph {
 public:
  virtual ~Graph() = default;
  virtual void launch(Stream stream) = 0;
};

// Thread-safe. Every failure throws Error(device_failed, out_of_memory or unsupported) and says what was being done.
class Device : public TensorMapEncoder {
 public:
  virtual const DeviceInfo& info() const = 0;

  // 256-byte aligned, contents undefined (the emulator reports reads of unwritten bytes). `name` shows in reports.
  virtual void* allocate(std::size_t bytes, std::string_view name) = 0;
  virtual void release(void* memory) noexcept = 0;
  // `host` is free to reuse on return.
  virtual void copy_in(void* device, const void* host, std::size_t bytes, Stream stream) = 0;
  // Complete on return.
  virtual void copy_out(void* host, const void* device, std::size_t bytes, Stream stream) = 0;
  virtual void fill(void* device, std::uint8_t value, std::size_t bytes, Stream stream) = 0;
  // What the memory holds does not matter any more: the emulator poisons it and reports reads before the next write,
  // other devices do nothing. Legal in graph capture.
  virtual void discard(void*, std::size_t, Stream) {}

  virtual Stream create_stream() = 0;
  virtual void destroy_stream(Stream stream) noexcept = 0;
  virtual void synchronize(Stream stream) = 0;

  virtual std::unique_ptr<Kernel> load(const KernelImage& image) = 0;
  // Asynchronous on a GPU; complete on return on the emulator. Allocates no device memory; legal in graph capture.
  virtual void launch(const Kernel& kernel, const LaunchGeometry& geometry, std::span<const std::byte> parameters,
                      Stream stream, std::span<const BufferRange> buffers) = 0;

  TensorMap encode_tensor_map(const TensorMapSpec&) override {
    throw Error(ErrorCode::unsupported, "encoding a tensor map: this device has none");
  }

  virtual std::unique_ptr<Event> create_event() = 0;
  // Runs `work` under capture on `stream` (not the default stream).
  virtual std::unique_ptr<Graph> capture(Stream stream, const std::function<void(Stream)>& work) = 0;
  // True while `stream` is being captured, by capture() or by the caller's own means. Nothing tunes then.
  virtual bool capturing(Stream) const { return false; }

  // Counts of the calling thread's last launch; nullptr on devices that do not count.
  virtual const LaunchCounters* last_counters() const { return nullptr; }
  // The same launch's traffic by the names of its BufferRanges, in address order; empty on devices that do not count.
  virtual std::vector<BufferTraffic> last_traffic() const { return {}; }
  // Whether launches are profiled by line from now on; costs time. Devices that do not count ignore it.
  virtual void set_profiling(bool) {}
  // The same launch line by line, most warp instructions first; empty if it was not profiled.
  virtual std::vector<LineProfile> last_profile() const { return {}; }
};

// Device memory with an owner.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(Device& device, std::size_t bytes, std::string_view name)
      : device_(&device), data_(device.allocate(bytes, name)), bytes_(bytes) {}
  ~DeviceBuffer() { reset(); }
  DeviceBuffer(DeviceBuffer&& other) noexcept { swap(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  void reset() noexcept {
    if (data_ != nullptr) device_->release(data_);
    data_ = nullptr;
  }
  void swap(DeviceBuffer& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }

  Device* device_ = nullptr;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace gdnjit

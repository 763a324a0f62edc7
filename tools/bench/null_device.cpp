#include "tools/bench/null_device.h"

#include <benchmark/benchmark.h>

#include <new>

namespace gdnjit::bench {
namespace {

constexpr std::align_val_t kAlignment{256};

class NullEvent : public Event {
 public:
  void record(Stream) override {}
  double microseconds_since(const Event&) const override { return 0; }
};

class NullGraph : public Graph {
 public:
  void launch(Stream) override {}
};

class NullDevice : public Device {
 public:
  NullDevice() {
    info_.name = "null device";
    info_.memory_bytes = 1LL << 30;
  }
  const DeviceInfo& info() const override { return info_; }

  void* allocate(std::size_t bytes, std::string_view) override { return ::operator new(bytes, kAlignment); }
  void release(void* memory) noexcept override { ::operator delete(memory, kAlignment); }
  void copy_in(void*, const void*, std::size_t, Stream) override {}
  void copy_out(void*, const void*, std::size_t, Stream) override {}
  void fill(void*, std::uint8_t, std::size_t, Stream) override {}

  Stream create_stream() override { return nullptr; }
  void destroy_stream(Stream) noexcept override {}
  void synchronize(Stream) override {}

  std::unique_ptr<Kernel> load(const KernelImage&) override { return std::make_unique<Kernel>(); }
  void launch(const Kernel& kernel, const LaunchGeometry& geometry, std::span<const std::byte> parameters, Stream,
              std::span<const BufferRange>) override {
    // The parameter block and the grid must really be made.
    benchmark::DoNotOptimize(&kernel);
    benchmark::DoNotOptimize(geometry);
    benchmark::DoNotOptimize(parameters.data());
    benchmark::ClobberMemory();
  }

  std::unique_ptr<Event> create_event() override { return std::make_unique<NullEvent>(); }
  std::unique_ptr<Graph> capture(Stream stream, const std::function<void(Stream)>& work) override {
    work(stream);
    return std::make_unique<NullGraph>();
  }

 private:
  DeviceInfo info_;
};

}  // namespace

std::unique_ptr<Device> make_null_device() { return std::make_unique<NullDevice>(); }

}  // namespace gdnjit::bench

#include "runtime/emulator/emulator_device.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <variant>

#include "runtime/emulator/decode/decoder.h"
#include "runtime/emulator/exec/group_runner.h"
#include "runtime/emulator/geometry.h"
#include "runtime/emulator/launch.h"
#include "runtime/emulator/memory/allocations.h"
#include "runtime/emulator/races/launch_races.h"
#include "runtime/emulator/semantics/tensor_box.h"
#include "runtime/emulator/traits.h"
#include "runtime/support/check.h"

namespace gdnjit {
namespace {

using namespace emulator;

class EmulatorKernel : public Kernel {
 public:
  explicit EmulatorKernel(std::shared_ptr<const Program> loaded) : program(std::move(loaded)) {}
  const std::shared_ptr<const Program> program;
};

class EmulatorEvent : public Event {
 public:
  void record(Stream) override {
    time_ = std::chrono::steady_clock::now();
    recorded_ = true;
  }
  double microseconds_since(const Event& earlier) const override {
    const auto* other = dynamic_cast<const EmulatorEvent*>(&earlier);
    if (other == nullptr || !recorded_ || !other->recorded_)
      fail(ErrorCode::device_failed, "emulator: timing with an event that was not recorded");
    return std::chrono::duration<double, std::micro>(time_ - other->time_).count();
  }

 private:
  std::chrono::steady_clock::time_point time_;
  bool recorded_ = false;
};

// Copies what the caller's views point to.
struct RecordedLaunch {
  std::shared_ptr<const Program> program;
  LaunchGeometry geometry;
  std::vector<std::byte> parameters;
  std::vector<std::string> names;
  std::vector<BufferRange> buffers;
};

struct RecordedFill {
  void* memory = nullptr;
  std::uint8_t value = 0;
  std::size_t bytes = 0;
};

struct RecordedDiscard {
  void* memory = nullptr;
  std::size_t bytes = 0;
};

struct Recording {
  std::vector<std::variant<RecordedLaunch, RecordedFill, RecordedDiscard>> steps;
};

// The counters of this thread's last launch, and the number of its device (0: none).
struct LastLaunch {
  std::uint64_t device = 0;
  LaunchCounts counts;
};
thread_local LastLaunch last_launch;
std::atomic<std::uint64_t> devices_made{0};

class EmulatorDevice : public Device {
 public:
  EmulatorDevice(std::string_view arch, EmulatorChecks checks, std::uint64_t instruction_limit)
      : checks_(checks),
        instruction_limit_(instruction_limit),
        pool_(std::max(1U, std::thread::hardware_concurrency())) {
    info_.kind = DeviceKind::emulator;
    info_.traits = traits_of(arch);
    info_.name = fmt::format("emulator of {}", arch);
    info_.memory_bytes = static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
  }

  const DeviceInfo& info() const override { return info_; }

  void* allocate(std::size_t bytes, std::string_view name) override { return allocations_.allocate(bytes, name); }
  void release(void* memory) noexcept override { allocations_.release(memory); }

  void copy_in(void* device, const void* host, std::size_t bytes, Stream stream) override {
    refuse_capture(stream, "copying to the device");
    allocations_.check_and_mark(device, bytes, "copying to the device");
    if (bytes != 0) std::memcpy(device, host, bytes);
  }
  void copy_out(void* host, const void* device, std::size_t bytes, Stream stream) override {
    refuse_capture(stream, "copying from the device");
    allocations_.check(device, bytes, "copying from the device");
    if (bytes != 0) std::memcpy(host, device, bytes);
  }
  void fill(void* device, std::uint8_t value, std::size_t bytes, Stream stream) override {
    if (Recording* recording = find_recording(stream)) {
      recording->steps.emplace_back(RecordedFill{device, value, bytes});
      return;
    }
    allocations_.check_and_mark(device, bytes, "filling memory");
    if (bytes != 0) std::memset(device, value, bytes);
  }

  void discard(void* device, std::size_t bytes, Stream stream) override {
    if (Recording* recording = find_recording(stream)) {
      recording->steps.emplace_back(RecordedDiscard{device, bytes});
    } else {
      allocations_.discard(device, bytes);
    }
  }

  Stream create_stream() override {
    const std::lock_guard lock(streams_mutex_);
    streams_.push_back(std::make_unique<char>());
    return streams_.back().get();
  }
  void destroy_stream(Stream stream) noexcept override {
    const std::lock_guard lock(streams_mutex_);
    std::erase_if(streams_, [stream](const auto& owned) { return owned.get() == stream; });
  }
  void synchronize(Stream stream) override { refuse_capture(stream, "waiting for a stream"); }

  std::unique_ptr<Kernel> load(const KernelImage& image) override {
    if (image.ptx.empty())
      fail(ErrorCode::device_failed, "emulator: loading kernel '{}': it comes without PTX", image.entry);
    auto program = load_program(image.ptx, image.entry, execution_set());
    if (!runs_on(program->target, info_.traits.arch)) {
      fail(ErrorCode::unsupported, "loading kernel '{}' into the {}: its PTX is for {}", image.entry, info_.name,
           program->target);
    }
    return std::make_unique<EmulatorKernel>(std::move(program));
  }

  void launch(const Kernel& kernel, const LaunchGeometry& geometry, std::span<const std::byte> parameters,
              Stream stream, std::span<const BufferRange> buffers) override {
    const auto* loaded = dynamic_cast<const EmulatorKernel*>(&kernel);
    if (loaded == nullptr) fail(ErrorCode::device_failed, "emulator: launching a kernel that another device loaded");
    if (Recording* recording = find_recording(stream)) {
      recording->steps.emplace_back(record(loaded->program, geometry, parameters, buffers));
      return;
    }
    launch_now(loaded->program, geometry, parameters, buffers);
  }

  void replay(const Recording& recording) {
    for (const auto& step : recording.steps) std::visit([this](const auto& recorded) { replay(recorded); }, step);
  }

  TensorMap encode_tensor_map(const TensorMapSpec& spec) override {
    if (!runs_on("sm_90", info_.traits.arch))
      fail(ErrorCode::unsupported, "encoding a tensor map on the {}: needs sm_90 or later", info_.name);
    check_tensor_map(spec);
    return emulator::encode_tensor_map(spec);
  }

  std::unique_ptr<Event> create_event() override { return std::make_unique<EmulatorEvent>(); }
  std::unique_ptr<Graph> capture(Stream stream, const std::function<void(Stream)>& work) override;
  bool capturing(Stream stream) const override { return find_recording(stream) != nullptr; }

  const LaunchCounters* last_counters() const override {
    return last_launch.device == number_ ? &last_launch.counts.counters : nullptr;
  }
  void set_profiling(bool on) override { profiling_ = on; }
  std::vector<LineProfile> last_profile() const override {
    return last_launch.device == number_ ? last_launch.counts.profile : std::vector<LineProfile>{};
  }
  std::vector<BufferTraffic> last_traffic() const override {
    return last_launch.device == number_ ? last_launch.counts.traffic : std::vector<BufferTraffic>{};
  }

 private:
  Recording* find_recording(Stream stream) const {
    const std::lock_guard lock(streams_mutex_);
    const auto found = recordings_.find(stream);
    return found == recordings_.end() ? nullptr : found->second;
  }
  void refuse_capture(Stream stream, const char* doing) const {
    if (find_recording(stream) != nullptr)
      fail(ErrorCode::device_failed, "emulator: {} is not possible while the stream is captured", doing);
  }

  void replay(const RecordedLaunch& launch) {
    launch_now(launch.program, launch.geometry, launch.parameters, launch.buffers);
  }
  void replay(const RecordedFill& recorded) { fill(recorded.memory, recorded.value, recorded.bytes, nullptr); }
  void replay(const RecordedDiscard& recorded) { discard(recorded.memory, recorded.bytes, nullptr); }

  static RecordedLaunch record(std::shared_ptr<const Program> program, const LaunchGeometry& geometry,
                               std::span<const std::byte> parameters, std::span<const BufferRange> buffers);
  RangeTable table(const Program& program, std::span<const BufferRange> buffers,
                   std::vector<std::shared_ptr<ShadowBits>>& hold) const;
  void launch_now(const std::shared_ptr<const Program>& program, const LaunchGeometry& geometry,
                  std::span<const std::byte> parameters, std::span<const BufferRange> buffers);

  // Addresses are used again after a device is gone, numbers are not.
  const std::uint64_t number_ = ++devices_made;
  const EmulatorChecks checks_;
  const std::uint64_t instruction_limit_;
  DeviceInfo info_;
  Allocations allocations_;
  ThreadPool pool_;
  std::mutex launch_mutex_;
  std::atomic<bool> profiling_{false};
  mutable std::mutex streams_mutex_;
  std::vector<std::unique_ptr<char>> streams_;
  std::map<Stream, Recording*> recordings_;
};

class EmulatorGraph : public Graph {
 public:
  EmulatorGraph(EmulatorDevice& device, Recording recording) : device_(device), recording_(std::move(recording)) {}
  void launch(Stream) override { device_.replay(recording_); }

 private:
  EmulatorDevice& device_;
  const Recording recording_;
};

std::unique_ptr<Graph> EmulatorDevice::capture(Stream stream, const std::function<void(Stream)>& work) {
  if (stream == nullptr) fail(ErrorCode::device_failed, "emulator: the default stream cannot be captured");
  Recording recording;
  {
    const std::lock_guard lock(streams_mutex_);
    if (!recordings_.emplace(stream, &recording).second)
      fail(ErrorCode::device_failed, "emulator: the stream is being captured already");
  }
  struct Stop {
    EmulatorDevice& device;
    Stream stream;
    ~Stop() {
      const std::lock_guard lock(device.streams_mutex_);
      device.recordings_.erase(stream);
    }
  };
  {
    const Stop stop{*this, stream};
    work(stream);
  }
  return std::make_unique<EmulatorGraph>(*this, std::move(recording));
}

RecordedLaunch EmulatorDevice::record(std::shared_ptr<const Program> program, const LaunchGeometry& geometry,
                                      std::span<const std::byte> parameters, std::span<const BufferRange> buffers) {
  RecordedLaunch launch{
      std::move(program), geometry, {parameters.begin(), parameters.end()}, {}, {buffers.begin(), buffers.end()}};
  launch.names.reserve(buffers.size());
  for (BufferRange& buffer : launch.buffers) buffer.name = launch.names.emplace_back(buffer.name);
  return launch;
}

RangeTable EmulatorDevice::table(const Program& program, std::span<const BufferRange> buffers,
                                 std::vector<std::shared_ptr<ShadowBits>>& hold) const {
  std::vector<BufferSource> allocations = allocations_.sources(hold);
  std::vector<BufferSource> sources;
  if (buffers.empty()) {
    sources = allocations;
  } else {
    for (const BufferRange& buffer : buffers) {
      const auto begin = reinterpret_cast<std::uint64_t>(buffer.begin);
      if (buffer.bytes > std::numeric_limits<std::uint64_t>::max() - begin) {
        fail(ErrorCode::device_failed, "emulator: the buffer '{}' wraps around the end of memory", buffer.name);
      }
      sources.push_back({.begin = begin,
                         .end = begin + buffer.bytes,
                         .name = std::string(buffer.name),
                         .readable = buffer.role != TensorRole::output,
                         .writable = buffer.role != TensorRole::input});
    }
  }
  // Only allocations that the launch may touch lend their records.
  std::erase_if(allocations, [&sources](const BufferSource& allocation) {
    return std::none_of(sources.begin(), sources.end(), [&allocation](const BufferSource& source) {
      return source.begin < allocation.end && allocation.begin < source.end;
    });
  });
  for (const ModuleMemory::Range& variable : program.memory->ranges) {
    sources.push_back({.begin = variable.begin,
                       .end = variable.begin + variable.bytes,
                       .name = variable.name,
                       .readable = true,
                       .writable = variable.writable});
  }
  return RangeTable(std::move(sources), allocations);
}

void EmulatorDevice::launch_now(const std::shared_ptr<const Program>& program, const LaunchGeometry& geometry,
                                std::span<const std::byte> parameters, std::span<const BufferRange> buffers) {
  check_geometry(*program, info_.traits, geometry, parameters.size());
  std::vector<std::shared_ptr<ShadowBits>> hold;
  RangeTable ranges = table(*program, buffers, hold);
  // Parameters are read with vector loads, so their copy is aligned.
  const AlignedBytes copy = allocate_aligned(parameters.size());
  if (!parameters.empty()) std::memcpy(copy.get(), parameters.data(), parameters.size());

  LaunchState launch;
  launch.program = program.get();
  std::copy(std::begin(geometry.grid), std::end(geometry.grid), std::begin(launch.grid));
  std::copy(std::begin(geometry.block), std::end(geometry.block), std::begin(launch.block));
  launch.explicit_cluster = cluster_size(*program, geometry, launch.cluster);
  launch.cluster_blocks = launch.cluster[0] * launch.cluster[1] * launch.cluster[2];
  launch.cooperative = geometry.cooperative;
  launch.profiled = profiling_;
  launch.instruction_limit = instruction_limit_;
  launch.block_threads = geometry.block[0] * geometry.block[1] * geometry.block[2];
  launch.warps = (launch.block_threads + kLanes - 1) / kLanes;
  launch.dynamic_shared_bytes = geometry.shared_bytes;
  launch.shared_bytes = program->shared_extent + geometry.shared_bytes;
  launch.sm_count = info_.traits.sm_count;
  launch.parameters = copy.get();
  launch.ranges = &ranges;
  std::optional<LaunchRaces> races;
  if (checks_ == EmulatorChecks::races) launch.races = &races.emplace(launch);

  const std::lock_guard lock(launch_mutex_);
  last_launch.device = 0;
  last_launch.counts = run_grid(launch, execution_set(), pool_);
  last_launch.device = number_;
}

}  // namespace

std::unique_ptr<Device> make_emulator(std::string_view arch, EmulatorChecks checks, std::uint64_t instruction_limit) {
  return std::make_unique<EmulatorDevice>(arch, checks, instruction_limit);
}

}  // namespace gdnjit

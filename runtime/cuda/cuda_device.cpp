#include "runtime/cuda/cuda_device.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string>

#include "runtime/cuda/device_properties.h"
#include "runtime/cuda/driver_error.h"
#include "runtime/cuda/handles.h"
#include "runtime/support/check.h"

namespace gdnjit::cuda {
namespace {

StreamHandle handle_of(Stream stream) { return static_cast<StreamHandle>(stream); }
DevicePointer address_of(const void* memory) { return reinterpret_cast<std::uintptr_t>(memory); }

constexpr std::size_t kMaxParameterStart = 256;
constexpr std::size_t kMaxParameterBytes = 32764;  // of a kernel, since driver 12.1

class CudaKernel final : public Kernel {
 public:
  CudaKernel(const Device* device, LibraryHandle library, FunctionRaw function, std::string name,
             std::size_t parameter_start)
      : device_(device),
        library_(std::move(library)),
        function_(function),
        name_(std::move(name)),
        parameter_start_(parameter_start) {}

  const Device* device() const { return device_; }
  FunctionRaw function() const { return function_; }
  const std::string& name() const { return name_; }
  // Where the first parameter lies in the parameter space.
  std::size_t parameter_start() const { return parameter_start_; }

 private:
  const Device* device_;
  LibraryHandle library_;
  FunctionRaw function_;
  std::string name_;
  std::size_t parameter_start_;
};

// What events, graphs and the device itself work with.
struct Session {
  const DriverTable& driver;
  Context context;
  std::string device_name;
};

class CudaEvent final : public Event {
 public:
  explicit CudaEvent(const Session& session) : session_(session), event_(session.driver, session.context) {
    check(driver(), driver().event_create(event_.out(), kEventDefault), "creating an event on {}",
          session_.device_name);
  }

  void record(Stream stream) override {
    const ContextScope scope(driver(), session_.context);
    check(driver(), scope.result(), "recording an event on {}", session_.device_name);
    check(driver(), driver().event_record(event_.get(), handle_of(stream)), "recording an event on {}",
          session_.device_name);
  }

  double microseconds_since(const Event& earlier) const override {
    const auto* const begin = dynamic_cast<const CudaEvent*>(&earlier);
    GDNJIT_CHECK(begin != nullptr, "an event of another device");
    const ContextScope scope(driver(), session_.context);
    check(driver(), scope.result(), "timing with events on {}", session_.device_name);
    for (EventRaw event : {begin->event_.get(), event_.get()}) {
      check(driver(), driver().event_synchronize(event), "waiting for an event on {}", session_.device_name);
    }
    float milliseconds = 0;
    check(driver(), driver().event_elapsed_time(&milliseconds, begin->event_.get(), event_.get()),
          "timing with events on {}", session_.device_name);
    return 1e3 * static_cast<double>(milliseconds);
  }

 private:
  const DriverTable& driver() const { return session_.driver; }

  const Session& session_;
  EventHandle event_;
};

class CudaGraph final : public Graph {
 public:
  CudaGraph(const Session& session, GraphExecHandle exec) : session_(session), exec_(std::move(exec)) {}

  void launch(Stream stream) override {
    const ContextScope scope(session_.driver, session_.context);
    check(session_.driver, scope.result(), "replaying a graph on {}", session_.device_name);
    check(session_.driver, session_.driver.graph_launch(exec_.get(), handle_of(stream)), "replaying a graph on {}",
          session_.device_name);
  }

 private:
  const Session& session_;
  GraphExecHandle exec_;
};

class CudaDevice final : public Device {
 public:
  CudaDevice(const DriverTable& driver, DeviceOrdinal device)
      : driver_(driver),
        device_(device),
        info_(read_device_info(driver, device)),
        primary_(driver, device),
        session_{driver, primary_.get(), info_.name} {
    check(driver_, primary_.result(), "making the context of {}", info_.name);
  }

  const DeviceInfo& info() const override { return info_; }

  void* allocate(std::size_t bytes, std::string_view name) override {
    const ContextScope scope(driver_, primary_.get());
    check(driver_, scope.result(), "allocating '{}' on {}", name, info_.name);
    DevicePointer memory = 0;
    // The driver refuses empty allocations; a batch of zero has some.
    check(driver_, driver_.mem_alloc(&memory, std::max<std::size_t>(bytes, 1)), "allocating {} bytes for '{}' on {}",
          bytes, name, info_.name);
    return reinterpret_cast<void*>(static_cast<std::uintptr_t>(memory));
  }

  void release(void* memory) noexcept override {
    if (memory == nullptr) return;
    const ContextScope scope(driver_, primary_.get());
    driver_.mem_free(address_of(memory));  // fails only after a sticky error, when the memory is gone anyway
  }

  // The copies wait, because from page-locked memory the driver's call returns before the bytes are read.
  void copy_in(void* device, const void* host, std::size_t bytes, Stream stream) override {
    if (bytes == 0) return;
    const ContextScope scope(driver_, primary_.get());
    check(driver_, scope.result(), "copying {} bytes to {}", bytes, info_.name);
    check(driver_, driver_.memcpy_htod_async(address_of(device), host, bytes, handle_of(stream)),
          "copying {} bytes to {}", bytes, info_.name);
    check(driver_, driver_.stream_synchronize(handle_of(stream)), "copying {} bytes to {}", bytes, info_.name);
  }

  void copy_out(void* host, const void* device, std::size_t bytes, Stream stream) override {
    if (bytes == 0) return;
    const ContextScope scope(driver_, primary_.get());
    check(driver_, scope.result(), "copying {} bytes from {}", bytes, info_.name);
    check(driver_, driver_.memcpy_dtoh_async(host, address_of(device), bytes, handle_of(stream)),
          "copying {} bytes from {}", bytes, info_.name);
    check(driver_, driver_.stream_synchronize(handle_of(stream)), "copying {} bytes from {}", bytes, info_.name);
  }

  void fill(void* device, std::uint8_t value, std::size_t bytes, Stream stream) override {
    if (bytes == 0) return;
    const ContextScope scope(driver_, primary_.get());
    check(driver_, scope.result(), "filling {} bytes on {}", bytes, info_.name);
    check(driver_, driver_.memset_d8_async(address_of(device), value, bytes, handle_of(stream)),
          "filling {} bytes on {}", bytes, info_.name);
  }

  Stream create_stream() override {
    const ContextScope scope(driver_, primary_.get());
    check(driver_, scope.result(), "creating a stream on {}", info_.name);
    StreamHandle stream = nullptr;
    check(driver_, driver_.stream_create(&stream, kStreamNonBlocking), "creating a stream on {}", info_.name);
    return stream;
  }

  void destroy_stream(Stream stream) noexcept override {
    if (stream == nullptr) return;
    const ContextScope scope(driver_, primary_.get());
    driver_.stream_destroy(handle_of(stream));
  }

  void synchronize(Stream stream) override {
    const ContextScope scope(driver_, primary_.get());
    check(driver_, scope.result(), "waiting for {}", info_.name);
    check(driver_, driver_.stream_synchronize(handle_of(stream)), "waiting for {}", info_.name);
  }

  std::unique_ptr<Kernel> load(const KernelImage& image) override;
  void launch(const Kernel& kernel, const LaunchGeometry& geometry, std::span<const std::byte> parameters,
              Stream stream, std::span<const BufferRange> buffers) override;

  TensorMap encode_tensor_map(const TensorMapSpec& spec) override;

  std::unique_ptr<Event> create_event() override {
    const ContextScope scope(driver_, primary_.get());
    check(driver_, scope.result(), "creating an event on {}", info_.name);
    return std::make_unique<CudaEvent>(session_);
  }

  std::unique_ptr<Graph> capture(Stream stream, const std::function<void(Stream)>& work) override;

  bool capturing(Stream stream) const override {
    const ContextScope scope(driver_, primary_.get());
    check(driver_, scope.result(), "asking for the capture status on {}", info_.name);
    int status = kCaptureStatusNone;
    const Result result = driver_.stream_is_capturing(handle_of(stream), &status);
    if (result == kStreamCaptureImplicit) return true;  // the default stream, while another one is captured
    check(driver_, result, "asking for the capture status on {}", info_.name);
    return status != kCaptureStatusNone;
  }

 private:
  void allow_shared_memory(KernelRaw kernel, const std::string& name);
  std::size_t parameter_start(KernelRaw kernel, const std::string& name) const;

  const DriverTable& driver_;
  DeviceOrdinal device_;
  DeviceInfo info_;
  PrimaryContext primary_;
  Session session_;
};

// Everything that may be slow or fail happens here: asking for the function and its attributes makes the driver load
// the code now (its default is to wait for the first launch, which may be inside a graph capture).
std::unique_ptr<Kernel> CudaDevice::load(const KernelImage& image) {
  const std::string name(image.entry);
  require(!image.cubin.empty(), "loading kernel '{}' on {}: there is no binary in the image; compile it for {}", name,
          info_.name, info_.traits.arch);
  const ContextScope scope(driver_, primary_.get());
  check(driver_, scope.result(), "loading kernel '{}' on {}", name, info_.name);
  LibraryHandle library(driver_, primary_.get());
  check(driver_, driver_.library_load_data(library.out(), image.cubin.data(), nullptr, nullptr, 0, nullptr, nullptr, 0),
        "loading kernel '{}' on {}", name, info_.name);
  KernelRaw kernel = nullptr;
  check(driver_, driver_.library_get_kernel(&kernel, library.get(), name.c_str()),
        "finding kernel '{}' in its binary on {}", name, info_.name);
  FunctionRaw function = nullptr;
  check(driver_, driver_.kernel_get_function(&function, kernel), "loading kernel '{}' on {}", name, info_.name);
  allow_shared_memory(kernel, name);
  return std::make_unique<CudaKernel>(this, std::move(library), function, name, parameter_start(kernel, name));
}

// Parameters follow each other as in a C structure, but the first need not lie at the start of the parameter space: one
// of 128-byte alignment, such as a tensor map, lies at offset 112, because the space starts at an odd multiple of 16.
// Only the first is asked for: asking beyond the last is an error that compute-sanitizer would show.
std::size_t CudaDevice::parameter_start(KernelRaw kernel, const std::string& name) const {
  if (driver_.kernel_get_param_info == nullptr) return 0;
  std::size_t offset = 0;
  std::size_t bytes = 0;
  const Result result = driver_.kernel_get_param_info(kernel, 0, &offset, &bytes);
  if (result == kInvalidValue) return 0;  // there are no parameters
  check(driver_, result, "reading the parameters of kernel '{}' on {}", name, info_.name);
  require(offset < kMaxParameterStart,
          "loading kernel '{}' on {}: its first parameter lies {} bytes in; align it to at most {}", name, info_.name,
          offset, kMaxParameterStart);
  return offset;
}

namespace {

bool has_clusters(const DeviceTraits& traits) {
  int number = 0;
  std::from_chars(traits.arch.data() + std::strlen("sm_"), traits.arch.data() + traits.arch.size(), number);
  return number >= 90;
}

}  // namespace

// More than 48 KB of dynamic shared memory must be asked for. Asking for all that the device has costs nothing: the
// split with L1 follows what a launch really uses.
void CudaDevice::allow_shared_memory(KernelRaw kernel, const std::string& name) {
  int static_bytes = 0;
  check(driver_, driver_.kernel_get_attribute(&static_bytes, kFunctionSharedSizeBytes, kernel, device_),
        "reading the shared memory of kernel '{}' on {}", name, info_.name);
  const int dynamic_bytes = std::max(0, info_.traits.shared_bytes_per_block - static_bytes);
  check(driver_, driver_.kernel_set_attribute(kFunctionMaxDynamicSharedSizeBytes, dynamic_bytes, kernel, device_),
        "allowing kernel '{}' {} bytes of shared memory on {}", name, dynamic_bytes, info_.name);
  if (!has_clusters(info_.traits)) return;
  check(driver_, driver_.kernel_set_attribute(kFunctionNonPortableClusterSizeAllowed, 1, kernel, device_),
        "allowing kernel '{}' clusters of 16 blocks on {}", name, info_.name);
}

namespace {

constexpr int kMaxLaunchAttributes = 3;

bool has_cluster(const LaunchGeometry& geometry) {
  return geometry.cluster[0] != 1 || geometry.cluster[1] != 1 || geometry.cluster[2] != 1;
}

// Attributes of what the geometry asks for beside sizes; returns how many.
std::uint32_t fill_attributes(const LaunchGeometry& geometry, LaunchAttribute (&attributes)[kMaxLaunchAttributes]) {
  std::uint32_t count = 0;
  if (has_cluster(geometry)) {
    attributes[count].id = LaunchAttributeId::cluster_dimension;
    std::copy(std::begin(geometry.cluster), std::end(geometry.cluster), attributes[count++].value);
  }
  if (geometry.cooperative) {
    attributes[count].id = LaunchAttributeId::cooperative;
    attributes[count++].value[0] = 1;
  }
  if (geometry.programmatic) {
    attributes[count].id = LaunchAttributeId::programmatic_stream_serialization;
    attributes[count++].value[0] = 1;
  }
  return count;
}

std::string describe(const LaunchGeometry& geometry) {
  const std::uint32_t(&grid)[3] = geometry.grid;
  const std::uint32_t(&block)[3] = geometry.block;
  std::string text = fmt::format("grid {}x{}x{}, block {}x{}x{}, {} bytes of shared memory", grid[0], grid[1], grid[2],
                                 block[0], block[1], block[2], geometry.shared_bytes);
  if (has_cluster(geometry))
    text += fmt::format(", clusters of {}x{}x{}", geometry.cluster[0], geometry.cluster[1], geometry.cluster[2]);
  if (geometry.cooperative) text += ", all blocks at once";
  if (geometry.programmatic) text += ", overlapping its predecessor";
  return text;
}

}  // namespace

void CudaDevice::launch(const Kernel& kernel, const LaunchGeometry& geometry, std::span<const std::byte> parameters,
                        Stream stream, std::span<const BufferRange>) {
  const auto* const loaded = dynamic_cast<const CudaKernel*>(&kernel);
  GDNJIT_CHECK(loaded != nullptr && loaded->device() == this, "a kernel of another device");
  const std::uint32_t(&grid)[3] = geometry.grid;
  const std::uint32_t(&block)[3] = geometry.block;
  if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0) return;
  const ContextScope scope(driver_, primary_.get());
  check(driver_, scope.result(), "launching kernel '{}' on {}", loaded->name(), info_.name);
  LaunchAttribute attributes[kMaxLaunchAttributes];
  LaunchConfig config{.shared_bytes = geometry.shared_bytes,
                      .stream = handle_of(stream),
                      .attributes = attributes,
                      .attribute_count = fill_attributes(geometry, attributes)};
  std::copy(std::begin(grid), std::end(grid), std::begin(config.grid));
  std::copy(std::begin(block), std::end(block), std::begin(config.block));
  // As a block of bytes, because the driver then reads no more than we have. It copies them before it returns.
  std::byte shifted[kMaxParameterStart + kMaxParameterBytes];
  const std::size_t start = loaded->parameter_start();
  auto* first = const_cast<std::byte*>(parameters.data());
  std::size_t bytes = parameters.size();
  if (start != 0) {
    GDNJIT_CHECK(bytes <= kMaxParameterBytes, "more parameters than a kernel can have");
    std::memset(shifted, 0, start);
    std::memcpy(shifted + start, first, bytes);
    first = shifted;
    bytes += start;
  }
  void* extra[] = {kLaunchParamBufferPointer, first, kLaunchParamBufferSize, &bytes, kLaunchParamEnd};
  const Result result = driver_.launch_kernel(&config, loaded->function(), nullptr, extra);
  if (result != kSuccess)
    throw_driver_error(
        driver_, result,
        fmt::format("launching kernel '{}' on {} with {}", loaded->name(), info_.name, describe(geometry)));
}

TensorMap CudaDevice::encode_tensor_map(const TensorMapSpec& spec) {
  check_tensor_map(spec);
  const ContextScope scope(driver_, primary_.get());
  check(driver_, scope.result(), "encoding a tensor map on {}", info_.name);
  TensorMap map;
  check(driver_,
        driver_.tensor_map_encode_tiled(map.opaque.data(), static_cast<int>(spec.type),
                                        static_cast<std::uint32_t>(spec.rank), const_cast<void*>(spec.address),
                                        spec.dims.data(), spec.strides.data(), spec.box.data(),
                                        spec.element_strides.data(), kInterleaveNone, static_cast<int>(spec.swizzle),
                                        static_cast<int>(spec.promotion), static_cast<int>(spec.fill)),
        "encoding a tensor map on {}", info_.name);
  return map;
}

std::unique_ptr<Graph> CudaDevice::capture(Stream stream, const std::function<void(Stream)>& work) {
  require(stream != nullptr,
          "capturing a graph on {}: the default stream cannot be captured; make one with create_stream", info_.name);
  const ContextScope scope(driver_, primary_.get());
  check(driver_, scope.result(), "capturing a graph on {}", info_.name);
  // Thread-local: other threads may allocate and load meanwhile.
  check(driver_, driver_.stream_begin_capture(handle_of(stream), kCaptureModeThreadLocal), "capturing a graph on {}",
        info_.name);
  GraphHandle graph(driver_, primary_.get());
  try {
    work(stream);
  } catch (...) {
    driver_.stream_end_capture(handle_of(stream),
                               graph.out());  // the stream must leave capture mode; the graph is dropped
    throw;
  }
  check(driver_, driver_.stream_end_capture(handle_of(stream), graph.out()), "ending the capture of a graph on {}",
        info_.name);
  GraphExecHandle exec(driver_, primary_.get());
  check(driver_, driver_.graph_instantiate(exec.out(), graph.get(), 0), "instantiating a graph on {}", info_.name);
  return std::make_unique<CudaGraph>(session_, std::move(exec));
}

}  // namespace

std::unique_ptr<Device> make_cuda_device(const DriverTable& driver, int ordinal) {
  check(driver, driver.init(0), "initialising the CUDA driver");
  int count = 0;
  check(driver, driver.device_get_count(&count), "counting GPUs");
  if (ordinal < 0 || ordinal >= count) {
    fail(ErrorCode::device_unavailable,
         "opening device cuda:{}: this machine shows {} GPU{}; check nvidia-smi and CUDA_VISIBLE_DEVICES, "
         "or use the device 'emulator'",
         ordinal, count, count == 1 ? "" : "s");
  }
  DeviceOrdinal device = 0;
  check(driver, driver.device_get(&device, ordinal), "opening device cuda:{}", ordinal);
  return std::make_unique<CudaDevice>(driver, device);
}

std::unique_ptr<Device> make_cuda_device(int ordinal) {
  const DriverLibrary& library = driver_library();
  if (!library.table) fail(ErrorCode::device_unavailable, "opening device cuda:{}: {}", ordinal, library.reason);
  return make_cuda_device(*library.table, ordinal);
}

}  // namespace gdnjit::cuda

// The functions of the fake's table.
#include <cstring>
#include <utility>

#include "tests/runtime/cuda/fake_driver.h"

namespace gdnjit::cuda {
namespace {

constexpr const char* kContextKind = "context";
constexpr const char* kMemoryKind = "allocation";
constexpr const char* kStreamKind = "stream";
constexpr const char* kEventKind = "event";
constexpr const char* kGraphKind = "graph";
constexpr const char* kExecKind = "executable graph";
constexpr const char* kLibraryKind = "library";

}  // namespace

// The functions of the table. Each does what cuda.h says, as far as the device can tell.
struct FakeFunctions {
  using Guard = std::lock_guard<std::recursive_mutex>;
  static FakeDriver& fake() { return FakeDriver::instance(); }

  static Result init(unsigned) { return fake().enter("cuInit"); }

  static Result driver_get_version(int* version) {
    const Result result = fake().enter("cuDriverGetVersion");
    if (result == kSuccess) *version = fake().driver_version;
    return result;
  }

  static Result get_error_name(Result error, const char** name) {
    if (const Result result = fake().enter("cuGetErrorName"); result != kSuccess) return result;
    switch (error) {
      case kInvalidValue: *name = "CUDA_ERROR_INVALID_VALUE"; return kSuccess;
      case kOutOfMemory: *name = "CUDA_ERROR_OUT_OF_MEMORY"; return kSuccess;
      case kStubLibrary: *name = "CUDA_ERROR_STUB_LIBRARY"; return kSuccess;
      case kNoDevice: *name = "CUDA_ERROR_NO_DEVICE"; return kSuccess;
      case kInvalidImage: *name = "CUDA_ERROR_INVALID_IMAGE"; return kSuccess;
      case kNotFound: *name = "CUDA_ERROR_NOT_FOUND"; return kSuccess;
      case kIllegalAddress: *name = "CUDA_ERROR_ILLEGAL_ADDRESS"; return kSuccess;
      case kUnknownError: *name = "CUDA_ERROR_UNKNOWN"; return kSuccess;
      default: return kInvalidValue;
    }
  }

  static Result get_error_string(Result error, const char** text) {
    if (const Result result = fake().enter("cuGetErrorString"); result != kSuccess) return result;
    *text = error == kInvalidImage ? "device kernel image is invalid" : "a fake failure";
    return kSuccess;
  }

  static Result device_get_count(int* count) {
    const Result result = fake().enter("cuDeviceGetCount");
    if (result == kSuccess) *count = fake().device_count;
    return result;
  }

  static Result device_get(DeviceOrdinal* device, int ordinal) {
    if (const Result result = fake().enter("cuDeviceGet"); result != kSuccess) return result;
    if (ordinal < 0 || ordinal >= fake().device_count) return fake().misuse("cuDeviceGet: no such GPU", kInvalidDevice);
    *device = ordinal;
    return kSuccess;
  }

  static Result device_get_name(char* name, int bytes, DeviceOrdinal) {
    if (const Result result = fake().enter("cuDeviceGetName"); result != kSuccess) return result;
    std::strncpy(name, fake().device_name.c_str(), static_cast<std::size_t>(bytes));
    return kSuccess;
  }

  static Result device_total_mem(std::size_t* bytes, DeviceOrdinal) {
    const Result result = fake().enter("cuDeviceTotalMem");
    if (result == kSuccess) *bytes = 150'000'000'000;
    return result;
  }

  static Result device_get_attribute(int* value, int attribute, DeviceOrdinal) {
    if (const Result result = fake().enter("cuDeviceGetAttribute"); result != kSuccess) return result;
    const auto found = fake().attributes.find(attribute);
    if (found == fake().attributes.end()) return kInvalidValue;
    *value = found->second;
    return kSuccess;
  }

  static Result primary_ctx_retain(Context* context, DeviceOrdinal) {
    const Guard guard(fake().mutex_);
    if (const Result result = fake().enter("cuDevicePrimaryCtxRetain"); result != kSuccess) return result;
    fake().make<void*>(kContextKind);
    *context = FakeDriver::primary_context();
    return kSuccess;
  }

  static Result primary_ctx_release(DeviceOrdinal) {
    const Guard guard(fake().mutex_);
    auto& contexts = fake().objects_[kContextKind];
    if (contexts.empty()) return fake().misuse("cuDevicePrimaryCtxRelease: released too often", kInvalidContext);
    contexts.erase(contexts.begin());
    return fake().enter("cuDevicePrimaryCtxRelease");
  }

  static Result ctx_get_current(Context* context) {
    const Result result = fake().enter("cuCtxGetCurrent");
    if (result == kSuccess) *context = FakeDriver::current_;
    return result;
  }

  static Result ctx_set_current(Context context) {
    const Result result = fake().enter("cuCtxSetCurrent");
    if (result == kSuccess) FakeDriver::current_ = context;
    return result;
  }

  static Result mem_alloc(DevicePointer* memory, std::size_t bytes) {
    const Guard guard(fake().mutex_);
    if (const Result result = fake().enter_in_context("cuMemAlloc"); result != kSuccess) return result;
    if (bytes == 0) return fake().misuse("cuMemAlloc: zero bytes", kInvalidValue);
    std::vector<std::byte> storage(bytes);
    std::byte* const data = storage.data();
    fake().objects_[kMemoryKind].emplace(data, std::move(storage));
    *memory = reinterpret_cast<DevicePointer>(data);
    return kSuccess;
  }

  static Result mem_free(DevicePointer memory) { return end("cuMemFree", kMemoryKind, memory); }

  static Result memcpy_htod_async(DevicePointer to, const void* from, std::size_t bytes, StreamHandle stream) {
    if (const Result result = fake().enter_in_context("cuMemcpyHtoDAsync"); result != kSuccess) return result;
    fake().later(stream, [=] { std::memcpy(reinterpret_cast<void*>(to), from, bytes); });
    return kSuccess;
  }

  static Result memcpy_dtoh_async(void* to, DevicePointer from, std::size_t bytes, StreamHandle stream) {
    if (const Result result = fake().enter_in_context("cuMemcpyDtoHAsync"); result != kSuccess) return result;
    fake().later(stream, [=] { std::memcpy(to, reinterpret_cast<const void*>(from), bytes); });
    return kSuccess;
  }

  static Result memset_d8_async(DevicePointer to, unsigned char value, std::size_t bytes, StreamHandle stream) {
    if (const Result result = fake().enter_in_context("cuMemsetD8Async"); result != kSuccess) return result;
    fake().later(stream, [=] { std::memset(reinterpret_cast<void*>(to), value, bytes); });
    return kSuccess;
  }

  static Result stream_create(StreamHandle* stream, unsigned) { return begin("cuStreamCreate", kStreamKind, stream); }
  static Result stream_destroy(StreamHandle stream) { return end("cuStreamDestroy", kStreamKind, stream); }

  static Result stream_synchronize(StreamHandle stream) {
    const Guard guard(fake().mutex_);
    if (const Result result = fake().enter_in_context("cuStreamSynchronize"); result != kSuccess) {
      fake().pending_.erase(stream);
      return result;
    }
    fake().run_pending(stream);
    return known_stream("cuStreamSynchronize", stream);
  }

  static Result stream_begin_capture(StreamHandle stream, int) {
    const Guard guard(fake().mutex_);
    if (const Result result = fake().enter_in_context("cuStreamBeginCapture"); result != kSuccess) return result;
    if (stream == nullptr) return kStreamCaptureUnsupported;
    fake().capturing_.insert(stream);
    return known_stream("cuStreamBeginCapture", stream);
  }

  static Result stream_end_capture(StreamHandle stream, GraphRaw* graph) {
    const Guard guard(fake().mutex_);
    if (fake().capturing_.erase(stream) == 0) return fake().misuse("cuStreamEndCapture: not capturing", kInvalidValue);
    if (const Result result = fake().enter_in_context("cuStreamEndCapture"); result != kSuccess) return result;
    *graph = fake().make<GraphRaw>(kGraphKind);
    return kSuccess;
  }

  // As the driver: asking the default stream while another one is captured is an error of its own.
  static Result stream_is_capturing(StreamHandle stream, int* status) {
    const Guard guard(fake().mutex_);
    if (const Result result = fake().enter_in_context("cuStreamIsCapturing"); result != kSuccess) return result;
    if (stream == nullptr && !fake().capturing_.empty()) return kStreamCaptureImplicit;
    *status = fake().capturing_.contains(stream) ? 1 : kCaptureStatusNone;
    return known_stream("cuStreamIsCapturing", stream);
  }

  static Result graph_instantiate(GraphExecRaw* exec, GraphRaw graph, unsigned long long) {
    if (!fake().is_live(kGraphKind, graph))
      return fake().misuse("cuGraphInstantiateWithFlags: no graph", kInvalidHandle);
    return begin("cuGraphInstantiateWithFlags", kExecKind, exec);
  }

  static Result graph_launch(GraphExecRaw exec, StreamHandle stream) {
    const Guard guard(fake().mutex_);
    if (const Result result = fake().enter_in_context("cuGraphLaunch"); result != kSuccess) return result;
    if (!fake().is_live(kExecKind, exec)) return fake().misuse("cuGraphLaunch: no graph", kInvalidHandle);
    return known_stream("cuGraphLaunch", stream);
  }

  static Result graph_destroy(GraphRaw graph) { return end("cuGraphDestroy", kGraphKind, graph); }
  static Result graph_exec_destroy(GraphExecRaw exec) { return end("cuGraphExecDestroy", kExecKind, exec); }

  static Result event_create(EventRaw* event, unsigned) {
    const Guard guard(fake().mutex_);
    const Result result = begin("cuEventCreate", kEventKind, event);
    if (result == kSuccess) fake().event_times_[*event] = -1;
    return result;
  }
  static Result event_destroy(EventRaw event) { return end("cuEventDestroy", kEventKind, event); }

  static Result event_record(EventRaw event, StreamHandle stream) {
    const Guard guard(fake().mutex_);
    if (const Result result = fake().enter_in_context("cuEventRecord"); result != kSuccess) return result;
    fake().event_times_[event] = ++fake().clock_;
    return known_stream("cuEventRecord", stream);
  }

  static Result event_synchronize(EventRaw event) {
    const Guard guard(fake().mutex_);
    if (const Result result = fake().enter_in_context("cuEventSynchronize"); result != kSuccess) return result;
    return fake().is_live(kEventKind, event) ? kSuccess : fake().misuse("cuEventSynchronize: no event", kInvalidHandle);
  }

  static Result event_elapsed_time(float* milliseconds, EventRaw begin, EventRaw end) {
    const Guard guard(fake().mutex_);
    if (const Result result = fake().enter_in_context("cuEventElapsedTime"); result != kSuccess) return result;
    const int from = fake().event_times_[begin];
    const int to = fake().event_times_[end];
    if (from < 0 || to < 0) return kInvalidHandle;
    *milliseconds = static_cast<float>(to - from);
    return kSuccess;
  }

  static Result library_load_data(LibraryRaw* library, const void* code, int*, void**, unsigned, int*, void**,
                                  unsigned) {
    if (code == nullptr) return fake().misuse("cuLibraryLoadData: no code", kInvalidImage);
    return begin("cuLibraryLoadData", kLibraryKind, library);
  }
  static Result library_unload(LibraryRaw library) { return end("cuLibraryUnload", kLibraryKind, library, false); }

  static Result library_get_kernel(KernelRaw* kernel, LibraryRaw library, const char* name) {
    const Guard guard(fake().mutex_);
    if (const Result result = fake().enter("cuLibraryGetKernel"); result != kSuccess) return result;
    if (!fake().is_live(kLibraryKind, library)) return fake().misuse("cuLibraryGetKernel: no library", kInvalidHandle);
    if (name != fake().kernel_name) return kNotFound;
    *kernel = reinterpret_cast<KernelRaw>(library);
    return kSuccess;
  }

  static Result kernel_get_function(FunctionRaw* function, KernelRaw kernel) {
    const Result result = fake().enter_in_context("cuKernelGetFunction");
    if (result == kSuccess) *function = reinterpret_cast<FunctionRaw>(kernel);
    return result;
  }

  static Result kernel_get_attribute(int* value, int attribute, KernelRaw, DeviceOrdinal) {
    const Result result = fake().enter("cuKernelGetAttribute");
    if (result == kSuccess) *value = attribute == kFunctionSharedSizeBytes ? fake().static_shared_bytes : 0;
    return result;
  }

  static Result kernel_set_attribute(int attribute, int value, KernelRaw, DeviceOrdinal) {
    const Guard guard(fake().mutex_);
    const Result result = fake().enter("cuKernelSetAttribute");
    if (result == kSuccess && attribute == kFunctionMaxDynamicSharedSizeBytes) fake().max_dynamic_shared_bytes = value;
    return result;
  }

  static Result tensor_map_encode_tiled(void* map, int type, std::uint32_t rank, void* address,
                                        const std::uint64_t* dims, const std::uint64_t* strides,
                                        const std::uint32_t* box, const std::uint32_t* element_strides, int interleave,
                                        int swizzle, int promotion, int fill) {
    const Guard guard(fake().mutex_);
    if (const Result result = fake().enter_in_context("cuTensorMapEncodeTiled"); result != kSuccess) return result;
    if (reinterpret_cast<std::uintptr_t>(map) % 64 != 0 || rank < 1 || rank > 5)
      return fake().misuse("cuTensorMapEncodeTiled: arguments", kInvalidValue);
    FakeTensorMap made{type, rank, address, {}, {}, {}, {}, interleave, swizzle, promotion, fill};
    made.dims.assign(dims, dims + rank);
    made.strides.assign(strides, strides + rank - 1);
    made.box.assign(box, box + rank);
    made.element_strides.assign(element_strides, element_strides + rank);
    fake().tensor_maps_.push_back(made);
    std::memset(map, static_cast<int>(fake().tensor_maps_.size()), 128);
    return kSuccess;
  }

  static Result kernel_get_param_info(KernelRaw, std::size_t index, std::size_t* offset, std::size_t* bytes) {
    const Guard guard(fake().mutex_);
    if (const Result result = fake().enter_in_context("cuKernelGetParamInfo"); result != kSuccess) return result;
    if (!fake().parameter_start) return kInvalidValue;
    if (index != 0) return fake().misuse("cuKernelGetParamInfo: beyond the first", kInvalidValue);
    *offset = *fake().parameter_start;
    *bytes = 128;
    return kSuccess;
  }

  static Result launch_kernel(const LaunchConfig* config, FunctionRaw function, void** parameters, void** extra) {
    const Guard guard(fake().mutex_);
    if (const Result result = fake().enter_in_context("cuLaunchKernelEx"); result != kSuccess) return result;
    if (!fake().is_live(kLibraryKind, function)) return fake().misuse("cuLaunchKernelEx: unloaded", kInvalidHandle);
    const bool as_bytes = parameters == nullptr && extra[0] == kLaunchParamBufferPointer &&
                          extra[2] == kLaunchParamBufferSize && extra[4] == kLaunchParamEnd;
    if (!as_bytes) return fake().misuse("cuLaunchKernelEx: parameters", kInvalidValue);
    const std::uint32_t(&grid)[3] = config->grid;
    if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0 ||
        static_cast<int>(config->shared_bytes) > fake().max_dynamic_shared_bytes) {
      return kInvalidValue;
    }
    const auto* const first = static_cast<const std::byte*>(extra[1]);
    const std::vector<std::byte> bytes(first, first + *static_cast<std::size_t*>(extra[3]));
    fake().launches_.push_back({fake().kernel_name,
                                {grid[0], grid[1], grid[2]},
                                {config->block[0], config->block[1], config->block[2]},
                                config->shared_bytes,
                                config->stream,
                                bytes,
                                {config->attributes, config->attributes + config->attribute_count}});
    return known_stream("cuLaunchKernelEx", config->stream);
  }

  static Result get_proc_address(const char* symbol, void** function, int version, std::uint64_t, int* status) {
    *function = nullptr;
    *status = 1;
    if (fake().missing_symbols.contains(symbol)) return kNotFound;
    visit_functions(fake().table_, [&](const char* name, auto& member) {
      if (std::strcmp(name, symbol) == 0 && version == 12000) *function = reinterpret_cast<void*>(member);
    });
    visit_optional_functions(fake().table_, [&](const char* name, auto& member, int since) {
      if (std::strcmp(name, symbol) == 0 && version == since) *function = reinterpret_cast<void*>(member);
    });
    *status = 0;
    return *function != nullptr ? kSuccess : kNotFound;
  }

 private:
  template <typename Raw>
  static Result begin(const char* symbol, const char* kind, Raw* object) {
    const Guard guard(fake().mutex_);
    if (const Result result = fake().enter_in_context(symbol); result != kSuccess) return result;
    *object = fake().make<Raw>(kind);
    return kSuccess;
  }

  template <typename Raw>
  static Result end(const char* symbol, const char* kind, Raw object, bool needs_context = true) {
    const Guard guard(fake().mutex_);
    if (!fake().destroy(kind, reinterpret_cast<const void*>(object)))
      return fake().misuse(std::string(symbol) + ": not a live " + kind, kInvalidHandle);
    return needs_context ? fake().enter_in_context(symbol) : fake().enter(symbol);
  }

  static Result known_stream(const std::string& symbol, StreamHandle stream) {
    if (stream == nullptr || fake().is_live(kStreamKind, stream)) return kSuccess;
    return fake().misuse(symbol + ": not a live stream", kInvalidHandle);
  }
};

DriverTable FakeDriver::make_table() {
  using F = FakeFunctions;
  return DriverTable{
      .init = F::init,
      .driver_get_version = F::driver_get_version,
      .get_error_name = F::get_error_name,
      .get_error_string = F::get_error_string,
      .device_get_count = F::device_get_count,
      .device_get = F::device_get,
      .device_get_name = F::device_get_name,
      .device_total_mem = F::device_total_mem,
      .device_get_attribute = F::device_get_attribute,
      .primary_ctx_retain = F::primary_ctx_retain,
      .primary_ctx_release = F::primary_ctx_release,
      .ctx_get_current = F::ctx_get_current,
      .ctx_set_current = F::ctx_set_current,
      .mem_alloc = F::mem_alloc,
      .mem_free = F::mem_free,
      .memcpy_htod_async = F::memcpy_htod_async,
      .memcpy_dtoh_async = F::memcpy_dtoh_async,
      .memset_d8_async = F::memset_d8_async,
      .stream_create = F::stream_create,
      .stream_destroy = F::stream_destroy,
      .stream_synchronize = F::stream_synchronize,
      .stream_begin_capture = F::stream_begin_capture,
      .stream_end_capture = F::stream_end_capture,
      .stream_is_capturing = F::stream_is_capturing,
      .graph_instantiate = F::graph_instantiate,
      .graph_launch = F::graph_launch,
      .graph_destroy = F::graph_destroy,
      .graph_exec_destroy = F::graph_exec_destroy,
      .event_create = F::event_create,
      .event_destroy = F::event_destroy,
      .event_record = F::event_record,
      .event_synchronize = F::event_synchronize,
      .event_elapsed_time = F::event_elapsed_time,
      .library_load_data = F::library_load_data,
      .library_unload = F::library_unload,
      .library_get_kernel = F::library_get_kernel,
      .kernel_get_function = F::kernel_get_function,
      .kernel_get_attribute = F::kernel_get_attribute,
      .kernel_set_attribute = F::kernel_set_attribute,
      .tensor_map_encode_tiled = F::tensor_map_encode_tiled,
      .kernel_get_param_info = F::kernel_get_param_info,
      .launch_kernel = F::launch_kernel,
  };
}

void* FakeDriver::find_symbol(const char* symbol) {
  if (std::strcmp(symbol, "cuGetProcAddress_v2") != 0 || instance().missing_symbols.contains(symbol)) return nullptr;
  return reinterpret_cast<void*>(FakeFunctions::get_proc_address);
}

}  // namespace gdnjit::cuda

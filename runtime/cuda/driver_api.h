// The part of the CUDA driver's C interface that we call, declared here so that no CUDA header is needed to build.
// The declarations follow the stable ABI of driver 12.0 and later, 64-bit only; tests/runtime/cuda/driver_abi_test.cpp
// compares them with cuda.h where there is one.
//
// ABI: handles are pointers, a CUdevice is an int, a CUdeviceptr is 64 bits wide, enums travel as int, every function
// returns a CUresult (int).
#pragma once

#include <cstddef>
#include <cstdint>

namespace gdnjit::cuda {

using Result = int;
using DeviceOrdinal = int;
using DevicePointer = unsigned long long;
using Context = struct ContextTag*;
using StreamHandle = struct StreamTag*;
using EventRaw = struct EventTag*;
using GraphRaw = struct GraphTag*;
using GraphExecRaw = struct GraphExecTag*;
using LibraryRaw = struct LibraryTag*;
using KernelRaw = struct KernelTag*;
using FunctionRaw = struct FunctionTag*;

// CUresult
inline constexpr Result kSuccess = 0;
inline constexpr Result kInvalidValue = 1;
inline constexpr Result kOutOfMemory = 2;
inline constexpr Result kNotInitialized = 3;
inline constexpr Result kDeinitialized = 4;
inline constexpr Result kStubLibrary = 34;
inline constexpr Result kDeviceUnavailable = 46;
inline constexpr Result kNoDevice = 100;
inline constexpr Result kInvalidDevice = 101;
inline constexpr Result kInvalidImage = 200;
inline constexpr Result kNoBinaryForGpu = 209;
inline constexpr Result kEccUncorrectable = 214;
inline constexpr Result kInvalidPtx = 218;
inline constexpr Result kUnsupportedPtxVersion = 222;
inline constexpr Result kNotFound = 500;
inline constexpr Result kIllegalAddress = 700;
inline constexpr Result kLaunchOutOfResources = 701;
inline constexpr Result kLaunchTimeout = 702;
inline constexpr Result kContextIsDestroyed = 709;
inline constexpr Result kAssert = 710;
inline constexpr Result kHardwareStackError = 714;
inline constexpr Result kIllegalInstruction = 715;
inline constexpr Result kMisalignedAddress = 716;
inline constexpr Result kInvalidAddressSpace = 717;
inline constexpr Result kInvalidPc = 718;
inline constexpr Result kLaunchFailed = 719;
inline constexpr Result kNotSupported = 801;
inline constexpr Result kSystemNotReady = 802;
inline constexpr Result kSystemDriverMismatch = 803;
inline constexpr Result kCompatNotSupportedOnDevice = 804;
inline constexpr Result kStreamCaptureUnsupported = 900;
inline constexpr Result kStreamCaptureInvalidated = 901;
inline constexpr Result kStreamCaptureImplicit = 906;

// CUdevice_attribute
inline constexpr int kMultiprocessorCount = 16;
inline constexpr int kMemoryClockRate = 36;       // kHz
inline constexpr int kGlobalMemoryBusWidth = 37;  // bits
inline constexpr int kL2CacheSize = 38;
inline constexpr int kMaxThreadsPerMultiprocessor = 39;
inline constexpr int kComputeCapabilityMajor = 75;
inline constexpr int kComputeCapabilityMinor = 76;
inline constexpr int kMaxSharedMemoryPerMultiprocessor = 81;
inline constexpr int kMaxRegistersPerMultiprocessor = 82;
inline constexpr int kMaxSharedMemoryPerBlockOptin = 97;
inline constexpr int kMaxBlocksPerMultiprocessor = 106;

// CUfunction_attribute
inline constexpr int kFunctionSharedSizeBytes = 1;
inline constexpr int kFunctionMaxDynamicSharedSizeBytes = 8;
inline constexpr int kFunctionNonPortableClusterSizeAllowed = 14;

inline constexpr int kInterleaveNone = 0;                        // CUtensorMapInterleave
inline constexpr unsigned kStreamNonBlocking = 1;                // CUstream_flags
inline constexpr unsigned kEventDefault = 0;                     // CUevent_flags
inline constexpr int kCaptureModeThreadLocal = 1;                // CUstreamCaptureMode
inline constexpr int kCaptureStatusNone = 0;                     // CUstreamCaptureStatus
inline constexpr std::uint64_t kGetProcAddressLegacyStream = 1;  // CUdriverProcAddress_flags

// CUlaunchAttribute: what a launch asks for beside its sizes. `id` says which member of the value counts.
enum class LaunchAttributeId : std::uint32_t {
  cooperative = 2,
  cluster_dimension = 4,
  programmatic_stream_serialization = 6,
};
struct LaunchAttribute {
  LaunchAttributeId id = LaunchAttributeId::cooperative;
  std::uint32_t padding = 0;
  std::uint32_t value[16] = {};  // a flag, or x, y, z
};

// CUlaunchConfig
struct LaunchConfig {
  std::uint32_t grid[3] = {1, 1, 1};
  std::uint32_t block[3] = {1, 1, 1};
  std::uint32_t shared_bytes = 0;
  StreamHandle stream = nullptr;
  const LaunchAttribute* attributes = nullptr;
  std::uint32_t attribute_count = 0;
};

// Values of cuLaunchKernelEx's `extra`.
inline void* const kLaunchParamEnd = nullptr;
inline void* const kLaunchParamBufferPointer = reinterpret_cast<void*>(1);
inline void* const kLaunchParamBufferSize = reinterpret_cast<void*>(2);

// The driver as one table of functions; tests put a fake in its place.
struct DriverTable {
  Result (*init)(unsigned flags) = nullptr;
  Result (*driver_get_version)(int* version) = nullptr;
  Result (*get_error_name)(Result error, const char** name) = nullptr;
  Result (*get_error_string)(Result error, const char** text) = nullptr;

  Result (*device_get_count)(int* count) = nullptr;
  Result (*device_get)(DeviceOrdinal* device, int ordinal) = nullptr;
  Result (*device_get_name)(char* name, int bytes, DeviceOrdinal device) = nullptr;
  Result (*device_total_mem)(std::size_t* bytes, DeviceOrdinal device) = nullptr;
  Result (*device_get_attribute)(int* value, int attribute, DeviceOrdinal device) = nullptr;

  Result (*primary_ctx_retain)(Context* context, DeviceOrdinal device) = nullptr;
  Result (*primary_ctx_release)(DeviceOrdinal device) = nullptr;
  Result (*ctx_get_current)(Context* context) = nullptr;
  Result (*ctx_set_current)(Context context) = nullptr;

  Result (*mem_alloc)(DevicePointer* memory, std::size_t bytes) = nullptr;
  Result (*mem_free)(DevicePointer memory) = nullptr;
  Result (*memcpy_htod_async)(DevicePointer to, const void* from, std::size_t bytes, StreamHandle stream) = nullptr;
  Result (*memcpy_dtoh_async)(void* to, DevicePointer from, std::size_t bytes, StreamHandle stream) = nullptr;
  Result (*memset_d8_async)(DevicePointer to, unsigned char value, std::size_t bytes, StreamHandle stream) = nullptr;

  Result (*stream_create)(StreamHandle* stream, unsigned flags) = nullptr;
  Result (*stream_destroy)(StreamHandle stream) = nullptr;
  Result (*stream_synchronize)(StreamHandle stream) = nullptr;
  Result (*stream_begin_capture)(StreamHandle stream, int mode) = nullptr;
  Result (*stream_end_capture)(StreamHandle stream, GraphRaw* graph) = nullptr;
  Result (*stream_is_capturing)(StreamHandle stream, int* status) = nullptr;

  Result (*graph_instantiate)(GraphExecRaw* exec, GraphRaw graph, unsigned long long flags) = nullptr;
  Result (*graph_launch)(GraphExecRaw exec, StreamHandle stream) = nullptr;
  Result (*graph_destroy)(GraphRaw graph) = nullptr;
  Result (*graph_exec_destroy)(GraphExecRaw exec) = nullptr;

  Result (*event_create)(EventRaw* event, unsigned flags) = nullptr;
  Result (*event_destroy)(EventRaw event) = nullptr;
  Result (*event_record)(EventRaw event, StreamHandle stream) = nullptr;
  Result (*event_synchronize)(EventRaw event) = nullptr;
  Result (*event_elapsed_time)(float* milliseconds, EventRaw begin, EventRaw end) = nullptr;

  Result (*library_load_data)(LibraryRaw* library, const void* code, int* jit_options, void** jit_values,
                              unsigned jit_count, int* library_options, void** library_values,
                              unsigned library_count) = nullptr;
  Result (*library_unload)(LibraryRaw library) = nullptr;
  Result (*library_get_kernel)(KernelRaw* kernel, LibraryRaw library, const char* name) = nullptr;
  Result (*kernel_get_function)(FunctionRaw* function, KernelRaw kernel) = nullptr;
  Result (*kernel_get_attribute)(int* value, int attribute, KernelRaw kernel, DeviceOrdinal device) = nullptr;
  Result (*kernel_set_attribute)(int attribute, int value, KernelRaw kernel, DeviceOrdinal device) = nullptr;
  Result (*tensor_map_encode_tiled)(void* map, int type, std::uint32_t rank, void* address, const std::uint64_t* dims,
                                    const std::uint64_t* strides, const std::uint32_t* box,
                                    const std::uint32_t* element_strides, int interleave, int swizzle, int promotion,
                                    int fill) = nullptr;
  // Where a parameter lies in the kernel's parameter space. nullptr before driver 12.4.
  Result (*kernel_get_param_info)(KernelRaw kernel, std::size_t index, std::size_t* offset,
                                  std::size_t* bytes) = nullptr;
  Result (*launch_kernel)(const LaunchConfig* config, FunctionRaw function, void** parameters, void** extra) = nullptr;
};

// Visits every function as visit(symbol, member). The symbols are those that cuGetProcAddress resolves to the ABI of
// driver 12.0. This one list fills the table, and lets tests fail each function in turn.
template <typename Table, typename Visitor>
void visit_functions(Table& table, Visitor&& visit) {
  visit("cuInit", table.init);
  visit("cuDriverGetVersion", table.driver_get_version);
  visit("cuGetErrorName", table.get_error_name);
  visit("cuGetErrorString", table.get_error_string);
  visit("cuDeviceGetCount", table.device_get_count);
  visit("cuDeviceGet", table.device_get);
  visit("cuDeviceGetName", table.device_get_name);
  visit("cuDeviceTotalMem", table.device_total_mem);
  visit("cuDeviceGetAttribute", table.device_get_attribute);
  visit("cuDevicePrimaryCtxRetain", table.primary_ctx_retain);
  visit("cuDevicePrimaryCtxRelease", table.primary_ctx_release);
  visit("cuCtxGetCurrent", table.ctx_get_current);
  visit("cuCtxSetCurrent", table.ctx_set_current);
  visit("cuMemAlloc", table.mem_alloc);
  visit("cuMemFree", table.mem_free);
  visit("cuMemcpyHtoDAsync", table.memcpy_htod_async);
  visit("cuMemcpyDtoHAsync", table.memcpy_dtoh_async);
  visit("cuMemsetD8Async", table.memset_d8_async);
  visit("cuStreamCreate", table.stream_create);
  visit("cuStreamDestroy", table.stream_destroy);
  visit("cuStreamSynchronize", table.stream_synchronize);
  visit("cuStreamBeginCapture", table.stream_begin_capture);
  visit("cuStreamEndCapture", table.stream_end_capture);
  visit("cuStreamIsCapturing", table.stream_is_capturing);
  visit("cuGraphInstantiateWithFlags", table.graph_instantiate);
  visit("cuGraphLaunch", table.graph_launch);
  visit("cuGraphDestroy", table.graph_destroy);
  visit("cuGraphExecDestroy", table.graph_exec_destroy);
  visit("cuEventCreate", table.event_create);
  visit("cuEventDestroy", table.event_destroy);
  visit("cuEventRecord", table.event_record);
  visit("cuEventSynchronize", table.event_synchronize);
  visit("cuEventElapsedTime", table.event_elapsed_time);
  visit("cuLibraryLoadData", table.library_load_data);
  visit("cuLibraryUnload", table.library_unload);
  visit("cuLibraryGetKernel", table.library_get_kernel);
  visit("cuKernelGetFunction", table.kernel_get_function);
  visit("cuKernelGetAttribute", table.kernel_get_attribute);
  visit("cuKernelSetAttribute", table.kernel_set_attribute);
  visit("cuTensorMapEncodeTiled", table.tensor_map_encode_tiled);
  visit("cuLaunchKernelEx", table.launch_kernel);
}

// Functions that older drivers lack, as visit(symbol, member, driver version that has it).
template <typename Table, typename Visitor>
void visit_optional_functions(Table& table, Visitor&& visit) {
  visit("cuKernelGetParamInfo", table.kernel_get_param_info, 12040);
}

// Every member is a function pointer, so their number follows from the size.
inline constexpr std::size_t kDriverFunctions = sizeof(DriverTable) / sizeof(void*);

}  // namespace gdnjit::cuda

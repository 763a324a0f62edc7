// Our declarations against NVIDIA's header, at compile time. Built only where cuda.h is found.
#include <cuda.h>
#include <doctest/doctest.h>

#include <cstddef>
#include <type_traits>

#include "codegen/tensor_map.h"
#include "runtime/cuda/driver_api.h"

namespace gdnjit::cuda {
namespace {

// The same size in the same kind of register.
template <typename Ours, typename Theirs>
constexpr bool same_value = sizeof(Ours) == sizeof(Theirs) &&
                            std::is_pointer_v<Ours> == std::is_pointer_v<Theirs>&& std::is_floating_point_v<Ours> ==
                                std::is_floating_point_v<Theirs>;

template <typename Ours, typename Theirs>
constexpr bool same_function = false;

template <typename... Ours, typename... Theirs>
requires(sizeof...(Ours) ==
         sizeof...(Theirs)) constexpr bool same_function<Result (*)(Ours...), CUresult (*)(Theirs...)> =
    (same_value<Ours, Theirs> && ...);

#define SAME_FUNCTION(member, function) \
  static_assert(same_function<decltype(DriverTable::member), decltype(&function)>, #function)

SAME_FUNCTION(init, cuInit);
SAME_FUNCTION(driver_get_version, cuDriverGetVersion);
SAME_FUNCTION(get_error_name, cuGetErrorName);
SAME_FUNCTION(get_error_string, cuGetErrorString);
SAME_FUNCTION(device_get_count, cuDeviceGetCount);
SAME_FUNCTION(device_get, cuDeviceGet);
SAME_FUNCTION(device_get_name, cuDeviceGetName);
SAME_FUNCTION(device_total_mem, cuDeviceTotalMem);
SAME_FUNCTION(device_get_attribute, cuDeviceGetAttribute);
SAME_FUNCTION(primary_ctx_retain, cuDevicePrimaryCtxRetain);
SAME_FUNCTION(primary_ctx_release, cuDevicePrimaryCtxRelease);
SAME_FUNCTION(ctx_get_current, cuCtxGetCurrent);
SAME_FUNCTION(ctx_set_current, cuCtxSetCurrent);
SAME_FUNCTION(mem_alloc, cuMemAlloc);
SAME_FUNCTION(mem_free, cuMemFree);
SAME_FUNCTION(memcpy_htod_async, cuMemcpyHtoDAsync);
SAME_FUNCTION(memcpy_dtoh_async, cuMemcpyDtoHAsync);
SAME_FUNCTION(memset_d8_async, cuMemsetD8Async);
SAME_FUNCTION(stream_create, cuStreamCreate);
SAME_FUNCTION(stream_destroy, cuStreamDestroy);
SAME_FUNCTION(stream_synchronize, cuStreamSynchronize);
SAME_FUNCTION(stream_begin_capture, cuStreamBeginCapture);
SAME_FUNCTION(stream_end_capture, cuStreamEndCapture);
SAME_FUNCTION(stream_is_capturing, cuStreamIsCapturing);
SAME_FUNCTION(graph_instantiate, cuGraphInstantiateWithFlags);
SAME_FUNCTION(graph_launch, cuGraphLaunch);
SAME_FUNCTION(graph_destroy, cuGraphDestroy);
SAME_FUNCTION(graph_exec_destroy, cuGraphExecDestroy);
SAME_FUNCTION(event_create, cuEventCreate);
SAME_FUNCTION(event_destroy, cuEventDestroy);
SAME_FUNCTION(event_record, cuEventRecord);
SAME_FUNCTION(event_synchronize, cuEventSynchronize);
SAME_FUNCTION(event_elapsed_time, cuEventElapsedTime);
SAME_FUNCTION(library_load_data, cuLibraryLoadData);
SAME_FUNCTION(library_unload, cuLibraryUnload);
SAME_FUNCTION(library_get_kernel, cuLibraryGetKernel);
SAME_FUNCTION(kernel_get_function, cuKernelGetFunction);
SAME_FUNCTION(kernel_get_attribute, cuKernelGetAttribute);
SAME_FUNCTION(kernel_set_attribute, cuKernelSetAttribute);
SAME_FUNCTION(tensor_map_encode_tiled, cuTensorMapEncodeTiled);
SAME_FUNCTION(kernel_get_param_info, cuKernelGetParamInfo);
SAME_FUNCTION(launch_kernel, cuLaunchKernelEx);

static_assert(kSuccess == CUDA_SUCCESS && kInvalidValue == CUDA_ERROR_INVALID_VALUE);
static_assert(kOutOfMemory == CUDA_ERROR_OUT_OF_MEMORY && kNotInitialized == CUDA_ERROR_NOT_INITIALIZED);
static_assert(kDeinitialized == CUDA_ERROR_DEINITIALIZED && kStubLibrary == CUDA_ERROR_STUB_LIBRARY);
static_assert(kDeviceUnavailable == CUDA_ERROR_DEVICE_UNAVAILABLE && kNoDevice == CUDA_ERROR_NO_DEVICE);
static_assert(kInvalidDevice == CUDA_ERROR_INVALID_DEVICE && kInvalidImage == CUDA_ERROR_INVALID_IMAGE);
static_assert(kNoBinaryForGpu == CUDA_ERROR_NO_BINARY_FOR_GPU && kEccUncorrectable == CUDA_ERROR_ECC_UNCORRECTABLE);
static_assert(kInvalidPtx == CUDA_ERROR_INVALID_PTX && kUnsupportedPtxVersion == CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
static_assert(kNotFound == CUDA_ERROR_NOT_FOUND && kIllegalAddress == CUDA_ERROR_ILLEGAL_ADDRESS);
static_assert(kLaunchOutOfResources == CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES &&
              kLaunchTimeout == CUDA_ERROR_LAUNCH_TIMEOUT);
static_assert(kContextIsDestroyed == CUDA_ERROR_CONTEXT_IS_DESTROYED && kAssert == CUDA_ERROR_ASSERT);
static_assert(kHardwareStackError == CUDA_ERROR_HARDWARE_STACK_ERROR);
static_assert(kIllegalInstruction == CUDA_ERROR_ILLEGAL_INSTRUCTION &&
              kMisalignedAddress == CUDA_ERROR_MISALIGNED_ADDRESS);
static_assert(kInvalidAddressSpace == CUDA_ERROR_INVALID_ADDRESS_SPACE && kInvalidPc == CUDA_ERROR_INVALID_PC);
static_assert(kLaunchFailed == CUDA_ERROR_LAUNCH_FAILED && kNotSupported == CUDA_ERROR_NOT_SUPPORTED);
static_assert(kSystemNotReady == CUDA_ERROR_SYSTEM_NOT_READY);
static_assert(kSystemDriverMismatch == CUDA_ERROR_SYSTEM_DRIVER_MISMATCH);
static_assert(kCompatNotSupportedOnDevice == CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE);
static_assert(kStreamCaptureUnsupported == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
static_assert(kStreamCaptureInvalidated == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
static_assert(kStreamCaptureImplicit == CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);

static_assert(kMultiprocessorCount == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
static_assert(kMemoryClockRate == CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE);
static_assert(kGlobalMemoryBusWidth == CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH);
static_assert(kL2CacheSize == CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
static_assert(kMaxThreadsPerMultiprocessor == CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR);
static_assert(kComputeCapabilityMajor == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
static_assert(kComputeCapabilityMinor == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
static_assert(kMaxSharedMemoryPerMultiprocessor == CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR);
static_assert(kMaxRegistersPerMultiprocessor == CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR);
static_assert(kMaxSharedMemoryPerBlockOptin == CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
static_assert(kMaxBlocksPerMultiprocessor == CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR);
static_assert(kFunctionSharedSizeBytes == CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES);
static_assert(kFunctionMaxDynamicSharedSizeBytes == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
static_assert(kStreamNonBlocking == CU_STREAM_NON_BLOCKING && kEventDefault == CU_EVENT_DEFAULT);
static_assert(kCaptureModeThreadLocal == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
static_assert(kCaptureStatusNone == CU_STREAM_CAPTURE_STATUS_NONE);
static_assert(kGetProcAddressLegacyStream == CU_GET_PROC_ADDRESS_LEGACY_STREAM);
static_assert(kFunctionNonPortableClusterSizeAllowed == CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED);
static_assert(static_cast<int>(LaunchAttributeId::cooperative) == CU_LAUNCH_ATTRIBUTE_COOPERATIVE);
static_assert(static_cast<int>(LaunchAttributeId::cluster_dimension) == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION);
static_assert(static_cast<int>(LaunchAttributeId::programmatic_stream_serialization) ==
              CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION);
static_assert(sizeof(LaunchAttribute) == sizeof(CUlaunchAttribute) &&
              offsetof(LaunchAttribute, value) == offsetof(CUlaunchAttribute, value));
static_assert(sizeof(LaunchConfig) == sizeof(CUlaunchConfig) &&
              offsetof(LaunchConfig, block) == offsetof(CUlaunchConfig, blockDimX) &&
              offsetof(LaunchConfig, shared_bytes) == offsetof(CUlaunchConfig, sharedMemBytes) &&
              offsetof(LaunchConfig, stream) == offsetof(CUlaunchConfig, hStream) &&
              offsetof(LaunchConfig, attributes) == offsetof(CUlaunchConfig, attrs) &&
              offsetof(LaunchConfig, attribute_count) == offsetof(CUlaunchConfig, numAttrs));
static_assert(kInterleaveNone == CU_TENSOR_MAP_INTERLEAVE_NONE);
static_assert(static_cast<int>(TensorMapType::s32) == CU_TENSOR_MAP_DATA_TYPE_INT32);
static_assert(static_cast<int>(TensorMapType::f16) == CU_TENSOR_MAP_DATA_TYPE_FLOAT16);
static_assert(static_cast<int>(TensorMapType::f32) == CU_TENSOR_MAP_DATA_TYPE_FLOAT32);
static_assert(static_cast<int>(TensorMapType::f64) == CU_TENSOR_MAP_DATA_TYPE_FLOAT64);
static_assert(static_cast<int>(TensorMapType::bf16) == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16);
static_assert(static_cast<int>(TensorMapSwizzle::b128) == CU_TENSOR_MAP_SWIZZLE_128B);
static_assert(static_cast<int>(TensorMapFill::nan) == CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA);
static_assert(static_cast<int>(TensorMapPromotion::b256) == CU_TENSOR_MAP_L2_PROMOTION_L2_256B);
static_assert(sizeof(TensorMap) == sizeof(CUtensorMap) && alignof(TensorMap) >= alignof(CUtensorMap));
static_assert(sizeof(DevicePointer) == sizeof(CUdeviceptr) && sizeof(DeviceOrdinal) == sizeof(CUdevice));

TEST_CASE("the launch parameters' markers are those of cuda.h") {
  CHECK(kLaunchParamEnd == CU_LAUNCH_PARAM_END);
  CHECK(kLaunchParamBufferPointer == CU_LAUNCH_PARAM_BUFFER_POINTER);
  CHECK(kLaunchParamBufferSize == CU_LAUNCH_PARAM_BUFFER_SIZE);
}

}  // namespace
}  // namespace gdnjit::cuda

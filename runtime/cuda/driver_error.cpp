#include "runtime/cuda/driver_error.h"

namespace gdnjit::cuda {

std::string describe(const DriverTable& driver, Result result) {
  const char* name = nullptr;
  const char* text = nullptr;
  if (driver.get_error_name(result, &name) != kSuccess || name == nullptr) name = "unknown CUDA error";
  if (driver.get_error_string(result, &text) != kSuccess || text == nullptr)
    return fmt::format("{} ({})", name, result);
  return fmt::format("{} ({}): {}", name, result, text);
}

bool is_sticky(Result result) {
  switch (result) {
    case kEccUncorrectable:
    case kIllegalAddress:
    case kLaunchTimeout:
    case kContextIsDestroyed:
    case kAssert:
    case kHardwareStackError:
    case kIllegalInstruction:
    case kMisalignedAddress:
    case kInvalidAddressSpace:
    case kInvalidPc:
    case kLaunchFailed: return true;
    default: return false;
  }
}

ErrorCode error_code_of(Result result) {
  switch (result) {
    case kOutOfMemory: return ErrorCode::out_of_memory;
    case kNotSupported: return ErrorCode::unsupported;
    case kStubLibrary:
    case kDeviceUnavailable:
    case kNoDevice:
    case kInvalidDevice:
    case kSystemNotReady:
    case kSystemDriverMismatch:
    case kCompatNotSupportedOnDevice: return ErrorCode::device_unavailable;
    default: return ErrorCode::device_failed;
  }
}

std::string_view advice(Result result) {
  if (is_sticky(result)) {
    return "a kernel that ran before this call failed, and the process can no longer use the GPU: restart it; "
           "compute-sanitizer names the kernel and the access";
  }
  switch (result) {
    case kOutOfMemory: return "free device memory, or use a smaller batch";
    case kInvalidImage:
    case kNoBinaryForGpu:
    case kInvalidPtx:
    case kUnsupportedPtxVersion:
      return "the kernel was made for another architecture or by a newer NVRTC than the driver knows: update the "
             "driver, "
             "or compile again with an NVRTC of the driver's version";
    case kLaunchOutOfResources:
      return "the kernel needs more registers or shared memory than a block may have: use smaller tiles";
    case kInvalidValue: return "check sizes, the launch geometry and that the pointers belong to this GPU";
    case kNotInitialized:
    case kDeinitialized:
      return "CUDA does not survive fork() and is gone at process exit: make the Runtime in the process that uses it";
    case kStreamCaptureUnsupported:
    case kStreamCaptureInvalidated:
      return "this call is not allowed in graph capture: plan before the capture, run inside it";
    case kNoDevice:
    case kInvalidDevice:
    case kDeviceUnavailable: return "check nvidia-smi and CUDA_VISIBLE_DEVICES, or use the device 'emulator'";
    case kStubLibrary:
      return "the stub libcuda of the toolkit was loaded: install the NVIDIA driver, or use the device 'emulator'";
    case kSystemNotReady:
    case kSystemDriverMismatch:
    case kCompatNotSupportedOnDevice:
      return "the driver's kernel module and library do not fit: reboot or reinstall the driver";
    default: return "check nvidia-smi and the system log for driver errors";
  }
}

std::string version_text(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

void throw_driver_error(const DriverTable& driver, Result result, const std::string& doing) {
  throw Error(error_code_of(result), fmt::format("{}: {}; {}", doing, describe(driver, result), advice(result)));
}

}  // namespace gdnjit::cuda

#include "runtime/cuda/driver_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include "runtime/cuda/driver_error.h"

namespace gdnjit::cuda {
namespace {

constexpr const char* kInstallDriver = "install or update the NVIDIA driver, or use the device 'emulator'";

using GetProcAddress = Result (*)(const char* symbol, void** function, int version, std::uint64_t flags, int* status);

// cuInit and the number of devices; `count` is 0 unless both succeed.
Result count_devices(const DriverTable& driver, int& count) {
  count = 0;
  if (const Result result = driver.init(0); result != kSuccess) return result;
  int found = 0;
  const Result result = driver.device_get_count(&found);
  if (result == kSuccess) count = found;
  return result;
}

}  // namespace

DriverLibrary open_driver(const std::function<void*(const char*)>& find_symbol) {
  const auto get_proc_address = reinterpret_cast<GetProcAddress>(find_symbol("cuGetProcAddress_v2"));
  if (get_proc_address == nullptr) {
    return {std::nullopt,
            fmt::format("the CUDA driver is older than 12.0 (no cuGetProcAddress_v2); {}", kInstallDriver)};
  }
  DriverTable table;
  std::string missing;
  visit_functions(table, [&](const char* symbol, auto& function) {
    void* address = nullptr;
    int status = 0;
    const Result result =
        get_proc_address(symbol, &address, kOldestDriverVersion, kGetProcAddressLegacyStream, &status);
    if (result != kSuccess || address == nullptr) {
      missing += fmt::format("{}{}", missing.empty() ? "" : ", ", symbol);
    } else {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(address);
    }
  });
  visit_optional_functions(table, [&](const char* symbol, auto& function, int version) {
    void* address = nullptr;
    int status = 0;
    if (get_proc_address(symbol, &address, version, kGetProcAddressLegacyStream, &status) == kSuccess)
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(address);
  });
  if (!missing.empty()) return {std::nullopt, fmt::format("the CUDA driver lacks {}; {}", missing, kInstallDriver)};
  return {table, ""};
}

const DriverLibrary& driver_library() {
  static const DriverLibrary library = [] {
    void* const handle =
        dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);  // stays open: the driver keeps threads of its own
    if (handle == nullptr) {
      const char* const error = dlerror();
      return DriverLibrary{std::nullopt, fmt::format("no CUDA driver ({}); {}",
                                                     error != nullptr ? error : "libcuda.so.1", kInstallDriver)};
    }
    return open_driver([handle](const char* symbol) { return dlsym(handle, symbol); });
  }();
  return library;
}

int cuda_device_count(const DriverTable& driver) {
  int count = 0;
  count_devices(driver, count);
  return count;
}

int cuda_device_count() {
  const DriverLibrary& library = driver_library();
  return library.table ? cuda_device_count(*library.table) : 0;
}

std::optional<std::string> cuda_unavailable_reason(const DriverLibrary& library) {
  if (!library.table) return library.reason;
  const DriverTable& driver = *library.table;
  int version = 0;
  if (const Result result = driver.driver_get_version(&version); result != kSuccess) {
    return fmt::format("asking the CUDA driver for its version: {}; {}", describe(driver, result), kInstallDriver);
  }
  if (version < kOldestDriverVersion) {
    return fmt::format("CUDA driver {} is too old, 12.0 is needed; {}", version_text(version), kInstallDriver);
  }
  int count = 0;
  if (const Result result = count_devices(driver, count); result != kSuccess) {
    return fmt::format("initialising CUDA driver {}: {}; {}", version_text(version), describe(driver, result),
                       advice(result));
  }
  if (count == 0) {
    return fmt::format("CUDA driver {} sees no GPU; check nvidia-smi and CUDA_VISIBLE_DEVICES", version_text(version));
  }
  return std::nullopt;
}

std::optional<std::string> cuda_unavailable_reason() { return cuda_unavailable_reason(driver_library()); }

}  // namespace gdnjit::cuda

// Opens the CUDA driver at run time. A machine without one is an ordinary machine: the outcome is a value.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "runtime/cuda/driver_api.h"

namespace gdnjit::cuda {

// The oldest driver with context-independent loading (cuLibraryLoadData): CUDA 12.0.
inline constexpr int kOldestDriverVersion = 12000;

struct DriverLibrary {
  std::optional<DriverTable> table;
  std::string reason;  // why there is no table, and what to do
};

// The driver of this machine (libcuda.so.1), opened at the first call and kept. Thread-safe.
const DriverLibrary& driver_library();

// Fills a table; `find_symbol` stands for dlsym on the driver, nullptr for a symbol that is not there.
DriverLibrary open_driver(const std::function<void*(const char*)>& find_symbol);

// The number of GPUs; 0 also if the driver cannot be initialised.
int cuda_device_count(const DriverTable& driver);
int cuda_device_count();

// nullopt if at least one GPU can be used; else why not, and what to do.
std::optional<std::string> cuda_unavailable_reason(const DriverLibrary& library);
std::optional<std::string> cuda_unavailable_reason();

}  // namespace gdnjit::cuda

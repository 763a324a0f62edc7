// Driver results as errors: one check for every call.
#pragma once

#include <fmt/format.h>
#include <gdnjit/error.h>

#include <string>
#include <string_view>
#include <utility>

#include "runtime/cuda/driver_api.h"

namespace gdnjit::cuda {

// "CUDA_ERROR_INVALID_IMAGE (200): device kernel image is invalid". Works while the driver is failing.
std::string describe(const DriverTable& driver, Result result);

// What to try. Never empty.
std::string_view advice(Result result);

// True for errors after which the context refuses every further call: only a new process helps.
bool is_sticky(Result result);

ErrorCode error_code_of(Result result);

// "12.4" for 12040.
std::string version_text(int version);

[[noreturn]] void throw_driver_error(const DriverTable& driver, Result result, const std::string& doing);

// Throws Error(device_failed, out_of_memory, unsupported, device_unavailable) saying what was being done. The text is
// made only on failure, so a check costs a comparison.
template <typename... Args>
void check(const DriverTable& driver, Result result, fmt::format_string<Args...> doing, Args&&... args) {
  if (result != kSuccess) throw_driver_error(driver, result, fmt::format(doing, std::forward<Args>(args)...));
}

}  // namespace gdnjit::cuda

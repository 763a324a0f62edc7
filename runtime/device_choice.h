// From the text of Options::device to a Device.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/device.h"

namespace gdnjit {

struct DeviceChoice {
  enum class Kind : unsigned char { automatic, cuda, emulator };
  Kind kind = Kind::automatic;
  int ordinal = 0;              // of Kind::cuda
  std::string arch = "sm_90a";  // of Kind::emulator
};

// Reads "auto", "cuda", "cuda:1", "emulator", "emulator:sm_80". Throws invalid_argument, naming the setting `label`.
DeviceChoice parse_device_choice(std::string_view label, std::string_view text);

// The ways to devices; tests put their own in place.
struct DeviceSources {
  std::function<int()> cuda_device_count;                // 0 without a usable driver
  std::function<std::string()> cuda_unavailable_reason;  // why the count is 0, for messages
  std::function<std::unique_ptr<Device>(int ordinal)> make_cuda;
  std::function<std::unique_ptr<Device>(std::string_view arch)> make_emulator;
};

// The CUDA driver of this machine and the emulator of this build, which looks for races if asked to.
DeviceSources system_device_sources(bool emulator_races = true);

// "auto" takes the first GPU, or the emulator and says so once per process. A GPU that was asked for and is not
// there throws Error(device_unavailable) with the reason and what to try; it is never replaced by the emulator.
std::unique_ptr<Device> open_device(const DeviceChoice& choice, const DeviceSources& sources);

}  // namespace gdnjit

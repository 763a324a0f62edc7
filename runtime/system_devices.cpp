#include "runtime/cuda/cuda_device.h"
#include "runtime/cuda/driver_library.h"
#include "runtime/device_choice.h"
#include "runtime/emulator/emulator_device.h"

namespace gdnjit {

DeviceSources system_device_sources(bool emulator_races) {
  const EmulatorChecks checks = emulator_races ? EmulatorChecks::races : EmulatorChecks::memory;
  return {.cuda_device_count = [] { return cuda::cuda_device_count(); },
          .cuda_unavailable_reason = [] { return cuda::cuda_unavailable_reason().value_or("a GPU is there"); },
          .make_cuda = [](int ordinal) { return cuda::make_cuda_device(ordinal); },
          .make_emulator = [checks](std::string_view arch) { return gdnjit::make_emulator(arch, checks); }};
}

}  // namespace gdnjit

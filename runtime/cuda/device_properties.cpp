#include "runtime/cuda/device_properties.h"

#include <array>
#include <charconv>

#include "codegen/kernel_spec.h"
#include "runtime/cuda/driver_error.h"
#include "runtime/support/check.h"

namespace gdnjit::cuda {
namespace {

class Attributes {
 public:
  Attributes(const DriverTable& driver, DeviceOrdinal device, std::string_view name)
      : driver_(driver), device_(device), name_(name) {}

  int get(int attribute) const {
    int value = 0;
    check(driver_, driver_.device_get_attribute(&value, attribute, device_), "reading attribute {} of {}", attribute,
          name_);
    return value;
  }

  // For what only tile choice depends on: a driver or virtual GPU that does not tell gets the fallback.
  int get_or(int attribute, int fallback) const {
    int value = 0;
    const Result result = driver_.device_get_attribute(&value, attribute, device_);
    if (result == kInvalidValue || result == kNotSupported) return fallback;
    check(driver_, result, "reading attribute {} of {}", attribute, name_);
    return value > 0 ? value : fallback;
  }

 private:
  const DriverTable& driver_;
  DeviceOrdinal device_;
  std::string_view name_;
};

DeviceTraits read_traits(const Attributes& attributes, const std::string& arch) {
  DeviceTraits traits;
  traits.arch = arch;
  traits.sm_count = attributes.get(kMultiprocessorCount);
  traits.registers_per_sm = attributes.get_or(kMaxRegistersPerMultiprocessor, traits.registers_per_sm);
  traits.threads_per_sm = attributes.get_or(kMaxThreadsPerMultiprocessor, traits.threads_per_sm);
  traits.blocks_per_sm = attributes.get_or(kMaxBlocksPerMultiprocessor, traits.blocks_per_sm);
  traits.shared_bytes_per_sm = attributes.get(kMaxSharedMemoryPerMultiprocessor);
  traits.shared_bytes_per_block = attributes.get(kMaxSharedMemoryPerBlockOptin);
  traits.l2_bytes = attributes.get_or(kL2CacheSize, static_cast<int>(traits.l2_bytes));
  const int clock_khz = attributes.get_or(kMemoryClockRate, 0);
  const int bus_bits = attributes.get_or(kGlobalMemoryBusWidth, 0);
  if (clock_khz > 0 && bus_bits > 0) traits.memory_bytes_per_us = memory_bandwidth(clock_khz, bus_bits);
  return traits;
}

}  // namespace

std::string architecture_for(int major, int minor) {
  std::string best;
  int best_minor = -1;
  for (const std::string& arch : known_architectures()) {
    int number = 0;
    const char* const end = arch.data() + arch.size();
    const char* const stop = std::from_chars(arch.data() + 3, end, number).ptr;  // behind "sm_"
    const bool exact_only = stop != end;                                         // "sm_90a" runs on 9.0 alone
    const int arch_minor = number % 10;
    if (number / 10 != major || arch_minor > minor || (exact_only && arch_minor != minor)) continue;
    if (arch_minor > best_minor) {
      best = arch;
      best_minor = arch_minor;
    }
  }
  return best;
}

double memory_bandwidth(int clock_khz, int bus_bits) {
  constexpr double kTransfersPerClock = 2;
  constexpr double kReachable = 0.9;
  return kTransfersPerClock * clock_khz * 1e3 * (bus_bits / 8.0) / 1e6 * kReachable;
}

DeviceInfo read_device_info(const DriverTable& driver, DeviceOrdinal device) {
  DeviceInfo info;
  info.kind = DeviceKind::cuda;
  std::array<char, 256> name{};
  check(driver, driver.device_get_name(name.data(), static_cast<int>(name.size()) - 1, device),
        "reading the name of GPU {}", device);
  info.name = name.data();
  std::size_t memory_bytes = 0;
  check(driver, driver.device_total_mem(&memory_bytes, device), "reading the memory size of {}", info.name);
  info.memory_bytes = static_cast<std::int64_t>(memory_bytes);
  int version = 0;
  check(driver, driver.driver_get_version(&version), "asking the CUDA driver for its version");
  info.driver = "CUDA driver " + version_text(version);

  const Attributes attributes(driver, device, info.name);
  const int major = attributes.get(kComputeCapabilityMajor);
  const int minor = attributes.get(kComputeCapabilityMinor);
  const std::string arch = architecture_for(major, minor);
  if (arch.empty()) {
    fail(ErrorCode::unsupported,
         "using {}: compute capability {}.{} is not among the known architectures ({} and later); "
         "use another GPU or the device 'emulator'",
         info.name, major, minor, known_architectures().front());
  }
  info.traits = read_traits(attributes, arch);
  return info;
}

}  // namespace gdnjit::cuda

#include "runtime/device.h"

#include <fmt/format.h>

#include <algorithm>

namespace gdnjit {

// Cards of one model report memory that differs by what their firmware reserves, hence steps of 8 GiB.
std::string DeviceInfo::tuning_identity() const {
  constexpr std::int64_t kStep = 8LL << 30;
  const std::int64_t steps = std::max<std::int64_t>(1, (memory_bytes + kStep / 2) / kStep);
  return fmt::format("{}, {} SMs, {} GiB", name, traits.sm_count, steps * 8);
}

}  // namespace gdnjit

#include "codegen/occupancy.h"

#include <algorithm>

namespace gdnjit {
namespace {

constexpr int kWarpThreads = 32;
constexpr int kRegisterUnit = 256;
constexpr int kFewestRegisters = 16;
constexpr int kSharedReserve = 1024;

int ceil_div(int value, int unit) { return (value + unit - 1) / unit; }

}  // namespace

Occupancy occupancy(const DeviceTraits& device, int registers, int threads, int shared_bytes) {
  const int warps = std::max(1, ceil_div(threads, kWarpThreads));
  const int warp_registers =
      ceil_div(std::max(registers, kFewestRegisters) * kWarpThreads, kRegisterUnit) * kRegisterUnit;
  struct Limit {
    int blocks;
    std::string_view name;
  };
  // On a tie the earlier one is named: it is the one a kernel author can do something about.
  Limit limits[] = {{device.registers_per_sm / (warps * warp_registers), "registers"},
                    {device.shared_bytes_per_sm / (shared_bytes + kSharedReserve), "shared memory"},
                    {device.threads_per_sm / (warps * kWarpThreads), "threads"},
                    {device.blocks_per_sm, "blocks"}};
  if (shared_bytes > device.shared_bytes_per_block) limits[1].blocks = 0;
  const Limit* least = std::min_element(std::begin(limits), std::end(limits),
                                        [](const Limit& a, const Limit& b) { return a.blocks < b.blocks; });
  return {.blocks = least->blocks,
          .warps = least->blocks * warps,
          .share = static_cast<double>(least->blocks * warps * kWarpThreads) / device.threads_per_sm,
          .limited_by = least->name};
}

}  // namespace gdnjit

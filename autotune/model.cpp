#include "autotune/model.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "codegen/occupancy.h"

namespace gdnjit::autotune {
namespace {

constexpr double kSectorBytes = 32;
constexpr double kSmBytesPerClock = 64;
constexpr double kIssuePerClock = 4;
constexpr double kClocksPerInstruction = 4;  // of one warp: dependent issue, partly overlapped
constexpr double kLoadsInFlight = 8;         // of one warp, before it needs the first

std::int64_t product(const std::uint32_t (&extent)[3]) { return std::int64_t{extent[0]} * extent[1] * extent[2]; }

std::int64_t ceil_div(std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit; }

double fourth(double x) { return x * x * x * x; }

}  // namespace

ModelResult model(const ModelInput& input) {
  ModelResult result;
  const std::int64_t blocks = product(input.geometry.grid);
  const LaunchCounters& counters = input.counters;
  if (blocks == 0 || counters.blocks == 0) {
    result.time_us = kLaunchUs;
    return result;
  }
  const std::int64_t resident =
      occupancy(input.device, input.registers, static_cast<int>(product(input.geometry.block)), input.shared_bytes)
          .blocks;
  result.resident_blocks = static_cast<int>(resident);
  if (resident == 0) {
    result.time_us = std::numeric_limits<double>::infinity();
    return result;
  }

  const auto per_block = [&](double count) { return count / static_cast<double>(counters.blocks); };
  const double n = static_cast<double>(blocks);
  const auto warps = static_cast<double>(ceil_div(product(input.geometry.block), 32));
  const double b = static_cast<double>(ceil_div(blocks, input.device.sm_count));
  const double r = static_cast<double>(resident);
  const double f = std::ceil(b / r);

  const double m = kSectorBytes * per_block(static_cast<double>(counters.sectors_read + counters.sectors_written));
  const double i = per_block(static_cast<double>(counters.warp_instructions)) + warps * input.spill_bytes / 4.0;
  const double s = per_block(static_cast<double>(counters.shared_wavefronts));
  const double loads = per_block(static_cast<double>(counters.global_load_instructions));
  const double read = kSectorBytes * per_block(static_cast<double>(counters.sectors_read));
  const double bytes_per_load = loads > 0 ? read / loads : kSectorBytes;
  const double in_flight =
      std::min(b, r) * warps * std::min(kLoadsInFlight, std::max(loads / warps, 1.0)) * bytes_per_load;

  result.memory_us = m * n / input.device.memory_bytes_per_us;
  result.one_sm_us = m * b / std::min(kSmBytesPerClock * kClocksPerUs, in_flight / kLatencyUs);
  result.issue_us = i * b / (kIssuePerClock * kClocksPerUs);
  result.chain_us = f * (i / warps) * kClocksPerInstruction / kClocksPerUs;
  result.shared_us = s * b / kClocksPerUs;
  const double sum = fourth(result.memory_us) + fourth(result.one_sm_us) + fourth(result.issue_us) +
                     fourth(result.chain_us) + fourth(result.shared_us);
  result.time_us = kLaunchUs + kLatencyUs + std::sqrt(std::sqrt(sum));
  return result;
}

}  // namespace gdnjit::autotune

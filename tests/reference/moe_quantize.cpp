#include "tests/reference/moe_quantize.h"

#include <algorithm>
#include <cmath>

namespace gdnjit::reference {

double round_e4m3(double value) {
  constexpr double kLargest = 448;
  constexpr int kLeastExponent = -6, kFractionBits = 3;
  if (std::isnan(value) || value == 0) return value;
  const double magnitude = std::min(std::abs(value), kLargest);
  const int exponent = std::max(std::ilogb(magnitude), kLeastExponent);
  const double step = std::ldexp(1.0, exponent - kFractionBits);
  return std::copysign(std::min(std::nearbyint(magnitude / step) * step, kLargest), value);
}

void quantize_row(std::span<double> row) {
  constexpr std::size_t kGroup = 128;
  for (std::size_t first = 0; first < row.size(); first += kGroup) {
    const std::span<double> group = row.subspan(first, std::min(kGroup, row.size() - first));
    float largest = 0x1p-100F;
    for (const double x : group) largest = std::fmax(largest, static_cast<float>(std::abs(x)));  // not a NaN
    const float factor = 448.0F / largest, scale = largest / 448.0F;
    for (double& x : group) x = round_e4m3(static_cast<float>(x) * factor) * static_cast<double>(scale);
  }
}

}  // namespace gdnjit::reference

#include "runtime/emulator/traits.h"

#include <vector>

#include "runtime/support/check.h"
#include "runtime/support/text.h"

namespace gdnjit::emulator {
namespace {

constexpr std::int64_t kMiB = 1LL << 20;

// Typical cards; the bandwidth is what a copy kernel reaches, about nine tenths of the data sheet's.
const std::vector<DeviceTraits>& cards() {
  static const std::vector<DeviceTraits> kCards{
      {"sm_80", 108, 65536, 2048, 32, 167936, 166912, 40 * kMiB, 1.75e6},   // A100 80 GB
      {"sm_86", 82, 65536, 1536, 16, 102400, 101376, 6 * kMiB, 8.6e5},      // RTX 3090
      {"sm_89", 128, 65536, 1536, 24, 102400, 101376, 72 * kMiB, 9.2e5},    // RTX 4090
      {"sm_90a", 132, 65536, 2048, 32, 233472, 232448, 50 * kMiB, 4.3e6},   // H200
      {"sm_100", 148, 65536, 2048, 32, 233472, 232448, 126 * kMiB, 7.0e6},  // B200
      {"sm_103", 148, 65536, 2048, 32, 233472, 232448, 126 * kMiB, 7.0e6},  // B300
      {"sm_120", 170, 65536, 1536, 24, 102400, 101376, 96 * kMiB, 1.6e6},   // RTX 5090
  };
  return kCards;
}

bool is_specific(std::string_view arch) { return arch.ends_with('a') || arch.ends_with('f'); }

}  // namespace

int arch_number(std::string_view arch) {
  if (!arch.starts_with("sm_")) return 0;
  int number = 0;
  for (char c : arch.substr(3)) {
    if (c < '0' || c > '9' || number > 999) break;
    number = number * 10 + (c - '0');
  }
  return number;
}

DeviceTraits traits_of(std::string_view arch) {
  std::vector<std::string> names;
  for (const DeviceTraits& card : cards()) {
    if (card.arch == arch) return card;
    names.push_back(card.arch);
  }
  fail(ErrorCode::unsupported, "emulator of '{}': no such architecture{}", arch, suggestion(arch, names));
}

bool runs_on(std::string_view target, std::string_view arch) {
  if (target == arch) return true;
  const int wanted = arch_number(target);
  if (wanted == 0 || is_specific(target)) return false;
  return wanted <= arch_number(arch);
}

}  // namespace gdnjit::emulator

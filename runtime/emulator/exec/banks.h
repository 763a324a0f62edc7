// How shared memory serves a warp: the model behind the wavefront counters. Internal linkage: included by files of
// every instruction set.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "runtime/counters.h"
#include "runtime/emulator/types.h"

namespace gdnjit::emulator {

// A phase is what the hardware serves at once: 32 lanes of up to 4 bytes, 16 of 8, 8 of 16. In a phase, different words
// of one of the 32 banks take turns; equal words are broadcast.
static inline std::uint32_t phase_wavefronts(const std::uint64_t* offset, std::uint32_t mask, std::uint32_t words) {
  std::uint32_t used[32] = {};
  std::uint64_t seen[32][kLanes];
  std::uint32_t most = 0;
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    for (std::uint32_t word = 0; word < words; ++word) {
      const std::uint64_t at = offset[std::countr_zero(rest)] / 4 + word;
      const auto bank = static_cast<std::uint32_t>(at % 32);
      bool repeated = false;
      for (std::uint32_t i = 0; i < used[bank]; ++i) repeated = repeated || seen[bank][i] == at;
      if (repeated) continue;
      seen[bank][used[bank]++] = at;
      most = std::max(most, used[bank]);
    }
  }
  return most;
}

// Counts one access of `bytes` at offset[lane] for each lane of the mask.
static inline void count_wavefronts(LaunchCounters& counters, const std::uint64_t* offset, std::uint32_t lanes_here,
                                    std::uint32_t bytes) {
  const std::uint32_t words = bytes < 4 ? 1 : bytes / 4;
  const std::uint32_t lanes = 32 / words;
  const std::uint32_t phase_mask = lanes == 32 ? kAllLanes : (1U << lanes) - 1;
  for (std::uint32_t phase = 0; phase < words; ++phase) {
    const std::uint32_t mask = lanes_here & (phase_mask << (phase * lanes));
    if (mask == 0) continue;
    counters.shared_wavefronts += phase_wavefronts(offset, mask, words);
    counters.shared_wavefronts_ideal += 1;
  }
}

}  // namespace gdnjit::emulator

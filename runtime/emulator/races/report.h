// Races in words: who did what where, what is missing, and what to try.
#pragma once

#include <string>

#include "runtime/emulator/races/launch_races.h"

namespace gdnjit::emulator {

// Where the bytes of a race are: "offset 4 of 'state'".
std::string name_global(const LaunchState& launch, std::uint64_t address);

// "races: writes offset 4 of 'tile', which thread ... read at ...\n  ...". The current access stands in the fault's own
// lines. `same_warp` and `same_block`: where the other thread is.
struct RaceText {
  std::string place;
  RaceSide earlier;
  RaceSide current;
  bool proxy = false;
  std::uint32_t padded_block_threads = 32;
};
std::string describe_race(const LaunchState& launch, const RaceText& race);

// The whole report of a race between groups, in the form of a fault.
std::string describe_group_race(const LaunchState& launch, std::uint64_t address, const RaceSide& first,
                                const RaceSide& second);

}  // namespace gdnjit::emulator

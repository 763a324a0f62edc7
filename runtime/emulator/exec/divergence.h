// Lanes of a warp that go different ways. Internal linkage: included by files of every instruction set.
#pragma once

#include "runtime/emulator/exec/warp.h"

namespace gdnjit::emulator {

// Lanes leave the common path: they wait at their pc. Those deepest in calls go first, then those with the lowest pc,
// because the places where paths meet again lie behind the calls and behind the paths themselves.
static inline void park(Warp& warp, std::uint32_t depth, std::uint32_t pc, std::uint32_t lanes) {
  auto place = warp.waiting.begin();
  while (place != warp.waiting.end() && (place->depth < depth || (place->depth == depth && place->pc > pc))) ++place;
  if (place != warp.waiting.end() && place->depth == depth && place->pc == pc) {
    place->lanes |= lanes;
  } else {
    warp.waiting.insert(place, {pc, lanes, depth});
  }
}

// Makes the next group the active one. REQUIRES: every live lane waits.
static inline void resume_next(Warp& warp) {
  warp.pc = warp.waiting.back().pc;
  warp.active = warp.waiting.back().lanes;
  warp.depth = warp.waiting.back().depth;
  warp.waiting.pop_back();
  const bool may_meet = !warp.waiting.empty() && warp.waiting.back().depth == warp.depth;
  warp.stop_pc = may_meet ? warp.waiting.back().pc : ~0U;
}

}  // namespace gdnjit::emulator

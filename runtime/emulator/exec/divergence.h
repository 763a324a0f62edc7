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

// The active lanes wait for something: the warp's next group by pc, after the last one the first, gets a turn instead.
// It meets only groups that lie before it, not those that wait. REQUIRES: other lanes wait.
static inline void resume_other(Warp& warp) {
  const std::uint32_t pc = warp.pc;
  const std::uint32_t depth = warp.depth;
  park(warp, depth, pc, warp.active);
  auto next = warp.waiting.begin();
  while (next->pc != pc || next->depth != depth) ++next;
  next = next == warp.waiting.begin() ? warp.waiting.end() - 1 : next - 1;
  warp.pc = next->pc;
  warp.active = next->lanes;
  warp.depth = next->depth;
  warp.waiting.erase(next);
  warp.stop_pc = ~0U;
  for (const LaneGroup& group : warp.waiting) {
    if (group.depth == warp.depth && group.pc > warp.pc && group.pc < warp.stop_pc) warp.stop_pc = group.pc;
  }
}

}  // namespace gdnjit::emulator

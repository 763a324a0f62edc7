#include "runtime/emulator/races/knowledge.h"

#include <bit>

namespace gdnjit::emulator {
namespace {

constexpr int kOrdered = static_cast<int>(View::ordered);
constexpr int kVisible = static_cast<int>(View::visible);

template <typename F>
void for_each_lane(std::uint32_t lanes, F f) {
  for (; lanes != 0; lanes &= lanes - 1) f(std::countr_zero(lanes));
}

}  // namespace

void Knowledge::start(std::uint32_t group, std::uint32_t warps) {
  group_ = group;
  now_ = 0;
  used_ = 1;
  warps_.assign(warps, WarpKnowledge{});
  pool_.clear();
  scratch_.clear();
}

void Knowledge::set(WarpKnowledge& warp, int view, int lane, const Clock* clock) {
  warp.clock[static_cast<std::size_t>(view)][static_cast<std::size_t>(lane)] = clock;
  used_ |= 1U << view;
}

void Knowledge::release(std::uint32_t number, std::uint32_t lanes, Gathering& into) {
  WarpKnowledge& warp = warps_[number];
  for (int view = 0; view < kViews; ++view) {
    if ((used_ >> view & 1U) == 0) continue;
    const auto& clocks = warp.clock[static_cast<std::size_t>(view)];
    const auto& own = warp.own[static_cast<std::size_t>(view)];
    for_each_lane(lanes, [&](int lane) {
      into[view].add(clocks[static_cast<std::size_t>(lane)]);
      const Stamp stamp = view == kOrdered ? now_ : own[static_cast<std::size_t>(lane)];
      if (stamp != 0) into[view].raise(number * 32 + static_cast<std::uint32_t>(lane), stamp);
    });
    if (warp.copy_agent == 0 || (view != kOrdered && view != kVisible)) continue;
    const auto& copied = view == kOrdered ? warp.copied : warp.copied_visible;
    for_each_lane(lanes, [&](int lane) {
      const Stamp stamp = copied[static_cast<std::size_t>(lane)];
      if (stamp != 0) into[view].raise(warp.copy_agent + static_cast<std::uint32_t>(lane), stamp);
    });
  }
  warp.released = now_;
  tick();
}

void Knowledge::release_relaxed(std::uint32_t number, std::uint32_t lanes, Gathering& into) {
  const WarpKnowledge& warp = warps_[number];
  const auto flushed = static_cast<std::size_t>(View::flushed_cluster);
  for_each_lane(lanes, [&](int lane) {
    const auto at = static_cast<std::size_t>(lane);
    into[kOrdered].add(warp.clock[flushed][at]);
    if (warp.own[flushed][at] != 0)
      into[kOrdered].raise(number * 32 + static_cast<std::uint32_t>(lane), warp.own[flushed][at]);
  });
}

Handed Knowledge::hand(const Gathering& gathered) {
  Handed handed{};
  for (int view = 0; view < kViews; ++view) {
    if (!gathered[view].empty()) handed[static_cast<std::size_t>(view)] = pool_.make(gathered[view]);
  }
  return handed;
}

void Knowledge::acquire(std::uint32_t number, std::uint32_t lanes, const Handed& handed) {
  WarpKnowledge& warp = warps_[number];
  for (int view = 0; view < kViews; ++view) {
    const Clock* clock = handed[static_cast<std::size_t>(view)];
    if (clock == nullptr) continue;
    const auto& clocks = warp.clock[static_cast<std::size_t>(view)];
    for_each_lane(lanes,
                  [&](int lane) { set(warp, view, lane, pool_.join(clocks[static_cast<std::size_t>(lane)], clock)); });
  }
  warp.changed = true;
}

bool Knowledge::uniform(const WarpKnowledge& warp, std::uint32_t lanes) const {
  const auto first = static_cast<std::size_t>(std::countr_zero(lanes));
  bool same = true;
  for (std::size_t view = 0; view < kViews; ++view) {
    if ((used_ >> view & 1U) == 0) continue;
    for_each_lane(lanes, [&](int lane) {
      same = same && warp.clock[view][static_cast<std::size_t>(lane)] == warp.clock[view][first];
    });
  }
  return same;
}

void Knowledge::synchronize(std::uint32_t number, std::uint32_t lanes) {
  WarpKnowledge& warp = warps_[number];
  if ((lanes & (lanes - 1)) == 0) return;
  if (!warp.changed && uniform(warp, lanes)) return;
  scratch_.clear();
  release(number, lanes, scratch_);
  acquire(number, lanes, hand(scratch_));
  scratch_.clear();
  if (lanes == ~0U) warp.changed = false;
}

void Knowledge::complete(std::uint32_t number, std::uint32_t lanes, std::uint32_t agent, Stamp stamp) {
  if (stamp == 0) return;
  WarpKnowledge& warp = warps_[number];
  ClockSum sum;
  sum.raise(agent, stamp);
  Handed handed{};
  handed[kOrdered] = pool_.make(sum);
  acquire(number, lanes, handed);
  warp.changed = true;
}

void Knowledge::fence(std::uint32_t number, std::uint32_t lanes, View widest) {
  WarpKnowledge& warp = warps_[number];
  const auto pending = static_cast<std::size_t>(View::pending);
  for_each_lane(lanes, [&](int lane) {
    const auto at = static_cast<std::size_t>(lane);
    if (const Clock* seen = warp.clock[pending][at]) {
      set(warp, kOrdered, lane, pool_.join(warp.clock[kOrdered][at], seen));
      warp.clock[pending][at] = nullptr;
    }
    for (int view = static_cast<int>(View::flushed_cta); view <= static_cast<int>(widest); ++view) {
      set(warp, view, lane, warp.clock[kOrdered][at]);
      warp.own[static_cast<std::size_t>(view)][at] = now_;
    }
  });
  tick();
  warp.changed = true;
}

void Knowledge::fence_async_proxy(std::uint32_t number, std::uint32_t lanes) {
  WarpKnowledge& warp = warps_[number];
  const int visible = static_cast<int>(View::visible);
  for_each_lane(lanes, [&](int lane) {
    const auto at = static_cast<std::size_t>(lane);
    set(warp, visible, lane, pool_.join(warp.clock[static_cast<std::size_t>(visible)][at], warp.clock[kOrdered][at]));
    warp.own[static_cast<std::size_t>(visible)][at] = now_;
    warp.copied_visible[at] = warp.copied[at];
  });
  tick();
  warp.changed = true;
}

PublishedClock Knowledge::publish(std::uint32_t number, int lane, View view) {
  const WarpKnowledge& warp = warps_[number];
  const auto v = static_cast<std::size_t>(view);
  const auto at = static_cast<std::size_t>(lane);
  const Stamp own = view == View::ordered ? now_ : warp.own[v][at];
  if (own == 0 && warp.clock[v][at] == nullptr) return {};
  return pool_.publish(warp.clock[v][at], group_, number * 32 + static_cast<std::uint32_t>(lane), own);
}

void Knowledge::learn(std::uint32_t number, int lane, View view, const PublishedClock& clock) {
  if (clock.stamps == nullptr) return;
  WarpKnowledge& warp = warps_[number];
  const auto v = static_cast<std::size_t>(view);
  const auto at = static_cast<std::size_t>(lane);
  ClockSum sum;
  sum.add_published(clock, group_);
  set(warp, static_cast<int>(view), lane, pool_.join(warp.clock[v][at], pool_.make(sum)));
  warp.changed = true;
}

}  // namespace gdnjit::emulator

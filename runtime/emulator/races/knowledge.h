// What the threads of a group know of each other's accesses, and how synchronisation hands it on.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "runtime/emulator/races/clock.h"

namespace gdnjit::emulator {

// Knowledge comes in kinds, and synchronisation hands on all of them alike.
enum class View : std::uint8_t {
  ordered,      // accesses that happened before
  visible,      // generic writes that the async proxy sees (fence.proxy.async)
  flushed_cta,  // accesses before a fence of at least that scope: what a relaxed store or atomic publishes
  flushed_cluster,
  flushed_gpu,
  pending,  // published values seen by relaxed loads; a fence makes them ordered
};
inline constexpr int kViews = 6;

// The threads of one warp. A thread's own accesses are ordered for itself without an entry; in the other views `own`
// says up to which stamp they count.
struct WarpKnowledge {
  std::array<std::array<const Clock*, 32>, kViews> clock{};
  std::array<std::array<Stamp, 32>, kViews> own{};
  // cp.async of each lane is an agent of its own, which that lane alone waits for: kept beside the clocks, so that the
  // lanes of a warp go on sharing them.
  std::uint32_t copy_agent = 0;            // of lane 0; 0: none
  std::array<Stamp, 32> copied{};          // complete, as far as the lane has waited
  std::array<Stamp, 32> copied_visible{};  // of these, before the lane's last fence of the async proxy
  Stamp released = 0;                      // when the warp last handed something on
  bool changed = true;                     // accesses or knowledge since the last synchronisation of the whole warp
};

// What the arrivals at a synchronisation object hand on, while they gather.
class Gathering {
 public:
  void clear() {
    for (ClockSum& sum : sums_) sum.clear();
  }
  ClockSum& operator[](int view) { return sums_[static_cast<std::size_t>(view)]; }
  const ClockSum& operator[](int view) const { return sums_[static_cast<std::size_t>(view)]; }

 private:
  std::array<ClockSum, kViews> sums_;
};

// What a synchronisation object hands to those who observe it.
using Handed = std::array<const Clock*, kViews>;

// The knowledge of one group's threads. Not thread-safe: a group runs on one worker.
class Knowledge {
 public:
  void start(std::uint32_t group, std::uint32_t warps);

  Stamp now() const { return now_; }
  Stamp tick() { return ++now_; }
  WarpKnowledge& warp(std::uint32_t number) { return warps_[number]; }
  const Clock* clock(std::uint32_t warp, int lane, View view) const {
    return warps_[warp].clock[static_cast<std::size_t>(view)][static_cast<std::size_t>(lane)];
  }

  // The lanes hand on all they know and did; relaxed: only what they flushed with a fence of the cluster or wider.
  void release(std::uint32_t warp, std::uint32_t lanes, Gathering& into);
  void release_relaxed(std::uint32_t warp, std::uint32_t lanes, Gathering& into);
  Handed hand(const Gathering& gathered);
  void acquire(std::uint32_t warp, std::uint32_t lanes, const Handed& handed);
  // The lanes learn of one another.
  void synchronize(std::uint32_t warp, std::uint32_t lanes);

  // The lanes learn that an agent's accesses up to a stamp are complete.
  void complete(std::uint32_t warp, std::uint32_t lanes, std::uint32_t agent, Stamp stamp);

  void fence(std::uint32_t warp, std::uint32_t lanes, View widest);
  void fence_async_proxy(std::uint32_t warp, std::uint32_t lanes);

  PublishedClock publish(std::uint32_t warp, int lane, View view);
  void learn(std::uint32_t warp, int lane, View view, const PublishedClock& clock);

  bool wants_collection() const { return pool_.wants_collection(); }
  // Frees the clocks that nobody names; `extra(visit)` names those outside the warps.
  template <typename Extra>
  void collect(Extra extra) {
    pool_.collect([&](auto visit) {
      for (const WarpKnowledge& warp : warps_) {
        for (const auto& lanes : warp.clock) {
          for (const Clock* clock : lanes) visit(clock);
        }
      }
      extra(visit);
    });
  }

 private:
  bool uniform(const WarpKnowledge& warp, std::uint32_t lanes) const;
  void set(WarpKnowledge& warp, int view, int lane, const Clock* clock);

  std::uint32_t group_ = 0;
  Stamp now_ = 0;
  std::uint32_t used_ = 1;  // views that anybody has used, as a mask
  std::vector<WarpKnowledge> warps_;
  ClockPool pool_;
  Gathering scratch_;
};

}  // namespace gdnjit::emulator

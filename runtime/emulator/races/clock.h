// Vector clocks: what a thread knows of the accesses of others.
//
// The threads of a group (the blocks that one worker interleaves) share one counter of stamps. Every access carries the
// stamp of its time; whatever hands knowledge on (a barrier, a release) raises the counter, so "all accesses of thread
// u up to stamp s" is a number. Asynchronous operations are accesses of agents, which have clock entries like threads.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace gdnjit::emulator {

using Stamp = std::uint32_t;
using Stamps = std::vector<Stamp>;  // by thread or agent of a group; what is missing is 0: nothing known

// What is known of another group, sorted by group.
struct ForeignClock {
  std::uint32_t group = 0;
  std::shared_ptr<const Stamps> stamps;
};
using ForeignClocks = std::vector<ForeignClock>;

// Immutable once made, so that threads share it.
struct Clock {
  Stamps stamps;
  std::shared_ptr<const ForeignClocks> foreign;
  mutable bool live = false;  // for the pool's collection

  Stamp at(std::uint32_t index) const { return index < stamps.size() ? stamps[index] : 0; }
  // Of a thread of another group.
  Stamp foreign_at(std::uint32_t group, std::uint32_t index) const;
};

// A clock as it leaves its group.
struct PublishedClock {
  std::uint32_t group = 0;
  std::shared_ptr<const Stamps> stamps;
  std::shared_ptr<const ForeignClocks> foreign;
};

// The union of clocks, while it grows.
class ClockSum {
 public:
  bool empty() const { return stamps_.empty() && foreign_ == nullptr; }
  void clear();
  void add(const Clock* clock);  // nullptr: nothing
  const Clock* last() const { return last_; }
  void raise(std::uint32_t index, Stamp stamp);
  void add_foreign(const std::shared_ptr<const ForeignClocks>& foreign, std::uint32_t own_group);
  void add_published(const PublishedClock& clock, std::uint32_t own_group);

 private:
  friend class ClockPool;
  Stamps stamps_;
  std::shared_ptr<const ForeignClocks> foreign_;
  const Clock* last_ = nullptr;  // added last: mostly the next one again
};

// Owns the clocks of one group. Clocks that nobody names any more are freed by `collect`.
class ClockPool {
 public:
  const Clock* make(const ClockSum& sum);
  const Clock* join(const Clock* a, const Clock* b);
  PublishedClock publish(const Clock* clock, std::uint32_t group, std::uint32_t index, Stamp own) const;

  bool wants_collection() const { return bytes_ > limit_; }
  // `mark(visit)` calls visit(clock) for every clock in use.
  template <typename Mark>
  void collect(Mark mark) {
    for (const auto& clock : clocks_) clock->live = false;
    mark([](const Clock* clock) {
      if (clock != nullptr) clock->live = true;
    });
    sweep();
  }
  void clear();

 private:
  void sweep();
  const Clock* keep(std::unique_ptr<Clock> clock);

  std::vector<std::unique_ptr<Clock>> clocks_;
  std::size_t bytes_ = 0;
  std::size_t limit_ = 16U << 20;
  // The last join: the lanes of a warp ask for the same one.
  const Clock* join_a_ = nullptr;
  const Clock* join_b_ = nullptr;
  const Clock* joined_ = nullptr;
};

}  // namespace gdnjit::emulator

// The detector's shadow against a model that remembers every access of every byte: the first race of a random history
// is found at the very access that makes it, and nothing is reported before.
#include <doctest/doctest.h>

#include <map>
#include <random>
#include <vector>

#include "runtime/emulator/races/knowledge.h"
#include "runtime/emulator/races/shadow.h"

namespace gdnjit::emulator {
namespace {

constexpr std::uint32_t kWarps = 3;
constexpr std::uint32_t kThreads = kWarps * 32;
constexpr std::uint64_t kPlayground = 256;  // bytes

// Knows for each thread which accesses of each other thread happened before, and all accesses of each byte.
class Model {
 public:
  Model() : known_(kThreads, std::vector<Stamp>(kThreads)) {}

  bool races(std::uint32_t thread, std::uint64_t byte, bool writes) const {
    const auto found = accesses_.find(byte);
    if (found == accesses_.end()) return false;
    for (const Access& access : found->second) {
      if ((access.writes || writes) && access.thread != thread && known_[thread][access.thread] < access.stamp)
        return true;
    }
    return false;
  }
  void remember(std::uint32_t thread, std::uint64_t byte, bool writes, Stamp stamp) {
    accesses_[byte].push_back({thread, stamp, writes});
  }
  // Everybody in `to` learns what everybody in `from` knows and did until now.
  void hand(const std::vector<std::uint32_t>& from, const std::vector<std::uint32_t>& to, Stamp now) {
    std::vector<Stamp> sum(kThreads);
    for (const std::uint32_t thread : from) {
      for (std::uint32_t other = 0; other < kThreads; ++other) sum[other] = std::max(sum[other], known_[thread][other]);
      sum[thread] = std::max(sum[thread], now);
    }
    for (const std::uint32_t thread : to) {
      for (std::uint32_t other = 0; other < kThreads; ++other)
        known_[thread][other] = std::max(known_[thread][other], sum[other]);
    }
  }

 private:
  struct Access {
    std::uint32_t thread;
    Stamp stamp;
    bool writes;
  };
  std::vector<std::vector<Stamp>> known_;
  std::map<std::uint64_t, std::vector<Access>> accesses_;
};

class Catcher final : public ConflictSink {
 public:
  void conflict(const Accessor&, const Conflict&) override { ++conflicts; }
  int conflicts = 0;
};

std::vector<std::uint32_t> threads_of(std::uint32_t warp) {
  std::vector<std::uint32_t> threads;
  for (std::uint32_t lane = 0; lane < 32; ++lane) threads.push_back(warp * 32 + lane);
  return threads;
}

// One random history. Returns how many accesses there were before the first race (or `length`).
class History {
 public:
  explicit History(std::uint32_t seed) : random_(seed) { knowledge_.start(0, kWarps); }

  int run(int length) {
    for (int step = 0; step < length; ++step) {
      if (pick(5) == 0) {
        synchronise();
      } else if (access()) {
        return step;
      }
    }
    return length;
  }

 private:
  std::uint32_t pick(std::uint32_t below) { return static_cast<std::uint32_t>(random_() % below); }

  void synchronise() {
    const std::uint32_t warp = pick(kWarps);
    const std::uint32_t other = pick(kWarps);
    if (pick(3) == 0) {
      const Stamp now = knowledge_.now();
      knowledge_.synchronize(warp, ~0U);
      model_.hand(threads_of(warp), threads_of(warp), now);
      return;
    }
    // The whole of one warp arrives somewhere, the whole of another observes it.
    Gathering gathering;
    const Stamp now = knowledge_.now();
    knowledge_.release(warp, ~0U, gathering);
    knowledge_.acquire(other, ~0U, knowledge_.hand(gathering));
    model_.hand(threads_of(warp), threads_of(other), now);
  }

  // A run of lanes, each with its bytes, or several lanes with the same bytes. True if the model says that it races;
  // then, and only then, the shadow must say so too.
  bool access() {
    const std::uint32_t warp = pick(kWarps);
    const bool writes = pick(3) == 0;
    const std::uint32_t width = 1U << pick(5);
    const std::uint32_t first = pick(32);
    const std::uint32_t count =
        1 + pick(std::min<std::uint32_t>(32 - first, static_cast<std::uint32_t>(kPlayground / width)));
    const bool shares = pick(3) == 0 && !writes;
    const std::uint64_t bytes = shares ? width : static_cast<std::uint64_t>(width) * count;
    const std::uint64_t begin = pick(static_cast<std::uint32_t>((kPlayground - bytes) / width + 1)) * width;
    const std::uint32_t lanes = (count == 32 ? ~0U : (1U << count) - 1) << first;

    Accessor accessor;
    const WarpKnowledge& known = knowledge_.warp(warp);
    accessor.clock = known.clock[0][first];
    accessor.stamp = knowledge_.tick();
    accessor.released = known.released;
    accessor.thread = accessor.index = warp * 32;
    accessor.writes = writes;
    accessor.block_threads = kThreads;
    knowledge_.warp(warp).changed = true;

    bool expected = false;
    const auto each = [&](auto visit) {
      for (std::uint32_t lane = first; lane < first + count; ++lane) {
        const std::uint64_t at = shares ? begin : begin + static_cast<std::uint64_t>(lane - first) * width;
        for (std::uint64_t byte = at; byte < at + width; ++byte) visit(warp * 32 + lane, byte);
      }
    };
    each([&](std::uint32_t thread, std::uint64_t byte) { expected = expected || model_.races(thread, byte, writes); });
    Catcher catcher;
    region_.access(accessor, {begin, bytes, lanes, shares ? 0 : width}, 0, 0, catcher);
    CHECK((catcher.conflicts != 0) == expected);
    each([&](std::uint32_t thread, std::uint64_t byte) { model_.remember(thread, byte, writes, accessor.stamp); });
    return expected || catcher.conflicts != 0;
  }

  std::mt19937 random_;
  Knowledge knowledge_;
  ShadowRegion region_;
  Model model_;
};

TEST_CASE("the first race of a random history is found where it happens, and none before") {
  int raced = 0;
  int steps = 0;
  for (std::uint32_t seed = 0; seed < 4000; ++seed) {
    CAPTURE(seed);
    const int race_at = History(seed).run(60);
    steps += race_at;
    raced += race_at < 60 ? 1 : 0;
  }
  // The histories must be worth the name: some steps before the race, and mostly one.
  CHECK(raced > 2000);
  CHECK(steps > 8000);
}

TEST_CASE("clocks join, and a join that adds nothing makes no new clock") {
  ClockPool pool;
  ClockSum a, b;
  a.raise(3, 10);
  b.raise(3, 7);
  b.raise(40, 2);
  const Clock* left = pool.make(a);
  const Clock* right = pool.make(b);
  const Clock* both = pool.join(left, right);
  CHECK(both->at(3) == 10);
  CHECK(both->at(40) == 2);
  CHECK(both->at(41) == 0);
  CHECK(pool.join(both, left) == both);
  CHECK(pool.join(right, both) == both);
  CHECK(pool.join(nullptr, left) == left);
  pool.collect([&](auto visit) { visit(both); });
  CHECK(both->at(3) == 10);
}

TEST_CASE("what another group knows of this one comes home") {
  ClockPool pool;
  ClockSum sum;
  sum.raise(1, 5);
  const PublishedClock ours = pool.publish(pool.make(sum), 7, 2, 9);
  ClockSum theirs;
  theirs.add_published(ours, 8);
  theirs.raise(0, 3);
  const Clock* other = pool.make(theirs);
  CHECK(other->at(0) == 3);
  CHECK(other->foreign_at(7, 1) == 5);
  CHECK(other->foreign_at(7, 2) == 9);
  CHECK(other->foreign_at(6, 1) == 0);
  ClockSum back;
  back.add_published(pool.publish(other, 8, 0, 4), 7);
  CHECK(pool.make(back)->at(2) == 9);
  CHECK(pool.make(back)->foreign_at(8, 0) == 4);
}

}  // namespace
}  // namespace gdnjit::emulator

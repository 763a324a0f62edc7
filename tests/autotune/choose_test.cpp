#include "autotune/choose.h"

#include <doctest/doctest.h>

#include <limits>
#include <vector>

using namespace gdnjit::autotune;

namespace {

// The first contender is the default unless said otherwise.
std::vector<Contender> contenders(const std::vector<double>& times, double spread = 0) {
  std::vector<Contender> all;
  for (double time : times) all.push_back({.time_us = time, .spread_us = spread, .is_default = all.empty()});
  return all;
}

struct Row {
  const char* what;
  std::vector<double> times;
  double spread;
  std::size_t winner;
  const char* reason;
};

}  // namespace

TEST_CASE("margin and tie rules") {
  const Row rows[] = {
      {"alone", {10}, 0, 0, "the default is the only candidate that is right"},
      {"slower rivals", {10, 12, 11}, 0, 0, "default: nothing beats it by 3 %"},
      {"inside the tie band", {10, 9.85}, 0, 0, "default: tie of 2"},
      {"outside the band, inside the margin", {10, 9.75}, 0, 0, "default: nothing beats it by 3 %"},
      {"beyond the margin", {10, 9.6}, 0, 1, "beats the default by 4 %"},
      {"the fastest of several", {10, 9, 8}, 0, 2, "beats the default by 25 %"},
      {"equals: the first in order", {10, 8.1, 8.0, 8.05}, 0, 1, "beats the default by 23 %; tie of 3: fixed order"},
      {"spreads widen the band", {10, 8.5, 8.0}, 0.3, 1, "beats the default by 18 %; tie of 2: fixed order"},
      {"noise hides the gain", {10, 9, 9.5}, 0.6, 0, "default: tie of 3"},
      {"the first of the band misses the margin, a later one does not",
       {10, 9.75, 9.65},
       0,
       2,
       "beats the default by 4 %; tie of 2: fixed order"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    const auto choice = choose(contenders(row.times, row.spread), 0.03);
    REQUIRE(choice.has_value());
    CHECK(choice->winner == row.winner);
    CHECK(choice->reason == row.reason);
  }
}

TEST_CASE("a default that is not right loses to whatever is") {
  auto all = contenders({1, 20, 10});
  all[0].right = false;
  const auto choice = choose(all, 0.03);
  REQUIRE(choice.has_value());
  CHECK(choice->winner == 2);
  CHECK(choice->reason == "fastest of 2; the default is not right");
}

TEST_CASE("wrong candidates never win and nothing right means no choice") {
  auto all = contenders({10, 1});
  all[1].right = false;
  CHECK(choose(all, 0.03)->winner == 0);
  all[0].right = false;
  CHECK_FALSE(choose(all, 0.03).has_value());
  CHECK_FALSE(choose({}, 0.03).has_value());
}

TEST_CASE("a default that cannot run at all loses, and alone it stays") {
  const double never = std::numeric_limits<double>::infinity();
  CHECK(choose(contenders({never, 10}), 0.03)->winner == 1);
  CHECK(choose(contenders({never}), 0.03)->winner == 0);
}

TEST_CASE("the default keeps its place anywhere in the order") {
  auto all = contenders({9.9, 10});
  all[0].is_default = false;
  all[1].is_default = true;
  CHECK(choose(all, 0.03)->winner == 1);
}

TEST_CASE("median and half quartile distance") {
  const auto summary = [](std::vector<double> samples) { return summarize(samples); };
  CHECK(summary({}).median == 0);
  CHECK(summary({5}).median == 5);
  CHECK(summary({5}).spread == 0);
  CHECK(summary({4, 1, 3, 2, 5}).median == 3);
  CHECK(summary({4, 1, 3, 2, 5}).spread == 1);
  CHECK(summary({1, 2}).median == 1.5);
  CHECK(summary({1, 1, 1, 1, 1000}).median == 1);
}

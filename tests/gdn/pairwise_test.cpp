#include "tests/gdn/pairwise.h"

#include <doctest/doctest.h>

#include <algorithm>

using namespace gdnjit::tests;

namespace {

const std::vector<Axis> kAxes{
    {"a", {"0", "1", "2"}}, {"b", {"0", "1"}}, {"c", {"0", "1", "2", "3"}}, {"d", {"0", "1", "2"}}};

// a = 2 forbids b = 1.
bool rule(const Case& built) { return !(built[0] == 2 && built[1] == 1); }

bool occurs(const std::vector<Case>& cases, std::size_t a, int x, std::size_t b, int y) {
  for (const Case& built : cases) {
    if (built[a] == x && built[b] == y) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("every allowed pair occurs, no forbidden one does, and every case is complete") {
  const std::vector<Case> cases = pairwise_cases(kAxes, rule, 1);
  for (std::size_t a = 0; a < kAxes.size(); ++a) {
    for (std::size_t b = a + 1; b < kAxes.size(); ++b) {
      for (int x = 0; x < static_cast<int>(kAxes[a].values.size()); ++x) {
        for (int y = 0; y < static_cast<int>(kAxes[b].values.size()); ++y) {
          const bool forbidden = a == 0 && b == 1 && x == 2 && y == 1;
          CHECK(occurs(cases, a, x, b, y) == !forbidden);
        }
      }
    }
  }
  for (const Case& built : cases) {
    for (const int value : built) CHECK(value >= 0);
  }
  CHECK(cases.size() < 24);  // against 3 * 2 * 4 * 3 = 72 of the full product
}

TEST_CASE("a few of the cases have every value, and no more of them than values need") {
  const std::vector<Case> cases = pairwise_cases(kAxes, rule, 1), few = every_value(cases);
  for (std::size_t axis = 0; axis < kAxes.size(); ++axis) {
    for (int value = 0; value < static_cast<int>(kAxes[axis].values.size()); ++value) {
      CHECK(occurs(few, axis, value, axis, value));
    }
  }
  CHECK(few.size() >= 4);  // c has four values
  CHECK(few.size() < cases.size() / 2);
  for (const Case& built : few) CHECK(std::count(cases.begin(), cases.end(), built) == 1);
}

TEST_CASE("the list depends on the seed alone") {
  CHECK(pairwise_cases(kAxes, rule, 7) == pairwise_cases(kAxes, rule, 7));
}

#include "tests/gdn/pairwise.h"

#include <algorithm>
#include <random>
#include <set>
#include <stdexcept>
#include <utility>

namespace gdnjit::tests {
namespace {

// (axis, value) of the lower axis, then of the higher.
using Pair = std::pair<std::pair<int, int>, std::pair<int, int>>;

Pair make_pair_of(int axis_a, int value_a, int axis_b, int value_b) {
  if (axis_a > axis_b) return {{axis_b, value_b}, {axis_a, value_a}};
  return {{axis_a, value_a}, {axis_b, value_b}};
}

class Builder {
 public:
  Builder(const std::vector<Axis>& axes, const CaseRule& allowed, std::uint64_t seed)
      : axes_(axes), allowed_(allowed), random_(seed) {
    const int count = static_cast<int>(axes.size());
    for (int a = 0; a < count; ++a) {
      for (int b = a + 1; b < count; ++b) {
        for (int x = 0; x < size(a); ++x) {
          for (int y = 0; y < size(b); ++y) open_.insert(make_pair_of(a, x, b, y));
        }
      }
    }
  }

  std::vector<Case> run() {
    std::vector<Case> cases;
    while (!open_.empty()) {
      const Pair seed = *open_.begin();
      Case built(axes_.size(), -1);
      built[index(seed.first.first)] = seed.first.second;
      built[index(seed.second.first)] = seed.second.second;
      if (!allowed_(built) || !fill(built)) {
        open_.erase(seed);  // no valid case holds this pair
        continue;
      }
      cover(built);
      cases.push_back(built);
    }
    return cases;
  }

 private:
  static std::size_t index(int axis) { return static_cast<std::size_t>(axis); }
  int size(int axis) const { return static_cast<int>(axes_[index(axis)].values.size()); }

  // Pairs still open that value `value` of `axis` would close in `built`.
  int gain(const Case& built, int axis, int value) const {
    int pairs = 0;
    for (int other = 0; other < static_cast<int>(built.size()); ++other) {
      if (other != axis && built[index(other)] >= 0) {
        pairs += static_cast<int>(open_.count(make_pair_of(axis, value, other, built[index(other)])));
      }
    }
    return pairs;
  }

  // Chooses the remaining axes in random order, each value by gain. False if the rule leaves an axis without one.
  bool fill(Case& built) {
    std::vector<int> order;
    for (int axis = 0; axis < static_cast<int>(built.size()); ++axis) {
      if (built[index(axis)] < 0) order.push_back(axis);
    }
    std::shuffle(order.begin(), order.end(), random_);
    for (const int axis : order) {
      int best = -1;
      int best_gain = -1;
      const int start = static_cast<int>(random_() % static_cast<unsigned>(size(axis)));
      for (int step = 0; step < size(axis); ++step) {
        const int value = (start + step) % size(axis);
        built[index(axis)] = value;
        const int pairs = gain(built, axis, value);
        if (pairs > best_gain && allowed_(built)) {
          best = value;
          best_gain = pairs;
        }
      }
      if (best < 0) return false;
      built[index(axis)] = best;
    }
    return true;
  }

  void cover(const Case& built) {
    const int count = static_cast<int>(built.size());
    for (int a = 0; a < count; ++a) {
      for (int b = a + 1; b < count; ++b) open_.erase(make_pair_of(a, built[index(a)], b, built[index(b)]));
    }
  }

  const std::vector<Axis>& axes_;
  const CaseRule& allowed_;
  std::mt19937_64 random_;
  std::set<Pair> open_;
};

}  // namespace

std::string chosen(const std::vector<Axis>& axes, const Case& built, std::string_view name) {
  for (std::size_t axis = 0; axis < axes.size(); ++axis) {
    if (axes[axis].name != name) continue;
    return built[axis] < 0 ? "" : axes[axis].values[static_cast<std::size_t>(built[axis])];
  }
  throw std::logic_error(std::string(name));
}

std::vector<Case> pairwise_cases(const std::vector<Axis>& axes, const CaseRule& allowed, std::uint64_t seed) {
  return Builder(axes, allowed, seed).run();
}

std::vector<Case> every_value(const std::vector<Case>& cases) {
  std::set<std::pair<std::size_t, int>> open;  // (axis, value)
  for (const Case& built : cases) {
    for (std::size_t axis = 0; axis < built.size(); ++axis) open.emplace(axis, built[axis]);
  }
  const auto gain = [&](const Case& built) {
    std::size_t values = 0;
    for (std::size_t axis = 0; axis < built.size(); ++axis) values += open.count({axis, built[axis]});
    return values;
  };
  std::vector<Case> few;
  while (!open.empty()) {
    const auto best =
        std::max_element(cases.begin(), cases.end(), [&](const Case& a, const Case& b) { return gain(a) < gain(b); });
    few.push_back(*best);
    for (std::size_t axis = 0; axis < best->size(); ++axis) open.erase({axis, (*best)[axis]});
  }
  return few;
}

}  // namespace gdnjit::tests

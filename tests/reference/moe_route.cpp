#include "tests/reference/moe_route.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace gdnjit::reference {
namespace {

using moe::GroupScore;
using moe::RouteProblem;
using moe::Scoring;

constexpr double kLargest = std::numeric_limits<float>::max();
constexpr double kRounding = 2.5e-7;  // two roundings of fp32, relative
constexpr double kFunction = 4e-6;    // of exponentials and sigmoids in fp32, relative

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

double made_finite(double x) { return std::isnan(x) ? -kLargest : std::clamp(x, -kLargest, kLargest); }

double sigmoid(double z) { return 1 / (1 + std::exp(-z)); }

std::vector<double> softmax(const std::vector<double>& z) {
  const double largest = *std::max_element(z.begin(), z.end());
  std::vector<double> p;
  for (const double x : z) p.push_back(std::exp(x - largest));
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= sum;
  return p;
}

bool sums_scores(const RouteProblem& problem) {
  return problem.groups_kept < problem.groups && problem.group_score == GroupScore::top2_sum;
}

// The numbers 0 .. count - 1, those with the largest values first, among equals the lower.
std::vector<std::int64_t> by_value(const std::vector<double>& values) {
  std::vector<std::int64_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int64_t left, std::int64_t right) { return values[at(left)] > values[at(right)]; });
  return order;
}

std::vector<double> group_worths(const RouteProblem& problem, const std::vector<double>& choice) {
  const int size = problem.experts / problem.groups;
  std::vector<double> worths;
  for (int group = 0; group < problem.groups; ++group) {
    std::vector<double> own(choice.begin() + group * size, choice.begin() + (group + 1) * size);
    std::sort(own.begin(), own.end(), std::greater<>());
    worths.push_back(sums_scores(problem) ? own[0] + own[1] : own[0]);
  }
  return worths;
}

// The experts of the kept groups by choice, the k best of them.
std::vector<std::int64_t> best_of(const RouteProblem& problem, const RouteScores& scores,
                                  const std::vector<bool>& kept) {
  const int size = problem.experts / problem.groups;
  std::vector<std::int64_t> ids = by_value(scores.choice);
  std::erase_if(ids, [&](std::int64_t id) { return !kept[at(id / size)]; });
  ids.resize(static_cast<std::size_t>(problem.top_k));
  return ids;
}

std::vector<bool> kept_groups(const RouteProblem& problem, const std::vector<double>& worths) {
  const std::vector<std::int64_t> order = by_value(worths);
  std::vector<bool> kept(worths.size());
  for (int i = 0; i < problem.groups_kept; ++i) kept[at(order[at(i)])] = true;
  return kept;
}

bool slots_agree(const RouteScores& scores, std::span<const std::int64_t> expected, std::span<const std::int64_t> ids) {
  for (std::size_t slot = 0; slot < ids.size(); ++slot) {
    if (ids[slot] == expected[slot]) continue;
    const double slack = scores.slack[at(ids[slot])] + scores.slack[at(expected[slot])];
    if (slack == 0 || std::fabs(scores.choice[at(ids[slot])] - scores.choice[at(expected[slot])]) > slack) return false;
  }
  return true;
}

// Of experts with equal inputs in one group the lower comes first.
bool equals_in_order(const RouteProblem& problem, const RouteInputs& inputs, std::span<const std::int64_t> ids) {
  const int size = problem.experts / problem.groups;
  const auto equal = [&](std::int64_t left, std::int64_t right) {
    const auto same = [&](std::span<const double> values) {
      return values.empty() || values[at(left)] == values[at(right)];
    };
    return same(inputs.logits) && same(inputs.router_bias) && same(inputs.selection_bias);
  };
  for (std::size_t slot = 0; slot < ids.size(); ++slot) {
    for (std::int64_t lower = ids[slot] / size * size; lower < ids[slot]; ++lower) {
      const auto earlier = ids.begin() + static_cast<std::ptrdiff_t>(slot);
      if (equal(lower, ids[slot]) && std::find(ids.begin(), earlier, lower) == earlier) return false;
    }
  }
  return true;
}

}  // namespace

RouteScores route_scores(const RouteProblem& problem, const RouteInputs& inputs) {
  RouteScores scores;
  const double cap = problem.softcap;
  for (std::size_t e = 0; e < inputs.logits.size(); ++e) {
    double z = made_finite(inputs.logits[e]);
    double slack = 0;
    if (cap > 0) z = cap * std::tanh(z / cap), slack += kFunction * cap;
    if (problem.router_bias) {
      slack += kRounding * (std::fabs(z) + std::fabs(inputs.router_bias[e]));
      z = made_finite(z + inputs.router_bias[e]);
    }
    scores.z.push_back(z);
    scores.slack.push_back(slack);
  }
  scores.score = scores.z;
  if (problem.scoring == Scoring::softmax) scores.score = softmax(scores.z);
  if (problem.scoring == Scoring::sigmoid)
    std::transform(scores.z.begin(), scores.z.end(), scores.score.begin(), sigmoid);
  const bool by_logits = !problem.selection_bias && (problem.scoring == Scoring::topk_softmax || !sums_scores(problem));
  scores.choice = by_logits ? scores.z : scores.score;
  for (std::size_t e = 0; e < scores.choice.size(); ++e) {
    double& slack = scores.slack[e];
    if (!by_logits && problem.scoring != Scoring::topk_softmax) slack = (slack + kFunction) * scores.score[e];
    if (problem.selection_bias) {
      slack += kRounding * (std::fabs(scores.choice[e]) + std::fabs(inputs.selection_bias[e]));
      scores.choice[e] += inputs.selection_bias[e];
    }
    scores.choice[e] = made_finite(scores.choice[e]);
  }
  return scores;
}

std::vector<std::int64_t> route_ids(const RouteProblem& problem, const RouteScores& scores) {
  return best_of(problem, scores, kept_groups(problem, group_worths(problem, scores.choice)));
}

std::vector<double> route_weights(const RouteProblem& problem, const RouteScores& scores,
                                  std::span<const std::int64_t> ids) {
  std::vector<double> weights;
  for (const std::int64_t id : ids) weights.push_back(scores.score[at(id)]);
  if (problem.scoring == Scoring::topk_softmax) weights = softmax(weights);
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0) + 1e-20;
  for (double& weight : weights) weight *= problem.scaling / (problem.renormalize ? sum : 1);
  return weights;
}

bool routes_agree(const RouteProblem& problem, const RouteInputs& inputs, const RouteScores& scores,
                  std::span<const std::int64_t> ids) {
  std::vector<std::int64_t> sorted(ids.begin(), ids.end());
  std::sort(sorted.begin(), sorted.end());
  const bool distinct = std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end();
  if (!distinct || sorted.front() < 0 || sorted.back() >= problem.experts) return false;
  if (!equals_in_order(problem, inputs, ids)) return false;
  const std::vector<double> worths = group_worths(problem, scores.choice);
  const std::vector<bool> kept = kept_groups(problem, worths);
  if (slots_agree(scores, best_of(problem, scores, kept), ids)) return true;
  // Any group in for one that is worth as much to within what rounding can do.
  const double slack = 4 * *std::max_element(scores.slack.begin(), scores.slack.end());
  for (std::size_t in = 0; in < kept.size(); ++in) {
    for (std::size_t out = 0; out < kept.size(); ++out) {
      if (slack == 0 || kept[in] || !kept[out] || std::fabs(worths[in] - worths[out]) > slack) continue;
      std::vector<bool> other = kept;
      other[in] = true, other[out] = false;
      if (slots_agree(scores, best_of(problem, scores, other), ids)) return true;
    }
  }
  return false;
}

}  // namespace gdnjit::reference

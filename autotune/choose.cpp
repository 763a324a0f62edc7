#include "autotune/choose.h"

#include <algorithm>
#include <vector>

#include "runtime/support/check.h"

namespace gdnjit::autotune {
namespace {

constexpr double kTieRatio = 0.02;

// The value below which `fraction` of the sorted samples lie, interpolated.
double quantile(const std::vector<double>& sorted, double fraction) {
  const double position = fraction * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (position - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

bool tied(const Contender& fastest, const Contender& other) {
  const double band = std::max(fastest.spread_us + other.spread_us, kTieRatio * fastest.time_us);
  return other.time_us <= fastest.time_us + band;
}

}  // namespace

std::optional<Choice> choose(std::span<const Contender> contenders, double margin) {
  const Contender* fastest = nullptr;
  const Contender* standard = nullptr;
  std::size_t right = 0;
  for (const Contender& contender : contenders) {
    if (!contender.right) continue;
    ++right;
    if (fastest == nullptr || contender.time_us < fastest->time_us) fastest = &contender;
    if (contender.is_default) standard = &contender;
  }
  if (fastest == nullptr) return std::nullopt;

  std::vector<std::size_t> equals;
  for (std::size_t i = 0; i < contenders.size(); ++i) {
    if (contenders[i].right && tied(*fastest, contenders[i])) equals.push_back(i);
  }
  // A default inside the band is as good as the fastest: it stays.
  const bool default_ties = standard != nullptr && tied(*fastest, *standard);
  const auto beats_default = [&](std::size_t i) {
    return standard == nullptr || (!default_ties && standard->time_us > contenders[i].time_us * (1 + margin));
  };
  const auto winner = std::find_if(equals.begin(), equals.end(), beats_default);

  if (winner == equals.end()) {
    const auto place = static_cast<std::size_t>(standard - contenders.data());
    if (right == 1) return Choice{place, "the default is the only candidate that is right"};
    if (default_ties && equals.size() > 1) return Choice{place, fmt::format("default: tie of {}", equals.size())};
    return Choice{place, fmt::format("default: nothing beats it by {:.3g} %", 100 * margin)};
  }
  std::string reason = standard == nullptr ? fmt::format("fastest of {}; the default is not right", right)
                                           : fmt::format("beats the default by {:.0f} %",
                                                         100 * (standard->time_us / contenders[*winner].time_us - 1));
  if (equals.size() > 1) reason += fmt::format("; tie of {}: fixed order", equals.size());
  return Choice{*winner, std::move(reason)};
}

Summary summarize(std::span<const double> samples) {
  if (samples.empty()) return {};
  std::vector<double> sorted(samples.begin(), samples.end());
  std::sort(sorted.begin(), sorted.end());
  return {.median = quantile(sorted, 0.5), .spread = (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / 2};
}

}  // namespace gdnjit::autotune

// Which candidate wins. Times of one run differ by noise, so the fastest number alone decides nothing:
//
//   tie band   candidates whose median is within max(sum of both spreads, 2 %) of the fastest are equal
//   order      among equals the first in the search space's fixed order wins, so that two tunings agree
//   default    stays if it is in the band, or unless the winner beats it by the margin
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>

namespace gdnjit::autotune {

struct Contender {
  double time_us = 0;
  double spread_us = 0;
  bool right = true;  // passed its check and was timed
  bool is_default = false;
};

struct Choice {
  std::size_t winner = 0;
  std::string reason;  // "beats the default by 12 %; tie of 3, fixed order"
};

// `contenders` in the fixed order. Empty if none is right.
std::optional<Choice> choose(std::span<const Contender> contenders, double margin);

// Median, and half the distance between the quartiles. Both 0 for no samples.
struct Summary {
  double median = 0;
  double spread = 0;
};
Summary summarize(std::span<const double> samples);

}  // namespace gdnjit::autotune

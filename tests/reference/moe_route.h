// moe.route in double precision, as gdnjit/moe_route.h defines it, and a judge of ids that another arithmetic chose.
#pragma once

#include <gdnjit/moe_route.h>

#include <cstdint>
#include <span>
#include <vector>

namespace gdnjit::reference {

// One token. Biases that the problem does not have are empty.
struct RouteInputs {
  std::span<const double> logits, router_bias, selection_bias;
};

struct RouteScores {
  std::vector<double> z;       // capped and biased logits
  std::vector<double> score;   // s
  std::vector<double> choice;  // what experts are chosen by: s + bias, or z, whose order is that of s
  std::vector<double> slack;   // what fp32 may put a choice off by; 0 where a kernel can be exact
};

RouteScores route_scores(const moe::RouteProblem& problem, const RouteInputs& inputs);

// The experts of the slots.
std::vector<std::int64_t> route_ids(const moe::RouteProblem& problem, const RouteScores& scores);

// The weights of given experts in the slots.
std::vector<double> route_weights(const moe::RouteProblem& problem, const RouteScores& scores,
                                  std::span<const std::int64_t> ids);

// Whether `ids` are the token's experts: as route_ids() has them, but that experts and groups whose choices are within
// their slack of each other may have changed places. Experts with equal inputs keep to their order all the same.
bool routes_agree(const moe::RouteProblem& problem, const RouteInputs& inputs, const RouteScores& scores,
                  std::span<const std::int64_t> ids);

}  // namespace gdnjit::reference

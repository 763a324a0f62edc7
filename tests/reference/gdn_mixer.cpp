#include "tests/reference/gdn_mixer.h"

#include <cmath>

namespace gdnjit::reference {
namespace {

using gdn::GatedNorm;
using gdn::StepProblem;

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

std::int64_t conv_channels(const StepProblem& problem) {
  return 2LL * problem.heads_k * problem.head_dim_k + std::int64_t{problem.heads_v} * problem.head_dim_v;
}

double& conv_input(const StepProblem& problem, LayerInputs& inputs, std::int64_t token, std::int64_t channel) {
  const std::int64_t keys = std::int64_t{problem.heads_k} * problem.head_dim_k;
  const std::int64_t values = std::int64_t{problem.heads_v} * problem.head_dim_v;
  if (channel < keys) return inputs.q[static_cast<std::size_t>(token * keys + channel)];
  if (channel < 2 * keys) return inputs.k[static_cast<std::size_t>(token * keys + channel - keys)];
  return inputs.v[static_cast<std::size_t>(token * values + channel - 2 * keys)];
}

std::vector<double> conv_window(std::span<const double> state, std::span<const std::int64_t> parents,
                                std::span<const double> sequence_inputs, std::int64_t token) {
  // From the token back to the first, then into the state, whose newest input is its last.
  std::vector<double> window(state.size() + 1);
  auto past = static_cast<std::int64_t>(state.size());
  for (std::size_t j = window.size(); j-- > 0;) {
    if (token >= 0) {
      window[j] = sequence_inputs[static_cast<std::size_t>(token)];
      token = parents[static_cast<std::size_t>(token)];
    } else {
      window[j] = state[static_cast<std::size_t>(--past)];
    }
  }
  return window;
}

double convolved(std::span<const double> weight, double bias, std::span<const double> window) {
  double sum = bias;
  for (std::size_t j = 0; j < weight.size(); ++j) sum += weight[j] * window[j];
  return sum * sigmoid(sum);
}

std::vector<double> gated_norm(const StepProblem& problem, const MixerInputs& inputs, std::int64_t token, int head_v,
                               std::span<const double> o) {
  double squares = 0;
  for (const double x : o) squares += x * x;
  const double factor = 1 / std::sqrt(squares / static_cast<double>(o.size()) + problem.gated_norm_eps);
  const std::int64_t first = (token * problem.heads_v + head_v) * problem.head_dim_v;
  std::vector<double> result;
  for (std::size_t value = 0; value < o.size(); ++value) {
    const double z = inputs.z[static_cast<std::size_t>(first) + value];
    const double gate = problem.gated_norm == GatedNorm::silu ? z * sigmoid(z) : sigmoid(z);
    result.push_back(inputs.norm_weight[value] * (o[value] * factor) * gate);
  }
  return result;
}

}  // namespace gdnjit::reference

#include "tests/reference/moe_experts.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <span>

#include "tests/reference/moe_quantize.h"
#include "tests/reference/numeric.h"

namespace gdnjit::reference {

using moe::Activation;
using moe::ExpertsProblem;
using moe::GateOrder;
using moe::ProductShape;

namespace {

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

// Pairs by expert, so that a row of weights is decoded once.
std::map<int, std::vector<std::size_t>> pairs_by_expert(const std::vector<int>& experts) {
  std::map<int, std::vector<std::size_t>> pairs;
  for (std::size_t pair = 0; pair < experts.size(); ++pair) {
    if (experts[pair] >= 0) pairs[experts[pair]].push_back(pair);
  }
  return pairs;
}

double dot(const std::vector<double>& row, const double* inputs) {
  double sum = 0;
  for (std::size_t k = 0; k < row.size(); ++k) sum += row[k] * inputs[k];
  return sum;
}

// What a product takes of its inputs, rows of `stride` numbers of which row i has width(i).
template <typename Width>
std::vector<double> taken(const ExpertsProblem& problem, std::vector<double> inputs, std::size_t stride, Width width) {
  if (problem.activations == moe::ActivationFormat::io) return inputs;
  for (std::size_t i = 0; i < inputs.size() / stride; ++i) {
    quantize_row(std::span(inputs).subspan(i * stride, width(i)));
  }
  return inputs;
}

// The row of w1 that holds gate (0) or up (1) of output i.
std::int64_t matrix_row(const ExpertsProblem& problem, std::int64_t outputs, std::int64_t i, int which) {
  if (!moe::is_gated(problem.activation)) return i;
  if (problem.gate_order == GateOrder::interleaved) return 2 * i + which;
  const bool first = (problem.gate_order == GateOrder::gate_up) == (which == 0);
  return first ? i : outputs + i;
}

}  // namespace

double activation(const ExpertsProblem& problem, double gate, double up) {
  switch (problem.activation) {
    case Activation::silu: return gate * sigmoid(gate) * up;
    case Activation::gelu: return 0.5 * gate * (1.0 + std::erf(gate * std::sqrt(0.5))) * up;
    case Activation::gelu_tanh:
      return 0.5 * gate * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (gate + 0.044715 * gate * gate * gate))) * up;
    case Activation::swiglu_oai: {
      const double limit = problem.swiglu_limit, alpha = problem.swiglu_alpha;
      const double g = std::min(gate, limit), u = std::clamp(up, -limit, limit);
      return (u + 1.0) * g * sigmoid(alpha * g);
    }
    case Activation::relu2: return std::pow(std::max(up, 0.0), 2);
  }
  return 0;
}

std::vector<int> experts_of_pairs(const ExpertsProblem& problem, const HostTensor& ids, const HostTensor* map) {
  const int slots = moe::slots_of(problem);
  const std::int64_t M = ids.spec.shape[0];
  std::vector<int> experts;
  for (std::int64_t m = 0; m < M; ++m) {
    for (int s = 0; s < slots; ++s) {
      if (s == problem.top_k) {
        experts.push_back(problem.experts);
        continue;
      }
      auto id = static_cast<std::int64_t>(load_element(ids.spec.dtype, ids.bytes.data(), m * problem.top_k + s));
      if (map != nullptr) {
        const bool inside = id >= 0 && id < map->spec.shape[0];
        id = inside ? static_cast<std::int64_t>(load_element(DType::i32, map->bytes.data(), id)) : -1;
      }
      experts.push_back(id >= 0 && id < problem.experts ? static_cast<int>(id) : -1);
    }
  }
  return experts;
}

std::vector<double> expert_up(const ExpertsProblem& problem, const std::vector<double>& given,
                              const std::vector<int>& experts, const std::vector<HostTensor>& tensors) {
  const auto slots = static_cast<std::size_t>(moe::slots_of(problem));
  const auto D = static_cast<std::size_t>(problem.hidden_size),
             h_row = static_cast<std::size_t>(moe::h_row_of(problem));
  const std::vector<double> x = taken(problem, given, D, [&](std::size_t) { return D; });
  std::vector<double> h(experts.size() * h_row, std::numeric_limits<double>::quiet_NaN());
  std::vector<double> row(D);
  for (const auto& [expert, pairs] : pairs_by_expert(experts)) {
    const bool shared = expert == problem.experts;
    const ProductShape shape = moe::up_shape(problem, shared);
    const StoredWeights weights = find_weights(tensors, shape.name);
    const std::int64_t outputs = shared ? problem.shared_size : problem.intermediate_size;
    const std::int64_t own = shared ? 0 : expert;
    for (std::int64_t i = 0; i < outputs; ++i) {
      std::vector<double> numbers[2];
      for (int which = 0; which < (moe::is_gated(problem.activation) ? 2 : 1); ++which) {
        const std::int64_t n = matrix_row(problem, outputs, i, which);
        decode_row(problem, shape, weights, own, n, row);
        const double bias = bias_of(weights, shape, own, n);
        for (const std::size_t pair : pairs) numbers[which].push_back(dot(row, &x[pair / slots * D]) + bias);
      }
      const std::vector<double>& up = numbers[1].empty() ? numbers[0] : numbers[1];
      for (std::size_t p = 0; p < pairs.size(); ++p) {
        h[pairs[p] * h_row + static_cast<std::size_t>(i)] = activation(problem, numbers[0][p], up[p]);
      }
    }
  }
  return h;
}

std::vector<double> shared_weights(const ExpertsProblem& problem, const std::vector<double>& x,
                                   const std::vector<double>& gate) {
  const auto D = static_cast<std::size_t>(problem.hidden_size);
  std::vector<double> weights;
  for (std::size_t m = 0; m < x.size() / D; ++m) weights.push_back(sigmoid(dot(gate, &x[m * D])));
  return weights;
}

std::vector<double> expert_down(const ExpertsProblem& problem, const std::vector<double>& given,
                                const std::vector<double>& weights, const std::vector<int>& experts,
                                const std::vector<HostTensor>& tensors) {
  const auto slots = static_cast<std::size_t>(moe::slots_of(problem));
  const auto D = static_cast<std::size_t>(problem.hidden_size),
             h_row = static_cast<std::size_t>(moe::h_row_of(problem));
  const std::vector<double> h = taken(problem, given, h_row, [&](std::size_t pair) {
    const int width = experts[pair] == problem.experts ? problem.shared_size : problem.intermediate_size;
    return static_cast<std::size_t>(experts[pair] < 0 ? 0 : width);
  });
  std::vector<double> y(experts.size() / slots * D, 0.0);
  for (const auto& [expert, pairs] : pairs_by_expert(experts)) {
    const bool shared = expert == problem.experts;
    const ProductShape shape = moe::down_shape(problem, shared);
    const StoredWeights stored = find_weights(tensors, shape.name);
    const std::int64_t own = shared ? 0 : expert;
    std::vector<double> row(static_cast<std::size_t>(shape.columns));
    for (std::size_t n = 0; n < D; ++n) {
      decode_row(problem, shape, stored, own, static_cast<std::int64_t>(n), row);
      const double bias = bias_of(stored, shape, own, static_cast<std::int64_t>(n));
      for (const std::size_t pair : pairs)
        y[pair / slots * D + n] += weights[pair] * (dot(row, &h[pair * h_row]) + bias);
    }
  }
  return y;
}

}  // namespace gdnjit::reference

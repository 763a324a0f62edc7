#include "tests/reference/gdn_layer.h"

#include <algorithm>
#include <cmath>

#include "runtime/support/check.h"

namespace gdnjit::reference {
namespace {

using gdn::Beta;
using gdn::Gate;
using gdn::HeadMap;
using gdn::Norm;
using gdn::PadSentinel;
using gdn::StateLayout;
using gdn::StepProblem;

double softplus(double x) { return x <= 20 ? std::log1p(std::exp(x)) : x; }
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// The vector of `width` numbers at row `row` of a matrix.
std::span<const double> row_of(const std::vector<double>& matrix, std::int64_t row, std::int64_t width) {
  return {matrix.data() + row * width, static_cast<std::size_t>(width)};
}

int key_head(const StepProblem& layer, int head_v) {
  if (layer.head_map == HeadMap::modulo) return head_v % layer.heads_k;
  return head_v / (layer.heads_v / layer.heads_k);
}

}  // namespace

template <typename Visit>
void HeadState::for_each(StateLayout layout, Visit visit) const {
  const auto keys = static_cast<std::size_t>(keys_);
  const auto values = static_cast<std::size_t>(values_);
  for (std::size_t key = 0; key < keys; ++key) {
    for (std::size_t value = 0; value < values; ++value) {
      visit(key * values + value, layout == StateLayout::kv ? key * values + value : value * keys + key);
    }
  }
}

HeadState::HeadState(const StepProblem& layer)
    : keys_(layer.head_dim_k),
      values_(layer.head_dim_v),
      numbers_(static_cast<std::size_t>(keys_) * static_cast<std::size_t>(values_)) {}

HeadState::HeadState(const StepProblem& layer, const double* stored) : HeadState(layer) {
  for_each(layer.state_layout, [&](std::size_t here, std::size_t there) { numbers_[here] = stored[there]; });
}

void HeadState::store(const StepProblem& layer, double* stored) const {
  for_each(layer.state_layout, [&](std::size_t here, std::size_t there) { stored[there] = numbers_[here]; });
}

std::vector<double> HeadState::transposed_times(std::span<const double> x) {
  std::vector<double> product(static_cast<std::size_t>(values_), 0.0);
  for (int key = 0; key < keys_; ++key) {
    const double factor = x[static_cast<std::size_t>(key)];
    const std::span<const double> row = (*this)[key];
    for (std::size_t value = 0; value < row.size(); ++value) product[value] += row[value] * factor;
  }
  return product;
}

std::vector<double> HeadState::column_lengths() const {
  std::vector<double> lengths(static_cast<std::size_t>(values_), 0.0);
  for (std::size_t i = 0; i < numbers_.size(); ++i) lengths[i % lengths.size()] += numbers_[i] * numbers_[i];
  for (double& length : lengths) length = std::sqrt(length);
  return lengths;
}

bool is_sentinel(const StepProblem& layer, std::int64_t slot) {
  return layer.pad_sentinel == PadSentinel::zero ? slot <= 0 : slot < 0;
}

double scale_of(const StepProblem& layer) {
  return layer.scale == 0 ? 1 / std::sqrt(static_cast<double>(layer.head_dim_k)) : layer.scale;
}

std::vector<double> normalized(std::span<const double> x, Norm norm, double eps) {
  double sum = 0;
  for (double element : x) sum += element * element;
  const double length = std::sqrt(sum);

  double factor = 1;
  switch (norm) {
    case Norm::none: break;
    case Norm::sumsq_eps: factor = 1 / std::sqrt(sum + eps); break;
    case Norm::max_eps: factor = 1 / std::max(length, eps); break;
    case Norm::add_eps: factor = 1 / (length + eps); break;
  }
  std::vector<double> result(x.begin(), x.end());
  for (double& element : result) element *= factor;
  return result;
}

std::vector<double> decay(const StepProblem& layer, const LayerInputs& inputs, std::int64_t token, int head_v) {
  const bool per_channel = gdn::gate_is_per_channel(layer.gate);
  const std::int64_t width = per_channel ? layer.head_dim_k : 1;
  std::vector<double> alpha(static_cast<std::size_t>(layer.head_dim_k), 1.0);
  if (layer.gate == Gate::none) return alpha;

  for (std::int64_t key = 0; key < layer.head_dim_k; ++key) {
    const std::int64_t channel = per_channel ? key : 0;
    const double a = inputs.a[static_cast<std::size_t>((token * layer.heads_v + head_v) * width + channel)];
    double A = 0;
    double x = 0;
    if (gdn::gate_has_parameters(layer.gate)) {
      A = std::exp(inputs.a_log[static_cast<std::size_t>(head_v)]);
      x = a + inputs.dt_bias[static_cast<std::size_t>(head_v * width + channel)];
    }
    double& result = alpha[static_cast<std::size_t>(key)];
    switch (layer.gate) {
      case Gate::none: break;
      case Gate::log:
      case Gate::channel_log: result = std::exp(a); break;
      case Gate::alpha: result = a; break;
      case Gate::raw:
      case Gate::channel_raw: result = std::exp(-A * softplus(x)); break;
      case Gate::channel_sigmoid: result = std::exp(layer.gate_lower_bound * sigmoid(A * x)); break;
    }
  }
  return alpha;
}

std::vector<double> normalized_key(const StepProblem& layer, const LayerInputs& inputs, std::int64_t token,
                                   int head_v) {
  const std::int64_t row = token * layer.heads_k + key_head(layer, head_v);
  return normalized(row_of(inputs.k, row, layer.head_dim_k), layer.norm, layer.norm_eps);
}

std::vector<double> normalized_query(const StepProblem& layer, const LayerInputs& inputs, std::int64_t token,
                                     int head_v) {
  const std::int64_t row = token * layer.heads_k + key_head(layer, head_v);
  return normalized(row_of(inputs.q, row, layer.head_dim_k), layer.norm, layer.norm_eps);
}

double write_strength(const StepProblem& layer, const LayerInputs& inputs, std::int64_t token, int head_v) {
  if (layer.beta == Beta::none) return 1;
  const double b = inputs.b[static_cast<std::size_t>(token * layer.heads_v + head_v)];
  switch (layer.beta) {
    case Beta::given: return b;
    case Beta::sigmoid: return sigmoid(b);
    case Beta::two_sigmoid: return 2 * sigmoid(b);
    case Beta::none: break;
  }
  GDNJIT_CHECK(false, "unknown beta {}", static_cast<int>(layer.beta));
}

// One token of one value head: S becomes the next state, and o is returned.
std::vector<double> advance(const StepProblem& layer, const LayerInputs& inputs, std::int64_t token, int head_v,
                            HeadState& S) {
  const std::int64_t row_v = token * layer.heads_v + head_v;
  const std::vector<double> kn = normalized_key(layer, inputs, token, head_v);
  const std::span<const double> v = row_of(inputs.v, row_v, layer.head_dim_v);
  const std::vector<double> alpha = decay(layer, inputs, token, head_v);
  const double beta = write_strength(layer, inputs, token, head_v);

  // S = exp(g) S
  for (int key = 0; key < layer.head_dim_k; ++key) {
    for (double& s : S[key]) s *= alpha[static_cast<std::size_t>(key)];
  }
  // d = beta (v - S^T kn)
  std::vector<double> d = S.transposed_times(kn);
  for (std::size_t value = 0; value < d.size(); ++value) d[value] = beta * (v[value] - d[value]);
  // S = S + kn d^T
  for (int key = 0; key < layer.head_dim_k; ++key) {
    const std::span<double> row = S[key];
    for (std::size_t value = 0; value < d.size(); ++value) row[value] += kn[static_cast<std::size_t>(key)] * d[value];
  }
  // o = S^T qs
  if (!layer.write_output) return {};
  std::vector<double> qs = normalized_query(layer, inputs, token, head_v);
  for (double& x : qs) x *= scale_of(layer);
  return S.transposed_times(qs);
}

}  // namespace gdnjit::reference

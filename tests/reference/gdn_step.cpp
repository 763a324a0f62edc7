#include "tests/reference/gdn_step.h"

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
using gdn::StateStore;
using gdn::StepProblem;

double softplus(double x) { return x <= 20 ? std::log1p(std::exp(x)) : x; }
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// The vector of `width` numbers at row `row` of a matrix.
std::span<const double> row_of(const std::vector<double>& matrix, std::int64_t row, std::int64_t width) {
  return {matrix.data() + row * width, static_cast<std::size_t>(width)};
}

int key_head(const StepProblem& problem, int head_v) {
  if (problem.head_map == HeadMap::modulo) return head_v % problem.heads_k;
  return head_v / (problem.heads_v / problem.heads_k);
}

// One head's state, S[key][value], copied from and to the problem's layout.
class HeadState {
 public:
  HeadState(const StepProblem& problem, const double* stored)
      : keys_(problem.head_dim_k), values_(problem.head_dim_v), numbers_(size()) {
    for_each(problem.state_layout, [&](std::size_t here, std::size_t there) { numbers_[here] = stored[there]; });
  }

  void store(const StepProblem& problem, double* stored) const {
    for_each(problem.state_layout, [&](std::size_t here, std::size_t there) { stored[there] = numbers_[here]; });
  }

  std::size_t size() const { return static_cast<std::size_t>(keys_) * static_cast<std::size_t>(values_); }
  std::span<double> operator[](int key) {
    return {numbers_.data() + std::int64_t{key} * values_, static_cast<std::size_t>(values_)};
  }

  // S^T x
  std::vector<double> transposed_times(std::span<const double> x) {
    std::vector<double> product(static_cast<std::size_t>(values_), 0.0);
    for (int key = 0; key < keys_; ++key) {
      const double factor = x[static_cast<std::size_t>(key)];
      const std::span<const double> row = (*this)[key];
      for (std::size_t value = 0; value < row.size(); ++value) product[value] += row[value] * factor;
    }
    return product;
  }

 private:
  template <typename Visit>
  void for_each(StateLayout layout, Visit visit) const {
    const auto keys = static_cast<std::size_t>(keys_);
    const auto values = static_cast<std::size_t>(values_);
    for (std::size_t key = 0; key < keys; ++key) {
      for (std::size_t value = 0; value < values; ++value) {
        visit(key * values + value, layout == StateLayout::kv ? key * values + value : value * keys + key);
      }
    }
  }

  int keys_;
  int values_;
  std::vector<double> numbers_;
};

// One token of one value head: S becomes the next state, and o is returned.
std::vector<double> advance(const StepProblem& problem, const StepInputs& inputs, std::int64_t token, int head_v,
                            HeadState& S) {
  const std::int64_t row_k = token * problem.heads_k + key_head(problem, head_v);
  const std::int64_t row_v = token * problem.heads_v + head_v;
  const double eps = problem.norm_eps;
  std::vector<double> qs = normalized(row_of(inputs.q, row_k, problem.head_dim_k), problem.norm, eps);
  for (double& x : qs) x *= scale_of(problem);
  const std::vector<double> kn = normalized(row_of(inputs.k, row_k, problem.head_dim_k), problem.norm, eps);
  const std::span<const double> v = row_of(inputs.v, row_v, problem.head_dim_v);
  const std::vector<double> alpha = decay(problem, inputs, token, head_v);
  const double beta = write_strength(problem, inputs, token, head_v);

  // S = exp(g) S
  for (int key = 0; key < problem.head_dim_k; ++key) {
    for (double& s : S[key]) s *= alpha[static_cast<std::size_t>(key)];
  }
  // d = beta (v - S^T kn)
  std::vector<double> d = S.transposed_times(kn);
  for (std::size_t value = 0; value < d.size(); ++value) d[value] = beta * (v[value] - d[value]);
  // S = S + kn d^T
  for (int key = 0; key < problem.head_dim_k; ++key) {
    const std::span<double> row = S[key];
    for (std::size_t value = 0; value < d.size(); ++value) row[value] += kn[static_cast<std::size_t>(key)] * d[value];
  }
  // o = S^T qs
  return S.transposed_times(qs);
}

}  // namespace

bool is_padded(const StepProblem& problem, const StepInputs& inputs, std::int64_t sequence) {
  if (problem.state_store != StateStore::pool) return false;
  const auto sentinel = [&](std::int64_t slot) {
    return problem.pad_sentinel == PadSentinel::zero ? slot <= 0 : slot < 0;
  };
  const auto index = static_cast<std::size_t>(sequence);
  return sentinel(inputs.read_slot[index]) || sentinel(inputs.write_slot[index]);
}

double scale_of(const StepProblem& problem) {
  return problem.scale == 0 ? 1 / std::sqrt(static_cast<double>(problem.head_dim_k)) : problem.scale;
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

std::vector<double> decay(const StepProblem& problem, const StepInputs& inputs, std::int64_t token, int head_v) {
  const bool per_channel = gdn::gate_is_per_channel(problem.gate);
  const std::int64_t width = per_channel ? problem.head_dim_k : 1;
  std::vector<double> alpha(static_cast<std::size_t>(problem.head_dim_k), 1.0);
  if (problem.gate == Gate::none) return alpha;

  for (std::int64_t key = 0; key < problem.head_dim_k; ++key) {
    const std::int64_t channel = per_channel ? key : 0;
    const double a = inputs.a[static_cast<std::size_t>((token * problem.heads_v + head_v) * width + channel)];
    double A = 0;
    double x = 0;
    if (gdn::gate_has_parameters(problem.gate)) {
      A = std::exp(inputs.a_log[static_cast<std::size_t>(head_v)]);
      x = a + inputs.dt_bias[static_cast<std::size_t>(head_v * width + channel)];
    }
    double& result = alpha[static_cast<std::size_t>(key)];
    switch (problem.gate) {
      case Gate::none: break;
      case Gate::log:
      case Gate::channel_log: result = std::exp(a); break;
      case Gate::alpha: result = a; break;
      case Gate::raw:
      case Gate::channel_raw: result = std::exp(-A * softplus(x)); break;
      case Gate::channel_sigmoid: result = std::exp(problem.gate_lower_bound * sigmoid(A * x)); break;
    }
  }
  return alpha;
}

double write_strength(const StepProblem& problem, const StepInputs& inputs, std::int64_t token, int head_v) {
  if (problem.beta == Beta::none) return 1;
  const double b = inputs.b[static_cast<std::size_t>(token * problem.heads_v + head_v)];
  switch (problem.beta) {
    case Beta::given: return b;
    case Beta::sigmoid: return sigmoid(b);
    case Beta::two_sigmoid: return 2 * sigmoid(b);
    case Beta::none: break;
  }
  GDNJIT_CHECK(false, "unknown beta {}", static_cast<int>(problem.beta));
}

StepOutputs step(const StepProblem& problem, const StepInputs& inputs) {
  const std::int64_t B = problem.batch;
  const std::int64_t T = problem.tokens;
  const std::int64_t HV = problem.heads_v;
  const std::int64_t V = problem.head_dim_v;
  const std::int64_t head_size = std::int64_t{problem.head_dim_k} * V;
  const bool pooled = problem.state_store == StateStore::pool;

  StepOutputs outputs;
  outputs.o.assign(static_cast<std::size_t>(B * T * HV * V), 0.0);
  outputs.state.assign(static_cast<std::size_t>(B * HV * head_size), 0.0);
  for (std::int64_t sequence = 0; sequence < B; ++sequence) {
    const auto index = static_cast<std::size_t>(sequence);
    if (is_padded(problem, inputs, sequence)) {
      outputs.state_row.push_back(-1);
      continue;
    }
    const std::int64_t from = pooled ? inputs.read_slot[index] : sequence;
    outputs.state_row.push_back(pooled ? inputs.write_slot[index] : sequence);
    for (int head_v = 0; head_v < HV; ++head_v) {
      HeadState S(problem, inputs.state.data() + (from * HV + head_v) * head_size);
      for (std::int64_t t = 0; t < T; ++t) {
        const std::int64_t token = sequence * T + t;
        const std::vector<double> o = advance(problem, inputs, token, head_v, S);
        std::copy(o.begin(), o.end(), outputs.o.begin() + (token * HV + head_v) * V);
      }
      S.store(problem, outputs.state.data() + (sequence * HV + head_v) * head_size);
    }
  }
  return outputs;
}

}  // namespace gdnjit::reference

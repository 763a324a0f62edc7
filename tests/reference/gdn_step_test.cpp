#include "tests/reference/gdn_step.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/reference/numeric.h"

using namespace gdnjit;
using namespace gdnjit::gdn;
using namespace gdnjit::reference;

namespace {

std::vector<double> draw(std::uint64_t seed, std::string_view name, std::int64_t count) {
  Random random(seed, name);
  std::vector<double> numbers(static_cast<std::size_t>(count));
  for (double& number : numbers) number = random.normal();
  return numbers;
}

// A small problem with an odd head ratio and odd dimensions.
StepProblem small_problem() {
  StepProblem problem;
  problem.batch = 2;
  problem.heads_k = 2;
  problem.heads_v = 6;
  problem.head_dim_k = 5;
  problem.head_dim_v = 7;
  return problem;
}

StepInputs random_inputs(const StepProblem& p, std::uint64_t seed = 1) {
  const std::int64_t tokens = p.batch * p.tokens;
  const std::int64_t channels = gate_is_per_channel(p.gate) ? p.head_dim_k : 1;
  StepInputs inputs;
  inputs.q = draw(seed, "q", tokens * p.heads_k * p.head_dim_k);
  inputs.k = draw(seed, "k", tokens * p.heads_k * p.head_dim_k);
  inputs.v = draw(seed, "v", tokens * p.heads_v * p.head_dim_v);
  inputs.a = draw(seed, "a", tokens * p.heads_v * channels);
  inputs.b = draw(seed, "b", tokens * p.heads_v);
  inputs.a_log = draw(seed, "a_log", p.heads_v);
  inputs.dt_bias = draw(seed, "dt_bias", p.heads_v * channels);
  inputs.state = draw(seed, "state", p.batch * p.heads_v * p.head_dim_k * p.head_dim_v);
  return inputs;
}

double largest_difference(const std::vector<double>& left, const std::vector<double>& right) {
  REQUIRE(left.size() == right.size());
  double largest = 0;
  for (std::size_t i = 0; i < left.size(); ++i) largest = std::max(largest, std::fabs(left[i] - right[i]));
  return largest;
}

// The one-pass form of one head at one token, from the undecayed state S0[K][V]:
//   d = beta (v - (alpha S0)^T k),  o = (alpha S0)^T q + (q.k) d,  S = alpha S0 + k d^T
struct OnePass {
  std::vector<double> o, state;
};
OnePass one_pass(const StepProblem& p, const StepInputs& in, std::int64_t sequence, int hv) {
  const int K = p.head_dim_k, V = p.head_dim_v;
  const int h = p.head_map == HeadMap::modulo ? hv % p.heads_k : hv * p.heads_k / p.heads_v;
  const double* q0 = in.q.data() + (sequence * p.heads_k + h) * K;
  const double* k0 = in.k.data() + (sequence * p.heads_k + h) * K;
  const double* v = in.v.data() + (sequence * p.heads_v + hv) * V;
  const double* S0 = in.state.data() + (sequence * p.heads_v + hv) * K * V;
  const std::vector<double> q = normalized({q0, static_cast<std::size_t>(K)}, p.norm, p.norm_eps);
  const std::vector<double> k = normalized({k0, static_cast<std::size_t>(K)}, p.norm, p.norm_eps);
  const std::vector<double> alpha = decay(p, in, sequence, hv);
  const double beta = write_strength(p, in, sequence, hv);
  const double scale = scale_of(p);
  const double qk = std::inner_product(q.begin(), q.end(), k.begin(), 0.0);
  OnePass result{std::vector<double>(static_cast<std::size_t>(V)),
                 std::vector<double>(static_cast<std::size_t>(K * V))};
  for (int j = 0; j < V; ++j) {
    double predicted = 0, old_output = 0;
    for (int i = 0; i < K; ++i) {
      const auto at = static_cast<std::size_t>(i);
      predicted += alpha[at] * S0[i * V + j] * k[at];
      old_output += alpha[at] * S0[i * V + j] * q[at];
    }
    const double d = beta * (v[j] - predicted);
    result.o[static_cast<std::size_t>(j)] = scale * (old_output + qk * d);
    for (int i = 0; i < K; ++i) {
      const auto at = static_cast<std::size_t>(i);
      result.state[static_cast<std::size_t>(i * V + j)] = alpha[at] * S0[i * V + j] + k[at] * d;
    }
  }
  return result;
}

constexpr Gate kGates[] = {Gate::none,        Gate::log,         Gate::alpha,          Gate::raw,
                           Gate::channel_log, Gate::channel_raw, Gate::channel_sigmoid};

}  // namespace

TEST_CASE("one token from a zero state gives o = scale (q.k) beta v and S = beta k v^T") {
  StepProblem p = small_problem();
  p.norm = Norm::none;
  p.gate = Gate::none;
  p.beta = Beta::given;
  p.scale = 0.25F;
  p.state_layout = StateLayout::kv;
  StepInputs in = random_inputs(p);
  in.state.assign(in.state.size(), 0.0);
  const StepOutputs out = step(p, in);
  for (int b = 0; b < 2; ++b) {
    for (int hv = 0; hv < 6; ++hv) {
      const int row_k = b * 2 + hv / 3;  // three value heads share a key head
      const int row_v = b * 6 + hv;
      double qk = 0;
      for (int i = 0; i < 5; ++i) qk += in.q[row_k * 5 + i] * in.k[row_k * 5 + i];
      for (int j = 0; j < 7; ++j) {
        CHECK(out.o[row_v * 7 + j] == doctest::Approx(0.25 * qk * in.b[row_v] * in.v[row_v * 7 + j]).epsilon(1e-12));
        for (int i = 0; i < 5; ++i) {
          CHECK(out.state[(row_v * 5 + i) * 7 + j] ==
                doctest::Approx(in.b[row_v] * in.k[row_k * 5 + i] * in.v[row_v * 7 + j]).epsilon(1e-12));
        }
      }
    }
  }
}

TEST_CASE("beta 0 without decay leaves the state alone") {
  StepProblem p = small_problem();
  p.gate = Gate::none;
  p.beta = Beta::given;
  StepInputs in = random_inputs(p);
  in.b.assign(in.b.size(), 0.0);
  CHECK(step(p, in).state == in.state);
}

TEST_CASE("beta 1 with a unit key stores v under that key exactly") {
  StepProblem p = small_problem();
  p.norm = Norm::max_eps;
  p.beta = Beta::none;
  p.scale = 1;
  StepInputs in = random_inputs(p);
  in.q = in.k;  // so the output reads back what was just written
  const StepOutputs out = step(p, in);
  CHECK(largest_difference(out.o, in.v) < 1e-12);
}

TEST_CASE("the recurrence and the one-pass form agree to 1e-12 for every gate, norm, beta and head map") {
  for (Gate gate : kGates) {
    for (Norm norm : {Norm::none, Norm::sumsq_eps, Norm::max_eps, Norm::add_eps}) {
      for (Beta beta : {Beta::given, Beta::sigmoid, Beta::two_sigmoid, Beta::none}) {
        for (HeadMap map : {HeadMap::grouped, HeadMap::modulo}) {
          StepProblem p = small_problem();
          p.gate = gate;
          p.norm = norm;
          p.beta = beta;
          p.head_map = map;
          p.state_layout = StateLayout::kv;
          StepInputs in = random_inputs(p);
          const StepOutputs out = step(p, in);
          for (int b = 0; b < 2; ++b) {
            for (int hv = 0; hv < 6; ++hv) {
              const OnePass expected = one_pass(p, in, b, hv);
              const auto o = out.o.begin() + (b * 6 + hv) * 7;
              const auto s = out.state.begin() + (b * 6 + hv) * 35;
              REQUIRE(largest_difference({o, o + 7}, expected.o) < 1e-12);
              REQUIRE(largest_difference({s, s + 35}, expected.state) < 1e-12);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("the norms follow their formulas on long, tiny and zero vectors") {
  const std::vector<double> x{3, 4};
  CHECK(normalized(x, Norm::none, 0.5)[0] == 3);
  CHECK(normalized(x, Norm::sumsq_eps, 11)[0] == 3.0 / 6.0);
  CHECK(normalized(x, Norm::max_eps, 0.5)[1] == doctest::Approx(0.8));
  CHECK(normalized(x, Norm::max_eps, 10)[1] == doctest::Approx(0.4));
  CHECK(normalized(x, Norm::add_eps, 5)[1] == doctest::Approx(0.4));
  for (Norm norm : {Norm::none, Norm::sumsq_eps, Norm::max_eps, Norm::add_eps}) {
    CHECK(normalized(std::vector<double>{0, 0}, norm, 1e-6) == std::vector<double>{0, 0});
  }
}

TEST_CASE("the gates follow their formulas") {
  StepProblem p;
  p.heads_k = p.heads_v = 1;
  p.head_dim_k = p.head_dim_v = 2;
  StepInputs in;
  in.a = {0.5, -1.5};
  in.a_log = {std::log(3.0)};
  in.dt_bias = {0.25, 0.5};
  const auto channels = [&](Gate gate) {
    p.gate = gate;
    return decay(p, in, 0, 0);
  };
  const auto expect = [&](Gate gate, double first, double second) {
    CAPTURE(static_cast<int>(gate));
    const std::vector<double> alpha = channels(gate);
    CHECK(alpha[0] == doctest::Approx(first).epsilon(1e-12));
    CHECK(alpha[1] == doctest::Approx(second).epsilon(1e-12));
  };
  const auto raw = [](double x) { return std::pow(1 + std::exp(x), -3.0); };  // exp(-3 log(1 + e^x))
  const auto squashed = [](double x) { return std::exp(-5 / (1 + std::exp(-3 * x))); };
  expect(Gate::none, 1, 1);
  expect(Gate::log, std::exp(0.5), std::exp(0.5));
  expect(Gate::alpha, 0.5, 0.5);
  expect(Gate::raw, raw(0.75), raw(0.75));
  expect(Gate::channel_log, std::exp(0.5), std::exp(-1.5));
  expect(Gate::channel_raw, raw(0.75), raw(-1.0));
  expect(Gate::channel_sigmoid, squashed(0.75), squashed(-1.0));
  in.a = {30, 30};  // above 20 softplus is the identity
  in.a_log = {-10};
  CHECK(channels(Gate::raw)[0] == std::exp(-std::exp(-10.0) * 30.25));
  in.a_log = {16};
  in.a = {-1000, -1000};  // no decay at all, not NaN
  CHECK(channels(Gate::raw)[0] == 1);
}

TEST_CASE("the betas follow their formulas") {
  StepProblem p;
  p.heads_k = p.heads_v = 1;
  StepInputs in;
  in.b = {std::log(3.0)};
  const auto beta = [&](Beta kind) {
    p.beta = kind;
    return write_strength(p, in, 0, 0);
  };
  CHECK(beta(Beta::given) == std::log(3.0));
  CHECK(beta(Beta::sigmoid) == doctest::Approx(0.75));
  CHECK(beta(Beta::two_sigmoid) == doctest::Approx(1.5));
  CHECK(beta(Beta::none) == 1);
}

TEST_CASE("the scale defaults to K^-0.5") {
  StepProblem p;
  p.head_dim_k = 64;
  CHECK(scale_of(p) == 0.125);
  p.scale = 2;
  CHECK(scale_of(p) == 2);
}

TEST_CASE("the head maps name the key head") {
  for (HeadMap map : {HeadMap::grouped, HeadMap::modulo}) {
    StepProblem p = small_problem();
    p.norm = Norm::none;
    p.gate = Gate::none;
    p.beta = Beta::none;
    p.head_map = map;
    StepInputs in = random_inputs(p);
    in.state.assign(in.state.size(), 0.0);
    in.k.assign(in.k.size(), 0.0);
    std::fill(in.k.begin(), in.k.begin() + 5, 1.0);  // only key head 0 of sequence 0 writes
    const StepOutputs out = step(p, in);
    for (int hv = 0; hv < 6; ++hv) {
      const bool written = out.state[static_cast<std::size_t>(hv * 35)] != 0;
      CHECK(written == (map == HeadMap::grouped ? hv < 3 : hv % 2 == 0));
    }
  }
}

TEST_CASE("the state layouts are transposes of each other") {
  StepProblem p = small_problem();
  p.state_layout = StateLayout::kv;
  StepInputs kv = random_inputs(p);
  StepInputs vk = kv;
  const auto transpose = [](const std::vector<double>& from, std::vector<double>& to) {
    to.resize(from.size());
    for (std::size_t head = 0; head < from.size() / 35; ++head) {
      for (std::size_t i = 0; i < 5; ++i) {
        for (std::size_t j = 0; j < 7; ++j) to[head * 35 + j * 5 + i] = from[head * 35 + i * 7 + j];
      }
    }
  };
  transpose(kv.state, vk.state);
  const StepOutputs left = step(p, kv);
  p.state_layout = StateLayout::vk;
  const StepOutputs right = step(p, vk);
  std::vector<double> transposed;
  transpose(left.state, transposed);
  CHECK(left.o == right.o);
  CHECK(transposed == right.state);
}

TEST_CASE("T tokens in one call are T calls of one token") {
  StepProblem p = small_problem();
  p.tokens = 3;
  const StepInputs in = random_inputs(p);
  const StepOutputs whole = step(p, in);

  StepProblem single = p;
  single.tokens = 1;
  StepInputs now = in;
  for (int t = 0; t < 3; ++t) {
    const auto slice = [&](const std::vector<double>& all, std::size_t width) {
      std::vector<double> part;
      for (std::size_t b = 0; b < 2; ++b) {
        const auto first = all.begin() + static_cast<std::ptrdiff_t>((b * 3 + static_cast<std::size_t>(t)) * width);
        part.insert(part.end(), first, first + static_cast<std::ptrdiff_t>(width));
      }
      return part;
    };
    now.q = slice(in.q, 10);
    now.k = slice(in.k, 10);
    now.v = slice(in.v, 42);
    now.a = slice(in.a, 6);
    now.b = slice(in.b, 6);
    const StepOutputs one = step(single, now);
    CHECK(slice(whole.o, 42) == one.o);
    now.state = one.state;
  }
  CHECK(whole.state == now.state);
}

TEST_CASE("pool rows are read and stored where the slots say, and padded rows have neither output nor state") {
  for (PadSentinel sentinel : {PadSentinel::negative, PadSentinel::zero}) {
    StepProblem p = small_problem();
    p.batch = 3;
    p.pad_sentinel = sentinel;
    StepInputs in = random_inputs(p);
    const StepOutputs dense = step(p, in);

    p.state_store = StateStore::pool;
    const std::size_t row = in.state.size() / 3;
    std::vector<double> pool(5 * row, std::nan(""));
    std::copy_n(in.state.begin(), row, pool.begin() + static_cast<std::ptrdiff_t>(4 * row));
    std::copy_n(in.state.begin() + static_cast<std::ptrdiff_t>(2 * row), row,
                pool.begin() + static_cast<std::ptrdiff_t>(row));
    in.state = pool;
    in.read_slot = {4, sentinel == PadSentinel::zero ? 0 : -1, 1};
    in.write_slot = {2, in.read_slot[1], 1};
    const StepOutputs out = step(p, in);
    CHECK(out.state_row == std::vector<std::int64_t>{2, -1, 1});
    for (std::size_t b : {0U, 2U}) {
      const auto from = static_cast<std::ptrdiff_t>(b * row);
      const auto end = from + static_cast<std::ptrdiff_t>(row);
      CHECK(std::equal(out.state.begin() + from, out.state.begin() + end, dense.state.begin() + from));
      const auto o = static_cast<std::ptrdiff_t>(b * 42);
      CHECK(std::equal(out.o.begin() + o, out.o.begin() + o + 42, dense.o.begin() + o));
    }
    for (std::size_t i = 42; i < 84; ++i) CHECK(out.o[i] == 0);
  }
}

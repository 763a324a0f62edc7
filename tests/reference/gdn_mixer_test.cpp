#include "tests/reference/gdn_mixer.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string_view>

#include "tests/reference/gdn_step.h"
#include "tests/reference/numeric.h"

using namespace gdnjit;
using namespace gdnjit::gdn;
using namespace gdnjit::reference;

namespace {

std::vector<double> draw(std::string_view name, std::int64_t count) {
  Random random(7, name);
  std::vector<double> numbers(static_cast<std::size_t>(count));
  for (double& number : numbers) number = random.normal();
  return numbers;
}

StepProblem mixer_problem() {
  StepProblem problem;
  problem.batch = 2;
  problem.tokens = 5;
  problem.heads_k = 2;
  problem.heads_v = 4;
  problem.head_dim_k = 3;
  problem.head_dim_v = 2;
  problem.conv_width = 4;
  problem.conv_bias = true;
  return problem;
}

StepInputs random_inputs(const StepProblem& p) {
  const std::int64_t tokens = p.batch * p.tokens, C = conv_channels(p);
  StepInputs inputs;
  inputs.q = draw("q", tokens * p.heads_k * p.head_dim_k);
  inputs.k = draw("k", tokens * p.heads_k * p.head_dim_k);
  inputs.v = draw("v", tokens * p.heads_v * p.head_dim_v);
  inputs.a = draw("a", tokens * p.heads_v);
  inputs.b = draw("b", tokens * p.heads_v);
  inputs.a_log = draw("a_log", p.heads_v);
  inputs.dt_bias = draw("dt_bias", p.heads_v);
  inputs.state = draw("state", p.batch * p.heads_v * p.head_dim_k * p.head_dim_v);
  inputs.conv_weight = draw("conv_weight", C * p.conv_width);
  inputs.conv_bias = draw("conv_bias", C);
  inputs.conv_state = draw("conv_state", p.batch * C * (p.conv_width - 1));
  inputs.z = draw("z", tokens * p.heads_v * p.head_dim_v);
  inputs.norm_weight = draw("norm_weight", p.head_dim_v);
  return inputs;
}

// The tokens [first, first + count) of both sequences.
StepInputs tokens_of(const StepProblem& p, const StepInputs& inputs, std::int64_t first, std::int64_t count) {
  StepInputs part = inputs;
  const auto cut = [&](std::vector<double>& numbers) {
    const std::size_t width = numbers.size() / static_cast<std::size_t>(p.batch * p.tokens);
    std::vector<double> result;
    for (std::int64_t b = 0; b < p.batch; ++b) {
      const auto begin = numbers.begin() + static_cast<std::ptrdiff_t>((b * p.tokens + first) * std::int64_t(width));
      result.insert(result.end(), begin, begin + static_cast<std::ptrdiff_t>(count * std::int64_t(width)));
    }
    numbers = result;
  };
  for (auto* numbers : {&part.q, &part.k, &part.v, &part.a, &part.b, &part.z}) cut(*numbers);
  return part;
}

}  // namespace

TEST_CASE("the convolution is that of the sequence with its state in front, channel by channel") {
  const StepProblem p = mixer_problem();
  StepInputs inputs = random_inputs(p);
  const std::int64_t C = conv_channels(p);
  const std::vector<std::int64_t> chain{-1, 0, 1, 2, 3};
  for (std::int64_t b = 0; b < p.batch; ++b) {
    for (std::int64_t c = 0; c < C; ++c) {
      const std::span<const double> state(inputs.conv_state.data() + (b * C + c) * 3, 3);
      std::vector<double> line(state.begin(), state.end()), x;
      for (std::int64_t t = 0; t < p.tokens; ++t) x.push_back(conv_input(p, inputs, b * p.tokens + t, c));
      line.insert(line.end(), x.begin(), x.end());
      for (std::size_t t = 0; t < x.size(); ++t) {
        const std::vector<double> window = conv_window(state, chain, x, static_cast<std::int64_t>(t));
        CHECK(window == std::vector<double>(line.begin() + static_cast<std::ptrdiff_t>(t),
                                            line.begin() + static_cast<std::ptrdiff_t>(t) + 4));
      }
    }
  }
  const std::vector<double> weight{0.5, -1, 2, 3}, window{1, 2, 3, 4};
  const double sum = 0.25 + 0.5 - 2 + 6 + 12;
  CHECK(convolved(weight, 0.25, window) == doctest::Approx(sum / (1 + std::exp(-sum))));
}

TEST_CASE("channels count through q, then k, then v") {
  const StepProblem p = mixer_problem();
  StepInputs inputs = random_inputs(p);
  CHECK(conv_channels(p) == 2 * 6 + 8);
  CHECK(&conv_input(p, inputs, 3, 0) == &inputs.q[3 * 6]);
  CHECK(&conv_input(p, inputs, 3, 7) == &inputs.k[3 * 6 + 1]);
  CHECK(&conv_input(p, inputs, 3, 12) == &inputs.v[3 * 8]);
  CHECK(&conv_input(p, inputs, 3, 19) == &inputs.v[3 * 8 + 7]);
}

TEST_CASE("several tokens in one call give what one call each gives, with the state of the convolution handed on") {
  StepProblem p = mixer_problem();
  p.gated_norm = GatedNorm::silu;
  p.state_steps = StatePlace::dense;
  const StepInputs inputs = random_inputs(p);
  const StepOutputs all = step(p, inputs);
  StepProblem one = p;
  one.tokens = 1;
  StepInputs next = inputs;
  const std::int64_t row = p.heads_v * p.head_dim_v, past = conv_channels(p) * 3;
  for (std::int64_t t = 0; t < p.tokens; ++t) {
    StepInputs token = tokens_of(p, inputs, t, 1);
    token.state = next.state;
    token.conv_state = next.conv_state;
    const StepOutputs result = step(one, token);
    next.state = result.state;
    next.conv_state = result.conv_state;
    for (std::int64_t b = 0; b < p.batch; ++b) {
      for (std::int64_t i = 0; i < row; ++i) {
        CHECK(result.o[static_cast<std::size_t>(b * row + i)] ==
              all.o[static_cast<std::size_t>((b * p.tokens + t) * row + i)]);
      }
      for (std::int64_t i = 0; i < past; ++i) {
        CHECK(result.conv_state[static_cast<std::size_t>(b * past + i)] ==
              all.conv_steps[static_cast<std::size_t>((b * p.tokens + t) * past + i)]);
      }
    }
  }
  CHECK(next.conv_state == all.conv_state);
}

TEST_CASE("a token of a tree sees its ancestors, and behind the first of them the state") {
  // 0 - 1 - 3,  0 - 2,  root - 4
  const std::vector<std::int64_t> parents{-1, 0, 0, 1, -1};
  const std::vector<double> state{-3, -2, -1}, x{10, 11, 12, 13, 14};
  CHECK(conv_window(state, parents, x, 3) == std::vector<double>{-1, 10, 11, 13});
  CHECK(conv_window(state, parents, x, 2) == std::vector<double>{-2, -1, 10, 12});
  CHECK(conv_window(state, parents, x, 4) == std::vector<double>{-3, -2, -1, 14});
}

TEST_CASE("the gated norm has the length of its weight and gate") {
  StepProblem p = mixer_problem();
  p.gated_norm_eps = 0;
  MixerInputs inputs;
  inputs.norm_weight = {1, 2};
  inputs.z = std::vector<double>(static_cast<std::size_t>(p.batch * p.tokens * p.heads_v * p.head_dim_v), 0.5);
  const std::vector<double> o{3, 4};
  const double gate = 1 / (1 + std::exp(-0.5)), factor = 1 / std::sqrt(12.5);
  p.gated_norm = GatedNorm::sigmoid;
  std::vector<double> result = gated_norm(p, inputs, 2, 1, o);
  CHECK(result[0] == doctest::Approx(3 * factor * gate));
  CHECK(result[1] == doctest::Approx(2 * 4 * factor * gate));
  p.gated_norm = GatedNorm::silu;
  result = gated_norm(p, inputs, 2, 1, o);
  CHECK(result[1] == doctest::Approx(2 * 4 * factor * gate * 0.5));
}

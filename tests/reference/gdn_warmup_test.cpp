// The bound of a warm-up against what a warm-up does, in double precision.
#include "tests/reference/gdn_warmup.h"

#include <doctest/doctest.h>

#include <cmath>
#include <map>

#include "codegen/gdn/chunk.h"
#include "codegen/gdn/chunk_names.h"
#include "codegen/gdn/recurrent.h"
#include "tests/reference/gdn_recurrent.h"
#include "tests/reference/gdn_recurrent_workload.h"
#include "tests/reference/gdn_step_layout.h"

using namespace gdnjit;
using namespace gdnjit::gdn;
using namespace gdnjit::reference;

namespace {

// One sequence of 300 tokens with a segment of 128 tokens and a warm-up of 64: it begins at token 64.
constexpr std::int64_t kTokens = 300;
constexpr WarmupSegment kSegment{128, 256};
constexpr std::int64_t kWarmup = 64;

struct Deviation {
  std::vector<double> o, o_bound;          // |o' - o| and its bound, token by token and column by column
  std::vector<double> state, state_bound;  // |S' - S| over K
};

// What the segment's tokens differ by if it starts from zeros at its warm-up.
Deviation deviation(const RecurrentProblem& problem, const RecurrentInputs& inputs) {
  const StepProblem layer = layer_of(problem);
  Deviation result;
  WarmupBound bound(layer, inputs, kWarmup, {kSegment});
  std::map<int, HeadState> warmed;
  const auto append = [](std::vector<double>& to, const std::vector<double>& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  recurrent(problem, inputs, [&](std::int64_t, std::int64_t tokens, int head_v, const HeadState& S) {
    bound.visit(tokens - 1, tokens, head_v, S);
    if (tokens <= kSegment.first - kWarmup || tokens > kSegment.end) return;
    HeadState& other = warmed.emplace(head_v, HeadState(layer)).first->second;
    const std::vector<double> o = advance(layer, inputs, tokens - 1, head_v, other);
    if (tokens <= kSegment.first) return;
    HeadState difference = S;
    for (int key = 0; key < layer.head_dim_k; ++key) {
      for (std::size_t v = 0; v < o.size(); ++v) difference[key][v] -= other[key][v];
    }
    std::vector<double> query = normalized_query(layer, inputs, tokens - 1, head_v);
    for (double& x : query) x *= scale_of(layer);
    std::vector<double> o_difference = difference.transposed_times(query);
    for (double& x : o_difference) x = std::abs(x);
    append(result.o, o_difference);
    append(result.o_bound, bound.output());
    append(result.state, difference.column_lengths());
    append(result.state_bound, bound.state());
  });
  return result;
}

RecurrentProblem problem_of(const char* text) {
  return from_fields<RecurrentProblem>(
      recurrent_operator().complete(parse_fields(fmt::format("B=1 T={} H=1 HV=2 K=8 V=4 io=f32 {}", kTokens, text))));
}

RecurrentInputs inputs_of(const RecurrentProblem& problem, Inputs kind) {
  return unpack_inputs(problem, make_gdn_recurrent_workload(to_fields(problem), kind, 5)->tensors());
}

}  // namespace

TEST_CASE("no token and no column of a warmed-up segment is further off than the bound") {
  for (const char* text : {"gate=raw", "gate=raw beta=two_sigmoid", "gate=log norm=none", "gate=channel_raw",
                           "gate=channel_sigmoid state_layout=kv"}) {
    for (const Inputs kind : {Inputs::typical, Inputs::brutal}) {
      CAPTURE(std::string(text));
      const RecurrentProblem problem = problem_of(text);
      const Deviation found = deviation(problem, inputs_of(problem, kind));
      REQUIRE(found.o.size() == 2 * 128 * 4);
      std::size_t beyond = 0;
      for (std::size_t i = 0; i < found.o.size(); ++i) {
        beyond += found.o[i] > found.o_bound[i] * (1 + 1e-9) + 1e-15 ? 1 : 0;
        beyond += found.state[i] > found.state_bound[i] * (1 + 1e-9) + 1e-15 ? 1 : 0;
      }
      CHECK(beyond == 0);
    }
  }
}

TEST_CASE("the bound is met where nothing is written, and shrinks with the decay from token to token") {
  const RecurrentProblem problem = problem_of("gate=log beta=given");
  RecurrentInputs inputs = inputs_of(problem, Inputs::typical);
  for (std::size_t i = 0; i < inputs.a.size(); ++i) inputs.a[i] = -0.02;
  for (std::size_t i = 0; i < inputs.b.size(); ++i) inputs.b[i] = i < 2 * 64 ? 1 : 0;  // [tokens, HV]
  const Deviation found = deviation(problem, inputs);
  for (std::size_t i = 0; i < found.state.size(); ++i) {
    CHECK(found.state[i] == doctest::Approx(found.state_bound[i]).epsilon(1e-9));
    CHECK(found.state[i] > 0);
    if (i % 512 >= 4) CHECK(found.state[i] == doctest::Approx(found.state[i - 4] * std::exp(-0.02)).epsilon(1e-9));
  }
}

TEST_CASE("a segment that begins at or before the sequence's start is exact") {
  const RecurrentProblem problem = problem_of("gate=raw");
  const RecurrentInputs inputs = inputs_of(problem, Inputs::typical);
  const StepProblem layer = layer_of(problem);
  WarmupBound bound(layer, inputs, 128, {{64, 128}, {128, 256}});
  double largest = 0;
  recurrent(problem, inputs, [&](std::int64_t, std::int64_t tokens, int head_v, const HeadState& S) {
    bound.visit(tokens - 1, tokens, head_v, S);
    for (const double x : bound.state()) largest = std::max(largest, x);
  });
  CHECK(largest == 0);
}

TEST_CASE("a workload's tolerance is wider by the bound, where tiles may cut, and nowhere else") {
  const auto tolerance_of = [](const std::string& text, std::string_view name) {
    const FieldMap problem = chunk_operator().complete(
        parse_fields("H=1 HV=1 K=16 V=8 gate=channel_sigmoid gate_lower_bound=-0.01 " + text));
    const auto workload = make_gdn_chunk_workload(problem, Inputs::typical, 3);
    for (const OutputError& error : workload->compare(workload->tensors())) {
      if (error.tensor == name) return error.tolerance;
    }
    return -1.0;
  };
  for (const char* name : {"o", "state_out"}) {
    CAPTURE(std::string(name));
    const double plain = tolerance_of("T=1100", name), short_one = tolerance_of("T=1100 warmup=64", name);
    CHECK(plain == 5e-3);
    CHECK(short_one > plain);
    CHECK(tolerance_of("T=1100 warmup=256", name) < short_one);
    CHECK(tolerance_of("T=1100 warmup=640", name) == plain);  // two segments of 9 chunks: the second takes 19
    CHECK(tolerance_of("T=900 warmup=64", name) == plain);    // too short for two segments
  }
}

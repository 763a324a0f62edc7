// The references of several tokens against each other and against the workloads that use them.
#include "tests/reference/gdn_recurrent.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "codegen/gdn/chunk.h"
#include "codegen/gdn/chunk_names.h"
#include "codegen/gdn/recurrent.h"
#include "codegen/gdn/step.h"
#include "codegen/registry.h"
#include "tests/reference/gdn_recurrent_workload.h"
#include "tests/reference/gdn_step.h"
#include "tests/reference/gdn_step_layout.h"
#include "tests/reference/gdn_step_workload.h"
#include "tests/reference/numeric.h"

using namespace gdnjit;
using namespace gdnjit::gdn;
using namespace gdnjit::reference;

namespace {

StepInputs step_inputs(const StepProblem& problem, std::uint64_t seed) {
  return unpack_inputs(problem, make_gdn_step_workload(to_fields(problem), Inputs::typical, seed)->tensors());
}

StepProblem small_problem(int T) {
  StepProblem problem{.batch = 2, .tokens = T, .heads_k = 1, .heads_v = 2, .head_dim_k = 6, .head_dim_v = 5};
  return complete_step(problem);
}

// The rows [first, first + count) of a matrix with `rows` rows.
std::vector<double> rows_of(const std::vector<double>& matrix, std::int64_t rows, std::int64_t first,
                            std::int64_t count) {
  const std::int64_t width = static_cast<std::int64_t>(matrix.size()) / rows;
  return {matrix.begin() + first * width, matrix.begin() + (first + count) * width};
}

// One token of every sequence as a call of its own.
StepInputs token_of(const StepProblem& problem, const StepInputs& inputs, std::int64_t t) {
  StepInputs one;
  const std::int64_t B = problem.batch, T = problem.tokens;
  for (std::int64_t b = 0; b < B; ++b) {
    const auto append = [&](std::vector<double>& to, const std::vector<double>& from) {
      const std::vector<double> row = rows_of(from, B * T, b * T + t, 1);
      to.insert(to.end(), row.begin(), row.end());
    };
    append(one.q, inputs.q);
    append(one.k, inputs.k);
    append(one.v, inputs.v);
    append(one.a, inputs.a);
    append(one.b, inputs.b);
  }
  one.a_log = inputs.a_log;
  one.dt_bias = inputs.dt_bias;
  one.state = inputs.state;
  return one;
}

}  // namespace

TEST_CASE("T tokens in one call are T calls of one token, and the state after each is what they pass on") {
  StepProblem problem = small_problem(4);
  problem.state_steps = StatePlace::dense;
  const StepInputs inputs = step_inputs(problem, 3);
  const StepOutputs whole = step(problem, inputs);
  std::vector<double> state = inputs.state;
  for (std::int64_t t = 0; t < 4; ++t) {
    StepInputs one = token_of(problem, inputs, t);
    one.state = state;
    const StepOutputs part = step(small_problem(1), one);
    state = part.state;
    for (std::int64_t b = 0; b < 2; ++b) {
      CHECK(rows_of(part.o, 2, b, 1) == rows_of(whole.o, 8, b * 4 + t, 1));
      CHECK(rows_of(part.state, 2, b, 1) == rows_of(whole.steps, 8, b * 4 + t, 1));
    }
  }
  CHECK(state == whole.state);
}

TEST_CASE("in a tree a token continues from its parent's state") {
  StepProblem problem = small_problem(4);
  problem.tree = true;
  problem.state_steps = StatePlace::dense;
  StepInputs inputs = step_inputs(problem, 4);
  inputs.parent = {-1, 0, 0, 2, -1, -1, 0, 1};
  const StepOutputs tree = step(problem, inputs);
  for (std::int64_t token = 0; token < 8; ++token) {
    const std::int64_t b = token / 4, t = token % 4;
    const std::int64_t parent = inputs.parent[static_cast<std::size_t>(token)];
    StepInputs one = token_of(problem, inputs, t);
    if (parent >= 0) {
      const std::vector<double> from = rows_of(tree.steps, 8, b * 4 + parent, 1);
      std::copy(from.begin(), from.end(), one.state.begin() + b * static_cast<std::int64_t>(from.size()));
    }
    const StepOutputs part = step(small_problem(1), one);
    CHECK(rows_of(part.o, 2, b, 1) == rows_of(tree.o, 8, token, 1));
    CHECK(rows_of(part.state, 2, b, 1) == rows_of(tree.steps, 8, token, 1));
    if (t == 3) CHECK(rows_of(tree.state, 2, b, 1) == rows_of(tree.steps, 8, token, 1));
  }
}

TEST_CASE("num_accepted starts from the state after so many tokens, and a sentinel there makes padding") {
  StepProblem problem = small_problem(2);
  problem.num_accepted = StatePlace::dense;
  StepInputs inputs = step_inputs(problem, 5);
  inputs.num_accepted = {2, 0};
  const StepOutputs rolled = step(problem, inputs);
  StepInputs plain = inputs;
  const std::vector<double> accepted = rows_of(inputs.accepted_states, 4, 1, 1);
  std::copy(accepted.begin(), accepted.end(), plain.state.begin());
  CHECK(rolled.o == step(small_problem(2), plain).o);

  problem.state_store = StateStore::pool;
  problem.num_accepted = StatePlace::pool;
  inputs.read_slot = inputs.write_slot = {0, 1};
  inputs.accepted_slot = {0, -1, 1, 1};
  CHECK(is_padded(problem, inputs, 0));
  inputs.num_accepted = {1, 0};
  CHECK_FALSE(is_padded(problem, inputs, 0));
}

TEST_CASE("gdn.recurrent is gdn.step over the same tokens, ragged or not") {
  const StepProblem problem = small_problem(3);
  const StepInputs inputs = step_inputs(problem, 6);
  const StepOutputs expected = step(problem, inputs);
  RecurrentProblem prompt{.batch = 2, .tokens = 3, .heads_k = 1, .heads_v = 2, .head_dim_k = 6, .head_dim_v = 5};
  prompt.initial_state = StatePlace::dense;
  prompt = complete_recurrent(prompt);
  RecurrentInputs tokens;
  static_cast<LayerInputs&>(tokens) = inputs;
  tokens.state = inputs.state;
  tokens.start = {0, 3, 6};
  const RecurrentOutputs got = recurrent(prompt, tokens);
  CHECK(got.o == expected.o);
  CHECK(got.state == expected.state);

  // Cut after the first token and with an empty sequence between: the states are passed on by hand.
  tokens.start = {0, 1, 1};
  prompt.ragged = true;
  const RecurrentOutputs first = recurrent(prompt, tokens);
  CHECK(rows_of(first.state, 2, 1, 1) == rows_of(inputs.state, 2, 1, 1));
  CHECK(first.o == rows_of(expected.o, 6, 0, 1));
}

TEST_CASE("a perfect result of every kind of states passes, an untouched one fails") {
  for (const char* text :
       {"", "ragged=true", "initial_state=dense final_state=pool state=bf16",
        "ragged=true initial_state=pool final_state=pool pad_policy=skip", "initial_state=pool final_state=none"}) {
    CAPTURE(text);
    FieldMap fields = parse_fields("B=6 T=5 H=1 HV=2 K=8 V=4");
    for (const auto& [name, value] : parse_fields(text)) set_field(fields, name, value);
    const auto problem = from_fields<RecurrentProblem>(find_operator("gdn.recurrent").complete(fields));
    const auto workload = make_gdn_recurrent_workload(fields, Inputs::typical, 8);
    const RecurrentInputs inputs = unpack_inputs(problem, workload->tensors());
    CHECK(inputs.start.back() == 30);
    CHECK(std::is_sorted(inputs.start.begin(), inputs.start.end()));
    const RecurrentOutputs expected = recurrent(problem, inputs);
    std::vector<HostTensor> results = workload->tensors();
    for (HostTensor& tensor : results) {
      if (tensor.spec.role == TensorRole::input) continue;
      const auto put = [&](std::int64_t first, const std::vector<double>& numbers) {
        for (std::size_t i = 0; i < numbers.size(); ++i) {
          store_element(tensor.spec.dtype, tensor.bytes.data(), first + static_cast<std::int64_t>(i), numbers[i]);
        }
      };
      for (std::int64_t b = 0; b < 6; ++b) {
        const auto index = static_cast<std::size_t>(b);
        if (tensor.spec.name == "o") {
          if (is_padded(problem, inputs, b) && problem.pad_policy == PadPolicy::skip) continue;
          put(inputs.start[index] * 8,
              rows_of(expected.o, 30, inputs.start[index], inputs.start[index + 1] - inputs.start[index]));
        } else if (expected.state_row[index] >= 0) {
          put(expected.state_row[index] * 64, rows_of(expected.state, 6, b, 1));
        }
      }
    }
    const auto passed = [&](const std::vector<HostTensor>& tensors) {
      const auto errors = workload->compare(tensors);
      return std::all_of(errors.begin(), errors.end(), [](const OutputError& error) { return error.passed(); });
    };
    CHECK(passed(results));
    CHECK_FALSE(passed(workload->tensors()));
  }
}

TEST_CASE("checkpoints are the states that the recurrence passes, where there are any; others must not be touched") {
  for (const char* text :
       {"checkpoints=dense", "checkpoints=dense ragged=true initial_state=dense",
        "checkpoints=pool initial_state=pool final_state=pool ragged=true",
        "checkpoints=pool initial_state=pool final_state=dense", "checkpoints=pool final_state=pool"}) {
    CAPTURE(std::string(text));
    FieldMap fields = parse_fields("B=3 T=150 H=1 HV=2 K=4 V=3 state=f32 output=f32");
    for (const auto& [name, value] : parse_fields(text)) set_field(fields, name, value);
    const FieldMap complete = find_operator("gdn.chunk").complete(fields);
    const auto problem = with_fields_of<RecurrentProblem>(from_fields<ChunkProblem>(complete));
    const auto workload = make_gdn_chunk_workload(fields, Inputs::typical, 8);
    const RecurrentInputs inputs = unpack_inputs(problem, workload->tensors());
    constexpr std::int64_t kHead = 12, kRow = 2 * kHead;
    const std::int64_t columns = inputs.checkpoint_columns;
    CHECK(columns == 2);

    std::vector<HostTensor> results = workload->tensors();
    const auto tensor = [&](std::string_view name) -> HostTensor* {
      for (HostTensor& candidate : results) {
        if (candidate.spec.name == name) return &candidate;
      }
      return nullptr;
    };
    HostTensor* pool = tensor(problem.initial_state == StatePlace::pool ? "state_in" : "state_out");
    HostTensor* kept = inputs.checkpoint_slot.empty() ? tensor("checkpoints") : pool;
    REQUIRE(kept != nullptr);
    const auto put = [](HostTensor& to, std::int64_t first, const double* numbers, std::int64_t count) {
      for (std::int64_t i = 0; i < count; ++i) store_element(to.spec.dtype, to.bytes.data(), first + i, numbers[i]);
    };
    std::vector<std::int64_t> rows;
    const StepProblem layer = layer_of(problem);
    const RecurrentOutputs expected =
        recurrent(problem, inputs, [&](std::int64_t b, std::int64_t tokens, int head_v, const HeadState& S) {
          if (tokens % 64 != 0 || tokens > 64 * columns) return;
          std::int64_t row = b * columns + tokens / 64 - 1;
          if (!inputs.checkpoint_slot.empty()) row = inputs.checkpoint_slot[static_cast<std::size_t>(row)];
          if (row < 0) return;
          rows.push_back(row);
          std::vector<double> state(kHead);
          S.store(layer, state.data());
          put(*kept, row * kRow + head_v * kHead, state.data(), kHead);
        });
    for (std::size_t b = 0; b < 3; ++b) {
      HostTensor& final_states = problem.final_state == StatePlace::pool ? *pool : *tensor("state_out");
      if (expected.state_row[b] >= 0) {
        put(final_states, expected.state_row[b] * kRow, expected.state.data() + static_cast<std::int64_t>(b) * kRow,
            kRow);
      }
    }
    put(*tensor("o"), 0, expected.o.data(), static_cast<std::int64_t>(expected.o.size()));
    const auto passed = [&](const std::vector<HostTensor>& tensors) {
      const auto errors = workload->compare(tensors);
      return std::all_of(errors.begin(), errors.end(), [](const OutputError& error) { return error.passed(); });
    };
    CHECK(passed(results));
    // A checkpoint that is wrong or missing is found, and so is one where there must be none.
    REQUIRE(!rows.empty());
    std::vector<HostTensor> spoiled = results;
    HostTensor& victim = spoiled[static_cast<std::size_t>(kept - results.data())];
    for (std::int64_t i = 0; i < kRow; ++i)
      store_element(victim.spec.dtype, victim.bytes.data(), rows[0] * kRow + i, 3.0);
    CHECK_FALSE(passed(spoiled));
    spoiled = results;
    std::int64_t other = 0;
    while (std::find(rows.begin(), rows.end(), other) != rows.end() ||
           std::find(expected.state_row.begin(), expected.state_row.end(), other) != expected.state_row.end()) {
      ++other;
    }
    HostTensor& touched = spoiled[static_cast<std::size_t>(kept - results.data())];
    if (other < touched.spec.shape[0] * (inputs.checkpoint_slot.empty() ? columns : 1)) {
      store_element(touched.spec.dtype, touched.bytes.data(), other * kRow, 3.0);
      CHECK_FALSE(passed(spoiled));
    }
  }
}

#include "tests/reference/gdn_step.h"

#include <algorithm>
#include <utility>

#include "runtime/support/check.h"

namespace gdnjit::reference {
namespace {

using gdn::StatePlace;
using gdn::StateStore;
using gdn::StepProblem;

// Where a sequence starts: the row of `row_size` numbers in `states` or, after tokens of an earlier call, in
// `accepted_states`.
const double* initial_row(const StepProblem& problem, const StepInputs& inputs, std::int64_t sequence,
                          const std::vector<double>& states, const std::vector<double>& accepted_states,
                          std::int64_t row_size) {
  const auto index = static_cast<std::size_t>(sequence);
  const std::int64_t accepted = problem.num_accepted == StatePlace::none ? 0 : inputs.num_accepted[index];
  if (accepted > 0) {
    const std::int64_t column = sequence * inputs.accepted_columns + accepted - 1;
    if (problem.num_accepted == StatePlace::dense) return accepted_states.data() + column * row_size;
    return states.data() + inputs.accepted_slot[static_cast<std::size_t>(column)] * row_size;
  }
  const bool pooled = problem.state_store == StateStore::pool;
  return states.data() + (pooled ? inputs.read_slot[index] : sequence) * row_size;
}

std::int64_t final_row(const StepProblem& problem, const StepInputs& inputs, std::int64_t sequence) {
  if (!problem.update_state) return -1;
  if (problem.state_store != StateStore::pool) return sequence;
  const std::int64_t slot = inputs.write_slot[static_cast<std::size_t>(sequence)];
  return is_sentinel(problem, slot) ? -1 : slot;
}

std::int64_t step_row(const StepProblem& problem, const StepInputs& inputs, std::int64_t token) {
  if (problem.state_steps == StatePlace::dense) return token;
  const std::int64_t slot = inputs.step_slot[static_cast<std::size_t>(token)];
  return is_sentinel(problem, slot) ? -1 : slot;
}

// The token before each token of a sequence, -1 for the initial state.
std::vector<std::int64_t> parents_of(const StepProblem& problem, const StepInputs& inputs, std::int64_t sequence) {
  std::vector<std::int64_t> parents;
  for (std::int64_t t = 0; t < problem.tokens; ++t) {
    const auto token = static_cast<std::size_t>(sequence * problem.tokens + t);
    parents.push_back(problem.tree ? inputs.parent[token] : t - 1);
  }
  return parents;
}

// One channel of one sequence: its inputs become what the recurrence takes, and what is kept behind each token is the
// newest of what that token saw.
void run_channel(const StepProblem& problem, const StepInputs& inputs, std::int64_t sequence, std::int64_t channel,
                 LayerInputs& convolved_inputs, StepOutputs& outputs) {
  const std::int64_t T = problem.tokens, C = conv_channels(problem);
  const auto past = static_cast<std::size_t>(problem.conv_width - 1);
  const double* state = initial_row(problem, inputs, sequence, inputs.conv_state, inputs.accepted_conv_states,
                                    C * static_cast<std::int64_t>(past)) +
                        channel * static_cast<std::int64_t>(past);
  const std::vector<std::int64_t> parents = parents_of(problem, inputs, sequence);
  std::vector<double> x;
  for (std::int64_t t = 0; t < T; ++t) {
    x.push_back(conv_input(problem, convolved_inputs, sequence * T + t, channel));
  }
  const auto width = static_cast<std::size_t>(problem.conv_width);
  const std::span weight = std::span(inputs.conv_weight).subspan(static_cast<std::size_t>(channel) * width, width);
  const double bias = problem.conv_bias ? inputs.conv_bias[static_cast<std::size_t>(channel)] : 0;
  for (std::int64_t t = 0; t < T; ++t) {
    const std::vector<double> window = conv_window({state, past}, parents, x, t);
    conv_input(problem, convolved_inputs, sequence * T + t, channel) = convolved(weight, bias, window);
    const auto keep = [&](std::vector<double>& states, std::int64_t row) {
      std::copy(window.begin() + 1, window.end(),
                states.begin() + (row * C + channel) * static_cast<std::int64_t>(past));
    };
    if (problem.state_steps != StatePlace::none) keep(outputs.conv_steps, sequence * T + t);
    if (t == T - 1) keep(outputs.conv_state, sequence);
  }
}

// All tokens of one value head of one sequence.
void run_head(const StepProblem& problem, const StepInputs& inputs, std::int64_t sequence, int head_v,
              StepOutputs& outputs) {
  const std::int64_t T = problem.tokens, HV = problem.heads_v, V = problem.head_dim_v;
  const std::int64_t head_size = std::int64_t{problem.head_dim_k} * V;
  const HeadState initial(problem, initial_row(problem, inputs, sequence, inputs.state, inputs.accepted_states,
                                               problem.heads_v * head_size) +
                                       head_v * head_size);
  const std::vector<std::int64_t> parents = parents_of(problem, inputs, sequence);
  std::vector<HeadState> after;  // each token
  for (std::int64_t t = 0; t < T; ++t) {
    const std::int64_t token = sequence * T + t;
    const std::int64_t parent = parents[static_cast<std::size_t>(t)];
    HeadState S = parent < 0 ? initial : after[static_cast<std::size_t>(parent)];
    std::vector<double> o = advance(problem, inputs, token, head_v, S);
    if (problem.gated_norm != gdn::GatedNorm::none) o = gated_norm(problem, inputs, token, head_v, o);
    std::copy(o.begin(), o.end(), outputs.o.begin() + (token * HV + head_v) * V);
    if (problem.state_steps != StatePlace::none) {
      S.store(problem, outputs.steps.data() + (token * HV + head_v) * head_size);
    }
    after.push_back(std::move(S));
  }
  after.back().store(problem, outputs.state.data() + (sequence * HV + head_v) * head_size);
}

}  // namespace

bool is_padded(const StepProblem& problem, const StepInputs& inputs, std::int64_t sequence) {
  if (problem.state_store != StateStore::pool) return false;
  const auto index = static_cast<std::size_t>(sequence);
  if (is_sentinel(problem, inputs.read_slot[index])) return true;
  if (problem.num_accepted != StatePlace::pool || inputs.num_accepted[index] == 0) return false;
  const std::int64_t column = sequence * inputs.accepted_columns + inputs.num_accepted[index] - 1;
  return is_sentinel(problem, inputs.accepted_slot[static_cast<std::size_t>(column)]);
}

StepRows written_rows(const StepProblem& problem, const StepInputs& inputs) {
  const std::int64_t B = problem.batch, T = problem.tokens;
  StepRows rows;
  if (problem.state_steps != StatePlace::none) rows.steps.assign(static_cast<std::size_t>(B * T), -1);
  for (std::int64_t sequence = 0; sequence < B; ++sequence) {
    const bool padded = is_padded(problem, inputs, sequence);
    rows.state.push_back(padded ? -1 : final_row(problem, inputs, sequence));
    for (std::int64_t token = sequence * T; !padded && !rows.steps.empty() && token < (sequence + 1) * T; ++token) {
      rows.steps[static_cast<std::size_t>(token)] = step_row(problem, inputs, token);
    }
  }
  return rows;
}

StepOutputs step(const StepProblem& problem, const StepInputs& given) {
  const std::int64_t B = problem.batch, T = problem.tokens, HV = problem.heads_v;
  const std::int64_t head_size = std::int64_t{problem.head_dim_k} * problem.head_dim_v;

  StepOutputs outputs;
  outputs.o.assign(problem.write_output ? static_cast<std::size_t>(B * T * HV * problem.head_dim_v) : 0, 0.0);
  outputs.state.assign(static_cast<std::size_t>(B * HV * head_size), 0.0);
  StepRows rows = written_rows(problem, given);
  outputs.state_row = std::move(rows.state);
  outputs.step_row = std::move(rows.steps);
  outputs.steps.assign(outputs.step_row.size() * static_cast<std::size_t>(HV * head_size), 0.0);
  const std::int64_t channels = problem.conv_width > 0 ? conv_channels(problem) : 0;
  const std::int64_t conv_size = channels * std::max(problem.conv_width - 1, 0);
  outputs.conv_state.assign(static_cast<std::size_t>(B * conv_size), 0.0);
  outputs.conv_steps.assign(outputs.step_row.size() * static_cast<std::size_t>(conv_size), 0.0);
  StepInputs inputs = given;
  for (std::int64_t sequence = 0; sequence < B; ++sequence) {
    if (is_padded(problem, given, sequence)) continue;
    for (std::int64_t channel = 0; channel < channels; ++channel) {
      run_channel(problem, given, sequence, channel, inputs, outputs);
    }
    for (int head_v = 0; head_v < HV; ++head_v) run_head(problem, inputs, sequence, head_v, outputs);
  }
  return outputs;
}

}  // namespace gdnjit::reference

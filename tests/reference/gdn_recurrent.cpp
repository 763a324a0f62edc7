#include "tests/reference/gdn_recurrent.h"

#include <algorithm>

#include "codegen/gdn/recurrent.h"

namespace gdnjit::reference {
namespace {

using gdn::RecurrentProblem;
using gdn::StatePlace;
using gdn::StepProblem;

std::int64_t final_row(const RecurrentProblem& problem, const StepProblem& layer, const RecurrentInputs& inputs,
                       std::int64_t sequence) {
  if (problem.final_state == StatePlace::none) return -1;
  if (problem.final_state == StatePlace::dense) return sequence;
  const std::int64_t slot = inputs.write_slot[static_cast<std::size_t>(sequence)];
  return is_sentinel(layer, slot) ? -1 : slot;
}

}  // namespace

bool is_padded(const RecurrentProblem& problem, const RecurrentInputs& inputs, std::int64_t sequence) {
  return problem.initial_state == StatePlace::pool &&
         is_sentinel(gdn::layer_of(problem), inputs.read_slot[static_cast<std::size_t>(sequence)]);
}

std::vector<std::int64_t> written_rows(const RecurrentProblem& problem, const RecurrentInputs& inputs) {
  const StepProblem layer = gdn::layer_of(problem);
  std::vector<std::int64_t> rows;
  for (std::int64_t sequence = 0; sequence + 1 < static_cast<std::int64_t>(inputs.start.size()); ++sequence) {
    const bool padded = is_padded(problem, inputs, sequence);
    rows.push_back(padded ? -1 : final_row(problem, layer, inputs, sequence));
  }
  return rows;
}

RecurrentOutputs recurrent(const RecurrentProblem& problem, const RecurrentInputs& inputs, const TokenVisitor& visit) {
  const StepProblem layer = gdn::layer_of(problem);
  const std::int64_t B = static_cast<std::int64_t>(inputs.start.size()) - 1;
  const std::int64_t HV = problem.heads_v, V = problem.head_dim_v;
  const std::int64_t head_size = std::int64_t{problem.head_dim_k} * V;

  RecurrentOutputs outputs;
  outputs.o.assign(problem.write_output ? static_cast<std::size_t>(inputs.start.back() * HV * V) : 0, 0.0);
  outputs.state.assign(static_cast<std::size_t>(B * HV * head_size), 0.0);
  outputs.state_row = written_rows(problem, inputs);
  for (std::int64_t sequence = 0; sequence < B; ++sequence) {
    const auto index = static_cast<std::size_t>(sequence);
    if (is_padded(problem, inputs, sequence)) continue;
    const std::int64_t row = problem.initial_state == StatePlace::pool ? inputs.read_slot[index] : sequence;
    for (int head_v = 0; head_v < HV; ++head_v) {
      HeadState S(layer);
      if (problem.initial_state != StatePlace::none) {
        S = HeadState(layer, inputs.state.data() + (row * HV + head_v) * head_size);
      }
      for (std::int64_t token = inputs.start[index]; token < inputs.start[index + 1]; ++token) {
        const std::vector<double> o = advance(layer, inputs, token, head_v, S);
        std::copy(o.begin(), o.end(), outputs.o.begin() + (token * HV + head_v) * V);
        if (visit) visit(sequence, token + 1 - inputs.start[index], head_v, S);
      }
      S.store(layer, outputs.state.data() + (sequence * HV + head_v) * head_size);
    }
  }
  return outputs;
}

}  // namespace gdnjit::reference

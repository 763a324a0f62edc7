// gdn.step in double precision: T tokens a sequence, with everything that may happen to their states.
#pragma once

#include <gdnjit/gdn.h>

#include <cstdint>
#include <vector>

#include "tests/reference/gdn_layer.h"
#include "tests/reference/gdn_mixer.h"

namespace gdnjit::reference {

// The numbers of one call. "Rows" are sequences, or slots of a pool; states are in the problem's layout.
struct StepInputs : LayerInputs, MixerInputs {
  std::vector<double> state;                        // [rows,HV,..]
  std::vector<std::int64_t> read_slot, write_slot;  // [B], StateStore::pool; no write_slot without update_state
  std::vector<std::int64_t> num_accepted;           // [B]
  std::vector<double> accepted_states;              // [B,accepted columns,HV,..], num_accepted = dense
  std::vector<std::int64_t> accepted_slot;          // [B,accepted columns], num_accepted = pool
  std::int64_t accepted_columns = 0;
  std::vector<std::int64_t> parent;     // [B,T], tree
  std::vector<std::int64_t> step_slot;  // [B,T], state_steps = pool
};

struct StepOutputs {
  std::vector<double> o;                // [B,T,HV,V]; the rows of padded sequences hold 0
  std::vector<double> state;            // [B,HV,..]: the state after the last token of each sequence
  std::vector<std::int64_t> state_row;  // [B]: the row that stores it, -1 for none
  std::vector<double> steps;            // [B,T,HV,..], the state after each token, if the problem keeps them
  std::vector<std::int64_t> step_row;   // [B,T]: the row of step_states (b * T + t) or the pool's slot, -1 for none
  // States of the convolution, [B,..] and [B,T,..]; their rows are those of the states.
  std::vector<double> conv_state, conv_steps;
};

// Row `sequence` is padding: it has no state, and its output follows StepProblem::pad_policy.
bool is_padded(const gdn::StepProblem& problem, const StepInputs& inputs, std::int64_t sequence);

// The rows that a call writes, from its indices alone.
struct StepRows {
  std::vector<std::int64_t> state;  // StepOutputs::state_row
  std::vector<std::int64_t> steps;  // StepOutputs::step_row
};
StepRows written_rows(const gdn::StepProblem& problem, const StepInputs& inputs);

// The whole call.
StepOutputs step(const gdn::StepProblem& problem, const StepInputs& inputs);

}  // namespace gdnjit::reference

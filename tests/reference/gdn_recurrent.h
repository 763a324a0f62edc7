// gdn.recurrent in double precision: sequences of any length, dense or ragged.
#pragma once

#include <gdnjit/gdn.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "tests/reference/gdn_layer.h"

namespace gdnjit::reference {

// The numbers of one call. "Rows" are sequences, or slots of a pool; states are in the problem's layout.
struct RecurrentInputs : LayerInputs {
  std::vector<std::int64_t> start;                  // [B + 1]: the sequences' first tokens, then the end
  std::vector<double> state;                        // [rows,HV,..]; empty if the sequences start from zeros
  std::vector<std::int64_t> read_slot, write_slot;  // [B], of states in a pool
  // Of gdn.chunk's checkpoints.
  std::int64_t checkpoint_columns = 0;
  std::vector<std::int64_t> checkpoint_slot;  // [B, columns]
};

struct RecurrentOutputs {
  std::vector<double> o;                // [tokens,HV,V]; those of padded sequences hold 0
  std::vector<double> state;            // [B,HV,..]: the state after the last token of each sequence
  std::vector<std::int64_t> state_row;  // [B]: the row that stores it, -1 for none
};

bool is_padded(const gdn::RecurrentProblem& problem, const RecurrentInputs& inputs, std::int64_t sequence);

// RecurrentOutputs::state_row, from the call's indices alone.
std::vector<std::int64_t> written_rows(const gdn::RecurrentProblem& problem, const RecurrentInputs& inputs);

// Called for every value head of a sequence behind each of its tokens, `tokens` of them so far.
using TokenVisitor = std::function<void(std::int64_t sequence, std::int64_t tokens, int head_v, const HeadState& S)>;

RecurrentOutputs recurrent(const gdn::RecurrentProblem& problem, const RecurrentInputs& inputs,
                           const TokenVisitor& visit = {});

}  // namespace gdnjit::reference

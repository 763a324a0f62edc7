// The tensors that gdn.recurrent and gdn.chunk have in common beside a layer's inputs: where sequences begin, their
// initial and their final states.
#pragma once

#include <gdnjit/gdn.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "codegen/gdn/layer_args.h"
#include "codegen/operator.h"
#include "runtime/support/check.h"

namespace gdnjit::gdn {

// Which of them a problem has; the one place that says so.
struct SequenceUses {
  bool cu_seqlens;
  bool state_in;
  bool state_out;
  bool read_slot;
  bool write_slot;
  bool pool_changes;  // states of the call are stored in the pool

  template <typename Problem>
  explicit SequenceUses(const Problem& problem)
      : cu_seqlens(problem.ragged),
        state_in(problem.initial_state != StatePlace::none),
        state_out(problem.final_state == StatePlace::dense ||
                  (problem.final_state == StatePlace::pool && problem.initial_state != StatePlace::pool)),
        read_slot(problem.initial_state == StatePlace::pool),
        write_slot(problem.final_state == StatePlace::pool),
        pool_changes(write_slot) {
    if constexpr (requires { problem.checkpoints; }) pool_changes |= problem.checkpoints == StatePlace::pool;
  }

  // The tensor that is the pool.
  std::string_view pool() const { return read_slot ? "state_in" : "state_out"; }

  std::size_t count() const {
    std::size_t count = 0;
    for (const bool used : {cu_seqlens, state_in, state_out, read_slot, write_slot}) count += used ? 1 : 0;
    return count;
  }
};

// Appends their specs, for `sequences` sequences and pools of `pool_rows` rows.
void add_sequence_specs(const StepProblem& layer, const SequenceUses& uses, std::int64_t sequences,
                        std::int64_t pool_rows, std::vector<TensorSpec>& tensors);

// The leading dimensions of a problem's own tensors.
template <typename Problem>
Extents extents_of(const Problem& problem) {
  return problem.ragged ? Extents{1, problem.batch * problem.tokens} : Extents{problem.batch, problem.tokens};
}

// The number of sequences of a call. Of a ragged batch only cu_seqlens knows it, which lies behind the layer's inputs.
std::int64_t count_sequences(const StepProblem& layer, bool ragged, const Extents& extents,
                             std::span<const TensorView> tensors);

// For Operator::describe_call(): sets the problem's B and T from a call's tensors (of a ragged batch the average,
// rounded up) and returns the extents.
template <typename Problem>
Extents describe_sequences(const StepProblem& layer, std::span<const TensorView> tensors, Problem& problem) {
  const Extents extents = describe_extents(layer, tensors);
  problem.batch = count_sequences(layer, problem.ragged, extents, tensors);
  const std::int64_t sharers = problem.ragged ? std::max<std::int64_t>(problem.batch, 1) : 1;
  problem.tokens = (extents.T + sharers - 1) / sharers;
  return extents;
}
// Takes over how many rows the pools of a call have.
void take_pool_rows(const SequenceUses& uses, std::span<const TensorView> tensors, std::vector<TensorSpec>& specs);

// As a kernel takes them; what the problem does not have is null.
struct SequenceTensors {
  const void* state_in;
  void* state_out;  // where both states lie in one pool, its memory
  void* pool;       // that of both, or of either; null if no state lies in one
  StateStrides state_in_strides, state_out_strides, pool_strides;
  IndexArray cu_seqlens, read_slot, write_slot;
};
SequenceTensors take_sequence_tensors(const StepProblem& layer, const SequenceUses& uses, int state_vector,
                                      std::int64_t sequences, TensorReader& reader);

// Puts a call's arguments of these, behind those of the layer, into the order of the specs; returns how many there are
// then. An empty state_out means in place where both states are dense.
template <typename Problem, typename Args>
std::size_t gather_sequence_args(const StepProblem& layer, const Problem& problem, const Args& args,
                                 std::span<TensorView> tensors) {
  const SequenceUses uses(problem);
  std::size_t count = gather_inputs(layer, args, tensors);
  const auto add = [&](bool used, const TensorView& view) {
    if (used) tensors[count++] = view;
  };
  require(uses.state_out || !args.state_out || args.state_out.data == args.state_in.data,
          "state_out: {}; leave it empty",
          uses.write_slot ? "both states lie in the pool state_in" : "final_state=none drops the final state");
  const bool in_place = uses.state_in && problem.initial_state == problem.final_state;
  add(uses.cu_seqlens, args.cu_seqlens);
  add(uses.state_in, args.state_in);
  add(uses.state_out, in_place && !args.state_out ? args.state_in : args.state_out);
  add(uses.read_slot, args.read_slot);
  add(uses.write_slot, args.write_slot);
  return count;
}

}  // namespace gdnjit::gdn

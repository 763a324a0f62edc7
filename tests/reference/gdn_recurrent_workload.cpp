#include "tests/reference/gdn_recurrent_workload.h"

#include <algorithm>
#include <mutex>
#include <string>
#include <utility>

#include "codegen/gdn/chunk.h"
#include "codegen/gdn/options_names.h"
#include "codegen/gdn/recurrent.h"
#include "codegen/registry.h"
#include "runtime/support/check.h"
#include "tests/reference/compare.h"
#include "tests/reference/gdn_draw.h"
#include "tests/reference/gdn_recurrent.h"
#include "tests/reference/gdn_step_layout.h"

namespace gdnjit::reference {
namespace {

using gdn::PadPolicy;
using gdn::PadSentinel;
using gdn::RecurrentProblem;
using gdn::StatePlace;
using gdn::StepProblem;

// What an operator over sequences asks for beside what gdn.recurrent does.
struct Task {
  RecurrentProblem problem;
  StatePlace checkpoints = StatePlace::none;
  std::int64_t checkpoint_every = 0;
  double tolerance = 0;  // 0: that of exact arithmetic
};

class SequenceWorkload : public ExpectedWorkload {
 public:
  SequenceWorkload(const Task& task, std::vector<TensorSpec> specs, Inputs kind, std::uint64_t seed)
      : task_(task), problem_(task.problem), layer_(gdn::layer_of(task.problem)) {
    tensors_ = poisoned_tensors(std::move(specs));
    for (const HostTensor& tensor : tensors_) {
      const bool counts = tensor.spec.name == "checkpoints" || tensor.spec.name == "checkpoint_slot";
      if (counts) columns_ = tensor.spec.shape[1];
    }
    choose_slots(seed);
    const Draw draw(layer_, kind, seed);
    for (HostTensor& tensor : tensors_) {
      if (!fill_input(tensor, layer_, problem_.batch * problem_.tokens, draw)) fill_rest(tensor, seed, draw);
    }
  }

 private:
  // As for gdn.step: out of order, half of the rows in place where that is possible, one padded, one that stores
  // nothing. Of the checkpoints every fourth is not stored.
  void choose_slots(std::uint64_t seed) {
    const std::int64_t batch = problem_.batch;
    const std::int64_t sentinel = problem_.pad_sentinel == PadSentinel::zero ? 0 : -1;
    Random random(seed, "slots");
    const std::int64_t kept = task_.checkpoints == StatePlace::pool ? batch * columns_ : 0;
    const std::vector<std::int64_t> order = shuffled(2 * batch + 2 + kept, random);
    for (std::int64_t i = 0; i < batch; ++i) {
      const auto row = static_cast<std::size_t>(i);
      read_slot_.push_back(order[row]);
      write_slot_.push_back(i % 2 == 0 ? order[static_cast<std::size_t>(batch) + row] : order[row]);
    }
    for (std::int64_t i = 0; i < kept; ++i) {
      checkpoint_slot_.push_back(i % 4 == 2 ? sentinel : order[static_cast<std::size_t>(2 * batch + i)]);
    }
    if (batch >= 5) write_slot_.back() = sentinel;
    if (batch >= 3) read_slot_[static_cast<std::size_t>(batch / 2)] = sentinel;
  }

  // Random lengths that add up to B * T, some of them 0.
  std::vector<std::int64_t> sequence_starts(std::uint64_t seed) const {
    Random random(seed, "lengths");
    const std::int64_t total = problem_.batch * problem_.tokens;
    std::vector<std::int64_t> starts{0, total};
    for (std::int64_t i = 1; i < problem_.batch; ++i) {
      starts.push_back(random.one_in(4) ? starts.back() : random.below(total + 1));
    }
    std::sort(starts.begin(), starts.end());
    if (problem_.batch == 0) starts.pop_back();
    return starts;
  }

  void fill_rest(HostTensor& tensor, std::uint64_t seed, const Draw& draw) const {
    const std::string& name = tensor.spec.name;
    if (name == "cu_seqlens") return fill_indices(tensor, sequence_starts(seed));
    if (name == "read_slot") return fill_indices(tensor, read_slot_);
    if (name == "write_slot") return fill_indices(tensor, write_slot_);
    if (name == "checkpoint_slot") return fill_indices(tensor, checkpoint_slot_);
    if (name == "state_in") {
      std::vector<std::int64_t> rows;
      for (std::int64_t i = 0; i < problem_.batch; ++i) {
        const std::int64_t slot = read_slot_[static_cast<std::size_t>(i)];
        if (problem_.initial_state == StatePlace::dense) rows.push_back(i);
        if (problem_.initial_state == StatePlace::pool && slot > 0) rows.push_back(slot);
      }
      return fill_states(tensor, rows, draw);
    }
    GDNJIT_CHECK(tensor.spec.role != TensorRole::input, "a tensor '{}' that is unknown to the workload", name);
  }

  // Computed when it is first asked for, from the inputs after rounding to their dtypes.
  const RecurrentOutputs& expected() const {
    std::call_once(computed_, [&] {
      const RecurrentInputs inputs = unpack_inputs(problem_, tensors_);
      starts_ = inputs.start;
      for (std::int64_t i = 0; i < problem_.batch; ++i) padded_.push_back(is_padded(problem_, inputs, i));
      if (task_.checkpoints == StatePlace::none) {
        expected_ = recurrent(problem_, inputs);
      } else {
        kept_.resize(static_cast<std::size_t>(problem_.batch * columns_));
        expected_ = recurrent(problem_, inputs,
                              [&](std::int64_t sequence, std::int64_t tokens, int head_v, const HeadState& S) {
                                keep(sequence, tokens, head_v, S);
                              });
      }
    });
    return expected_;
  }

  std::int64_t state_size() const { return std::int64_t{problem_.heads_v} * problem_.head_dim_k * problem_.head_dim_v; }

  // The state of a head that is a checkpoint.
  void keep(std::int64_t sequence, std::int64_t tokens, int head_v, const HeadState& S) const {
    const std::int64_t column = tokens / task_.checkpoint_every - 1;
    if (tokens % task_.checkpoint_every != 0 || column >= columns_) return;
    std::vector<double>& states = kept_[static_cast<std::size_t>(sequence * columns_ + column)];
    states.resize(static_cast<std::size_t>(state_size()));
    S.store(layer_, states.data() + head_v * (state_size() / problem_.heads_v));
  }

  // Checkpoints in a tensor of their own, or in the pool.
  void expect_checkpoints(bool dense, Expectation& result) const {
    for (std::size_t i = 0; i < kept_.size(); ++i) {
      if (kept_[i].empty()) continue;
      const std::int64_t row = dense ? static_cast<std::int64_t>(i) : checkpoint_slot_[i];
      if (dense || !is_sentinel(layer_, row)) result.regions.push_back({row * state_size(), kept_[i], false});
    }
  }

  // What rows of states a tensor must hold then.
  void expect_states(const std::string& name, const RecurrentOutputs& reference, Expectation& result) const {
    const bool one_pool = problem_.initial_state == StatePlace::pool;
    const char* const pool = one_pool ? "state_in" : "state_out";
    if (name == "checkpoints") return expect_checkpoints(true, result);
    if (task_.checkpoints == StatePlace::pool && name == pool) expect_checkpoints(false, result);
    if (name != (problem_.final_state == StatePlace::pool ? pool : "state_out")) return;
    for (std::size_t i = 0; i < padded_.size(); ++i) {
      const std::int64_t row = reference.state_row[i];
      const auto size = static_cast<std::size_t>(state_size());
      if (row >= 0)
        result.regions.push_back({row * state_size(), std::span(reference.state).subspan(i * size, size), false});
    }
  }

  std::int64_t longest() const {
    std::int64_t longest = 0;
    for (std::size_t i = 1; i < starts_.size(); ++i) longest = std::max(longest, starts_[i] - starts_[i - 1]);
    return longest;
  }

  Expectation expectation(const HostTensor& tensor) const override {
    const RecurrentOutputs& reference = expected();
    Expectation result;
    if (tensor.spec.name == "o") {
      result.tolerance = task_.tolerance > 0 ? task_.tolerance : output_tolerance(layer_, longest());
      const std::int64_t token = std::int64_t{problem_.heads_v} * problem_.head_dim_v;
      for (std::size_t i = 0; i < padded_.size(); ++i) {
        if (padded_[i] && problem_.pad_policy == PadPolicy::skip) continue;
        const std::int64_t first = starts_[i] * token, count = (starts_[i + 1] - starts_[i]) * token;
        result.regions.push_back(
            {first, std::span(reference.o).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)),
             padded_[i]});
      }
      return result;
    }
    result.tolerance = task_.tolerance > 0 ? task_.tolerance : state_tolerance(layer_, longest());
    expect_states(tensor.spec.name, reference, result);
    return result;
  }

  Task task_;
  RecurrentProblem problem_;
  StepProblem layer_;
  std::int64_t columns_ = 0;  // of the checkpoints
  std::vector<std::int64_t> read_slot_, write_slot_, checkpoint_slot_;
  mutable std::once_flag computed_;
  mutable std::vector<std::int64_t> starts_;
  mutable std::vector<bool> padded_;
  mutable RecurrentOutputs expected_;
  mutable std::vector<std::vector<double>> kept_;  // [B, columns]; empty where there is none
};

}  // namespace

std::unique_ptr<Workload> make_gdn_recurrent_workload(const FieldMap& problem, Inputs inputs, std::uint64_t seed) {
  const Operator& op = find_operator("gdn.recurrent");
  const FieldMap complete = op.complete(problem);
  return std::make_unique<SequenceWorkload>(Task{.problem = from_fields<RecurrentProblem>(complete)},
                                            op.tensors(complete), inputs, seed);
}

std::unique_ptr<Workload> make_gdn_chunk_workload(const FieldMap& problem, Inputs inputs, std::uint64_t seed) {
  constexpr double kTolerance = 5e-3;  // products of 16 bits (gdn.md, section 6)
  const Operator& op = find_operator("gdn.chunk");
  const FieldMap complete = op.complete(problem);
  const auto chunk = from_fields<gdn::ChunkProblem>(complete);
  return std::make_unique<SequenceWorkload>(Task{.problem = with_fields_of<RecurrentProblem>(chunk),
                                                 .checkpoints = chunk.checkpoints,
                                                 .checkpoint_every = chunk.checkpoint_every,
                                                 .tolerance = kTolerance},
                                            op.tensors(complete), inputs, seed);
}

}  // namespace gdnjit::reference

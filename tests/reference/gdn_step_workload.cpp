#include "tests/reference/gdn_step_workload.h"

#include <algorithm>
#include <mutex>
#include <string>
#include <utility>

#include "codegen/gdn/options_names.h"
#include "codegen/registry.h"
#include "runtime/support/check.h"
#include "tests/reference/compare.h"
#include "tests/reference/gdn_draw.h"
#include "tests/reference/gdn_step.h"
#include "tests/reference/gdn_step_layout.h"
#include "tests/reference/given_call.h"

namespace gdnjit::reference {
namespace {

using gdn::PadPolicy;
using gdn::PadSentinel;
using gdn::StatePlace;
using gdn::StateStore;
using gdn::StepProblem;

// The indices of a call: which rows hold what, how far the last call was accepted, and the tree.
struct Indices {
  std::vector<std::int64_t> read_slot, write_slot, num_accepted, accepted_slot, parent, step_slot;
  std::vector<std::int64_t> read_rows;  // of state_in: those that hold a state

  Indices(const StepProblem& problem, std::uint64_t seed) : problem_(problem) {
    for (std::int64_t row = 0; row < problem.batch && problem.state_store == StateStore::dense; ++row) {
      read_rows.push_back(row);
    }
    choose_accepted(seed);
    if (problem.state_store == StateStore::pool) choose_slots(seed);
    if (problem.tree) choose_parents(seed);
  }

 private:
  std::int64_t sentinel() const { return problem_.pad_sentinel == PadSentinel::zero ? 0 : -1; }

  // All values from 0 to T in turn.
  void choose_accepted(std::uint64_t seed) {
    if (problem_.num_accepted == StatePlace::none) return;
    const std::int64_t first = Random(seed, "accepted").below(problem_.tokens + 1);
    for (std::int64_t i = 0; i < problem_.batch; ++i) num_accepted.push_back((first + i) % (problem_.tokens + 1));
  }

  // Slots in random order from 1 on (0 may be the null slot), no slot twice but where a row stores over what it reads:
  // half of the rows write back in place, and every other row keeps its tokens' states where the last call's were or
  // where its own initial state was. With three rows or more one is padding, with five one stores no final state, and
  // a token of every other row stores none.
  void choose_slots(std::uint64_t seed) {
    const std::int64_t batch = problem_.batch, T = problem_.tokens;
    const bool accepted = problem_.num_accepted == StatePlace::pool;
    const bool steps = problem_.state_steps == StatePlace::pool;
    Random random(seed, "slots");
    const std::int64_t sets = 2 + (accepted ? T : 0) + (steps ? T : 0);
    const std::vector<std::int64_t> order = shuffled(sets * batch + 2, random);
    std::size_t next = 0;
    for (std::int64_t i = 0; i < batch; ++i) read_slot.push_back(order[next++]);
    for (std::int64_t i = 0; i < batch; ++i, ++next) {
      write_slot.push_back(i % 2 == 0 ? order[next] : read_slot[static_cast<std::size_t>(i)]);
    }
    for (std::int64_t i = 0; accepted && i < batch * T; ++i) accepted_slot.push_back(order[next++]);
    for (std::int64_t i = 0; steps && i < batch * T; ++i, ++next) {
      const std::int64_t row = i / T;
      const bool reuse = row % 4 == 0;
      const auto token = static_cast<std::size_t>(i);
      step_slot.push_back(reuse && accepted ? accepted_slot[token] : order[next]);
      if (reuse && !accepted && i % T == 0) step_slot.back() = read_slot[static_cast<std::size_t>(row)];
      if (row % 2 == 1 && i % T == T / 2) step_slot.back() = sentinel();
    }
    if (batch >= 5) write_slot.back() = sentinel();
    if (batch >= 3) {
      const auto row = static_cast<std::size_t>(batch / 2);
      read_slot[row] = write_slot[row] = sentinel();
    }
    if (!problem_.update_state) write_slot.clear();
    for (const std::int64_t slot : read_slot) {
      if (slot > 0) read_rows.push_back(slot);
    }
    read_rows.insert(read_rows.end(), accepted_slot.begin(), accepted_slot.end());
  }

  // A third of the tokens go on from the one before, the others from any earlier state.
  void choose_parents(std::uint64_t seed) {
    Random random(seed, "parent");
    for (std::int64_t i = 0; i < problem_.batch; ++i) {
      for (std::int64_t t = 0; t < problem_.tokens; ++t) {
        parent.push_back(random.one_in(3) ? t - 1 : random.below(t + 1) - 1);
      }
    }
  }

  const StepProblem& problem_;
};

class GdnStepWorkload : public ExpectedWorkload {
 public:
  GdnStepWorkload(const FieldMap& fields, Inputs kind, std::uint64_t seed) {
    const Operator& op = find_operator("gdn.step");
    const FieldMap complete = op.complete(fields);
    problem_ = from_fields<StepProblem>(complete);
    tensors_ = poisoned_tensors(op.tensors(complete));
    const Indices indices(problem_, seed);
    const Draw draw(problem_, kind, seed);
    for (HostTensor& tensor : tensors_) {
      if (!fill_input(tensor, problem_, problem_.batch * problem_.tokens, draw)) fill_rest(tensor, indices, draw);
    }
  }

  GdnStepWorkload(const CallDescription& call, std::vector<std::vector<std::byte>> contents)
      : problem_(from_fields<StepProblem>(call.problem)) {
    tensors_ = given_tensors(call, std::move(contents));
    require_valid_indices(problem_, tensors_);
  }

 private:
  static void fill_rest(HostTensor& tensor, const Indices& indices, const Draw& draw) {
    const std::string& name = tensor.spec.name;
    if (name == "state_in") return fill_states(tensor, indices.read_rows, draw);
    if (name == "accepted_states") return fill_states(tensor, all_rows(tensor), draw);
    if (name == "conv_state_in") return fill_conv_states(tensor, indices.read_rows, draw);
    if (name == "accepted_conv_states") return fill_conv_states(tensor, all_rows(tensor), draw);
    if (name == "read_slot") return fill_indices(tensor, indices.read_slot);
    if (name == "write_slot") return fill_indices(tensor, indices.write_slot);
    if (name == "num_accepted") return fill_indices(tensor, indices.num_accepted);
    if (name == "accepted_slot") return fill_indices(tensor, indices.accepted_slot);
    if (name == "parent") return fill_indices(tensor, indices.parent);
    if (name == "step_slot") return fill_indices(tensor, indices.step_slot);
    GDNJIT_CHECK(tensor.spec.role == TensorRole::output, "gdn.step has a tensor '{}' unknown to its workload", name);
  }

  static std::vector<std::int64_t> all_rows(const HostTensor& tensor) {
    std::vector<std::int64_t> rows;
    for (std::int64_t row = 0; row < tensor.spec.shape[0]; ++row) rows.push_back(row);
    return rows;
  }

  // The reference is computed when it is first asked for: a workload that only supplies inputs never pays for it.
  // It sees what the device sees: the inputs after rounding to their dtypes.
  const StepOutputs& expected() const {
    std::call_once(computed_, [&] { expected_ = step(problem_, unpack_inputs(problem_, tensors_)); });
    return expected_;
  }

  Expectation expectation(const HostTensor& tensor) const override {
    const StepInputs indices = unpack_indices(problem_, tensors_);
    const StepRows rows = written_rows(problem_, indices);
    Expectation result;
    if (tensor.spec.name == "o") {
      result.tolerance = output_tolerance(problem_, problem_.tokens);
      const std::int64_t row = std::int64_t{problem_.tokens} * problem_.heads_v * problem_.head_dim_v;
      for (std::int64_t i = 0; i < problem_.batch; ++i) {
        const bool padded = is_padded(problem_, indices, i);
        if (padded && problem_.pad_policy == PadPolicy::skip) continue;
        result.regions.push_back({i * row, row, padded, [this, i, row] { return part_of(expected().o, i, row); }});
      }
      return result;
    }
    const std::string& name = tensor.spec.name;
    if (name == "conv_ticket") return result;  // as it was
    const bool conv = name.find("conv") != std::string::npos;
    result.tolerance = conv ? conv_state_tolerance(problem_) : state_tolerance(problem_, problem_.tokens);
    // The final states lie in state_out or the pool, those of the tokens in step_states or the pool.
    const bool pool = name.ends_with("state_in");
    if (pool || name.ends_with("state_out")) {
      add_rows(conv ? &StepOutputs::conv_state : &StepOutputs::state, rows.state, result);
    }
    if ((pool && problem_.state_steps == StatePlace::pool) || name.starts_with("step_")) {
      add_rows(conv ? &StepOutputs::conv_steps : &StepOutputs::steps, rows.steps, result);
    }
    return result;
  }

  static std::span<const double> part_of(const std::vector<double>& numbers, std::int64_t index, std::int64_t size) {
    return std::span(numbers).subspan(static_cast<std::size_t>(index * size), static_cast<std::size_t>(size));
  }

  void add_rows(const std::vector<double> StepOutputs::*states, const std::vector<std::int64_t>& rows,
                Expectation& result) const {
    const bool conv = states == &StepOutputs::conv_state || states == &StepOutputs::conv_steps;
    const std::int64_t size = conv ? conv_channels(problem_) * (problem_.conv_width - 1)
                                   : std::int64_t{problem_.heads_v} * problem_.head_dim_k * problem_.head_dim_v;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (rows[i] < 0) continue;
      const auto numbers = [=, this] { return part_of(expected().*states, static_cast<std::int64_t>(i), size); };
      result.regions.push_back({rows[i] * size, size, false, numbers});
    }
  }

  StepProblem problem_;
  mutable std::once_flag computed_;
  mutable StepOutputs expected_;
};

}  // namespace

std::unique_ptr<Workload> make_gdn_step_workload(const FieldMap& problem, Inputs inputs, std::uint64_t seed) {
  return std::make_unique<GdnStepWorkload>(problem, inputs, seed);
}

std::unique_ptr<CallWorkload> make_gdn_step_workload(const CallDescription& call,
                                                     std::vector<std::vector<std::byte>> contents) {
  return std::make_unique<GdnStepWorkload>(call, std::move(contents));
}

}  // namespace gdnjit::reference

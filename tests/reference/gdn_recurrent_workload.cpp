#include "tests/reference/gdn_recurrent_workload.h"

#include <algorithm>
#include <mutex>
#include <string>
#include <utility>

#include "codegen/gdn/options_names.h"
#include "codegen/gdn/recurrent.h"
#include "codegen/registry.h"
#include "runtime/support/check.h"
#include "tests/reference/compare.h"
#include "tests/reference/gdn_draw.h"
#include "tests/reference/gdn_recurrent.h"
#include "tests/reference/gdn_step_layout.h"
#include "tests/reference/given_call.h"

namespace gdnjit::reference {
namespace {

using gdn::PadPolicy;
using gdn::PadSentinel;
using gdn::RecurrentProblem;
using gdn::StatePlace;
using gdn::StepProblem;

class GdnRecurrentWorkload : public ExpectedWorkload {
 public:
  GdnRecurrentWorkload(const FieldMap& fields, Inputs kind, std::uint64_t seed) {
    const Operator& op = find_operator("gdn.recurrent");
    const FieldMap complete = op.complete(fields);
    problem_ = from_fields<RecurrentProblem>(complete);
    layer_ = gdn::layer_of(problem_);
    tensors_ = poisoned_tensors(op.tensors(complete));
    choose_slots(seed);
    const Draw draw(layer_, kind, seed);
    for (HostTensor& tensor : tensors_) {
      if (!fill_input(tensor, layer_, problem_.batch * problem_.tokens, draw)) fill_rest(tensor, seed, draw);
    }
  }

  GdnRecurrentWorkload(const CallDescription& call, std::vector<std::vector<std::byte>> contents)
      : problem_(from_fields<RecurrentProblem>(call.problem)), layer_(gdn::layer_of(problem_)) {
    tensors_ = given_tensors(call, std::move(contents));
    require_valid_indices(problem_, tensors_);
  }

 private:
  // As for gdn.step: out of order, half of the rows in place where that is possible, one padded, one that stores
  // nothing.
  void choose_slots(std::uint64_t seed) {
    const std::int64_t batch = problem_.batch;
    const std::int64_t sentinel = problem_.pad_sentinel == PadSentinel::zero ? 0 : -1;
    Random random(seed, "slots");
    const std::vector<std::int64_t> order = shuffled(2 * batch + 2, random);
    for (std::int64_t i = 0; i < batch; ++i) {
      const auto row = static_cast<std::size_t>(i);
      read_slot_.push_back(order[row]);
      write_slot_.push_back(i % 2 == 0 ? order[static_cast<std::size_t>(batch) + row] : order[row]);
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
    if (name == "state_in") {
      std::vector<std::int64_t> rows;
      for (std::int64_t i = 0; i < problem_.batch; ++i) {
        const std::int64_t slot = read_slot_[static_cast<std::size_t>(i)];
        if (problem_.initial_state == StatePlace::dense) rows.push_back(i);
        if (problem_.initial_state == StatePlace::pool && slot > 0) rows.push_back(slot);
      }
      return fill_states(tensor, rows, draw);
    }
    GDNJIT_CHECK(tensor.spec.role != TensorRole::input, "gdn.recurrent has a tensor '{}' unknown to its workload",
                 name);
  }

  // Computed when it is first asked for, from the inputs after rounding to their dtypes.
  const RecurrentOutputs& expected() const {
    std::call_once(computed_, [&] { expected_ = recurrent(problem_, unpack_inputs(problem_, tensors_)); });
    return expected_;
  }

  static std::int64_t longest(const std::vector<std::int64_t>& starts) {
    std::int64_t longest = 0;
    for (std::size_t i = 1; i < starts.size(); ++i) longest = std::max(longest, starts[i] - starts[i - 1]);
    return longest;
  }

  static std::span<const double> part_of(const std::vector<double>& numbers, std::int64_t first, std::int64_t count) {
    return std::span(numbers).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
  }

  Expectation expectation(const HostTensor& tensor) const override {
    const RecurrentInputs indices = unpack_indices(problem_, tensors_);
    const std::vector<std::int64_t>& starts = indices.start;
    const auto sequences = static_cast<std::int64_t>(starts.size()) - 1;
    Expectation result;
    if (tensor.spec.name == "o") {
      result.tolerance = output_tolerance(layer_, longest(starts));
      const std::int64_t token = std::int64_t{problem_.heads_v} * problem_.head_dim_v;
      for (std::int64_t i = 0; i < sequences; ++i) {
        const bool padded = is_padded(problem_, indices, i);
        if (padded && problem_.pad_policy == PadPolicy::skip) continue;
        const std::int64_t first = starts[static_cast<std::size_t>(i)] * token;
        const std::int64_t count = starts[static_cast<std::size_t>(i) + 1] * token - first;
        const auto numbers = [this, first, count] { return part_of(expected().o, first, count); };
        result.regions.push_back({first, count, padded, numbers});
      }
      return result;
    }
    result.tolerance = state_tolerance(layer_, longest(starts));
    const std::int64_t size = std::int64_t{problem_.heads_v} * problem_.head_dim_k * problem_.head_dim_v;
    const std::vector<std::int64_t> rows = written_rows(problem_, indices);
    for (std::int64_t i = 0; i < sequences; ++i) {
      const std::int64_t row = rows[static_cast<std::size_t>(i)];
      if (row < 0) continue;
      const auto numbers = [this, i, size] { return part_of(expected().state, i * size, size); };
      result.regions.push_back({row * size, size, false, numbers});
    }
    return result;
  }

  RecurrentProblem problem_;
  StepProblem layer_;
  std::vector<std::int64_t> read_slot_, write_slot_;
  mutable std::once_flag computed_;
  mutable RecurrentOutputs expected_;
};

}  // namespace

std::unique_ptr<Workload> make_gdn_recurrent_workload(const FieldMap& problem, Inputs inputs, std::uint64_t seed) {
  return std::make_unique<GdnRecurrentWorkload>(problem, inputs, seed);
}

std::unique_ptr<CallWorkload> make_gdn_recurrent_workload(const CallDescription& call,
                                                          std::vector<std::vector<std::byte>> contents) {
  return std::make_unique<GdnRecurrentWorkload>(call, std::move(contents));
}

}  // namespace gdnjit::reference

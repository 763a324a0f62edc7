#include "tests/reference/gdn_recurrent_workload.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "codegen/gdn/chunk.h"
#include "codegen/gdn/chunk_names.h"
#include "codegen/gdn/forward.h"
#include "codegen/gdn/recurrent.h"
#include "codegen/registry.h"
#include "runtime/support/check.h"
#include "tests/reference/compare.h"
#include "tests/reference/gdn_draw.h"
#include "tests/reference/gdn_recurrent.h"
#include "tests/reference/gdn_step_layout.h"
#include "tests/reference/gdn_warmup.h"
#include "tests/reference/given_call.h"

namespace gdnjit::reference {
namespace {

using gdn::PadPolicy;
using gdn::PadSentinel;
using gdn::RecurrentProblem;
using gdn::StatePlace;
using gdn::StepProblem;

// What an operator over sequences does beside what gdn.recurrent does.
struct Task {
  RecurrentProblem problem;
  std::int64_t checkpoint_every = 0;            // tokens; 0: no checkpoints
  double tolerance = 0;                         // 0: that of gdn.recurrent
  std::optional<gdn::ChunkProblem> warms_up{};  // may cut sequences with a warm-up
};

Task recurrent_task(const FieldMap& problem) { return {.problem = from_fields<RecurrentProblem>(problem)}; }

template <typename Problem>
Task task_with_chunks(const Problem& problem) {
  // gdn.md, section 6; fp32 inputs are rounded to bf16 on top of that.
  Task task{.problem = with_fields_of<RecurrentProblem>(problem),
            .tolerance = problem.io_dtype == DType::f32 ? 1e-2 : 5e-3};
  if (problem.checkpoints != StatePlace::none) task.checkpoint_every = problem.checkpoint_every;
  if (problem.warmup > 0) task.warms_up = gdn::complete_chunk(with_fields_of<gdn::ChunkProblem>(problem));
  return task;
}

// Every segment that some tiles cut the call's sequences into.
std::vector<WarmupSegment> possible_segments(const gdn::ChunkProblem& problem,
                                             const std::vector<std::int64_t>& starts) {
  const gdn::ChunkLayout layout(problem);
  const auto sequences = static_cast<std::int64_t>(starts.size()) - 1;
  const std::int64_t tokens = problem.ragged || sequences == 0 ? starts.back() : starts[1];
  std::vector<WarmupSegment> segments;
  for (int count = 2; count <= gdn::kMaxChunkSegments; ++count) {
    const gdn::ChunkCuts cuts = gdn::chunk_cuts(layout, {.segments = count}, sequences, tokens);
    if (!cuts.cut) continue;
    const std::int64_t length = cuts.chunks * gdn::kChunk;
    for (std::int64_t first = length; first < starts.back(); first += length) {
      segments.push_back({first, first + length});
    }
  }
  return segments;
}

Task chunk_task(const FieldMap& fields) { return task_with_chunks(from_fields<gdn::ChunkProblem>(fields)); }

// Which operator serves a call is a matter of tiles, so the widest tolerance holds where gdn.chunk may.
Task forward_task(const FieldMap& fields) {
  const auto problem = from_fields<gdn::ForwardProblem>(fields);
  Task task = task_with_chunks(problem);
  if (!gdn::ForwardPaths(problem).chunk) task.tolerance = 0, task.warms_up.reset();
  return task;
}

double squares(std::span<const double> numbers) {
  double sum = 0;
  for (const double number : numbers) sum += number * number;
  return sum;
}

class SequenceWorkload : public ExpectedWorkload {
 public:
  SequenceWorkload(const Task& task, std::vector<TensorSpec> specs, Inputs kind, std::uint64_t seed)
      : task_(task), problem_(task.problem), layer_(gdn::layer_of(task.problem)) {
    tensors_ = poisoned_tensors(std::move(specs));
    choose_slots(seed);
    const Draw draw(layer_, kind, seed);
    for (HostTensor& tensor : tensors_) {
      if (!fill_input(tensor, layer_, problem_.batch * problem_.tokens, draw)) fill_rest(tensor, seed, draw);
    }
  }

  SequenceWorkload(const Task& task, const CallDescription& call, std::vector<std::vector<std::byte>> contents)
      : task_(task), problem_(task.problem), layer_(gdn::layer_of(task.problem)) {
    tensors_ = given_tensors(call, std::move(contents));
    const RecurrentInputs indices = unpack_indices(problem_, tensors_);
    std::vector<std::int64_t> rows;
    if (!indices.checkpoint_slot.empty()) rows = checkpoint_rows(indices);
    require_valid_indices(problem_, tensors_, rows);
  }

 private:
  // As for gdn.step: out of order, half of the rows in place where that is possible, one padded, one that stores
  // nothing. Of the checkpoints every fourth is not stored.
  void choose_slots(std::uint64_t seed) {
    const std::int64_t batch = problem_.batch;
    const std::int64_t sentinel = problem_.pad_sentinel == PadSentinel::zero ? 0 : -1;
    Random random(seed, "slots");
    std::int64_t kept = 0;
    for (const HostTensor& tensor : tensors_) {
      if (tensor.spec.name == "checkpoint_slot") kept = elements(tensor.spec);
    }
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
    std::call_once(computed_, [&] { compute(); });
    return expected_;
  }

  void compute() const {
    const RecurrentInputs inputs = unpack_inputs(problem_, tensors_);
    const std::int64_t columns = inputs.checkpoint_columns;
    const std::size_t sequences = inputs.start.size() - 1;
    const bool keeps = task_.checkpoint_every > 0;
    if (keeps) kept_.resize(sequences * static_cast<std::size_t>(columns));
    std::optional<WarmupBound> bound;
    if (task_.warms_up) {
      bound.emplace(layer_, inputs, task_.warms_up->warmup, possible_segments(*task_.warms_up, inputs.start));
      slack_.o.resize(static_cast<std::size_t>(inputs.start.back()));
      slack_.state.resize(sequences);
      slack_.kept.resize(kept_.size());
    }
    if (!keeps && !bound) {
      expected_ = recurrent(problem_, inputs);
      return;
    }
    expected_ =
        recurrent(problem_, inputs, [&](std::int64_t sequence, std::int64_t tokens, int head_v, const HeadState& S) {
          const std::int64_t first = inputs.start[static_cast<std::size_t>(sequence)];
          const std::int64_t column = keeps ? tokens / task_.checkpoint_every - 1 : columns;
          const bool is_kept = keeps && tokens % task_.checkpoint_every == 0 && column < columns;
          const auto index = static_cast<std::size_t>(sequence * columns + column);
          if (is_kept) {
            std::vector<double>& state = kept_[index];
            state.resize(static_cast<std::size_t>(state_size()));
            S.store(layer_, state.data() + head_v * (state_size() / problem_.heads_v));
          }
          if (!bound) return;
          bound->visit(first + tokens - 1, tokens, head_v, S);
          slack_.o[static_cast<std::size_t>(first + tokens - 1)] += squares(bound->output());
          const double state = squares(bound->state());
          if (is_kept) slack_.kept[index] += state;
          const bool last = first + tokens == inputs.start[static_cast<std::size_t>(sequence) + 1];
          if (last) slack_.state[static_cast<std::size_t>(sequence)] += state;
        });
  }

  // Of all heads.
  std::int64_t state_size() const { return std::int64_t{problem_.heads_v} * problem_.head_dim_k * problem_.head_dim_v; }

  // Where the checkpoint of each (sequence, column) goes: its row in the pool or, without slots, its place; -1 where
  // there is none.
  std::vector<std::int64_t> checkpoint_rows(const RecurrentInputs& indices) const {
    std::vector<std::int64_t> rows;
    for (std::size_t sequence = 0; sequence + 1 < indices.start.size(); ++sequence) {
      const bool padded = is_padded(problem_, indices, static_cast<std::int64_t>(sequence));
      const std::int64_t tokens = padded ? 0 : indices.start[sequence + 1] - indices.start[sequence];
      for (std::int64_t column = 0; column < indices.checkpoint_columns; ++column) {
        std::int64_t row = static_cast<std::int64_t>(rows.size());
        if (!indices.checkpoint_slot.empty()) row = indices.checkpoint_slot[rows.size()];
        const bool named = indices.checkpoint_slot.empty() || !is_sentinel(layer_, row);
        rows.push_back(named && (column + 1) * task_.checkpoint_every <= tokens ? row : -1);
      }
    }
    return rows;
  }

  // What a warm-up may add to the error of numbers whose bounds' squares add up to `slack`: the rms of the bounds
  // over that of the numbers.
  static double ratio_of(double slack, const Expectation& result) {
    double reference = 0;
    for (const Expectation::Region& region : result.regions) {
      if (!region.zeros) reference += squares(region.numbers());
    }
    return slack > 0 ? std::sqrt(slack / reference) : 0;
  }

  void expect_checkpoints(const RecurrentInputs& indices, Expectation& result, double& slack) const {
    const std::vector<std::int64_t> rows = checkpoint_rows(indices);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (rows[i] < 0) continue;
      const auto numbers = [this, i] {
        expected();
        return std::span<const double>(kept_[i]);
      };
      result.regions.push_back({rows[i] * state_size(), state_size(), false, numbers});
      if (task_.warms_up) expected(), slack += slack_.kept[i];
    }
  }

  void expect_final_states(const RecurrentInputs& indices, Expectation& result, double& slack) const {
    const std::vector<std::int64_t> rows = written_rows(problem_, indices);
    const std::int64_t size = state_size();
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (rows[i] < 0) continue;
      const auto first = static_cast<std::int64_t>(i) * size;
      const auto numbers = [this, first, size] { return part_of(expected().state, first, size); };
      result.regions.push_back({rows[i] * size, size, false, numbers});
      if (task_.warms_up) expected(), slack += slack_.state[i];
    }
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
    double slack = 0;
    if (tensor.spec.name == "o") {
      result.tolerance = task_.tolerance > 0 ? task_.tolerance : output_tolerance(layer_, longest(starts));
      const std::int64_t token = std::int64_t{problem_.heads_v} * problem_.head_dim_v;
      for (std::int64_t i = 0; i < sequences; ++i) {
        const bool padded = is_padded(problem_, indices, i);
        if (padded && problem_.pad_policy == PadPolicy::skip) continue;
        const std::int64_t first = starts[static_cast<std::size_t>(i)] * token;
        const std::int64_t count = starts[static_cast<std::size_t>(i) + 1] * token - first;
        const auto numbers = [this, first, count] { return part_of(expected().o, first, count); };
        result.regions.push_back({first, count, padded, numbers});
        if (!task_.warms_up) continue;
        expected();
        for (std::int64_t t = first / token; t < (first + count) / token; ++t) {
          slack += slack_.o[static_cast<std::size_t>(t)];
        }
      }
      result.tolerance += ratio_of(slack, result);
      return result;
    }
    result.tolerance = task_.tolerance > 0 ? task_.tolerance : state_tolerance(layer_, longest(starts));
    const std::string& name = tensor.spec.name;
    const bool one_pool = problem_.initial_state == StatePlace::pool;
    const bool is_pool = name == (one_pool ? "state_in" : "state_out");
    if (name == "checkpoints" || (is_pool && !indices.checkpoint_slot.empty()))
      expect_checkpoints(indices, result, slack);
    if (problem_.final_state == StatePlace::pool ? is_pool : name == "state_out")
      expect_final_states(indices, result, slack);
    result.tolerance += ratio_of(slack, result);
    return result;
  }

  Task task_;
  RecurrentProblem problem_;
  StepProblem layer_;
  std::vector<std::int64_t> read_slot_, write_slot_, checkpoint_slot_;
  mutable std::once_flag computed_;
  mutable RecurrentOutputs expected_;
  mutable std::vector<std::vector<double>> kept_;  // checkpoints by (sequence, column); empty where there is none
  // Of what a warm-up may change, the squares of the bounds: for each token, final state and checkpoint.
  struct Slack {
    std::vector<double> o, state, kept;
  };
  mutable Slack slack_;
};

std::unique_ptr<Workload> make(std::string_view name, Task (*task_of)(const FieldMap&), const FieldMap& problem,
                               Inputs inputs, std::uint64_t seed) {
  const Operator& op = find_operator(name);
  const FieldMap complete = op.complete(problem);
  return std::make_unique<SequenceWorkload>(task_of(complete), op.tensors(complete), inputs, seed);
}

}  // namespace

std::unique_ptr<Workload> make_gdn_recurrent_workload(const FieldMap& problem, Inputs inputs, std::uint64_t seed) {
  return make("gdn.recurrent", recurrent_task, problem, inputs, seed);
}
std::unique_ptr<CallWorkload> make_gdn_recurrent_workload(const CallDescription& call,
                                                          std::vector<std::vector<std::byte>> contents) {
  return std::make_unique<SequenceWorkload>(recurrent_task(call.problem), call, std::move(contents));
}

std::unique_ptr<Workload> make_gdn_chunk_workload(const FieldMap& problem, Inputs inputs, std::uint64_t seed) {
  return make("gdn.chunk", chunk_task, problem, inputs, seed);
}
std::unique_ptr<CallWorkload> make_gdn_chunk_workload(const CallDescription& call,
                                                      std::vector<std::vector<std::byte>> contents) {
  return std::make_unique<SequenceWorkload>(chunk_task(call.problem), call, std::move(contents));
}

std::unique_ptr<Workload> make_gdn_forward_workload(const FieldMap& problem, Inputs inputs, std::uint64_t seed) {
  return make("gdn.forward", forward_task, problem, inputs, seed);
}
std::unique_ptr<CallWorkload> make_gdn_forward_workload(const CallDescription& call,
                                                        std::vector<std::vector<std::byte>> contents) {
  return std::make_unique<SequenceWorkload>(forward_task(call.problem), call, std::move(contents));
}

}  // namespace gdnjit::reference

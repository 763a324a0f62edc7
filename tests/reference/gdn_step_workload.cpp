#include "tests/reference/gdn_step_workload.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <mutex>
#include <numeric>
#include <string_view>
#include <utility>

#include "codegen/gdn/options_names.h"
#include "codegen/registry.h"
#include "runtime/support/check.h"
#include "tests/reference/compare.h"
#include "tests/reference/gdn_step.h"
#include "tests/reference/gdn_step_layout.h"
#include "tests/reference/numeric.h"

namespace gdnjit::reference {
namespace {

using gdn::Beta;
using gdn::Gate;
using gdn::InputLayout;
using gdn::Norm;
using gdn::PadPolicy;
using gdn::PadSentinel;
using gdn::StateStore;
using gdn::StepProblem;

// Every byte 0xff: a NaN in each floating format, and -1 as an integer.
constexpr std::byte kPoison{0xff};

// Draws the numbers of a call. Each function fills one logical tensor; the layout comes later.
class Draw {
 public:
  Draw(const StepProblem& problem, Inputs inputs, std::uint64_t seed)
      : problem_(problem), brutal_(inputs == Inputs::brutal), seed_(seed) {}

  // q or k, row by row of K. Without a norm in the kernel the caller's vectors have unit length, as engines pass them.
  std::vector<double> query_or_key(std::string_view name, std::int64_t rows) const {
    Random random(seed_, name);
    const double unit = 1 / std::sqrt(static_cast<double>(problem_.head_dim_k));
    std::vector<double> numbers;
    for (std::int64_t row = 0; row < rows; ++row) {
      double factor = problem_.norm == Norm::none ? unit : 1.0;
      if (brutal_) factor *= brutal_length(random);
      for (int i = 0; i < problem_.head_dim_k; ++i) numbers.push_back(factor * random.normal());
    }
    return numbers;
  }

  std::vector<double> value(std::int64_t rows) const {
    Random random(seed_, "v");
    std::vector<double> numbers;
    for (std::int64_t row = 0; row < rows; ++row) {
      const double factor = brutal_ && random.one_in(8) ? 0.0 : 1.0;
      for (int i = 0; i < problem_.head_dim_v; ++i) numbers.push_back(factor * random.normal());
    }
    return numbers;
  }

  std::vector<double> gate(std::size_t count) const {
    Random random(seed_, "a");
    return fill(count, [&] { return brutal_ ? brutal_gate(random) : typical_gate(random); });
  }

  std::vector<double> strength(std::size_t count) const {
    Random random(seed_, "b");
    return fill(count, [&] {
      const bool extreme = brutal_ && random.one_in(4);
      if (problem_.beta == Beta::given) return extreme ? static_cast<double>(random.below(2)) : random.uniform();
      return extreme ? (random.one_in(2) ? 40.0 : -40.0) : random.normal();
    });
  }

  std::vector<double> a_log(std::size_t count) const {
    Random random(seed_, "a_log");
    return fill(count, [&] { return brutal_ ? random.uniform(-4.0, 16.0) : random.uniform(-2.3, 0.4); });
  }

  std::vector<double> dt_bias(std::size_t count) const {
    Random random(seed_, "dt_bias");
    return fill(count, [&] { return 0.5 * random.normal(); });
  }

  std::vector<double> state(std::size_t count) const {
    Random random(seed_, "state");
    return fill(count, [&] { return random.normal(); });
  }

 private:
  template <typename Make>
  static std::vector<double> fill(std::size_t count, Make make) {
    std::vector<double> numbers(count);
    for (double& number : numbers) number = make();
    return numbers;
  }

  // Zero vectors, and lengths at which the norms differ: near eps and near its root.
  double brutal_length(Random& random) const {
    const double unit = 1 / std::sqrt(static_cast<double>(problem_.head_dim_k));
    const bool zero_is_defined = problem_.norm == Norm::none || problem_.norm_eps > 0;
    switch (random.below(8)) {
      case 0: return zero_is_defined ? 0.0 : 1.0;
      case 1: return unit * problem_.norm_eps;
      case 2: return unit * std::sqrt(problem_.norm_eps);
      default: return 1.0;
    }
  }

  // Log decays of about -2 to 0.
  double typical_gate(Random& random) const {
    switch (problem_.gate) {
      case Gate::log:
      case Gate::channel_log: return -2 * random.uniform();
      case Gate::alpha: return random.uniform(0.14, 1.0);
      case Gate::channel_sigmoid: return random.normal() - 2;
      default: return random.normal();
    }
  }

  // A quarter decays by nothing at all (g exactly 0 in fp32), a quarter forgets everything.
  double brutal_gate(Random& random) const {
    const std::int64_t kind = random.below(4);
    switch (problem_.gate) {
      case Gate::log:
      case Gate::channel_log: return kind == 0 ? 0.0 : kind == 1 ? -200.0 : -8 * random.uniform();
      case Gate::alpha: return kind == 0 ? 1.0 : kind == 1 ? 0.0 : random.uniform();
      default: return kind == 0 ? -200.0 : kind == 1 ? 60.0 : 3 * random.normal();
    }
  }

  const StepProblem& problem_;
  bool brutal_;
  std::uint64_t seed_;
};

double output_tolerance(const StepProblem& problem) {
  switch (problem.output_dtype) {
    case DType::bf16: return 3e-3;
    case DType::f16: return 4e-4;
    default: return std::min(2e-6 * problem.tokens, 2e-5);
  }
}

double state_tolerance(const StepProblem& problem) {
  switch (problem.state_dtype) {
    case DType::bf16: return 3e-3;
    case DType::f16: return 4e-4;
    default: return problem.io_dtype == DType::f32 ? std::min(2e-6 * problem.tokens, 2e-5) : 1e-5;
  }
}

std::int64_t elements(const TensorSpec& spec) {
  return std::accumulate(spec.shape.begin(), spec.shape.end(), std::int64_t{1}, std::multiplies<>());
}

class GdnStepWorkload : public Workload {
 public:
  GdnStepWorkload(const FieldMap& problem, Inputs kind, std::uint64_t seed) {
    const Operator& op = find_operator("gdn.step");
    const FieldMap complete = op.complete(problem);
    problem_ = from_fields<StepProblem>(complete);
    for (TensorSpec& spec : op.tensors(complete)) {
      const std::size_t bytes = static_cast<std::size_t>(elements(spec) * dtype_bytes(spec.dtype));
      tensors_.push_back({std::move(spec), std::vector<std::byte>(bytes, kPoison)});
    }
    choose_slots(seed);
    const Draw draw(problem_, kind, seed);
    for (HostTensor& tensor : tensors_) generate(tensor, draw);
  }

  const std::vector<HostTensor>& tensors() const override { return tensors_; }

  std::vector<OutputError> compare(const std::vector<HostTensor>& results) const override {
    GDNJIT_CHECK(results.size() == tensors_.size(), "{} tensors for {}", results.size(), tensors_.size());
    std::vector<OutputError> errors;
    for (std::size_t index = 0; index < results.size(); ++index) {
      const HostTensor& before = tensors_[index];
      const HostTensor& after = results[index];
      GDNJIT_CHECK(after.bytes.size() == before.bytes.size(), "{}: size changed", before.spec.name);
      if (before.spec.name == "o") {
        compare_output(before, after, errors);
      } else if (before.spec.role != TensorRole::input) {
        compare_state(before, after, errors);
      } else if (after.bytes != before.bytes) {
        errors.push_back(untouched_error(before.spec.name + " (input)", 1));
      }
    }
    return errors;
  }

 private:
  // A permutation of the slots from 1 on (0 may be the null slot): the first B are read; half of the rows write
  // back in place, the others into slots of their own. With three rows or more one is padding.
  void choose_slots(std::uint64_t seed) {
    if (problem_.state_store != StateStore::pool) return;
    const std::int64_t batch = problem_.batch;
    std::vector<std::int64_t> order(static_cast<std::size_t>(2 * batch + 2));
    std::iota(order.begin(), order.end(), 1);
    Random random(seed, "slots");
    for (std::size_t i = order.size() - 1; i > 0; --i) {
      std::swap(order[i], order[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(i) + 1))]);
    }
    for (std::int64_t i = 0; i < batch; ++i) {
      const auto row = static_cast<std::size_t>(i);
      read_slot_.push_back(order[row]);
      write_slot_.push_back(i % 2 == 0 ? order[static_cast<std::size_t>(batch) + row] : order[row]);
    }
    if (batch >= 3) {
      const auto row = static_cast<std::size_t>(batch / 2);
      read_slot_[row] = write_slot_[row] = problem_.pad_sentinel == PadSentinel::zero ? 0 : -1;
    }
  }

  void generate(HostTensor& tensor, const Draw& draw) const {
    const std::string& name = tensor.spec.name;
    const std::int64_t tokens = problem_.batch * problem_.tokens;
    const auto put_all = [&](const std::vector<double>& numbers) {
      GDNJIT_CHECK(static_cast<std::int64_t>(numbers.size()) == elements(tensor.spec), "{}: {} numbers", name,
                   numbers.size());
      for (std::size_t i = 0; i < numbers.size(); ++i) {
        store_element(tensor.spec.dtype, tensor.bytes.data(), static_cast<std::int64_t>(i), numbers[i]);
      }
    };
    const auto put = [&](const Place& place, const std::vector<double>& numbers) { scatter(tensor, place, numbers); };
    const auto count = static_cast<std::size_t>(elements(tensor.spec));
    const auto head_gates = static_cast<std::size_t>(tokens * problem_.heads_v);
    if (name == "q" || name == "k") {
      put_all(draw.query_or_key(name, tokens * problem_.heads_k));
    } else if (name == "v") {
      put_all(draw.value(tokens * problem_.heads_v));
    } else if (name == "packed") {  // the z part of qkvz stays poisoned: a bare step has no use for it
      put(place_of(problem_, Part::q), draw.query_or_key("q", tokens * problem_.heads_k));
      put(place_of(problem_, Part::k), draw.query_or_key("k", tokens * problem_.heads_k));
      put(place_of(problem_, Part::v), draw.value(tokens * problem_.heads_v));
    } else if (name == "a" && problem_.input_layout == InputLayout::qkvz) {
      if (problem_.beta != Beta::none) put(place_of(problem_, Part::b), draw.strength(head_gates));
      if (problem_.gate != Gate::none) put(place_of(problem_, Part::a), draw.gate(head_gates));
    } else if (name == "a") {
      put_all(draw.gate(count));
    } else if (name == "b") {
      put_all(draw.strength(count));
    } else if (name == "a_log") {
      put_all(draw.a_log(count));
    } else if (name == "dt_bias") {
      put_all(draw.dt_bias(count));
    } else if (name == "state_in") {
      generate_state(tensor, draw);
    } else if (name == "read_slot" || name == "write_slot") {
      const auto& slots = name == "read_slot" ? read_slot_ : write_slot_;
      put_all(std::vector<double>(slots.begin(), slots.end()));
    } else {
      GDNJIT_CHECK(tensor.spec.role == TensorRole::output, "gdn.step has a tensor '{}' unknown to its workload", name);
    }
  }

  // Only the rows that are read get numbers. The rest of a pool stays poisoned, so a wrong slot shows as NaN.
  void generate_state(HostTensor& tensor, const Draw& draw) const {
    const std::int64_t rows = tensor.spec.shape[0];
    const auto row_bytes = rows == 0 ? 0 : tensor.bytes.size() / static_cast<std::size_t>(rows);
    const std::vector<std::byte> pattern = state_pattern(tensor.spec, draw);
    std::size_t next = 0;
    for (std::int64_t sequence = 0; sequence < problem_.batch; ++sequence) {
      const bool pooled = problem_.state_store == StateStore::pool;
      const std::int64_t row = pooled ? read_slot_[static_cast<std::size_t>(sequence)] : sequence;
      if (pooled && row <= 0) continue;
      for (std::size_t done = 0; done < row_bytes;) {
        const std::size_t piece = std::min(row_bytes - done, pattern.size() - next);
        std::memcpy(tensor.bytes.data() + static_cast<std::size_t>(row) * row_bytes + done, pattern.data() + next,
                    piece);
        done += piece;
        next = (next + piece) % pattern.size();
      }
    }
  }

  // Large states repeat what was drawn once: drawing gigabytes would take longer than everything else. The period
  // is a prime, so heads differ.
  static std::vector<std::byte> state_pattern(const TensorSpec& spec, const Draw& draw) {
    constexpr std::int64_t kPeriod = 1048573;
    const std::int64_t count = std::min(elements(spec), kPeriod);
    const std::vector<double> numbers = draw.state(static_cast<std::size_t>(count));
    std::vector<std::byte> pattern(static_cast<std::size_t>(count * dtype_bytes(spec.dtype)));
    for (std::int64_t i = 0; i < count; ++i) {
      store_element(spec.dtype, pattern.data(), i, numbers[static_cast<std::size_t>(i)]);
    }
    return pattern;
  }

  // The reference is computed when it is first asked for: a workload that only supplies inputs never pays for it.
  // It sees what the device sees: the inputs after rounding to their dtypes.
  const StepOutputs& expected() const {
    std::call_once(computed_, [&] {
      const StepInputs inputs = unpack_inputs(problem_, tensors_);
      for (std::int64_t i = 0; i < problem_.batch; ++i) padded_.push_back(is_padded(problem_, inputs, i));
      expected_ = step(problem_, inputs);
    });
    return expected_;
  }

  void compare_output(const HostTensor& before, const HostTensor& after, std::vector<OutputError>& errors) const {
    const StepOutputs& reference = expected();
    const std::int64_t row_elements = problem_.batch == 0 ? 0 : elements(before.spec) / problem_.batch;
    const std::size_t row_bytes = static_cast<std::size_t>(row_elements * dtype_bytes(before.spec.dtype));
    ErrorMeter meter;
    std::int64_t changed = 0;
    for (std::int64_t sequence = 0; sequence < problem_.batch; ++sequence) {
      const bool padded = padded_[static_cast<std::size_t>(sequence)];
      if (padded && problem_.pad_policy == PadPolicy::skip) {
        changed += rows_differ(before, after, sequence, row_bytes);
        continue;
      }
      for (std::int64_t i = sequence * row_elements; i < (sequence + 1) * row_elements; ++i) {
        meter.add(load_element(after.spec.dtype, after.bytes.data(), i), reference.o[static_cast<std::size_t>(i)]);
        // A padded row is judged exactly: nothing but zero is right.
        if (padded && load_element(after.spec.dtype, after.bytes.data(), i) != 0) ++changed;
      }
    }
    errors.push_back(meter.finish(before.spec.name, before.spec.dtype, output_tolerance(problem_)));
    if (changed > 0) errors.push_back(untouched_error(before.spec.name + " (padded rows)", changed));
  }

  void compare_state(const HostTensor& before, const HostTensor& after, std::vector<OutputError>& errors) const {
    const StepOutputs& reference = expected();
    const std::int64_t rows = before.spec.shape[0];
    const std::int64_t row_elements = rows == 0 ? 0 : elements(before.spec) / rows;
    const std::size_t row_bytes = static_cast<std::size_t>(row_elements * dtype_bytes(before.spec.dtype));
    ErrorMeter meter;
    std::vector<bool> written(static_cast<std::size_t>(rows), false);
    for (std::int64_t sequence = 0; sequence < problem_.batch; ++sequence) {
      const std::int64_t row = reference.state_row[static_cast<std::size_t>(sequence)];
      if (row < 0) continue;
      written[static_cast<std::size_t>(row)] = true;
      for (std::int64_t i = 0; i < row_elements; ++i) {
        meter.add(load_element(after.spec.dtype, after.bytes.data(), row * row_elements + i),
                  reference.state[static_cast<std::size_t>(sequence * row_elements + i)]);
      }
    }
    errors.push_back(meter.finish(before.spec.name, before.spec.dtype, state_tolerance(problem_)));
    std::int64_t changed = 0;
    for (std::int64_t row = 0; row < rows; ++row) {
      if (!written[static_cast<std::size_t>(row)]) changed += rows_differ(before, after, row, row_bytes);
    }
    if (changed > 0) errors.push_back(untouched_error(before.spec.name + " (untouched rows)", changed));
  }

  static std::int64_t rows_differ(const HostTensor& before, const HostTensor& after, std::int64_t row,
                                  std::size_t row_bytes) {
    const std::size_t offset = static_cast<std::size_t>(row) * row_bytes;
    return std::memcmp(before.bytes.data() + offset, after.bytes.data() + offset, row_bytes) == 0 ? 0 : 1;
  }

  StepProblem problem_;
  std::vector<HostTensor> tensors_;
  std::vector<std::int64_t> read_slot_, write_slot_;
  mutable std::once_flag computed_;
  mutable std::vector<bool> padded_;
  mutable StepOutputs expected_;
};

}  // namespace

std::unique_ptr<Workload> make_gdn_step_workload(const FieldMap& problem, Inputs inputs, std::uint64_t seed) {
  return std::make_unique<GdnStepWorkload>(problem, inputs, seed);
}

}  // namespace gdnjit::reference

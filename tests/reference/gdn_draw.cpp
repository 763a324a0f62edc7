#include "tests/reference/gdn_draw.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <string>
#include <utility>

#include "runtime/support/check.h"
#include "tests/reference/gdn_step_layout.h"

namespace gdnjit::reference {
namespace {

using gdn::Beta;
using gdn::Gate;
using gdn::GatedNorm;
using gdn::InputLayout;
using gdn::Norm;

template <typename Make>
std::vector<double> fill(std::size_t count, Make make) {
  std::vector<double> numbers(count);
  for (double& number : numbers) number = make();
  return numbers;
}

}  // namespace

std::vector<double> Draw::query_or_key(std::string_view name, std::int64_t rows) const {
  Random random(seed_, name);
  const double unit = 1 / std::sqrt(static_cast<double>(layer_.head_dim_k));
  std::vector<double> numbers;
  for (std::int64_t row = 0; row < rows; ++row) {
    double factor = layer_.norm == Norm::none ? unit : 1.0;
    if (brutal_) factor *= brutal_length(random);
    for (int i = 0; i < layer_.head_dim_k; ++i) numbers.push_back(factor * random.normal());
  }
  return numbers;
}

std::vector<double> Draw::value(std::int64_t rows) const {
  Random random(seed_, "v");
  std::vector<double> numbers;
  for (std::int64_t row = 0; row < rows; ++row) {
    const double factor = brutal_ && random.one_in(8) ? 0.0 : 1.0;
    for (int i = 0; i < layer_.head_dim_v; ++i) numbers.push_back(factor * random.normal());
  }
  return numbers;
}

std::vector<double> Draw::gate(std::size_t count) const {
  Random random(seed_, "a");
  return fill(count, [&] { return brutal_ ? brutal_gate(random) : typical_gate(random); });
}

std::vector<double> Draw::strength(std::size_t count) const {
  Random random(seed_, "b");
  return fill(count, [&] {
    const bool extreme = brutal_ && random.one_in(4);
    if (layer_.beta == Beta::given) return extreme ? static_cast<double>(random.below(2)) : random.uniform();
    return extreme ? (random.one_in(2) ? 40.0 : -40.0) : random.normal();
  });
}

std::vector<double> Draw::a_log(std::size_t count) const {
  Random random(seed_, "a_log");
  return fill(count, [&] { return brutal_ ? random.uniform(-4.0, 16.0) : random.uniform(-2.3, 0.4); });
}

std::vector<double> Draw::dt_bias(std::size_t count) const {
  Random random(seed_, "dt_bias");
  return fill(count, [&] { return 0.5 * random.normal(); });
}

std::vector<double> Draw::state(std::size_t count) const {
  Random random(seed_, "state");
  return fill(count, [&] { return random.normal(); });
}

std::vector<double> Draw::conv_weight(std::int64_t channels) const {
  Random random(seed_, "conv_weight");
  const std::int64_t keys = 2LL * layer_.heads_k * layer_.head_dim_k;
  const double length = 2 / std::sqrt(static_cast<double>(layer_.conv_width));
  const double short_keys = layer_.norm == Norm::none ? 1 / std::sqrt(static_cast<double>(layer_.head_dim_k)) : 1.0;
  std::vector<double> numbers;
  for (std::int64_t channel = 0; channel < channels; ++channel) {
    const bool dead = brutal_ && random.one_in(16);
    const double factor = dead ? 0.0 : length * (channel < keys ? short_keys : 1.0);
    for (int j = 0; j < layer_.conv_width; ++j) numbers.push_back(factor * random.normal());
  }
  return numbers;
}

std::vector<double> Draw::conv_bias(std::int64_t channels) const {
  Random random(seed_, "conv_bias");
  return fill(static_cast<std::size_t>(channels),
              [&] { return brutal_ && random.one_in(2) ? 0 : random.normal() / 8; });
}

std::vector<double> Draw::conv_state(std::size_t count) const {
  Random random(seed_, "conv_state");
  return fill(count, [&] { return brutal_ && random.one_in(4) ? 0.0 : random.normal(); });
}

std::vector<double> Draw::output_gate(std::int64_t rows) const {
  Random random(seed_, "z");
  return fill(static_cast<std::size_t>(rows * layer_.head_dim_v), [&] {
    const bool extreme = brutal_ && random.one_in(4);
    return extreme ? (random.one_in(2) ? 60.0 : -60.0) : random.normal();
  });
}

std::vector<double> Draw::norm_weight(std::size_t count) const {
  Random random(seed_, "norm_weight");
  return fill(count, [&] { return 1 + random.normal() / 4; });
}

// Zero vectors, and lengths at which the norms differ: near eps and near its root.
double Draw::brutal_length(Random& random) const {
  const double unit = 1 / std::sqrt(static_cast<double>(layer_.head_dim_k));
  const bool zero_is_defined = layer_.norm == Norm::none || layer_.norm_eps > 0;
  switch (random.below(8)) {
    case 0: return zero_is_defined ? 0.0 : 1.0;
    case 1: return unit * layer_.norm_eps;
    case 2: return unit * std::sqrt(layer_.norm_eps);
    default: return 1.0;
  }
}

// Log decays of about -2 to 0.
double Draw::typical_gate(Random& random) const {
  switch (layer_.gate) {
    case Gate::log:
    case Gate::channel_log: return -2 * random.uniform();
    case Gate::alpha: return random.uniform(0.14, 1.0);
    case Gate::channel_sigmoid: return random.normal() - 2;
    default: return random.normal();
  }
}

// A quarter decays by nothing at all (g exactly 0 in fp32), a quarter forgets everything.
double Draw::brutal_gate(Random& random) const {
  const std::int64_t kind = random.below(4);
  switch (layer_.gate) {
    case Gate::log:
    case Gate::channel_log: return kind == 0 ? 0.0 : kind == 1 ? -200.0 : -8 * random.uniform();
    case Gate::alpha: return kind == 0 ? 1.0 : kind == 1 ? 0.0 : random.uniform();
    default: return kind == 0 ? -200.0 : kind == 1 ? 60.0 : 3 * random.normal();
  }
}

std::int64_t elements(const TensorSpec& spec) {
  return std::accumulate(spec.shape.begin(), spec.shape.end(), std::int64_t{1}, std::multiplies<>());
}

std::vector<HostTensor> poisoned_tensors(std::vector<TensorSpec> specs) {
  std::vector<HostTensor> tensors;
  for (TensorSpec& spec : specs) {
    const std::size_t bytes = static_cast<std::size_t>(elements(spec) * dtype_bytes(spec.dtype));
    tensors.push_back({std::move(spec), std::vector<std::byte>(bytes, kPoison)});
  }
  return tensors;
}

bool fill_input(HostTensor& tensor, const gdn::StepProblem& layer, std::int64_t tokens, const Draw& draw) {
  const std::string& name = tensor.spec.name;
  const auto put_all = [&](const std::vector<double>& numbers) {
    GDNJIT_CHECK(static_cast<std::int64_t>(numbers.size()) == elements(tensor.spec), "{}: {} numbers", name,
                 numbers.size());
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      store_element(tensor.spec.dtype, tensor.bytes.data(), static_cast<std::int64_t>(i), numbers[i]);
    }
  };
  const auto put = [&](Part part, const std::vector<double>& numbers) {
    scatter(tensor, place_of(layer, part), numbers);
  };
  const auto count = static_cast<std::size_t>(elements(tensor.spec));
  const auto head_gates = static_cast<std::size_t>(tokens * layer.heads_v);
  if (name == "q" || name == "k") {
    put_all(draw.query_or_key(name, tokens * layer.heads_k));
  } else if (name == "v") {
    put_all(draw.value(tokens * layer.heads_v));
  } else if (name == "packed") {  // what is not read stays poisoned: z without a norm, and q without an output
    const bool has_query = layer.write_output || layer.conv_width > 0;
    if (has_query) put(Part::q, draw.query_or_key("q", tokens * layer.heads_k));
    if (layer.gated_norm != GatedNorm::none && layer.input_layout == InputLayout::qkvz) {
      put(Part::z, draw.output_gate(tokens * layer.heads_v));
    }
    put(Part::k, draw.query_or_key("k", tokens * layer.heads_k));
    put(Part::v, draw.value(tokens * layer.heads_v));
  } else if (name == "a" && layer.input_layout == InputLayout::qkvz) {
    if (layer.beta != Beta::none) put(Part::b, draw.strength(head_gates));
    if (layer.gate != Gate::none) put(Part::a, draw.gate(head_gates));
  } else if (name == "a") {
    put_all(draw.gate(count));
  } else if (name == "b") {
    put_all(draw.strength(count));
  } else if (name == "a_log") {
    put_all(draw.a_log(count));
  } else if (name == "dt_bias") {
    put_all(draw.dt_bias(count));
  } else if (name == "conv_weight") {
    put_all(draw.conv_weight(tensor.spec.shape[0]));
  } else if (name == "conv_bias") {
    put_all(draw.conv_bias(tensor.spec.shape[0]));
  } else if (name == "z") {
    put_all(draw.output_gate(tokens * layer.heads_v));
  } else if (name == "norm_weight") {
    put_all(draw.norm_weight(count));
  } else if (name == "conv_ticket") {
    std::fill(tensor.bytes.begin(), tensor.bytes.end(), std::byte{0});
  } else {
    return false;
  }
  return true;
}

namespace {

// Rows of numbers that repeat, from `draw(count)`.
template <typename DrawNumbers>
void fill_rows(HostTensor& tensor, const std::vector<std::int64_t>& rows, DrawNumbers draw) {
  constexpr std::int64_t kPeriod = 1048573;
  const TensorSpec& spec = tensor.spec;
  if (spec.shape[0] == 0) return;
  const std::size_t row_bytes = tensor.bytes.size() / static_cast<std::size_t>(spec.shape[0]);
  const std::vector<double> numbers = draw(static_cast<std::size_t>(std::min(elements(spec), kPeriod)));
  std::vector<std::byte> pattern(numbers.size() * static_cast<std::size_t>(dtype_bytes(spec.dtype)));
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    store_element(spec.dtype, pattern.data(), static_cast<std::int64_t>(i), numbers[i]);
  }
  std::size_t next = 0;
  for (const std::int64_t row : rows) {
    for (std::size_t done = 0; done < row_bytes;) {
      const std::size_t piece = std::min(row_bytes - done, pattern.size() - next);
      std::memcpy(tensor.bytes.data() + static_cast<std::size_t>(row) * row_bytes + done, pattern.data() + next, piece);
      done += piece;
      next = (next + piece) % pattern.size();
    }
  }
}

}  // namespace

void fill_states(HostTensor& tensor, const std::vector<std::int64_t>& rows, const Draw& draw) {
  fill_rows(tensor, rows, [&](std::size_t count) { return draw.state(count); });
}

void fill_conv_states(HostTensor& tensor, const std::vector<std::int64_t>& rows, const Draw& draw) {
  fill_rows(tensor, rows, [&](std::size_t count) { return draw.conv_state(count); });
}

void fill_indices(HostTensor& tensor, const std::vector<std::int64_t>& indices) {
  GDNJIT_CHECK(static_cast<std::int64_t>(indices.size()) == elements(tensor.spec), "{}: {} indices", tensor.spec.name,
               indices.size());
  for (std::size_t i = 0; i < indices.size(); ++i) {
    store_element(tensor.spec.dtype, tensor.bytes.data(), static_cast<std::int64_t>(i),
                  static_cast<double>(indices[i]));
  }
}

std::vector<std::int64_t> shuffled(std::int64_t count, Random& random) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), 1);
  for (std::size_t i = order.size(); i-- > 1;) {
    std::swap(order[i], order[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(i) + 1))]);
  }
  return order;
}

namespace {

double f32_tolerance(std::int64_t tokens) { return std::clamp(2e-6 * static_cast<double>(tokens), 2e-6, 2e-5); }

}  // namespace

double output_tolerance(const gdn::StepProblem& layer, std::int64_t tokens) {
  switch (layer.output_dtype) {
    case DType::bf16: return 3e-3;
    case DType::f16: return 4e-4;
    default: return f32_tolerance(tokens);
  }
}

double conv_state_tolerance(const gdn::StepProblem& layer) {
  const DType state = layer.conv_state_dtype;
  if (state == DType::f32 || state == layer.io_dtype) return 0;
  return state == DType::bf16 ? 3e-3 : 4e-4;
}

double state_tolerance(const gdn::StepProblem& layer, std::int64_t tokens) {
  switch (layer.state_dtype) {
    case DType::bf16: return 3e-3;
    case DType::f16: return 4e-4;
    default: return layer.io_dtype == DType::f32 ? f32_tolerance(tokens) : std::max(1e-5, f32_tolerance(tokens));
  }
}

}  // namespace gdnjit::reference

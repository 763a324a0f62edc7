#include "codegen/gdn/mixer.h"

#include <cmath>
#include <string>
#include <utility>

#include "codegen/fields.h"
#include "codegen/gdn/options_names.h"
#include "runtime/support/check.h"

namespace gdnjit::gdn {
namespace {

// Which of the optional tensors of a mixer a problem has; the one place that says so.
struct Uses {
  bool conv;  // weight and state
  bool conv_bias;
  bool conv_state_out;
  bool accepted_conv_states;
  bool step_conv_states;
  bool conv_ticket;
  bool norm_weight;
  bool z;

  explicit Uses(const StepProblem& problem)
      : conv(problem.conv_width > 0),
        conv_bias(conv && problem.conv_bias),
        conv_state_out(conv && problem.update_state && problem.state_store == StateStore::dense),
        accepted_conv_states(conv && problem.num_accepted == StatePlace::dense),
        step_conv_states(conv && problem.state_steps == StatePlace::dense),
        conv_ticket(conv && (problem.update_state || problem.state_steps != StatePlace::none)),
        norm_weight(problem.gated_norm != GatedNorm::none),
        z(norm_weight && problem.input_layout != InputLayout::qkvz) {}
};

std::int64_t channels(const StepProblem& problem) {
  return 2LL * problem.heads_k * problem.head_dim_k + static_cast<std::int64_t>(problem.heads_v) * problem.head_dim_v;
}

// Of [row, channels, inputs] or [row, token, channels, inputs].
ConvStrides conv_strides(const TensorView& states) {
  if (states.rank == 4) return {stride(states, 0), stride(states, 1), stride(states, 2), stride(states, 3)};
  return {stride(states, 0), 0, stride(states, 1), stride(states, 2)};
}

void pack_conv_states(const StepProblem& problem, std::int64_t B, std::int64_t slots, TensorReader& reader,
                      MixerParams& params) {
  const Uses uses(problem);
  const std::int64_t C = channels(problem), past = problem.conv_width - 1;
  const DType dtype = problem.conv_state_dtype;
  const bool pool = problem.state_store == StateStore::pool;
  const TensorView& in = reader.take("conv_state_in", dtype, {pool ? slots : B, C, past});
  params.conv_in = in.data;
  params.conv_in_strides = conv_strides(in);
  if (pool) {
    params.conv_out = params.conv_steps = in.data;
    params.conv_accepted = in.data;
    params.conv_out_strides = params.conv_steps_strides = params.conv_accepted_strides = conv_strides(in);
  }
  if (uses.conv_state_out) {
    const TensorView& out = reader.take("conv_state_out", dtype, {B, C, past});
    params.conv_out = out.data;
    params.conv_out_strides = conv_strides(out);
  }
  if (uses.accepted_conv_states) {
    const TensorView& accepted = reader.take("accepted_conv_states", dtype, {B, kAnyExtent, C, past});
    params.conv_accepted = accepted.data;
    params.conv_accepted_strides = conv_strides(accepted);
  }
  if (uses.step_conv_states) {
    const TensorView& steps = reader.take("step_conv_states", dtype, {B, problem.tokens, C, past});
    params.conv_steps = steps.data;
    params.conv_steps_strides = conv_strides(steps);
  }
  if (uses.conv_ticket) {
    const TensorView& ticket = reader.take_dense("conv_ticket", DType::i32, {B, problem.heads_k}, 1);
    params.conv_ticket = static_cast<unsigned*>(ticket.data);
    params.ticket_row = stride(ticket, 0);
  }
}

}  // namespace

void check_mixer(const StepProblem& problem) {
  require(problem.conv_width == 0 || (problem.conv_width >= 2 && problem.conv_width <= 4),
          "conv_width={}: must be 0 (none), 2, 3 or 4", problem.conv_width);
  require_float("conv_state", problem.conv_state_dtype);
  require_float("conv_dtype", problem.conv_dtype);
  require_float("gated_norm_dtype", problem.gated_norm_dtype);
  require(std::isfinite(problem.gated_norm_eps) && problem.gated_norm_eps >= 0,
          "gated_norm_eps={}: must not be negative", problem.gated_norm_eps);
  require(problem.gated_norm == GatedNorm::none || problem.write_output,
          "gated_norm={}: needs write_output=true, there is no output to norm", enum_name(problem.gated_norm));
  // One block may have to serve all of V.
  const std::int64_t staged = problem.conv_width > 0 ? 2LL * problem.head_dim_k + problem.head_dim_v : 0;
  const std::int64_t kept = problem.gated_norm != GatedNorm::none ? problem.head_dim_v : 0;
  require(4 * problem.tokens * (staged + kept) + 64 <= kMaxMixerBytes,
          "{}: T={} tokens of q, k, v and o in fp32 (K={}, V={}) are more than {} KB of shared memory",
          staged > 0 ? "conv_width" : "gated_norm", problem.tokens, problem.head_dim_k, problem.head_dim_v,
          kMaxMixerBytes / 1024);
}

void set_mixer(const StepProblem& problem, StepConfig& config) {
  config.conv_width = problem.conv_width;
  config.gated_norm = problem.gated_norm;
  if (problem.conv_width > 0) {
    config.conv_bias = problem.conv_bias;
    config.conv_state_dtype = problem.conv_state_dtype;
    config.conv_dtype = problem.conv_dtype;
    if (config.key_vector > 4) config.key_vector = 4;  // fp32 numbers of an access
  }
  if (problem.gated_norm != GatedNorm::none) {
    config.gated_norm_eps = problem.gated_norm_eps;
    config.gated_norm_dtype = problem.gated_norm_dtype;
  }
}

void add_mixer_specs(const StepProblem& problem, std::vector<TensorSpec>& tensors) {
  const Uses uses(problem);
  const std::int64_t B = problem.batch, T = problem.tokens, C = channels(problem), past = problem.conv_width - 1;
  const auto add = [&](bool used, std::string_view name, DType dtype, std::vector<std::int64_t> shape,
                       TensorRole role = TensorRole::input) {
    if (used) tensors.push_back({std::string(name), dtype, std::move(shape), role});
  };
  TensorRole state_role = TensorRole::input;
  std::int64_t rows = B;
  for (const TensorSpec& tensor : tensors) {
    if (tensor.name != "state_in") continue;
    rows = tensor.shape[0];
    state_role = tensor.role;
  }
  add(uses.conv, "conv_weight", problem.conv_dtype, {C, problem.conv_width});
  add(uses.conv_bias, "conv_bias", problem.conv_dtype, {C});
  add(uses.conv, "conv_state_in", problem.conv_state_dtype, {rows, C, past}, state_role);
  if (uses.conv && problem.state_store == StateStore::pool) tensors.back().rows_of = "state_in";
  add(uses.conv_state_out, "conv_state_out", problem.conv_state_dtype, {B, C, past}, TensorRole::output);
  add(uses.accepted_conv_states, "accepted_conv_states", problem.conv_state_dtype, {B, T, C, past});
  add(uses.step_conv_states, "step_conv_states", problem.conv_state_dtype, {B, T, C, past}, TensorRole::output);
  add(uses.conv_ticket, "conv_ticket", DType::i32, {B, problem.heads_k}, TensorRole::in_out);
  add(uses.z, "z", problem.io_dtype, {B, T, problem.heads_v, problem.head_dim_v});
  add(uses.norm_weight, "norm_weight", problem.gated_norm_dtype, {problem.head_dim_v});
}

std::size_t mixer_tensor_count(const StepProblem& problem) {
  const Uses uses(problem);
  std::size_t count = 0;
  for (const bool used : {uses.conv, uses.conv, uses.conv_bias, uses.conv_state_out, uses.accepted_conv_states,
                          uses.step_conv_states, uses.conv_ticket, uses.z, uses.norm_weight}) {
    count += used ? 1 : 0;
  }
  return count;
}

std::size_t gather_mixer_args(const StepProblem& problem, const StepArgs& args, std::span<TensorView> tensors) {
  const Uses uses(problem);
  std::size_t count = 0;
  const auto add = [&](bool used, const TensorView& view) {
    if (used) tensors[count++] = view;
  };
  require(problem.state_store == StateStore::dense || !args.conv_state_out ||
              args.conv_state_out.data == args.conv_state_in.data,
          "conv_state_out: a pool is updated in place; leave it empty or pass conv_state_in");
  add(uses.conv, args.conv_weight);
  add(uses.conv_bias, args.conv_bias);
  add(uses.conv, args.conv_state_in);
  add(uses.conv_state_out, args.conv_state_out ? args.conv_state_out : args.conv_state_in);
  add(uses.accepted_conv_states, args.accepted_conv_states);
  add(uses.step_conv_states, args.step_conv_states);
  add(uses.conv_ticket, args.conv_ticket);
  add(uses.z, args.z);
  add(uses.norm_weight, args.norm_weight);
  return count;
}

void pack_mixer(const StepProblem& problem, std::int64_t B, std::int64_t slots, TensorReader& reader,
                MixerParams& params) {
  const Uses uses(problem);
  const std::int64_t HV = problem.heads_v, V = problem.head_dim_v, C = channels(problem);
  if (uses.conv) {
    const TensorView& weight = reader.take_dense("conv_weight", problem.conv_dtype, {C, problem.conv_width}, 2);
    params.conv_weight = weight.data;
    const int bytes = (problem.conv_width % 2 == 0 ? problem.conv_width : 1) * dtype_bytes(problem.conv_dtype);
    require(reinterpret_cast<std::uintptr_t>(weight.data) % static_cast<std::uintptr_t>(bytes) == 0,
            "conv_weight: address {} is not a multiple of {} bytes, a channel's weights", weight.data, bytes);
    if (uses.conv_bias) params.conv_bias = reader.take_dense("conv_bias", problem.conv_dtype, {C}, 1).data;
    pack_conv_states(problem, B, slots, reader, params);
  }
  if (uses.z) {
    const TensorView& z = reader.take_dense("z", problem.io_dtype, {B, problem.tokens, HV, V}, 1);
    params.z = z.data;
    params.z_strides = by_head(problem, z, stride(z, 2));
  } else if (uses.norm_weight) {
    // qkvz: of a key head first its value heads' v, then their z.
    params.z = static_cast<const std::byte*>(params.v) + HV / problem.heads_k * V * dtype_bytes(problem.io_dtype);
    params.z_strides = params.v_strides;
  }
  if (uses.norm_weight) params.norm_weight = reader.take_dense("norm_weight", problem.gated_norm_dtype, {V}, 1).data;
}

void add_mixer_footprint(const StepProblem& problem, Footprint& footprint) {
  const Uses uses(problem);
  const std::int64_t BT = problem.batch * problem.tokens;
  if (uses.conv) {
    const std::int64_t C = channels(problem);
    const std::int64_t state = problem.batch * C * (problem.conv_width - 1) * dtype_bytes(problem.conv_state_dtype);
    const bool keeps_steps = problem.state_steps != StatePlace::none;
    footprint.bytes_read += state;
    footprint.bytes_written += state * ((problem.update_state ? 1 : 0) + (keeps_steps ? problem.tokens : 0));
    // The products, and x sigmoid(x).
    footprint.flops += BT * C * (2 * problem.conv_width + 4);
  }
  // The square, the factor, weight and gate: 2 + 1 + 2 + 3 operations an output.
  if (uses.norm_weight) footprint.flops += 8 * BT * problem.heads_v * problem.head_dim_v;
}

}  // namespace gdnjit::gdn

// The tensors of gdn.step: which there are, whether a call's are right, and how they become kernel parameters.
#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "codegen/gdn/layer_args.h"
#include "codegen/gdn/mixer.h"
#include "codegen/gdn/options_names.h"
#include "codegen/gdn/step.h"
#include "runtime/support/check.h"

namespace gdnjit::gdn {
namespace {

// Which of the optional tensors beside the layer's inputs a problem has; the one place that says so.
struct Uses {
  bool pool;        // read_slot
  bool write_slot;  // else, if update_state, state_out
  bool state_out;
  bool num_accepted;
  bool accepted_states;  // or
  bool accepted_slot;
  bool parent;
  bool step_states;  // or
  bool step_slot;
  bool output;

  explicit Uses(const StepProblem& problem)
      : pool(problem.state_store == StateStore::pool),
        write_slot(pool && problem.update_state),
        state_out(!pool && problem.update_state),
        num_accepted(problem.num_accepted != StatePlace::none),
        accepted_states(problem.num_accepted == StatePlace::dense),
        accepted_slot(problem.num_accepted == StatePlace::pool),
        parent(problem.tree),
        step_states(problem.state_steps == StatePlace::dense),
        step_slot(problem.state_steps == StatePlace::pool),
        output(problem.write_output) {}

  std::size_t count() const {
    std::size_t count = 1;  // state_in
    for (const bool used : {pool, write_slot, state_out, num_accepted, accepted_states, accepted_slot, parent,
                            step_states, step_slot, output}) {
      count += used ? 1 : 0;
    }
    return count;
  }
};

// The initial state, from state_in or from what an earlier call left.
void pack_initial_state(const StepProblem& problem, const StepConfig& config, std::int64_t B, const Uses& uses,
                        TensorReader& reader, StepParams& params) {
  const TensorView& in = take_states(reader, "state_in", problem, config.state_vector, {uses.pool ? kAnyExtent : B});
  params.state_in = in.data;
  params.state_in_strides = state_strides(in);
  if (uses.pool) {
    params.state_out = in.data;
    params.state_out_strides = state_strides(in);
    params.step_states = in.data;
    params.step_strides = state_strides(in);
    params.accepted_states = in.data;
    params.accepted_strides = state_strides(in);
    params.read_slot = index_array(reader.take("read_slot", problem.slot_dtype, {B}));
    if (uses.write_slot) params.write_slot = index_array(reader.take("write_slot", problem.slot_dtype, {B}));
  } else if (uses.state_out) {
    const TensorView& out = take_states(reader, "state_out", problem, config.state_vector, {B});
    params.state_out = out.data;
    params.state_out_strides = state_strides(out);
  }
  if (uses.num_accepted) params.num_accepted = index_array(reader.take("num_accepted", DType::i32, {B}));
  if (uses.accepted_states) {
    const TensorView& accepted = take_states(reader, "accepted_states", problem, config.state_vector, {B, kAnyExtent});
    params.accepted_states = accepted.data;
    params.accepted_strides = state_strides(accepted);
  }
  if (uses.accepted_slot) {
    params.accepted_slot = index_array(reader.take("accepted_slot", problem.slot_dtype, {B, kAnyExtent}));
  }
}

void pack_token_states(const StepProblem& problem, const StepConfig& config, std::int64_t B, const Uses& uses,
                       TensorReader& reader, StepParams& params) {
  const std::int64_t T = problem.tokens;
  if (uses.parent) params.parent = index_array(reader.take("parent", DType::i32, {B, T}));
  if (uses.step_states) {
    const TensorView& steps = take_states(reader, "step_states", problem, config.state_vector, {B, T});
    params.step_states = steps.data;
    params.step_strides = state_strides(steps);
  }
  if (uses.step_slot) params.step_slot = index_array(reader.take("step_slot", problem.slot_dtype, {B, T}));
}

}  // namespace

std::vector<TensorSpec> step_tensors(const StepProblem& problem) {
  const std::int64_t B = problem.batch, T = problem.tokens;
  const Uses uses(problem);
  std::vector<TensorSpec> tensors;
  add_input_specs(problem, {B, T}, tensors);
  const auto add = [&](std::string_view name, DType dtype, std::vector<std::int64_t> shape,
                       TensorRole role = TensorRole::input) {
    tensors.push_back({std::string(name), dtype, std::move(shape), role});
  };
  // Of a pool: room for all rows' states and for those of other sequences.
  const std::int64_t steps = (uses.step_slot ? T : 0) + (uses.accepted_slot ? T : 0);
  const std::int64_t rows = uses.pool ? (2 + steps) * B + 3 : B;
  const bool pool_changes = uses.write_slot || uses.step_slot;
  add("state_in", problem.state_dtype, state_shape(problem, {rows}),
      pool_changes ? TensorRole::in_out : TensorRole::input);
  const auto add_slots = [&](std::string_view name, std::vector<std::int64_t> shape) {
    add(name, problem.slot_dtype, std::move(shape));
    tensors.back().indexes = "state_in";
  };
  if (uses.pool) add_slots("read_slot", {B});
  if (uses.write_slot) add_slots("write_slot", {B});
  if (uses.state_out) add("state_out", problem.state_dtype, state_shape(problem, {B}), TensorRole::output);
  if (uses.num_accepted) add("num_accepted", DType::i32, {B});
  if (uses.accepted_states) add("accepted_states", problem.state_dtype, state_shape(problem, {B, T}));
  if (uses.accepted_slot) add_slots("accepted_slot", {B, T});
  if (uses.parent) add("parent", DType::i32, {B, T});
  if (uses.step_states) {
    add("step_states", problem.state_dtype, state_shape(problem, {B, T}), TensorRole::output);
  }
  if (uses.step_slot) add_slots("step_slot", {B, T});
  add_mixer_specs(problem, tensors);
  if (uses.output) add("o", problem.output_dtype, {B, T, problem.heads_v, problem.head_dim_v}, TensorRole::output);
  return tensors;
}

CallDescription describe_step(StepProblem problem, std::span<const TensorView> tensors) {
  const Uses uses(problem);
  const TensorReader number("gdn.step", tensors,
                            LayerUses(problem).count() + uses.count() + mixer_tensor_count(problem));
  const Extents extents = describe_extents(problem, tensors);
  problem.batch = extents.B;
  problem.tokens = static_cast<int>(std::min<std::int64_t>(extents.T, kMaxStepTokens + 1));
  std::vector<TensorSpec> specs = step_tensors(problem);
  if (uses.pool) take_extent("state_in", 0, tensors, specs);
  if (uses.pool) take_extent("conv_state_in", 0, tensors, specs);
  take_extent("accepted_states", 1, tensors, specs);
  take_extent("accepted_conv_states", 1, tensors, specs);
  take_extent("accepted_slot", 1, tensors, specs);
  return {to_fields(complete_step(problem)), std::move(specs)};
}

std::size_t gather_step_args(const StepProblem& problem, const StepArgs& args,
                             std::span<TensorView, kMaxStepTensors> tensors) {
  const Uses uses(problem);
  std::size_t count = gather_inputs(problem, args, tensors);
  const auto add = [&](bool used, const TensorView& view) {
    if (used) tensors[count++] = view;
  };
  add(true, args.state_in);
  require(!uses.pool || !args.state_out || args.state_out.data == args.state_in.data,
          "state_out: a pool is updated in place; leave it empty or pass state_in");
  add(uses.pool, args.read_slot);
  add(uses.write_slot, args.write_slot);
  add(uses.state_out, args.state_out ? args.state_out : args.state_in);
  add(uses.num_accepted, args.num_accepted);
  add(uses.accepted_states, args.accepted_states);
  add(uses.accepted_slot, args.accepted_slot);
  add(uses.parent, args.parent);
  add(uses.step_states, args.step_states);
  add(uses.step_slot, args.step_slot);
  count += gather_mixer_args(problem, args, tensors.subspan(count));
  add(uses.output, args.o);
  return count;
}

std::int64_t pack_step(const StepProblem& problem, const StepConfig& config, std::span<const TensorView> tensors,
                       StepParams& params) {
  const Uses uses(problem);
  const std::size_t inputs = LayerUses(problem).count();
  TensorReader reader("gdn.step", tensors, inputs + uses.count() + mixer_tensor_count(problem));
  const std::int64_t B = read_extents(problem, tensors).B;
  require(!problem.exact_batch || B == problem.batch, "{}: B={}, the plan was made for exactly B={}",
          uses.output ? "o" : "k", B, problem.batch);
  if (B == 0) return 0;  // nothing to do, and nothing to check: an empty batch has no memory

  const Extents extents{B, problem.tokens};
  // A convolution takes its inputs one by one.
  const InputVectors vectors{.keys = problem.conv_width > 0 ? 1 : config.key_vector};
  pack_inputs(problem, vectors, extents, reader, params);
  pack_initial_state(problem, config, B, uses, reader, params);
  pack_token_states(problem, config, B, uses, reader, params);
  if (is_mixer(problem)) {
    pack_mixer(problem, B, tensors[inputs].shape[0], reader, static_cast<MixerParams&>(params));
  }
  pack_output(problem, 1, extents, reader, params);
  return B;
}

}  // namespace gdnjit::gdn

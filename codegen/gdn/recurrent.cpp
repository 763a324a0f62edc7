#include "codegen/gdn/recurrent.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <string>
#include <utility>

#include "codegen/fields.h"
#include "codegen/gdn/layer_args.h"
#include "codegen/gdn/options_names.h"
#include "runtime/support/check.h"

namespace gdnjit::gdn {
namespace {

constexpr KernelText kText{.operator_name = "gdn.recurrent",
                           .entry = "gdnjit_gdn_recurrent",
                           .header = "gdn/recurrent.cuh",
                           .kernel = "Recurrent"};

// T beyond this changes nothing about the best tiles.
constexpr std::int64_t kLargestBucketTokens = 1024;

// Which tensors beside the layer's inputs a problem has; the one place that says so.
struct Uses {
  bool cu_seqlens;
  bool state_in;
  bool state_out;
  bool read_slot;
  bool write_slot;
  bool output;

  explicit Uses(const RecurrentProblem& problem)
      : cu_seqlens(problem.ragged),
        state_in(problem.initial_state != StatePlace::none),
        state_out(problem.final_state == StatePlace::dense ||
                  (problem.final_state == StatePlace::pool && problem.initial_state != StatePlace::pool)),
        read_slot(problem.initial_state == StatePlace::pool),
        write_slot(problem.final_state == StatePlace::pool),
        output(problem.write_output) {}

  std::size_t count() const {
    std::size_t count = 0;
    for (const bool used : {cu_seqlens, state_in, state_out, read_slot, write_slot, output}) count += used ? 1 : 0;
    return count;
  }
};

class RecurrentInstance : public LayerInstance {
 public:
  RecurrentInstance(const RecurrentProblem& problem, const StepTiles& tiles, const Target& target)
      : LayerInstance(kText, recurrent_config(problem, tiles), tiles, target), problem_(problem) {}

  std::vector<LaunchGeometry> geometries() const override { return {geometry(problem_.batch)}; }

  void pack(std::span<const TensorView> tensors, TensorMapEncoder&, Call& call) const override {
    StepParams& params = call.add_block<StepParams>();
    const std::int64_t batch = pack_recurrent(problem_, config(), tensors, params);
    if (batch > 0) call.add_launch(geometry(batch), params);
  }

 private:
  RecurrentProblem problem_;
};

class RecurrentOperator : public Operator {
 public:
  std::string_view name() const override { return kText.operator_name; }

  FieldMap complete(const FieldMap& problem) const override { return to_fields(parse(problem)); }

  FieldMap tuning_bucket(const FieldMap& problem) const override {
    RecurrentProblem bucket = parse(problem);
    const auto rounded = [](std::int64_t value) {
      return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(value, 1))));
    };
    bucket.batch = rounded(bucket.batch);
    bucket.tokens = std::min(rounded(bucket.tokens), kLargestBucketTokens);
    return to_fields(bucket);
  }

  FieldMap default_tiles(const FieldMap& problem, const DeviceTraits& device) const override {
    return to_fields(default_step_tiles(layer_of(parse(problem)), device));
  }

  std::vector<FieldMap> search_space(const FieldMap& problem, const DeviceTraits& device) const override {
    std::vector<FieldMap> space;
    for (const StepTiles& tiles : step_search_space(layer_of(parse(problem)), device)) {
      space.push_back(to_fields(tiles));
    }
    return space;
  }

  std::shared_ptr<const Instance> instantiate(const FieldMap& problem, const FieldMap& tiles,
                                              const Target& target) const override {
    return std::make_shared<RecurrentInstance>(parse(problem), from_fields<StepTiles>(tiles), target);
  }

  std::vector<TensorSpec> tensors(const FieldMap& problem) const override { return recurrent_tensors(parse(problem)); }

  CallDescription describe_call(const FieldMap& fields, std::span<const TensorView> tensors) const override {
    return describe_recurrent(parse(fields), tensors);
  }

  Footprint footprint(const FieldMap& fields) const override {
    const RecurrentProblem problem = parse(fields);
    return layer_footprint(layer_of(problem), recurrent_tensors(problem),
                           problem.initial_state != StatePlace::none ? 1 : 0,
                           problem.final_state != StatePlace::none ? 1 : 0, problem.tokens);
  }

 private:
  static RecurrentProblem parse(const FieldMap& fields) {
    return complete_recurrent(from_fields<RecurrentProblem>(fields));
  }
};

void pack_states(const RecurrentProblem& problem, const StepProblem& layer, const StepConfig& config, std::int64_t B,
                 TensorReader& reader, StepParams& params) {
  const Uses uses(problem);
  if (uses.state_in) {
    const TensorView& in = reader.take_states("state_in", layer, config, {uses.read_slot ? kAnyExtent : B});
    params.state_in = in.data;
    params.state_out = in.data;  // a pool has both states
    params.state_in_strides = params.state_out_strides = state_strides(in);
  }
  if (uses.state_out) {
    const TensorView& out = reader.take_states("state_out", layer, config, {uses.write_slot ? kAnyExtent : B});
    params.state_out = out.data;
    params.state_out_strides = state_strides(out);
  }
  if (uses.read_slot) params.read_slot = index_array(reader.take("read_slot", problem.slot_dtype, {B}));
  if (uses.write_slot) params.write_slot = index_array(reader.take("write_slot", problem.slot_dtype, {B}));
}

// The number of sequences: of a ragged batch only cu_seqlens knows it.
std::int64_t sequences(const StepProblem& layer, const Extents& extents, std::span<const TensorView> tensors) {
  const TensorView& cu_seqlens = tensors[LayerUses(layer).count()];
  require(extents.B == 1, "{}: dimension 0 is {}, must be 1: a ragged batch is one row of tokens",
          layer.write_output ? "o" : "k", extents.B);
  require(cu_seqlens.rank == 1, "cu_seqlens: has rank {}, must be 1", cu_seqlens.rank);
  require(cu_seqlens.shape[0] >= 1, "cu_seqlens: dimension 0 is {}, must be 1 more than the number of sequences",
          cu_seqlens.shape[0]);
  return cu_seqlens.shape[0] - 1;
}

}  // namespace

StepProblem layer_of(const RecurrentProblem& problem) {
  StepProblem layer;
  layer.batch = problem.batch;
  layer.tokens = kMaxStepTokens;
  layer.heads_k = problem.heads_k;
  layer.heads_v = problem.heads_v;
  layer.head_dim_k = problem.head_dim_k;
  layer.head_dim_v = problem.head_dim_v;
  layer.io_dtype = problem.io_dtype;
  layer.state_dtype = problem.state_dtype;
  layer.output_dtype = problem.output_dtype;
  layer.gate_dtype = problem.gate_dtype;
  layer.beta_dtype = problem.beta_dtype;
  layer.a_log_dtype = problem.a_log_dtype;
  layer.dt_bias_dtype = problem.dt_bias_dtype;
  layer.slot_dtype = problem.slot_dtype;
  layer.scale = problem.scale;
  layer.norm = problem.norm;
  layer.norm_eps = problem.norm_eps;
  layer.gate = problem.gate;
  layer.gate_lower_bound = problem.gate_lower_bound;
  layer.beta = problem.beta;
  layer.head_map = problem.head_map;
  layer.state_layout = problem.state_layout;
  layer.pad_sentinel = problem.pad_sentinel;
  layer.pad_policy = problem.pad_policy;
  layer.input_layout = problem.input_layout;
  layer.write_output = problem.write_output;
  layer.programmatic = problem.programmatic;
  layer.sum_lanes = problem.sum_lanes;
  layer.state_alignment = problem.state_alignment;
  layer.io_alignment = problem.io_alignment;
  return layer;
}

RecurrentProblem complete_recurrent(RecurrentProblem problem) {
  require(problem.tokens >= 0 && problem.tokens <= std::numeric_limits<int>::max(), "T={}: must be 0 to {}",
          problem.tokens, std::numeric_limits<int>::max());
  require(problem.write_output || problem.final_state != StatePlace::none,
          "write_output=false: with final_state=none nothing is left to compute");
  StepProblem layer = layer_of(problem);
  complete_layer(layer);
  problem.scale = layer.scale;
  return problem;
}

StepConfig recurrent_config(const RecurrentProblem& problem, const StepTiles& tiles) {
  StepConfig config = layer_config(layer_of(problem), tiles);
  config.tokens = 0;
  config.ragged = problem.ragged;
  config.initial_state = problem.initial_state;
  config.final_state = problem.final_state;
  if (config.uses_pool()) {
    config.slot_dtype = problem.slot_dtype;
    config.pad_sentinel = problem.pad_sentinel;
  }
  if (problem.initial_state == StatePlace::pool) config.pad_policy = problem.pad_policy;
  return config;
}

namespace {

std::vector<TensorSpec> tensors_of(const RecurrentProblem& problem, const Extents& extents) {
  const std::int64_t B = problem.batch;
  const StepProblem layer = layer_of(problem);
  const Uses uses(problem);
  std::vector<TensorSpec> tensors;
  add_input_specs(layer, extents, tensors);
  const auto add = [&](std::string_view name, DType dtype, std::vector<std::int64_t> shape,
                       TensorRole role = TensorRole::input) {
    tensors.push_back({std::string(name), dtype, std::move(shape), role});
  };
  if (uses.cu_seqlens) add("cu_seqlens", DType::i32, {B + 1});
  const std::int64_t pool_rows = 2 * B + 3;  // room for other sequences' states
  if (uses.state_in) {
    const bool changes = uses.read_slot && uses.write_slot;
    add("state_in", problem.state_dtype, state_shape(layer, {uses.read_slot ? pool_rows : B}),
        changes ? TensorRole::in_out : TensorRole::input);
  }
  if (uses.state_out) {
    add("state_out", problem.state_dtype, state_shape(layer, {uses.write_slot ? pool_rows : B}),
        uses.write_slot ? TensorRole::in_out : TensorRole::output);
  }
  const auto add_slots = [&](std::string_view name, std::string_view pool) {
    add(name, problem.slot_dtype, {B});
    tensors.back().indexes = pool;
  };
  if (uses.read_slot) add_slots("read_slot", "state_in");
  if (uses.write_slot) add_slots("write_slot", uses.state_out ? "state_out" : "state_in");
  if (uses.output) {
    add("o", problem.output_dtype, {extents.B, extents.T, problem.heads_v, problem.head_dim_v}, TensorRole::output);
  }
  return tensors;
}

}  // namespace

std::vector<TensorSpec> recurrent_tensors(const RecurrentProblem& problem) {
  const std::int64_t B = problem.batch;
  return tensors_of(problem, problem.ragged ? Extents{1, B * problem.tokens} : Extents{B, problem.tokens});
}

CallDescription describe_recurrent(RecurrentProblem problem, std::span<const TensorView> tensors) {
  const StepProblem layer = layer_of(problem);
  const Uses uses(problem);
  const TensorReader number(kText.operator_name, tensors, LayerUses(layer).count() + uses.count());
  const Extents extents = describe_extents(layer, tensors);
  problem.batch = problem.ragged ? sequences(layer, extents, tensors) : extents.B;
  const std::int64_t sharers = problem.ragged ? std::max<std::int64_t>(problem.batch, 1) : 1;
  problem.tokens = (extents.T + sharers - 1) / sharers;
  std::vector<TensorSpec> specs = tensors_of(problem, extents);
  if (uses.read_slot) take_extent("state_in", 0, tensors, specs);
  if (uses.write_slot) take_extent("state_out", 0, tensors, specs);
  return {to_fields(complete_recurrent(problem)), std::move(specs)};
}

std::size_t gather_recurrent_args(const RecurrentProblem& problem, const RecurrentArgs& args,
                                  std::span<TensorView, kMaxRecurrentTensors> tensors) {
  const Uses uses(problem);
  std::size_t count = gather_inputs(layer_of(problem), args, tensors);
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
  add(uses.output, args.o);
  return count;
}

std::int64_t pack_recurrent(const RecurrentProblem& problem, const StepConfig& config,
                            std::span<const TensorView> tensors, StepParams& params) {
  const StepProblem layer = layer_of(problem);
  TensorReader reader(kText.operator_name, tensors, LayerUses(layer).count() + Uses(problem).count());
  const Extents extents = read_extents(layer, tensors);
  const std::int64_t B = problem.ragged ? sequences(layer, extents, tensors) : extents.B;
  if (B == 0) return 0;  // nothing to do, and nothing to check: an empty batch has no memory
  require(extents.T <= std::numeric_limits<int>::max(), "T={}: must be 0 to {}", extents.T,
          std::numeric_limits<int>::max());

  pack_inputs(layer, config, extents, reader, params);
  params.tokens = extents.T;
  if (problem.ragged) params.cu_seqlens = index_array(reader.take("cu_seqlens", DType::i32, {B + 1}));
  pack_states(problem, layer, config, B, reader, params);
  pack_output(layer, extents, reader, params);
  return B;
}

const Operator& recurrent_operator() {
  static const RecurrentOperator instance;
  return instance;
}

}  // namespace gdnjit::gdn

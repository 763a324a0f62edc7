#include "codegen/gdn/recurrent.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <string>
#include <utility>

#include "codegen/fields.h"
#include "codegen/gdn/layer_args.h"
#include "codegen/gdn/options_names.h"
#include "codegen/gdn/sequence_args.h"
#include "runtime/support/check.h"

namespace gdnjit::gdn {
namespace {

constexpr KernelText kText{.space = "gdn",
                           .operator_name = "gdn.recurrent",
                           .entry = "gdnjit_gdn_recurrent",
                           .header = "gdn/recurrent.cuh",
                           .kernel = "Recurrent",
                           .config = "StepConfig",
                           .params = "StepParams",
                           .parameter_bytes = sizeof(StepParams)};

// T beyond this changes nothing about the best tiles.
constexpr std::int64_t kLargestBucketTokens = 1024;

std::size_t tensor_count(const RecurrentProblem& problem) {
  return LayerUses(layer_of(problem)).count() + SequenceUses(problem).count() + (problem.write_output ? 1U : 0U);
}

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
  std::vector<TensorSpec> tensors;
  add_input_specs(layer, extents, tensors);
  const std::int64_t pool_rows = 2 * B + 3;  // room for other sequences' states
  add_sequence_specs(layer, SequenceUses(problem), B, pool_rows, tensors);
  if (problem.write_output) {
    tensors.push_back(
        {"o", problem.output_dtype, {extents.B, extents.T, problem.heads_v, problem.head_dim_v}, TensorRole::output});
  }
  return tensors;
}

}  // namespace

std::vector<TensorSpec> recurrent_tensors(const RecurrentProblem& problem) {
  return tensors_of(problem, extents_of(problem));
}

CallDescription describe_recurrent(RecurrentProblem problem, std::span<const TensorView> tensors) {
  const TensorReader number(kText.operator_name, tensors, tensor_count(problem));
  const Extents extents = describe_sequences(layer_of(problem), tensors, problem);
  std::vector<TensorSpec> specs = tensors_of(problem, extents);
  take_pool_rows(SequenceUses(problem), tensors, specs);
  return {to_fields(complete_recurrent(problem)), std::move(specs)};
}

std::size_t gather_recurrent_args(const RecurrentProblem& problem, const RecurrentArgs& args,
                                  std::span<TensorView, kMaxRecurrentTensors> tensors) {
  std::size_t count = gather_sequence_args(layer_of(problem), problem, args, tensors);
  if (problem.write_output) tensors[count++] = args.o;
  return count;
}

std::int64_t pack_recurrent(const RecurrentProblem& problem, const StepConfig& config,
                            std::span<const TensorView> tensors, StepParams& params) {
  const StepProblem layer = layer_of(problem);
  const SequenceUses uses(problem);
  TensorReader reader(kText.operator_name, tensors, tensor_count(problem));
  const Extents extents = read_extents(layer, tensors);
  const std::int64_t B = count_sequences(layer, problem.ragged, extents, tensors);
  if (B == 0) return 0;  // nothing to do, and nothing to check: an empty batch has no memory
  require(extents.T <= std::numeric_limits<int>::max(), "T={}: must be 0 to {}", extents.T,
          std::numeric_limits<int>::max());

  pack_inputs(layer, {.keys = config.key_vector}, extents, reader, params);
  params.tokens = extents.T;
  const SequenceTensors taken = take_sequence_tensors(layer, uses, config.state_vector, B, reader);
  params.cu_seqlens = taken.cu_seqlens;
  params.state_in = taken.state_in;
  params.state_out = taken.state_out;
  params.state_in_strides = taken.state_in_strides;
  params.state_out_strides = taken.state_out_strides;
  params.read_slot = taken.read_slot;
  params.write_slot = taken.write_slot;
  pack_output(layer, 1, extents, reader, params);
  return B;
}

const Operator& recurrent_operator() {
  static const RecurrentOperator instance;
  return instance;
}

}  // namespace gdnjit::gdn

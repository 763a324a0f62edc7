#include "codegen/gdn/step.h"

#include <algorithm>
#include <bit>
#include <string>

#include "codegen/fields.h"
#include "codegen/gdn/mixer.h"
#include "codegen/gdn/options_names.h"
#include "runtime/support/check.h"

namespace gdnjit::gdn {
namespace {

constexpr KernelText kText{.space = "gdn",
                           .operator_name = "gdn.step",
                           .entry = "gdnjit_gdn_step",
                           .header = "gdn/step.cuh",
                           .kernel = "Step",
                           .config = "StepConfig",
                           .params = "StepParams",
                           .parameter_bytes = sizeof(StepParams)};

// A template of its own, so that kernels without pay nothing for it.
constexpr KernelText kMixerText{.space = "gdn",
                                .operator_name = "gdn.step",
                                .entry = "gdnjit_gdn_step",
                                .header = "gdn/mixer.cuh",
                                .kernel = "MixerStep",
                                .config = "StepConfig",
                                .params = "MixerParams",
                                .parameter_bytes = sizeof(MixerParams)};

KernelText text_of(const StepConfig& config) {
  if (!config.is_mixer()) {
    KernelText text = kText;
    text.quick_compile = config.quick_compile;
    return text;
  }
  KernelText text = kMixerText;
  if (config.fault() == nullptr && config.mixer_blocks() > 1) text.bounds = "Kernel::kThreads, Kernel::kMinBlocks";
  return text;
}

// Default tiles as they are by default: what runs before anything is tuned is to be there soon. (Candidates are
// compiled with all passes, which gains 4 % at B = 1 and 2 and 1 % at most from B = 4 on: docs/kernels/gdn_step.md.)
StepTiles quickly_compiled(const StepProblem& problem, StepTiles tiles) {
  tiles.quick_compile = step_config(problem, tiles).may_compile_quickly();
  return tiles;
}

class StepInstance : public LayerInstance {
 public:
  StepInstance(const StepProblem& problem, const StepTiles& tiles, const Target& target)
      : LayerInstance(text_of(step_config(problem, tiles)), step_config(problem, tiles), tiles, target),
        problem_(problem) {}

  std::vector<LaunchGeometry> geometries() const override { return {geometry(problem_.batch)}; }

  void pack(std::span<const TensorView> tensors, TensorMapEncoder&, Call& call) const override {
    if (is_mixer(problem_)) {
      add_launch(tensors, call.add_block<MixerParams>(), call);
    } else {
      add_launch(tensors, call.add_block<StepParams>(), call);
    }
  }

 private:
  template <typename Params>
  void add_launch(std::span<const TensorView> tensors, Params& params, Call& call) const {
    const std::int64_t batch = pack_step(problem_, config(), tensors, params);
    if (batch > 0) call.add_launch(geometry(batch), params);
  }

  StepProblem problem_;
};

class StepOperator : public Operator {
 public:
  std::string_view name() const override { return kText.operator_name; }

  FieldMap complete(const FieldMap& problem) const override { return to_fields(parse(problem)); }

  FieldMap tuning_bucket(const FieldMap& problem) const override {
    StepProblem bucket = parse(problem);
    const auto batch = static_cast<std::uint64_t>(std::max<std::int64_t>(bucket.batch, 1));
    if (!bucket.exact_batch) bucket.batch = static_cast<std::int64_t>(std::bit_ceil(batch));
    return to_fields(bucket);
  }

  FieldMap default_tiles(const FieldMap& problem, const DeviceTraits& device) const override {
    const StepProblem parsed = parse(problem);
    return to_fields(quickly_compiled(parsed, default_step_tiles(parsed, device)));
  }

  std::vector<FieldMap> search_space(const FieldMap& problem, const DeviceTraits& device) const override {
    const StepProblem parsed = parse(problem);
    const std::vector<StepTiles> candidates = step_search_space(parsed, device);
    const StepTiles first = quickly_compiled(parsed, candidates.front());
    std::vector<FieldMap> space{to_fields(first)};
    for (const StepTiles& tiles : candidates) {
      if (tiles != first) space.push_back(to_fields(tiles));
    }
    return space;
  }

  std::shared_ptr<const Instance> instantiate(const FieldMap& problem, const FieldMap& tiles,
                                              const Target& target) const override {
    return std::make_shared<StepInstance>(parse(problem), from_fields<StepTiles>(tiles), target);
  }

  std::vector<TensorSpec> tensors(const FieldMap& problem) const override { return step_tensors(parse(problem)); }

  CallDescription describe_call(const FieldMap& fields, std::span<const TensorView> tensors) const override {
    return describe_step(parse(fields), tensors);
  }

  Footprint footprint(const FieldMap& fields) const override {
    const StepProblem problem = parse(fields);
    const bool keeps_steps = problem.state_steps != StatePlace::none;
    const std::int64_t written = (problem.update_state ? 1 : 0) + (keeps_steps ? problem.tokens : 0);
    Footprint footprint = layer_footprint(problem, step_tensors(problem), 1, written, problem.tokens);
    add_mixer_footprint(problem, footprint);
    return footprint;
  }

 private:
  static StepProblem parse(const FieldMap& fields) { return complete_step(from_fields<StepProblem>(fields)); }
};

}  // namespace

StepProblem complete_step(StepProblem problem) {
  require(problem.tokens >= 1 && problem.tokens <= kMaxStepTokens, "T={}: must be 1 to {}; gdn.recurrent serves any T",
          problem.tokens, kMaxStepTokens);
  complete_layer(problem);
  const bool pool = problem.state_store == StateStore::pool;
  require(pool || problem.state_steps != StatePlace::pool, "state_steps=pool: needs state_store=pool");
  require(pool || problem.num_accepted != StatePlace::pool, "num_accepted=pool: needs state_store=pool");
  require(problem.write_output || problem.update_state || problem.state_steps != StatePlace::none,
          "write_output=false: with update_state=false and state_steps=none nothing is left to compute");
  check_mixer(problem);
  return problem;
}

StepConfig step_config(const StepProblem& problem, const StepTiles& tiles) {
  StepConfig config = layer_config(problem, tiles);
  const StatePlace place = problem.state_store == StateStore::pool ? StatePlace::pool : StatePlace::dense;
  config.batch = problem.exact_batch ? static_cast<int>(problem.batch) : 0;
  config.initial_state = place;
  config.final_state = problem.update_state ? place : StatePlace::none;
  config.state_steps = problem.state_steps;
  config.num_accepted = problem.num_accepted;
  config.tree = problem.tree && problem.tokens > 1;  // a single token has no choice
  if (place == StatePlace::pool) {
    config.slot_dtype = problem.slot_dtype;
    config.pad_sentinel = problem.pad_sentinel;
    config.pad_policy = problem.pad_policy;
  }
  return config;
}

const Operator& step_operator() {
  static const StepOperator instance;
  return instance;
}

}  // namespace gdnjit::gdn

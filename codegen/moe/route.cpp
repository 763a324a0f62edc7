#include "codegen/moe/route.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <memory>
#include <numeric>

#include "codegen/fields.h"
#include "codegen/kernel_text.h"
#include "codegen/moe/options_names.h"
#include "codegen/tensor_reader.h"
#include "runtime/support/check.h"

namespace gdnjit::moe {
namespace {

constexpr KernelText kText{.space = "moe",
                           .operator_name = "moe.route",
                           .entry = "gdnjit_moe_route",
                           .header = "moe/route.cuh",
                           .kernel = "Route",
                           .config = "RouteConfig",
                           .params = "RouteParams",
                           .parameter_bytes = sizeof(RouteParams)};

// M beyond this changes nothing about the best tiles.
constexpr std::int64_t kLargestBucketTokens = 16384;

constexpr std::array kWarps{1, 2, 4, 8};

std::size_t tensor_count(const RouteProblem& problem) {
  return 3U + (problem.router_bias ? 1U : 0U) + (problem.selection_bias ? 1U : 0U);
}

class RouteInstance : public Instance {
 public:
  RouteInstance(const RouteProblem& problem, const RouteTiles& tiles, const Target& target)
      : problem_(problem), config_(route_config(problem, tiles)) {
    const char* fault = config_.fault();
    require(fault == nullptr, "tiles {}: {}", fields_text(to_fields(tiles)), fault == nullptr ? "" : fault);
    check_programmatic(config_.programmatic, target);
    spec_ = kernel_spec(kText, fmt::format("{} {}", kText.operator_name, fields_text(to_fields(config_))),
                        designated_initializer(config_), config_.threads(), target);
  }

  std::span<const KernelSpec> kernels() const override { return {&spec_, 1}; }

  std::vector<LaunchGeometry> geometries() const override { return {geometry(problem_.tokens)}; }

  void pack(std::span<const TensorView> tensors, TensorMapEncoder&, Call& call) const override {
    RouteParams& params = call.add_block<RouteParams>();
    const std::int64_t tokens = pack_route(problem_, config_, tensors, params);
    if (tokens > 0) call.add_launch(geometry(tokens), params);
  }

 private:
  LaunchGeometry geometry(std::int64_t tokens) const {
    const long long blocks = config_.grid(tokens);
    require(blocks <= 0x7fffffffLL, "M={}: a grid of {} blocks is more than a launch can hold", tokens, blocks);
    LaunchGeometry geometry;
    geometry.grid[0] = static_cast<std::uint32_t>(blocks);
    geometry.block[0] = static_cast<std::uint32_t>(config_.threads());
    geometry.programmatic = config_.programmatic;
    return geometry;
  }

  RouteProblem problem_;
  RouteConfig config_;
  KernelSpec spec_;
};

class RouteOperator : public Operator {
 public:
  std::string_view name() const override { return kText.operator_name; }

  FieldMap complete(const FieldMap& problem) const override { return to_fields(parse(problem)); }

  FieldMap tuning_bucket(const FieldMap& problem) const override {
    RouteProblem bucket = parse(problem);
    const auto tokens = std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(bucket.tokens, 1)));
    bucket.tokens = std::min(static_cast<std::int64_t>(tokens), kLargestBucketTokens);
    return to_fields(bucket);
  }

  // Tokens alone in their blocks start soonest and spread over all SMs. An SM holds 32 blocks, so beyond that wider
  // ones are needed to fill it.
  FieldMap default_tiles(const FieldMap& problem, const DeviceTraits& device) const override {
    const std::int64_t tokens = parse(problem).tokens;
    const bool few = tokens <= std::int64_t{device.sm_count} * device.blocks_per_sm;
    return to_fields(RouteTiles{.warps = few ? 1 : 4});
  }

  std::vector<FieldMap> search_space(const FieldMap& problem, const DeviceTraits& device) const override {
    std::vector<FieldMap> space{default_tiles(problem, device)};
    for (const int warps : kWarps) {
      FieldMap tiles = to_fields(RouteTiles{.warps = warps});
      if (tiles != space.front()) space.push_back(std::move(tiles));
    }
    return space;
  }

  std::shared_ptr<const Instance> instantiate(const FieldMap& problem, const FieldMap& tiles,
                                              const Target& target) const override {
    return std::make_shared<RouteInstance>(parse(problem), from_fields<RouteTiles>(tiles), target);
  }

  std::vector<TensorSpec> tensors(const FieldMap& problem) const override { return route_tensors(parse(problem)); }

  CallDescription describe_call(const FieldMap& fields, std::span<const TensorView> tensors) const override {
    RouteProblem problem = parse(fields);
    const TensorReader number(kText.operator_name, tensors, tensor_count(problem));
    require(tensors[0].rank == 2, "logits: has rank {}, must be 2", tensors[0].rank);
    problem.tokens = extent(tensors[0], 0);
    return {to_fields(problem), route_tensors(problem)};
  }

  Footprint footprint(const FieldMap& fields) const override {
    const RouteProblem problem = parse(fields);
    Footprint footprint;
    for (const TensorSpec& tensor : route_tensors(problem)) {
      const std::int64_t elements =
          std::accumulate(tensor.shape.begin(), tensor.shape.end(), std::int64_t{1}, std::multiplies<>());
      (is_read(tensor.role) ? footprint.bytes_read : footprint.bytes_written) += elements * dtype_bytes(tensor.dtype);
    }
    // A maximum over all experts for each slot, as the definition has it.
    footprint.flops = problem.tokens * problem.experts * problem.top_k;
    return footprint;
  }

 private:
  static RouteProblem parse(const FieldMap& fields) { return complete_route(from_fields<RouteProblem>(fields)); }
};

// Elements of logits and biases that one access may take.
int access_elements(const RouteProblem& problem, const RouteConfig& config) {
  const int run = std::gcd(config.lane_experts(), config.group_experts());
  int vector = vector_elements(problem.logits_dtype, run, problem.alignment);
  if (problem.router_bias || problem.selection_bias) {
    vector = std::min(vector, vector_elements(problem.bias_dtype, run, problem.alignment));
  }
  return vector;
}

}  // namespace

RouteProblem complete_route(RouteProblem problem) {
  require(problem.tokens >= 0, "M={}: must not be negative", problem.tokens);
  require(problem.experts >= 1 && problem.experts <= kMaxExperts, "E={}: must be 1 to {}", problem.experts,
          kMaxExperts);
  require(problem.top_k >= 1 && problem.top_k <= kMaxTopK, "k={}: must be 1 to {}", problem.top_k, kMaxTopK);
  require(problem.top_k <= problem.experts, "k={}: must be at most E={}", problem.top_k, problem.experts);
  require(problem.groups >= 1 && problem.groups <= kMaxGroups, "groups={}: must be 1 to {}", problem.groups,
          static_cast<int>(kMaxGroups));
  require(problem.experts % problem.groups == 0, "groups={}: must divide E={}", problem.groups, problem.experts);
  require(problem.groups_kept >= 1 && problem.groups_kept <= problem.groups, "groups_kept={}: must be 1 to groups={}",
          problem.groups_kept, problem.groups);
  const int experts = problem.experts / problem.groups;
  require(problem.groups_kept * experts >= problem.top_k,
          "groups_kept={}: {} experts in each are fewer than k={} together", problem.groups_kept, experts,
          problem.top_k);
  require(problem.groups == 1 || problem.group_score == GroupScore::max || experts >= 2,
          "group_score=top2_sum: groups={} has one expert in each", problem.groups);
  require(std::isfinite(problem.scaling), "scaling={}: must be finite", problem.scaling);
  require(problem.softcap == 0 || std::isnormal(problem.softcap), "softcap={}: must be finite", problem.softcap);
  require(problem.softcap >= 0, "softcap={}: must not be negative (0 is none)", problem.softcap);
  require_float("logits", problem.logits_dtype);
  require_float("bias_dtype", problem.bias_dtype);
  require(problem.id_dtype == DType::i32 || problem.id_dtype == DType::i64, "id_dtype={}: must be i32 or i64",
          enum_name(problem.id_dtype));
  require(problem.alignment > 0 && std::has_single_bit(static_cast<unsigned>(problem.alignment)),
          "alignment={}: must be a power of two", problem.alignment);
  const bool biased = problem.router_bias || problem.selection_bias;
  const int element = std::max(dtype_bytes(problem.logits_dtype), biased ? dtype_bytes(problem.bias_dtype) : 1);
  require(problem.alignment >= element, "alignment={}: must hold one element of {} bytes", problem.alignment, element);
  return problem;
}

RouteConfig route_config(const RouteProblem& problem, const RouteTiles& tiles) {
  RouteConfig config;
  config.experts = problem.experts;
  config.top_k = problem.top_k;
  config.scoring = problem.scoring;
  config.renormalize = problem.renormalize && problem.scoring != Scoring::topk_softmax;
  config.selection_bias = problem.selection_bias;
  config.router_bias = problem.router_bias;
  if (problem.groups_kept < problem.groups) {
    config.groups = problem.groups;
    config.groups_kept = problem.groups_kept;
    config.group_score = problem.group_score;
  }
  config.scaling = problem.scaling;
  config.softcap = problem.softcap;
  config.logits_dtype = problem.logits_dtype;
  if (problem.router_bias || problem.selection_bias) config.bias_dtype = problem.bias_dtype;
  config.id_dtype = problem.id_dtype;
  config.programmatic = problem.programmatic;
  if (config.scoring == Scoring::softmax && config.renormalize && config.chooses_by_logits()) {
    config.scoring = Scoring::topk_softmax;
    config.renormalize = false;
  }
  config.vector = access_elements(problem, config);
  config.warps = tiles.warps;
  return config;
}

std::vector<TensorSpec> route_tensors(const RouteProblem& problem) {
  const std::int64_t M = problem.tokens, E = problem.experts, k = problem.top_k;
  std::vector<TensorSpec> tensors{{"logits", problem.logits_dtype, {M, E}}};
  if (problem.router_bias) tensors.push_back({"router_bias", problem.bias_dtype, {E}});
  if (problem.selection_bias) tensors.push_back({"selection_bias", problem.bias_dtype, {E}});
  tensors.push_back({"topk_weights", DType::f32, {M, k}, TensorRole::output});
  tensors.push_back({"topk_ids", problem.id_dtype, {M, k}, TensorRole::output});
  return tensors;
}

std::size_t gather_route_args(const RouteProblem& problem, const RouteArgs& args,
                              std::span<TensorView, kMaxRouteTensors> tensors) {
  std::size_t count = 0;
  tensors[count++] = args.logits;
  if (problem.router_bias) tensors[count++] = args.router_bias;
  if (problem.selection_bias) tensors[count++] = args.selection_bias;
  tensors[count++] = args.topk_weights;
  tensors[count++] = args.topk_ids;
  return count;
}

std::int64_t pack_route(const RouteProblem& problem, const RouteConfig& config, std::span<const TensorView> tensors,
                        RouteParams& params) {
  TensorReader reader(kText.operator_name, tensors, tensor_count(problem));
  require(tensors[0].rank == 2, "logits: has rank {}, must be 2", tensors[0].rank);
  const std::int64_t M = extent(tensors[0], 0);
  if (M == 0) return 0;  // nothing to do, and nothing to check: an empty batch has no memory
  const std::int64_t E = problem.experts, k = problem.top_k;
  const TensorView& logits = reader.take_dense("logits", problem.logits_dtype, {M, E}, 1);
  require_aligned("logits", logits, 1, config.vector, "alignment");
  params.logits = logits.data;
  params.logits_row = stride(logits, 0);
  const auto take_bias = [&](std::string_view name) {
    const TensorView& bias = reader.take_dense(name, problem.bias_dtype, {E}, 1);
    require_aligned(name, bias, 0, config.vector, "alignment");
    return bias.data;
  };
  if (problem.router_bias) params.router_bias = take_bias("router_bias");
  if (problem.selection_bias) params.selection_bias = take_bias("selection_bias");
  const TensorView& weights = reader.take_dense("topk_weights", DType::f32, {M, k}, 1);
  params.weights = static_cast<float*>(weights.data);
  params.weights_row = stride(weights, 0);
  const TensorView& ids = reader.take_dense("topk_ids", problem.id_dtype, {M, k}, 1);
  params.ids = ids.data;
  params.ids_row = stride(ids, 0);
  params.tokens = M;
  return M;
}

const Operator& route_operator() {
  static const RouteOperator instance;
  return instance;
}

}  // namespace gdnjit::moe

#include "codegen/moe/forward.h"

#include <algorithm>
#include <array>
#include <bit>
#include <memory>
#include <string>
#include <utility>

#include "codegen/fields.h"
#include "codegen/moe/experts.h"
#include "codegen/moe/options_names.h"
#include "codegen/moe/products.h"
#include "codegen/moe/route.h"
#include "runtime/support/check.h"

namespace gdnjit::moe {
namespace {

static_assert(every_field_visited<ForwardProblem>());

constexpr std::string_view kName = "moe.forward";
constexpr std::int64_t kPartAlignment = 128;

std::int64_t aligned(std::int64_t bytes) { return (bytes + kPartAlignment - 1) / kPartAlignment * kPartAlignment; }

// What lies in the workspace: the tensors by which the parts hand on their results, then the parts' own workspaces.
enum Internal : std::size_t { kIds, kWeights, kH, kSharedWeights, kInternals };
constexpr std::array<std::string_view, kInternals> kInternalNames{"topk_ids", "topk_weights", "h", "shared_weights"};

// Which of them a problem has there, for M tokens.
std::array<TensorView, kInternals> internals_of(const ForwardProblem& problem, std::int64_t M) {
  const ExpertsProblem experts = experts_of(problem);
  std::array<TensorView, kInternals> views;
  if (problem.route) {
    views[kIds] = TensorView::dense(nullptr, problem.id_dtype, {M, problem.top_k});
    views[kWeights] = TensorView::dense(nullptr, DType::f32, {M, problem.top_k});
  }
  views[kH] = TensorView::dense(nullptr, problem.h_dtype, {M, slots_of(experts), h_row_of(experts)});
  if (problem.shared_gate) views[kSharedWeights] = TensorView::dense(nullptr, DType::f32, {M});
  return views;
}

std::int64_t bytes_of(const TensorView& view) { return view.rank == 0 ? 0 : view.elements() * dtype_bytes(view.dtype); }

std::int64_t internal_bytes(const ForwardProblem& problem, std::int64_t M) {
  std::int64_t bytes = 0;
  for (const TensorView& view : internals_of(problem, M)) bytes += aligned(bytes_of(view));
  return bytes;
}

std::vector<OperatorPart> parts_of(const ForwardProblem& problem) {
  std::vector<OperatorPart> parts;
  if (problem.route) parts.push_back({"route", &route_operator(), to_fields(route_of(problem))});
  parts.push_back({"up", &up_operator(), to_fields(experts_of(problem))});
  parts.push_back({"down", &down_operator(), to_fields(experts_of(problem))});
  return parts;
}

// A part and where it finds each of its tensors.
class PartInstance {
 public:
  PartInstance(std::shared_ptr<const Instance> instance, std::size_t first_kernel, const std::vector<TensorSpec>& own,
               const ForwardProblem& problem, const std::vector<TensorSpec>& all)
      : instance_(std::move(instance)), first_kernel_(first_kernel) {
    const auto internals = internals_of(problem, 1);
    for (const TensorSpec& spec : own) {
      GDNJIT_CHECK(count_ < places_.size(), "{}: a part with more than {} tensors", kName, places_.size());
      places_[count_++] = place_of(spec.name, internals, all);
    }
  }

  const Instance& instance() const { return *instance_; }

  void pack(std::span<const TensorView> tensors, const std::array<TensorView, kInternals>& internals,
            const TensorView& workspace, TensorMapEncoder& encoder, Call& call) const {
    std::array<TensorView, kMaxForwardTensors> own;
    for (std::size_t i = 0; i < count_; ++i) {
      const std::size_t place = places_[i];
      own[i] = place == kWorkspace ? workspace : place >= kInside ? internals[place - kInside] : tensors[place];
    }
    call.start_at(first_kernel_);
    instance_->pack(std::span<const TensorView>(own).first(count_), encoder, call);
  }

 private:
  // A tensor of the call by its place in it, of the workspace behind kInside.
  static constexpr std::size_t kInside = 1000, kWorkspace = 2000;

  static std::size_t place_of(const std::string& name, const std::array<TensorView, kInternals>& internals,
                              const std::vector<TensorSpec>& all) {
    if (name == "workspace") return kWorkspace;
    const auto inside = std::find(kInternalNames.begin(), kInternalNames.end(), name);
    const auto index = static_cast<std::size_t>(inside - kInternalNames.begin());
    if (inside != kInternalNames.end() && internals[index].rank > 0) return kInside + index;
    const auto found = std::find_if(all.begin(), all.end(), [&](const TensorSpec& spec) { return spec.name == name; });
    GDNJIT_CHECK(found != all.end(), "{} has no tensor {}", kName, name);
    return static_cast<std::size_t>(found - all.begin());
  }

  std::shared_ptr<const Instance> instance_;
  std::size_t first_kernel_;
  std::array<std::size_t, kMaxForwardTensors> places_{};
  std::size_t count_ = 0;
};

class ForwardInstance : public Instance {
 public:
  ForwardInstance(const ForwardProblem& problem, const FieldMap& tiles, const Target& target)
      : problem_(problem), specs_(forward_tensors(problem)) {
    for (const TensorSpec& spec : specs_) {
      if (spec.name == "x") x_ = static_cast<std::size_t>(&spec - specs_.data());
    }
    for (OperatorPart& part : parts_of(problem)) {
      // What starts the call waits if the caller wants it so. The others wait before they read what they must wait for.
      const bool overlaps = parts_.empty() ? problem.programmatic : has_programmatic_launch(target);
      set_field(part.problem, "programmatic", value_text(overlaps));
      auto instance = part.op->instantiate(part.problem, subfields(tiles, part.name), target);
      const std::span<const KernelSpec> own = instance->kernels();
      const std::size_t first_kernel = kernels_.size();
      kernels_.insert(kernels_.end(), own.begin(), own.end());
      parts_.emplace_back(std::move(instance), first_kernel, part.op->tensors(part.problem), problem, specs_);
    }
  }

  std::span<const KernelSpec> kernels() const override { return kernels_; }

  std::vector<LaunchGeometry> geometries() const override {
    std::vector<LaunchGeometry> all;
    for (const PartInstance& part : parts_) {
      const std::vector<LaunchGeometry> own = part.instance().geometries();
      all.insert(all.end(), own.begin(), own.end());
    }
    return all;
  }

  void pack(std::span<const TensorView> tensors, TensorMapEncoder& encoder, Call& call) const override {
    require(tensors.size() == specs_.size(), "{}: {} tensors given, the problem has {}", kName, tensors.size(),
            specs_.size());
    const TensorView& x = tensors[x_];
    require(x.rank == 2, "x: has rank {}, must be 2", x.rank);
    const std::int64_t M = x.shape[0];
    if (M == 0) return;
    const TensorView& workspace = tensors[tensors.size() - 2];
    check_workspace(workspace, M);
    auto* at = static_cast<std::byte*>(workspace.data);
    auto internals = internals_of(problem_, M);
    for (TensorView& view : internals) {
      if (view.rank == 0) continue;
      view.data = at;
      at += aligned(bytes_of(view));
    }
    for (const PartInstance& part : parts_) {
      const std::int64_t bytes = part.instance().workspace_bytes(1, M);
      part.pack(tensors, internals, TensorView::dense(bytes > 0 ? at : nullptr, DType::u8, {bytes}), encoder, call);
      at += aligned(bytes);
    }
  }

  std::int64_t workspace_bytes(std::int64_t sequences, std::int64_t tokens) const override {
    const std::int64_t M = sequences * tokens;
    std::int64_t bytes = internal_bytes(problem_, M);
    for (const PartInstance& part : parts_) bytes += aligned(part.instance().workspace_bytes(1, M));
    return bytes;
  }

 private:
  void check_workspace(const TensorView& workspace, std::int64_t M) const {
    const std::int64_t given = workspace.rank == 1 && workspace.dtype == DType::u8 ? workspace.shape[0] : 0;
    const std::int64_t needed = workspace_bytes(1, M);
    require(given >= needed,
            "workspace: has {} bytes, M={} needs {} (u8, rank 1); ForwardPlan::workspace_bytes() says how many", given,
            M, needed);
    require(reinterpret_cast<std::uintptr_t>(workspace.data) % kPartAlignment == 0,
            "workspace: address {} is not a multiple of {} bytes", workspace.data, kPartAlignment);
  }

  ForwardProblem problem_;
  std::vector<TensorSpec> specs_;
  std::size_t x_ = 0;
  std::vector<PartInstance> parts_;
  std::vector<KernelSpec> kernels_;
};

class ForwardOperator : public Operator {
 public:
  std::string_view name() const override { return kName; }

  FieldMap complete(const FieldMap& problem) const override { return to_fields(parse(problem)); }

  FieldMap tuning_bucket(const FieldMap& problem) const override {
    ForwardProblem bucket = parse(problem);
    const FieldMap up = up_operator().tuning_bucket(to_fields(experts_of(bucket)));
    parse_field("M", find_field(up, "M").value_or("1"), bucket.tokens);
    return to_fields(bucket);
  }

  FieldMap default_tiles(const FieldMap& problem, const DeviceTraits& device) const override {
    FieldMap tiles;
    for (const OperatorPart& part : parts(problem)) {
      add_subfields(tiles, part.name, part.op->default_tiles(part.problem, device));
    }
    return tiles;
  }

  // The parts are tuned by themselves.
  std::vector<FieldMap> search_space(const FieldMap& problem, const DeviceTraits& device) const override {
    return {default_tiles(problem, device)};
  }

  std::shared_ptr<const Instance> instantiate(const FieldMap& problem, const FieldMap& tiles,
                                              const Target& target) const override {
    return std::make_shared<ForwardInstance>(parse(problem), tiles, target);
  }

  std::vector<TensorSpec> tensors(const FieldMap& problem) const override { return forward_tensors(parse(problem)); }

  CallDescription describe_call(const FieldMap& fields, std::span<const TensorView> tensors) const override {
    ForwardProblem problem = parse(fields);
    std::vector<TensorSpec> specs = forward_tensors(problem);
    const TensorReader number(kName, tensors, specs.size());
    for (std::size_t i = 0; i < specs.size(); ++i) {
      if (specs[i].name == "x" && tensors[i].rank == 2) problem.tokens = tensors[i].shape[0];
    }
    specs = forward_tensors(problem);
    for (std::size_t i = 0; i < specs.size(); ++i) {
      const bool own_extent = specs[i].name == "expert_map" || specs[i].name == "workspace";
      if (own_extent && tensors[i].rank == 1) specs[i].shape[0] = tensors[i].shape[0];
    }
    return {to_fields(problem), std::move(specs)};
  }

  Footprint footprint(const FieldMap& problem) const override {
    Footprint sum;
    for (const OperatorPart& part : parts(problem)) {
      const Footprint own = part.op->footprint(part.problem);
      sum.bytes_read += own.bytes_read;
      sum.bytes_written += own.bytes_written;
      sum.flops += own.flops;
    }
    return sum;
  }

  std::vector<OperatorPart> parts(const FieldMap& problem) const override { return parts_of(parse(problem)); }
  bool runs_all_parts() const override { return true; }

 private:
  static ForwardProblem parse(const FieldMap& fields) { return complete_forward(from_fields<ForwardProblem>(fields)); }
};

}  // namespace

RouteProblem route_of(const ForwardProblem& problem) {
  RouteProblem route;
  route.tokens = problem.tokens;
  route.experts = problem.router_experts;
  route.top_k = problem.top_k;
  route.scoring = problem.scoring;
  route.renormalize = problem.renormalize;
  route.selection_bias = problem.selection_bias;
  route.router_bias = problem.router_bias;
  route.groups = problem.groups;
  route.groups_kept = problem.groups_kept;
  route.group_score = problem.group_score;
  route.scaling = problem.scaling;
  route.softcap = problem.softcap;
  route.logits_dtype = problem.logits_dtype;
  route.bias_dtype = problem.router_bias_dtype;
  route.id_dtype = problem.id_dtype;
  route.programmatic = problem.programmatic;
  return route;
}

ExpertsProblem experts_of(const ForwardProblem& problem) {
  ExpertsProblem experts;
  experts.tokens = problem.tokens;
  experts.hidden_size = problem.hidden_size;
  experts.intermediate_size = problem.intermediate_size;
  experts.experts = problem.experts;
  experts.top_k = problem.top_k;
  experts.io_dtype = problem.io_dtype;
  experts.h_dtype = problem.h_dtype;
  experts.output_dtype = problem.output_dtype;
  experts.id_dtype = problem.id_dtype;
  experts.weights = problem.weights;
  experts.group_size = problem.group_size;
  experts.scale_dtype = problem.scale_dtype;
  experts.zero_point = problem.zero_point;
  experts.activations = problem.activations;
  experts.activation = problem.activation;
  experts.swiglu_alpha = problem.swiglu_alpha;
  experts.swiglu_limit = problem.swiglu_limit;
  experts.gate_order = problem.gate_order;
  experts.up_bias = problem.up_bias;
  experts.down_bias = problem.down_bias;
  experts.bias_dtype = problem.bias_dtype;
  experts.expert_map = problem.expert_map;
  experts.shared_size = problem.shared_size;
  experts.shared_gate = problem.shared_gate;
  experts.batch_invariant = problem.batch_invariant;
  return experts;
}

ForwardProblem complete_forward(ForwardProblem problem) {
  complete_experts(experts_of(problem));
  if (problem.router_experts == 0) problem.router_experts = problem.experts;
  require(problem.expert_map || problem.router_experts == problem.experts,
          "router_experts={}: must be E={} without an expert_map", problem.router_experts, problem.experts);
  if (problem.route) complete_route(route_of(problem));
  return problem;
}

std::vector<TensorSpec> forward_tensors(const ForwardProblem& problem) {
  const auto internals = internals_of(problem, problem.tokens);
  std::vector<TensorSpec> tensors;
  std::int64_t workspace = internal_bytes(problem, problem.tokens);
  for (const OperatorPart& part : parts_of(problem)) {
    for (const TensorSpec& spec : part.op->tensors(part.problem)) {
      const auto inside = std::find(kInternalNames.begin(), kInternalNames.end(), spec.name);
      const bool is_internal = inside != kInternalNames.end() &&
                               internals[static_cast<std::size_t>(inside - kInternalNames.begin())].rank > 0;
      const bool known =
          std::any_of(tensors.begin(), tensors.end(), [&](const auto& t) { return t.name == spec.name; });
      if (spec.name == "workspace") workspace += aligned(spec.shape[0]);
      if (is_internal || known || spec.name == "workspace" || spec.name == "y") continue;
      tensors.push_back(spec);
    }
  }
  if (problem.expert_map) {
    for (TensorSpec& spec : tensors) {
      if (spec.name == "expert_map") spec.shape[0] = problem.router_experts;
    }
  }
  tensors.push_back({"workspace", DType::u8, {workspace}, TensorRole::scratch});
  tensors.push_back({"y", problem.output_dtype, {problem.tokens, problem.hidden_size}, TensorRole::output});
  return tensors;
}

std::size_t gather_forward_args(const ForwardProblem& problem, const ForwardArgs& args,
                                std::span<TensorView, kMaxForwardTensors> tensors) {
  const ExpertsProblem experts = experts_of(problem);
  const ExpertsUses uses(experts);
  std::size_t count = 0;
  const auto add = [&](bool used, const TensorView& view) {
    if (used) tensors[count++] = view;
  };
  add(problem.route, args.logits);
  add(problem.route && problem.router_bias, args.router_bias);
  add(problem.route && problem.selection_bias, args.selection_bias);
  add(true, args.x);
  add(!problem.route, args.topk_ids);
  add(uses.expert_map, args.expert_map);
  count += gather_weights(experts, args.w1, uses.up_bias, tensors.subspan(count));
  if (uses.shared) count += gather_weights(experts, args.shared_w1, uses.up_bias, tensors.subspan(count));
  add(uses.shared_gate, args.shared_gate);
  add(!problem.route, args.topk_weights);
  count += gather_weights(experts, args.w2, uses.down_bias, tensors.subspan(count));
  if (uses.shared) count += gather_weights(experts, args.shared_w2, uses.down_bias, tensors.subspan(count));
  add(true, args.workspace);
  add(true, args.y);
  return count;
}

const Operator& forward_operator() {
  static const ForwardOperator instance;
  return instance;
}

}  // namespace gdnjit::moe

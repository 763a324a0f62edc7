#include "codegen/moe/products.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "codegen/fields.h"
#include "codegen/moe/grouped.h"
#include "codegen/moe/matvec.h"
#include "codegen/moe/options_names.h"
#include "runtime/support/check.h"

namespace gdnjit::moe {
namespace {

static_assert(every_field_visited<ExpertsProblem>() && every_field_visited<ProductTiles>());

// M beyond this changes nothing about the best tiles.
constexpr std::int64_t kLargestBucketTokens = 16384;

// Which classes a search looks at: around the crossover both.
constexpr std::int64_t kMostMatvecTokens = 256, kLeastGroupedTokens = 16;

class MatvecInstance : public Instance {
 public:
  MatvecInstance(const ExpertsProblem& problem, const MatvecTiles& tiles, bool down, const Target& target)
      : problem_(problem), kernel_(problem, tiles, down, target) {}

  std::span<const KernelSpec> kernels() const override { return {&kernel_.spec(), 1}; }
  std::vector<LaunchGeometry> geometries() const override { return {kernel_.geometry(problem_.tokens)}; }

  void pack(std::span<const TensorView> tensors, TensorMapEncoder&, Call& call) const override {
    MatvecParams& params = call.add_block<MatvecParams>();
    const MatvecConfig& config = kernel_.config();
    TensorView workspace;  // of no use here
    const std::int64_t tokens = config.down ? pack_down(problem_, config.weight_vector, tensors, params, workspace)
                                            : pack_up(problem_, config.weight_vector, tensors, params, workspace);
    if (tokens > 0) call.add_launch(kernel_.geometry(tokens), params);
  }

 private:
  ExpertsProblem problem_;
  MatvecKernel kernel_;
};

class ProductOperator : public Operator {
 public:
  explicit ProductOperator(bool down) : down_(down) {}

  std::string_view name() const override { return down_ ? "moe.down" : "moe.up"; }

  FieldMap complete(const FieldMap& problem) const override { return to_fields(parse(problem)); }

  FieldMap tuning_bucket(const FieldMap& problem) const override {
    ExpertsProblem bucket = parse(problem);
    const auto tokens = static_cast<std::uint64_t>(std::max<std::int64_t>(bucket.tokens, 1));
    bucket.tokens = std::min(static_cast<std::int64_t>(std::bit_ceil(tokens)), kLargestBucketTokens);
    if (bucket.batch_invariant) bucket.tokens = 1;
    return to_fields(bucket);
  }

  FieldMap default_tiles(const FieldMap& problem, const DeviceTraits& device) const override {
    const ExpertsProblem parsed = parse(problem);
    if (prefers_matvec(parsed)) return fields_of(default_matvec_tiles(parsed, down_, device));
    return fields_of(default_grouped_tiles(parsed, down_, device));
  }

  std::vector<FieldMap> search_space(const FieldMap& problem, const DeviceTraits& device) const override {
    const ExpertsProblem parsed = parse(problem);
    std::vector<FieldMap> matvec, grouped;
    const bool only_grouped = parsed.activations == ActivationFormat::fp8;
    if (!only_grouped && (parsed.tokens <= kMostMatvecTokens || parsed.batch_invariant)) {
      for (const MatvecTiles& tiles : matvec_search_space(parsed, down_, device)) matvec.push_back(fields_of(tiles));
    }
    if (only_grouped || (parsed.tokens >= kLeastGroupedTokens && !parsed.batch_invariant)) {
      for (const GroupedTiles& tiles : grouped_search_space(parsed, down_, device)) grouped.push_back(fields_of(tiles));
    }
    std::vector<FieldMap> space = prefers_matvec(parsed) ? std::move(matvec) : std::move(grouped);
    std::vector<FieldMap>& others = prefers_matvec(parsed) ? grouped : matvec;
    std::move(others.begin(), others.end(), std::back_inserter(space));
    return space;
  }

  std::shared_ptr<const Instance> instantiate(const FieldMap& problem, const FieldMap& fields,
                                              const Target& target) const override {
    const auto tiles = from_fields<ProductTiles>(fields);
    const ExpertsProblem parsed = parse(problem);
    if (tiles.path == ExpertPath::matvec) {
      require(parsed.activations == ActivationFormat::io,
              "path=matvec: takes x and h as they are, activations=fp8 needs path=wgmma");
      return std::make_shared<MatvecInstance>(parsed, of_class<MatvecTiles>(tiles), down_, target);
    }
    return make_grouped(parsed, of_class<GroupedTiles>(tiles), down_, target);
  }

  std::vector<TensorSpec> tensors(const FieldMap& problem) const override { return tensors_of(parse(problem)); }

  CallDescription describe_call(const FieldMap& fields, std::span<const TensorView> tensors) const override {
    ExpertsProblem problem = parse(fields);
    std::vector<TensorSpec> specs = tensors_of(problem);
    const TensorReader number(name(), tensors, specs.size());
    require(tensors[0].rank == static_cast<int>(specs[0].shape.size()), "{}: has rank {}, must be {}", specs[0].name,
            tensors[0].rank, specs[0].shape.size());
    problem.tokens = tensors[0].shape[0];
    specs = tensors_of(problem);
    for (std::size_t i = 0; i < specs.size(); ++i) {
      if (specs[i].name == "expert_map" && tensors[i].rank == 1) specs[i].shape[0] = tensors[i].shape[0];
    }
    return {to_fields(problem), std::move(specs)};
  }

  Footprint footprint(const FieldMap& fields) const override {
    const ExpertsProblem problem = parse(fields);
    Footprint footprint;
    for (const TensorSpec& tensor : tensors_of(problem)) {
      if (is_weight(tensor.name) || tensor.role == TensorRole::scratch) continue;
      std::int64_t bytes = dtype_bytes(tensor.dtype);
      for (const std::int64_t extent : tensor.shape) bytes *= extent;
      (is_written(tensor.role) ? footprint.bytes_written : footprint.bytes_read) += bytes;
    }
    const auto shape = [&](bool shared) { return down_ ? down_shape(problem, shared) : up_shape(problem, shared); };
    const double experts = expected_experts(problem, problem.tokens);
    footprint.bytes_read +=
        static_cast<std::int64_t>(experts * static_cast<double>(weight_bytes(problem, shape(false))));
    const auto flops = [&](const ProductShape& of) { return 2LL * of.rows * of.columns; };
    footprint.flops = problem.tokens * problem.top_k * flops(shape(false));
    if (problem.shared_size > 0 && problem.tokens > 0) {
      footprint.bytes_read += weight_bytes(problem, shape(true));
      footprint.flops += problem.tokens * flops(shape(true));
    }
    return footprint;
  }

 private:
  static ExpertsProblem parse(const FieldMap& fields) { return complete_experts(from_fields<ExpertsProblem>(fields)); }
  std::vector<TensorSpec> tensors_of(const ExpertsProblem& problem) const {
    return down_ ? down_tensors(problem) : up_tensors(problem);
  }
  template <typename Tiles>
  static FieldMap fields_of(const Tiles& tiles) {
    return to_fields(with_fields_of<ProductTiles>(tiles));
  }
  // The tiles of a path's class; those of the other must be left alone.
  template <typename Tiles>
  static Tiles of_class(const ProductTiles& tiles) {
    const auto own = with_fields_of<Tiles>(tiles);
    require(with_fields_of<ProductTiles>(own) == tiles, "tiles {}: path={} does not use all of them",
            fields_text(to_fields(tiles)), enum_name(tiles.path));
    return own;
  }
  static bool is_weight(const std::string& name) {
    return name.find("w1") != std::string::npos || name.find("w2") != std::string::npos;
  }

  bool down_;
};

void add_map_spec(const ExpertsProblem& problem, std::vector<TensorSpec>& tensors) {
  // Twice as many experts everywhere as here.
  if (problem.expert_map) tensors.push_back({"expert_map", DType::i32, {2LL * problem.experts}});
}

// Ids, and with a map where it is and how long.
void take_ids(const ExpertsProblem& problem, std::int64_t tokens, TensorReader& reader, MatvecParams& params) {
  const TensorView& ids = reader.take_dense("topk_ids", problem.id_dtype, {tokens, problem.top_k}, 1);
  params.ids = ids.data;
  params.ids_stride = stride(ids, 0);
}
void take_map(const ExpertsProblem& problem, TensorReader& reader, MatvecParams& params) {
  if (!problem.expert_map) return;
  const TensorView& map = reader.take_dense("expert_map", DType::i32, {kAnyExtent}, 1);
  params.expert_map = static_cast<const int*>(map.data);
  params.map_size = static_cast<int>(std::min<std::int64_t>(extent(map, 0), std::numeric_limits<int>::max()));
}

void take_workspace(TensorReader& reader, TensorView& workspace) {
  if (reader.peek().data == nullptr) return;
  workspace = reader.take_dense("workspace", DType::u8, {kAnyExtent}, 1);
}

std::int64_t take_tokens(std::string_view name, int rank, std::span<const TensorView> tensors) {
  require(tensors[0].rank == rank, "{}: has rank {}, must be {}", name, tensors[0].rank, rank);
  const std::int64_t tokens = tensors[0].shape[0];
  require(tokens >= 0 && tokens <= std::numeric_limits<int>::max() / (kMaxTopK + 1), "M={}: must be 0 to {}", tokens,
          std::numeric_limits<int>::max() / (kMaxTopK + 1));
  return tokens;
}

}  // namespace

std::vector<TensorSpec> up_tensors(const ExpertsProblem& problem) {
  const ExpertsUses uses(problem);
  const std::int64_t M = problem.tokens;
  std::vector<TensorSpec> tensors;
  tensors.push_back({"x", problem.io_dtype, {M, problem.hidden_size}});
  tensors.push_back({"topk_ids", problem.id_dtype, {M, problem.top_k}});
  add_map_spec(problem, tensors);
  add_weight_specs(problem, up_shape(problem, false), uses.up_bias, tensors);
  if (uses.shared) add_weight_specs(problem, up_shape(problem, true), uses.up_bias, tensors);
  if (uses.shared_gate) tensors.push_back({"shared_gate", problem.io_dtype, {problem.hidden_size}});
  tensors.push_back({"h", problem.h_dtype, {M, slots_of(problem), h_row_of(problem)}, TensorRole::output});
  if (uses.shared_gate) tensors.push_back({"shared_weights", DType::f32, {M}, TensorRole::output});
  tensors.push_back({"workspace", DType::u8, {grouped_workspace_bytes(problem, false, M)}, TensorRole::scratch});
  return tensors;
}

std::vector<TensorSpec> down_tensors(const ExpertsProblem& problem) {
  const ExpertsUses uses(problem);
  const std::int64_t M = problem.tokens;
  std::vector<TensorSpec> tensors;
  tensors.push_back({"h", problem.h_dtype, {M, slots_of(problem), h_row_of(problem)}});
  tensors.push_back({"topk_ids", problem.id_dtype, {M, problem.top_k}});
  tensors.push_back({"topk_weights", DType::f32, {M, problem.top_k}});
  add_map_spec(problem, tensors);
  add_weight_specs(problem, down_shape(problem, false), uses.down_bias, tensors);
  if (uses.shared) add_weight_specs(problem, down_shape(problem, true), uses.down_bias, tensors);
  if (uses.shared_gate) tensors.push_back({"shared_weights", DType::f32, {M}});
  tensors.push_back({"y", problem.output_dtype, {M, problem.hidden_size}, TensorRole::output});
  tensors.push_back({"workspace", DType::u8, {grouped_workspace_bytes(problem, true, M)}, TensorRole::scratch});
  return tensors;
}

std::size_t gather_up_args(const ExpertsProblem& problem, const UpArgs& args,
                           std::span<TensorView, kMaxUpTensors> tensors) {
  const ExpertsUses uses(problem);
  std::size_t count = 0;
  tensors[count++] = args.x;
  tensors[count++] = args.topk_ids;
  if (uses.expert_map) tensors[count++] = args.expert_map;
  count += gather_weights(problem, args.w1, uses.up_bias, tensors.subspan(count));
  if (uses.shared) count += gather_weights(problem, args.shared_w1, uses.up_bias, tensors.subspan(count));
  if (uses.shared_gate) tensors[count++] = args.shared_gate;
  tensors[count++] = args.h;
  if (uses.shared_gate) tensors[count++] = args.shared_weights;
  tensors[count++] = args.workspace;
  return count;
}

std::size_t gather_down_args(const ExpertsProblem& problem, const DownArgs& args,
                             std::span<TensorView, kMaxDownTensors> tensors) {
  const ExpertsUses uses(problem);
  std::size_t count = 0;
  tensors[count++] = args.h;
  tensors[count++] = args.topk_ids;
  tensors[count++] = args.topk_weights;
  if (uses.expert_map) tensors[count++] = args.expert_map;
  count += gather_weights(problem, args.w2, uses.down_bias, tensors.subspan(count));
  if (uses.shared) count += gather_weights(problem, args.shared_w2, uses.down_bias, tensors.subspan(count));
  if (uses.shared_gate) tensors[count++] = args.shared_weights;
  tensors[count++] = args.y;
  tensors[count++] = args.workspace;
  return count;
}

std::int64_t pack_up(const ExpertsProblem& problem, int weight_vector, std::span<const TensorView> tensors,
                     MatvecParams& params, TensorView& workspace) {
  const ExpertsUses uses(problem);
  const std::size_t expected =
      (uses.expert_map ? 5U : 4U) + uses.weights_count(false) * (uses.shared ? 2U : 1U) + (uses.shared_gate ? 2U : 0U);
  TensorReader reader("moe.up", tensors, expected);
  const std::int64_t M = take_tokens("x", 2, tensors);
  if (M == 0) return 0;  // nothing to do, and nothing to check: no tokens have no memory
  const TensorView& x = reader.take_dense("x", problem.io_dtype, {M, problem.hidden_size}, 1);
  require_aligned("x", x, 1, 16 / dtype_bytes(problem.io_dtype));
  params.in = x.data;
  params.in_stride = stride(x, 0);
  params.tokens = static_cast<int>(M);
  take_ids(problem, M, reader, params);
  take_map(problem, reader, params);
  params.routed = take_weights(problem, up_shape(problem, false), uses.up_bias, weight_vector, reader);
  if (uses.shared) {
    params.shared = take_weights(problem, up_shape(problem, true), uses.up_bias, weight_vector, reader);
  }
  if (uses.shared_gate) {
    const TensorView& gate = reader.take_dense("shared_gate", problem.io_dtype, {problem.hidden_size}, 1);
    require_aligned("shared_gate", gate, 0, 16 / dtype_bytes(problem.io_dtype));
    params.shared_gate = gate.data;
  }
  const TensorView& h = reader.take_dense("h", problem.h_dtype, {M, slots_of(problem), h_row_of(problem)}, 3);
  params.out = h.data;
  params.out_stride = h_row_of(problem);
  if (uses.shared_gate) {
    params.shared_weights = static_cast<float*>(reader.take_dense("shared_weights", DType::f32, {M}, 1).data);
  }
  take_workspace(reader, workspace);
  return M;
}

std::int64_t pack_down(const ExpertsProblem& problem, int weight_vector, std::span<const TensorView> tensors,
                       MatvecParams& params, TensorView& workspace) {
  const ExpertsUses uses(problem);
  const std::size_t expected =
      (uses.expert_map ? 6U : 5U) + uses.weights_count(true) * (uses.shared ? 2U : 1U) + (uses.shared_gate ? 1U : 0U);
  TensorReader reader("moe.down", tensors, expected);
  const std::int64_t M = take_tokens("h", 3, tensors);
  if (M == 0) return 0;
  const TensorView& h = reader.take_dense("h", problem.h_dtype, {M, slots_of(problem), h_row_of(problem)}, 3);
  require_aligned("h", h, 2, 16 / dtype_bytes(problem.h_dtype));
  params.in = h.data;
  params.in_stride = h_row_of(problem);
  params.tokens = static_cast<int>(M);
  take_ids(problem, M, reader, params);
  const TensorView& weights = reader.take_dense("topk_weights", DType::f32, {M, problem.top_k}, 1);
  params.weights = static_cast<const float*>(weights.data);
  params.weights_stride = stride(weights, 0);
  take_map(problem, reader, params);
  params.routed = take_weights(problem, down_shape(problem, false), uses.down_bias, weight_vector, reader);
  if (uses.shared) {
    params.shared = take_weights(problem, down_shape(problem, true), uses.down_bias, weight_vector, reader);
  }
  if (uses.shared_gate) {
    params.shared_weights = static_cast<float*>(reader.take_dense("shared_weights", DType::f32, {M}, 1).data);
  }
  const TensorView& y = reader.take_dense("y", problem.output_dtype, {M, problem.hidden_size}, 1);
  params.out = y.data;
  params.out_stride = stride(y, 0);
  take_workspace(reader, workspace);
  return M;
}

const Operator& up_operator() {
  static const ProductOperator instance(false);
  return instance;
}
const Operator& down_operator() {
  static const ProductOperator instance(true);
  return instance;
}

}  // namespace gdnjit::moe

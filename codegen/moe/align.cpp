#include "codegen/moe/align.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <memory>
#include <numeric>
#include <string>

#include "codegen/fields.h"
#include "codegen/kernel_text.h"
#include "codegen/moe/options_names.h"
#include "codegen/tensor_reader.h"
#include "runtime/support/check.h"

namespace gdnjit::moe {
namespace {

constexpr KernelText kText{.space = "moe",
                           .operator_name = "moe.align",
                           .entry = "gdnjit_moe_align",
                           .header = "moe/align.cuh",
                           .kernel = "Align",
                           .config = "AlignConfig",
                           .params = "AlignParams",
                           .parameter_bytes = sizeof(AlignParams)};

// M beyond this changes nothing about the best tiles.
constexpr std::int64_t kLargestBucketTokens = 131072;

constexpr std::int64_t kLargestRow = std::numeric_limits<std::int32_t>::max();

constexpr std::array kWarps{8, 16, 32, 4};
constexpr std::array kClusters{1, 8, 4, 2};

std::size_t tensor_count(const AlignProblem& problem) {
  return (problem.layout == AlignLayout::contiguous ? 5U : 4U) + (problem.expert_map ? 1U : 0U);
}

bool fits(const AlignProblem& problem, const AlignTiles& tiles, const DeviceTraits& device) {
  return align_config(problem, tiles).fault() == nullptr && (tiles.cluster == 1 || has_clusters(device.arch));
}

// A block of 8 warps has the counts of a decode step's pairs at hand after one load a lane. Beyond a few thousand pairs
// what counts is how many SMs scatter rows, one sector a clock each.
AlignTiles default_align_tiles(const AlignProblem& problem, const DeviceTraits& device) {
  const std::int64_t pairs = problem.tokens * problem.top_k;
  AlignTiles tiles;
  if (pairs > 1024) tiles.warps = 32;
  while (tiles.warps > 4 && !fits(problem, tiles, device)) tiles.warps /= 2;
  if (pairs > 4096 && has_clusters(device.arch)) tiles.cluster = kMaxAlignCluster;
  return tiles;
}

class AlignInstance : public Instance {
 public:
  AlignInstance(const AlignProblem& problem, const AlignTiles& tiles, const Target& target)
      : problem_(problem), config_(align_config(problem, tiles)) {
    const char* fault = config_.fault();
    require(fault == nullptr, "tiles {}: {}", fields_text(to_fields(tiles)), fault == nullptr ? "" : fault);
    require(config_.cluster == 1 || has_clusters(target.arch), "tiles {}: {} has no clusters, so cluster must be 1",
            fields_text(to_fields(tiles)), target.arch);
    check_programmatic(config_.programmatic, target);
    spec_ = kernel_spec(kText, fmt::format("{} {}", kText.operator_name, fields_text(to_fields(config_))),
                        designated_initializer(config_), config_.threads(), target);
  }

  std::span<const KernelSpec> kernels() const override { return {&spec_, 1}; }

  std::vector<LaunchGeometry> geometries() const override { return {geometry()}; }

  void pack(std::span<const TensorView> tensors, TensorMapEncoder&, Call& call) const override {
    AlignParams& params = call.add_block<AlignParams>();
    pack_align(problem_, tensors, params);
    call.add_launch(geometry(), params);
  }

 private:
  LaunchGeometry geometry() const {
    LaunchGeometry geometry;
    geometry.grid[0] = static_cast<std::uint32_t>(config_.cluster);
    geometry.block[0] = static_cast<std::uint32_t>(config_.threads());
    geometry.shared_bytes = static_cast<std::uint32_t>(config_.shared_bytes());
    geometry.cluster[0] = static_cast<std::uint32_t>(config_.cluster);
    geometry.programmatic = config_.programmatic;
    return geometry;
  }

  AlignProblem problem_;
  AlignConfig config_;
  KernelSpec spec_;
};

class AlignOperator : public Operator {
 public:
  std::string_view name() const override { return kText.operator_name; }

  FieldMap complete(const FieldMap& problem) const override { return to_fields(parse(problem)); }

  FieldMap tuning_bucket(const FieldMap& problem) const override {
    AlignProblem bucket = parse(problem);
    const auto tokens = std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(bucket.tokens, 1)));
    bucket.tokens = std::min(static_cast<std::int64_t>(tokens), kLargestBucketTokens);
    return to_fields(bucket);
  }

  FieldMap default_tiles(const FieldMap& problem, const DeviceTraits& device) const override {
    return to_fields(default_align_tiles(parse(problem), device));
  }

  std::vector<FieldMap> search_space(const FieldMap& fields, const DeviceTraits& device) const override {
    const AlignProblem problem = parse(fields);
    const AlignTiles first = default_align_tiles(problem, device);
    std::vector<FieldMap> space{to_fields(first)};
    for (const int cluster : kClusters) {
      for (const int warps : kWarps) {
        const AlignTiles tiles{.warps = warps, .cluster = cluster};
        if (tiles != first && fits(problem, tiles, device)) space.push_back(to_fields(tiles));
      }
    }
    return space;
  }

  std::shared_ptr<const Instance> instantiate(const FieldMap& problem, const FieldMap& tiles,
                                              const Target& target) const override {
    return std::make_shared<AlignInstance>(parse(problem), from_fields<AlignTiles>(tiles), target);
  }

  std::vector<TensorSpec> tensors(const FieldMap& problem) const override { return align_tensors(parse(problem)); }

  CallDescription describe_call(const FieldMap& fields, std::span<const TensorView> tensors) const override {
    AlignProblem problem = parse(fields);
    const TensorReader number(kText.operator_name, tensors, tensor_count(problem));
    require(tensors[0].rank == 2, "topk_ids: has rank {}, must be 2", tensors[0].rank);
    problem.tokens = extent(tensors[0], 0);
    problem.top_k = static_cast<int>(extent(tensors[0], 1));
    if (problem.expert_map && tensors[1].rank == 1) problem.known_experts = static_cast<int>(extent(tensors[1], 0));
    problem = complete_align(problem);
    return {to_fields(problem), align_tensors(problem)};
  }

  Footprint footprint(const FieldMap& fields) const override {
    Footprint footprint;
    for (const TensorSpec& tensor : align_tensors(parse(fields))) {
      const std::int64_t elements =
          std::accumulate(tensor.shape.begin(), tensor.shape.end(), std::int64_t{1}, std::multiplies<>());
      (is_read(tensor.role) ? footprint.bytes_read : footprint.bytes_written) += elements * dtype_bytes(tensor.dtype);
    }
    return footprint;
  }

 private:
  static AlignProblem parse(const FieldMap& fields) { return complete_align(from_fields<AlignProblem>(fields)); }
};

// Pairs, and rows that they may take: both are numbers of 32 bits.
void check_rows(const AlignProblem& problem, std::int64_t tokens, std::int64_t top_k) {
  require(top_k == 0 || tokens <= kLargestRow / top_k, "M={}: M * k = {} * {} must be at most {}", tokens, tokens,
          top_k, kLargestRow);
  const std::int64_t rows = align_capacity(tokens * top_k, problem.experts, problem.block_m);
  require(problem.layout == AlignLayout::masked || rows <= kLargestRow, "M={}: {} rows must be at most {}", tokens,
          rows, kLargestRow);
}

void check_max_rows(const AlignProblem& problem, std::int64_t max_rows) {
  const std::int64_t most = kLargestRow / problem.experts;
  require(max_rows >= 1 && max_rows <= most, "max_rows={}: must be 1 to {}, so that E={} times it is below 2^31",
          max_rows, most, problem.experts);
}

// A dense output of i32 with room for `least` elements.
int* take_output(TensorReader& reader, std::string_view name, std::int64_t least) {
  const TensorView& given = reader.peek();
  const std::int64_t size = given.rank == 1 ? std::max(extent(given, 0), least) : least;
  const TensorView& view = reader.take_dense(name, DType::i32, {size}, 1);
  return static_cast<int*>(view.data);
}

}  // namespace

AlignProblem complete_align(AlignProblem problem) {
  require(problem.tokens >= 0, "M={}: must not be negative", problem.tokens);
  require(problem.top_k >= 1 && problem.top_k <= kMaxExperts, "k={}: must be 1 to {}", problem.top_k, kMaxExperts);
  require(problem.experts >= 1 && problem.experts <= kMaxExperts, "E={}: must be 1 to {}", problem.experts,
          kMaxExperts);
  require(problem.block_m >= 1 && problem.block_m <= 1024, "block_m={}: must be 1 to 1024", problem.block_m);
  check_max_rows(problem, problem.max_rows);
  require(problem.known_experts >= 0, "known_experts={}: must not be negative", problem.known_experts);
  require(problem.expert_map || problem.known_experts == 0 || problem.known_experts == problem.experts,
          "known_experts={}: must be E={} without an expert_map", problem.known_experts, problem.experts);
  require(problem.id_dtype == DType::i32 || problem.id_dtype == DType::i64, "id_dtype={}: must be i32 or i64",
          enum_name(problem.id_dtype));
  if (problem.known_experts == 0) problem.known_experts = problem.experts;
  check_rows(problem, problem.tokens, problem.top_k);
  return problem;
}

AlignConfig align_config(const AlignProblem& problem, const AlignTiles& tiles) {
  AlignConfig config;
  config.experts = problem.experts;
  config.layout = problem.layout;
  config.block_m = problem.layout == AlignLayout::masked ? 1 : problem.block_m;
  config.expert_map = problem.expert_map;
  config.id_dtype = problem.id_dtype;
  config.programmatic = problem.programmatic;
  config.warps = tiles.warps;
  config.cluster = tiles.cluster;
  return config;
}

std::vector<TensorSpec> align_tensors(const AlignProblem& problem) {
  std::vector<TensorSpec> tensors{{"topk_ids", problem.id_dtype, {problem.tokens, problem.top_k}}};
  if (problem.expert_map) tensors.push_back({"expert_map", DType::i32, {problem.known_experts}});
  const auto add = [&](const char* name, std::vector<std::int64_t> shape) {
    tensors.push_back({name, DType::i32, std::move(shape), TensorRole::output});
  };
  if (problem.layout == AlignLayout::masked) {
    add("masked_pair_ids", {problem.experts, problem.max_rows});
    add("masked_m", {problem.experts});
    add("dropped", {1});
    return tensors;
  }
  const std::int64_t rows = align_capacity(problem.tokens * problem.top_k, problem.experts, problem.block_m);
  add("sorted_pair_ids", {rows});
  add("expert_ids", {rows / problem.block_m});
  add("total_padded", {1});
  if (problem.layout == AlignLayout::contiguous) add("grouped_layout", {rows});
  return tensors;
}

std::size_t gather_align_args(const AlignProblem& problem, const AlignArgs& args,
                              std::span<TensorView, kMaxAlignTensors> tensors) {
  std::size_t count = 0;
  tensors[count++] = args.topk_ids;
  if (problem.expert_map) tensors[count++] = args.expert_map;
  if (problem.layout == AlignLayout::masked) {
    tensors[count++] = args.masked_pair_ids;
    tensors[count++] = args.masked_m;
    tensors[count++] = args.dropped;
    return count;
  }
  tensors[count++] = args.sorted_pair_ids;
  tensors[count++] = args.expert_ids;
  tensors[count++] = args.total_padded;
  if (problem.layout == AlignLayout::contiguous) tensors[count++] = args.grouped_layout;
  return count;
}

void pack_align(const AlignProblem& problem, std::span<const TensorView> tensors, AlignParams& params) {
  TensorReader reader(kText.operator_name, tensors, tensor_count(problem));
  require(tensors[0].rank == 2, "topk_ids: has rank {}, must be 2", tensors[0].rank);
  const std::int64_t M = extent(tensors[0], 0), k = extent(tensors[0], 1);
  check_rows(problem, M, k);
  params.ids = reader.take_dense("topk_ids", problem.id_dtype, {M, k}, 2).data;
  params.pairs = M * k;
  params.top_k = static_cast<int>(k);
  params.ids_stride = k;
  params.known_ids = problem.experts;
  if (problem.expert_map) {
    const TensorView& map = reader.take_dense("expert_map", DType::i32, {kAnyExtent}, 1);
    params.expert_map = static_cast<const int*>(map.data);
    params.known_ids = static_cast<int>(std::min(extent(map, 0), kLargestRow));
  }
  if (problem.layout == AlignLayout::masked) {
    const TensorView& rows = reader.take_dense("masked_pair_ids", DType::i32, {problem.experts, kAnyExtent}, 2);
    params.pair_ids = static_cast<int*>(rows.data);
    check_max_rows(problem, extent(rows, 1));
    params.max_rows = static_cast<int>(extent(rows, 1));
    params.capacity = problem.experts * extent(rows, 1);
    params.masked_m = take_output(reader, "masked_m", problem.experts);
    params.dropped = take_output(reader, "dropped", 1);
    return;
  }
  params.capacity = align_capacity(params.pairs, problem.experts, problem.block_m);
  params.pair_ids = take_output(reader, "sorted_pair_ids", params.capacity);
  params.expert_ids = take_output(reader, "expert_ids", params.capacity / problem.block_m);
  params.total_padded = take_output(reader, "total_padded", 1);
  if (problem.layout == AlignLayout::contiguous) {
    params.grouped_layout = take_output(reader, "grouped_layout", params.capacity);
  }
}

const Operator& align_operator() {
  static const AlignOperator instance;
  return instance;
}

}  // namespace gdnjit::moe

#include "codegen/moe/grouped.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "codegen/fields.h"
#include "codegen/kernel_text.h"
#include "codegen/moe/align.h"
#include "codegen/moe/grouped_sm90.h"
#include "codegen/moe/options_names.h"
#include "codegen/moe/product_config.h"
#include "codegen/moe/products.h"
#include "runtime/support/check.h"

namespace gdnjit::moe {
namespace {

static_assert(every_field_visited<GroupedConfig>() && every_field_visited<GroupedTiles>() &&
              every_field_visited<CombineConfig>() && every_field_visited<QuantizeConfig>());

constexpr std::int64_t kWorkspaceAlignment = 16;

constexpr KernelText product_text(bool down) {
  return {.space = "moe",
          .operator_name = down ? "moe.down" : "moe.up",
          .entry = down ? "gdnjit_moe_down_grouped" : "gdnjit_moe_up_grouped",
          .header = "moe/grouped.cuh",
          .kernel = "Grouped",
          .config = "GroupedConfig",
          .params = "GroupedParams",
          .parameter_bytes = sizeof(GroupedParams)};
}
constexpr KernelText sm90_text(bool down) {
  KernelText text = product_text(down);
  text.entry = down ? "gdnjit_moe_down_grouped_sm90" : "gdnjit_moe_up_grouped_sm90";
  text.header = "moe/grouped_sm90.cuh";
  text.kernel = "GroupedSm90";
  text.params = "GroupedSm90Params";
  text.parameter_bytes = sizeof(GroupedSm90Params);
  return text;
}
constexpr KernelText quantize_text(bool down) {
  return {.space = "moe",
          .operator_name = down ? "moe.down" : "moe.up",
          .entry = down ? "gdnjit_moe_quantize_h" : "gdnjit_moe_quantize_x",
          .header = "moe/quantize.cuh",
          .kernel = "Quantize",
          .config = "QuantizeConfig",
          .params = "QuantizeParams",
          .parameter_bytes = sizeof(QuantizeParams)};
}
constexpr KernelText kCombine{.space = "moe",
                              .operator_name = "moe.down",
                              .entry = "gdnjit_moe_combine",
                              .header = "moe/combine.cuh",
                              .kernel = "Combine",
                              .config = "CombineConfig",
                              .params = "MatvecParams",
                              .parameter_bytes = sizeof(MatvecParams)};

// Parts of the workspace, in bytes from its begin.
struct Workspace {
  std::int64_t capacity;                                                   // rows of all experts
  std::int64_t expert_ids, total_padded, results, numbers, scales, bytes;  // pair_ids begin at 0

  Workspace(const ExpertsProblem& problem, bool down, int block_m, std::int64_t tokens) {
    const auto aligned = [](std::int64_t size) { return (size + kWorkspaceAlignment - 1) & -kWorkspaceAlignment; };
    capacity = align_capacity(tokens * problem.top_k, problem.experts, block_m);
    expert_ids = aligned(4 * capacity);
    total_padded = expert_ids + aligned(4 * (capacity / block_m));
    results = total_padded + kWorkspaceAlignment;
    numbers = results + (down ? tokens * slots_of(problem) * problem.hidden_size * 4LL : 0);
    // Inputs in e4m3.
    const bool quantized = problem.activations == ActivationFormat::fp8;
    const std::int64_t rows = down ? tokens * slots_of(problem) : tokens;
    const std::int64_t row = quantized ? quantized_row(down ? h_row_of(problem) : problem.hidden_size) : 0;
    scales = numbers + rows * row;
    bytes = aligned(scales + rows * row / kQuantizedGroup * 4);
  }
};

AlignProblem align_problem(const ExpertsProblem& problem, int block_m) {
  AlignProblem align;
  align.tokens = problem.tokens;
  align.top_k = problem.top_k;
  align.experts = problem.experts;
  align.block_m = block_m;
  align.expert_map = problem.expert_map;
  align.id_dtype = problem.id_dtype;
  align.programmatic = problem.programmatic;
  return align;
}

// A cluster where there are any, and as many warps as their counts leave room for: here are many pairs.
AlignTiles align_tiles(const AlignProblem& problem, const Target& target) {
  AlignTiles tiles{.warps = 32, .cluster = has_clusters(target.arch) ? int{kMaxAlignCluster} : 1};
  while (tiles.warps > 1 && align_config(problem, tiles).fault() != nullptr) tiles.warps /= 2;
  return tiles;
}

class GroupedInstance : public Instance {
 public:
  GroupedInstance(const ExpertsProblem& problem, const GroupedTiles& tiles, bool down, const Target& target)
      : problem_(problem),
        tiles_(tiles),
        product_(grouped_config(problem, tiles, down)),
        combine_(combine_config(problem)),
        quantize_(quantize_config(problem, down)),
        align_problem_(align_problem(problem, tiles.block_m)),
        overlapping_(has_programmatic_launch(target)) {
    check_tiles(target);
    check_programmatic(problem.programmatic, target);
    const AlignTiles sorting = align_tiles(align_problem_, target);
    align_ = align_config(align_problem_, sorting);
    // The kernel of moe.align itself, so both products share it.
    const auto sort =
        align_operator().instantiate(to_fields(complete_align(align_problem_)), to_fields(sorting), target);
    kernels_.push_back(sort->kernels().front());
    if (product_.quantized()) add_kernel(quantize_text(down), quantize_, quantize_.threads(), target);
    if (multiplies_by_wgmma()) {
      add_kernel(sm90_text(down), product_, GroupedSm90Plan(product_).threads, target);
    } else {
      add_kernel(product_text(down), product_, product_.threads(), target);
    }
    if (down) add_kernel(kCombine, combine_, combine_.threads(), target);
  }

  std::span<const KernelSpec> kernels() const override { return kernels_; }

  std::vector<LaunchGeometry> geometries() const override {
    std::vector<LaunchGeometry> made{align_geometry()};
    if (product_.quantized()) made.push_back(quantize_geometry(problem_.tokens));
    made.push_back(product_geometry(problem_.tokens));
    if (product_.down) made.push_back(combine_geometry(problem_.tokens));
    return made;
  }

  std::int64_t workspace_bytes(std::int64_t /*sequences*/, std::int64_t tokens) const override {
    return Workspace(problem_, product_.down, product_.block_m, tokens).bytes;
  }

  void pack(std::span<const TensorView> tensors, TensorMapEncoder& encoder, Call& call) const override {
    GroupedSm90Params* const sm90 = multiplies_by_wgmma() ? &call.add_block<GroupedSm90Params>() : nullptr;
    GroupedParams& params = sm90 != nullptr ? sm90->grouped : call.add_block<GroupedParams>();
    TensorView workspace;
    const bool down = product_.down;
    const std::int64_t tokens = down ? pack_down(problem_, product_.weight_vector, tensors, params.call, workspace)
                                     : pack_up(problem_, product_.weight_vector, tensors, params.call, workspace);
    if (tokens == 0) return;
    const Workspace parts(problem_, down, product_.block_m, tokens);
    check_room(parts, workspace, params.call, tokens);
    auto* const memory = static_cast<unsigned char*>(workspace.data);
    AlignParams& align = call.add_block<AlignParams>();
    set_align(parts, memory, params.call, align);
    params.pair_ids = align.pair_ids;
    params.expert_ids = align.expert_ids;
    params.total_padded = align.total_padded;
    if (sm90 != nullptr) set_weight_maps(product_, encoder, *sm90);
    QuantizeParams* const quantize = product_.quantized() ? &call.add_block<QuantizeParams>() : nullptr;
    if (quantize != nullptr) {
      quantize->call = params.call;
      quantize->out = {memory + parts.numbers, reinterpret_cast<float*>(memory + parts.scales)};
      sm90->quantized = quantize->out;
    }

    MatvecParams* const combine = down ? &call.add_block<MatvecParams>() : nullptr;
    if (down) {
      *combine = params.call;
      combine->in = params.call.out = memory + parts.results;
    }
    call.add_launch(align_geometry(), align);
    if (quantize != nullptr) call.add_launch(quantize_geometry(tokens), *quantize);
    if (sm90 != nullptr) {
      call.add_launch(product_geometry(tokens), *sm90);
    } else {
      call.add_launch(product_geometry(tokens), params);
    }
    if (down) call.add_launch(combine_geometry(tokens), *combine);
  }

 private:
  template <typename Config>
  void add_kernel(const KernelText& text, const Config& config, int threads, const Target& target) {
    const std::string signature =
        fmt::format("{}.{} {}", text.operator_name, text.kernel, fields_text(to_fields(config)));
    kernels_.push_back(kernel_spec(text, signature, designated_initializer(config), threads, target));
  }

  bool multiplies_by_wgmma() const { return tiles_.path == ExpertPath::wgmma; }

  void check_tiles(const Target& target) const {
    const std::string text = fields_text(to_fields(tiles_));
    const char* fault = multiplies_by_wgmma() ? sm90_fault(product_) : product_.fault();
    require(fault == nullptr, "tiles {}: {}", text, fault == nullptr ? "" : fault);
    require(tiles_.blocks >= 0, "tiles {}: blocks must not be negative", text);
    require(multiplies_by_wgmma() || tiles_.blocks == 0,
            "tiles {}: path=mma has a block for every tile: blocks must be 0", text);
    if (multiplies_by_wgmma() && target.arch != "sm_90a") {
      fail(ErrorCode::unsupported, "tiles {}: {} has no wgmma, sm_90a does", text, target.arch);
    }
  }

  void check_room(const Workspace& parts, const TensorView& workspace, const MatvecParams& call,
                  std::int64_t tokens) const {
    const std::int64_t given = workspace.data == nullptr ? 0 : extent(workspace, 0);
    require(given >= parts.bytes, "workspace: has {} bytes, {} tokens need {}", given, tokens, parts.bytes);
    require(reinterpret_cast<std::uintptr_t>(workspace.data) % kWorkspaceAlignment == 0,
            "workspace: address {} is not a multiple of {} bytes", workspace.data, kWorkspaceAlignment);
    const std::int64_t out_bytes =
        call.out_stride * dtype_bytes(product_.down ? combine_.out_dtype : product_.out_dtype);
    require(reinterpret_cast<std::uintptr_t>(call.out) % 16 == 0 && out_bytes % 16 == 0,
            "{}: rows must begin at multiples of 16 bytes", product_.down ? "y" : "h");
    require(parts.capacity <= std::numeric_limits<int>::max(), "M={}: {} rows must be at most {}", tokens,
            parts.capacity, std::numeric_limits<int>::max());
  }

  void set_align(const Workspace& parts, unsigned char* memory, const MatvecParams& call, AlignParams& align) const {
    align.ids = call.ids;
    align.ids_stride = call.ids_stride;
    align.top_k = problem_.top_k;
    align.pairs = static_cast<long long>(call.tokens) * problem_.top_k;
    align.capacity = parts.capacity;
    align.expert_map = call.expert_map;
    align.known_ids = problem_.expert_map ? call.map_size : problem_.experts;
    align.pair_ids = reinterpret_cast<int*>(memory);
    align.expert_ids = reinterpret_cast<int*>(memory + parts.expert_ids);
    align.total_padded = reinterpret_cast<int*>(memory + parts.total_padded);
  }

  LaunchGeometry align_geometry() const {
    LaunchGeometry geometry;
    geometry.grid[0] = geometry.cluster[0] = static_cast<std::uint32_t>(align_.cluster);
    geometry.block[0] = static_cast<std::uint32_t>(align_.threads());
    geometry.shared_bytes = static_cast<std::uint32_t>(align_.shared_bytes());
    geometry.programmatic = align_.programmatic;
    return geometry;
  }

  // Tiles of as many rows as pairs may take; blocks behind what they do take end at once.
  LaunchGeometry product_geometry(std::int64_t tokens) const {
    const std::int64_t M = product_.block_m;
    const std::int64_t rows = Workspace(problem_, product_.down, product_.block_m, tokens).capacity;
    const std::int64_t blocks = rows / M + (product_.shared_size > 0 ? (tokens + M - 1) / M : 0);
    const std::int64_t tiles = blocks * product_.tiles_n();
    if (!multiplies_by_wgmma()) return geometry(tiles, product_.threads(), product_.shared_bytes(), tokens);
    const GroupedSm90Plan plan(product_);
    const std::int64_t cluster = sm90_cluster(product_);
    const std::int64_t clusters =
        tiles_.blocks > 0 ? std::clamp<std::int64_t>(tiles_.blocks / cluster, 1, tiles) : tiles;
    LaunchGeometry made = geometry(clusters * cluster, plan.threads, plan.shared_bytes, tokens);
    made.cluster[0] = static_cast<std::uint32_t>(cluster);
    return made;
  }
  LaunchGeometry quantize_geometry(std::int64_t tokens) const {
    return geometry(product_.down ? tokens * slots_of(problem_) : tokens, quantize_.threads(), 0, tokens);
  }
  LaunchGeometry combine_geometry(std::int64_t tokens) const {
    return geometry(tokens * combine_.token_blocks(), combine_.threads(), 0, tokens);
  }
  LaunchGeometry geometry(std::int64_t blocks, int threads, int shared_bytes, std::int64_t tokens) const {
    require(blocks <= std::numeric_limits<int>::max(), "M={}: a grid of {} blocks is more than a launch can hold",
            tokens, blocks);
    LaunchGeometry geometry;
    geometry.grid[0] = static_cast<std::uint32_t>(blocks);
    geometry.block[0] = static_cast<std::uint32_t>(threads);
    geometry.shared_bytes = static_cast<std::uint32_t>(shared_bytes);
    geometry.programmatic = overlapping_;
    return geometry;
  }

  ExpertsProblem problem_;
  GroupedTiles tiles_;
  GroupedConfig product_;
  CombineConfig combine_;
  QuantizeConfig quantize_;
  AlignProblem align_problem_;
  AlignConfig align_;
  bool overlapping_;  // kernels start while those before them end
  std::vector<KernelSpec> kernels_;
};

}  // namespace

GroupedConfig grouped_config(const ExpertsProblem& problem, const GroupedTiles& tiles, bool down) {
  GroupedConfig config;
  set_product_fields(problem, down, config);
  config.out_dtype = down ? DType::f32 : problem.h_dtype;
  if (!down) config.shared_gate = problem.shared_gate;
  config.activations = problem.activations;
  config.block_m = tiles.block_m;
  config.block_n = tiles.block_n;
  config.block_k = tiles.block_k;
  config.stages = tiles.stages;
  config.warps = tiles.warps;
  config.group_m = tiles.group_m;
  return config;
}

CombineConfig combine_config(const ExpertsProblem& problem) {
  CombineConfig config;
  config.hidden_size = problem.hidden_size;
  config.shared_size = problem.shared_size > 0 ? 1 : 0;  // how large it is does not matter here
  config.experts = problem.experts;
  config.top_k = problem.top_k;
  config.out_dtype = problem.output_dtype;
  config.id_dtype = problem.id_dtype;
  config.expert_map = problem.expert_map;
  config.shared_gate = problem.shared_gate;
  return config;
}

QuantizeConfig quantize_config(const ExpertsProblem& problem, bool down) {
  QuantizeConfig config;
  config.down = down;
  config.in_dtype = down ? problem.h_dtype : problem.io_dtype;
  if (!down) {
    config.hidden_size = problem.hidden_size;
    return config;
  }
  config.intermediate_size = problem.intermediate_size;
  config.shared_size = problem.shared_size;
  config.experts = problem.experts;
  config.top_k = problem.top_k;
  config.id_dtype = problem.id_dtype;
  config.expert_map = problem.expert_map;
  return config;
}

std::int64_t grouped_workspace_bytes(const ExpertsProblem& problem, bool down, std::int64_t tokens) {
  std::int64_t bytes = 0;
  for (const int block_m : {16, 32, 64, 128, 256})
    bytes = std::max(bytes, Workspace(problem, down, block_m, tokens).bytes);
  return bytes;
}

std::shared_ptr<const Instance> make_grouped(const ExpertsProblem& problem, const GroupedTiles& tiles, bool down,
                                             const Target& target) {
  return std::make_shared<GroupedInstance>(problem, tiles, down, target);
}

}  // namespace gdnjit::moe

#include "codegen/gdn/layer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

#include "codegen/fields.h"
#include "codegen/gdn/mixer.h"
#include "codegen/gdn/options_names.h"
#include "runtime/support/check.h"

namespace gdnjit::gdn {
namespace {

constexpr int kMaxHeadDim = 8192;

void require_alignment(std::string_view name, int bytes, DType dtype) {
  require(bytes > 0 && std::has_single_bit(static_cast<unsigned>(bytes)), "{}={}: must be a power of two", name, bytes);
  require(bytes >= dtype_bytes(dtype), "{}={}: must hold one element of {} bytes", name, bytes, dtype_bytes(dtype));
}

void set_vectors(const StepProblem& layer, int lanes_k, StepConfig& config) {
  const bool is_vk = layer.state_layout == StateLayout::vk;
  config.state_vector =
      vector_elements(layer.state_dtype, is_vk ? layer.head_dim_k : layer.head_dim_v, layer.state_alignment);
  const int vector = key_vector(layer);
  if (is_vk) {
    config.key_chunk = config.state_vector;
    config.key_vector = std::min(vector, config.key_chunk);
    return;
  }
  // Any chunk of keys serves layout kv; take the widest that q and k allow and that deals all keys to the lanes.
  config.key_chunk = vector;
  const int lanes = std::max(lanes_k, 1);
  const int keys = (layer.head_dim_k + lanes - 1) / lanes * lanes;
  while (config.key_chunk > 1 && keys % (lanes * config.key_chunk) != 0) config.key_chunk /= 2;
  config.key_vector = config.key_chunk;
}

}  // namespace

// Heads start at multiples of the head stride.
int key_vector(const StepProblem& layer) {
  const int vector = vector_elements(layer.io_dtype, layer.head_dim_k, layer.io_alignment);
  if (layer.input_layout != InputLayout::qkvz) return vector;
  const int group = layer.heads_v / layer.heads_k;
  const int head_stride = 2 * layer.head_dim_k + 2 * group * layer.head_dim_v;
  return std::min(vector, vector_elements(layer.io_dtype, head_stride, layer.io_alignment));
}

void complete_layer(StepProblem& layer) {
  require(layer.batch >= 0, "B={}: must not be negative", layer.batch);
  require(layer.heads_k >= 1, "H={}: must be at least 1", layer.heads_k);
  require(layer.heads_v >= 1, "HV={}: must be at least 1", layer.heads_v);
  require(layer.heads_v % layer.heads_k == 0, "HV={}: must be a multiple of H={}", layer.heads_v, layer.heads_k);
  require(layer.head_dim_k >= 1 && layer.head_dim_k <= kMaxHeadDim, "K={}: must be 1 to {}", layer.head_dim_k,
          kMaxHeadDim);
  require(layer.head_dim_v >= 1 && layer.head_dim_v <= kMaxHeadDim, "V={}: must be 1 to {}", layer.head_dim_v,
          kMaxHeadDim);
  require_float("io", layer.io_dtype);
  require_float("state", layer.state_dtype);
  require_float("output", layer.output_dtype);
  require_float("gate_dtype", layer.gate_dtype);
  require_float("beta_dtype", layer.beta_dtype);
  require_float("a_log_dtype", layer.a_log_dtype);
  require_float("dt_bias_dtype", layer.dt_bias_dtype);
  require(layer.slot_dtype == DType::i32 || layer.slot_dtype == DType::i64, "slot_dtype={}: must be i32 or i64",
          enum_name(layer.slot_dtype));
  require(std::isfinite(layer.scale), "scale={}: must be finite", layer.scale);
  require(std::isfinite(layer.norm_eps) && layer.norm_eps >= 0, "norm_eps={}: must not be negative", layer.norm_eps);
  require(std::isfinite(layer.gate_lower_bound) && layer.gate_lower_bound <= 0,
          "gate_lower_bound={}: must not be positive", layer.gate_lower_bound);
  require_alignment("state_alignment", layer.state_alignment, layer.state_dtype);
  require_alignment("io_alignment", layer.io_alignment, layer.io_dtype);
  const auto lanes = static_cast<unsigned>(layer.sum_lanes);
  require(layer.sum_lanes == 0 || (layer.sum_lanes > 0 && layer.sum_lanes <= 32 && std::has_single_bit(lanes)),
          "sum_lanes={}: must be 0 (any) or a power of two up to 32", layer.sum_lanes);
  if (layer.input_layout == InputLayout::qkvz) {
    require(!gate_is_per_channel(layer.gate),
            "gate={}: not with input_layout=qkvz, whose ba holds one a per value head", enum_name(layer.gate));
    require(layer.gate == Gate::none || layer.beta == Beta::none || layer.gate_dtype == layer.beta_dtype,
            "gate_dtype={}: must equal beta_dtype={} with input_layout=qkvz, where ba holds both",
            enum_name(layer.gate_dtype), enum_name(layer.beta_dtype));
  }
  if (layer.scale == 0.0F) layer.scale = 1.0F / std::sqrt(static_cast<float>(layer.head_dim_k));
}

StepConfig layer_config(const StepProblem& layer, const StepTiles& tiles) {
  StepConfig config;
  config.tokens = layer.tokens;
  config.heads_k = layer.heads_k;
  config.heads_v = layer.heads_v;
  config.head_dim_k = layer.head_dim_k;
  config.head_dim_v = layer.head_dim_v;
  config.io_dtype = layer.io_dtype;
  config.state_dtype = layer.state_dtype;
  config.write_output = layer.write_output;
  if (layer.write_output) {
    config.output_dtype = layer.output_dtype;
    config.scale = layer.scale;
  }
  config.norm = layer.norm;
  config.gate = layer.gate;
  config.beta = layer.beta;
  config.head_map = layer.head_map;
  config.state_layout = layer.state_layout;
  config.programmatic = layer.programmatic;
  if (layer.norm != Norm::none) config.norm_eps = layer.norm_eps;
  if (layer.gate != Gate::none) config.gate_dtype = layer.gate_dtype;
  if (layer.gate == Gate::channel_sigmoid) config.gate_lower_bound = layer.gate_lower_bound;
  if (layer.beta != Beta::none) config.beta_dtype = layer.beta_dtype;
  if (gate_has_parameters(layer.gate)) {
    config.a_log_dtype = layer.a_log_dtype;
    config.dt_bias_dtype = layer.dt_bias_dtype;
  }
  config.block_v = tiles.block_v;
  config.block_k = tiles.block_k;
  config.lanes_k = tiles.lanes_k;
  config.warps = tiles.warps;
  config.cache_hint = tiles.cache_hint;
  config.turns = tiles.turns;
  config.quick_compile = tiles.quick_compile;
  set_vectors(layer, tiles.lanes_k, config);
  set_mixer(layer, config);
  return config;
}

LayerInstance::LayerInstance(const KernelText& text, const StepConfig& config, const StepTiles& tiles,
                             const Target& target)
    : config_(config) {
  const char* fault = config_.fault();
  require(fault == nullptr, "tiles {}: {}", fields_text(to_fields(tiles)), fault == nullptr ? "" : fault);
  check_programmatic(config_.programmatic, target);
  require(config_.cluster() == 1 || has_clusters(target.arch),
          "tiles {}: {} has no clusters, so with a gated norm one block serves a head: turns must be {}",
          fields_text(to_fields(tiles)), target.arch, config_.blocks_v());
  spec_ = kernel_spec(text, fmt::format("{} {}", text.operator_name, fields_text(to_fields(config_))),
                      designated_initializer(config_), config_.threads(), target);
}

LaunchGeometry LayerInstance::geometry(std::int64_t batch) const {
  const long long blocks = config_.grid(batch);
  require(blocks <= 0x7fffffffLL, "B={}: a grid of {} blocks is more than a launch can hold", batch, blocks);
  LaunchGeometry geometry;
  geometry.grid[0] = static_cast<std::uint32_t>(blocks);
  geometry.block[0] = static_cast<std::uint32_t>(config_.threads());
  geometry.shared_bytes = static_cast<std::uint32_t>(config_.mixer_shared_bytes());
  geometry.cluster[0] = static_cast<std::uint32_t>(config_.cluster());
  geometry.programmatic = config_.programmatic;
  return geometry;
}

Footprint layer_footprint(const StepProblem& layer, const std::vector<TensorSpec>& tensors, std::int64_t states_read,
                          std::int64_t states_written, std::int64_t tokens) {
  Footprint footprint;
  for (const TensorSpec& tensor : tensors) {
    const bool is_state = tensor.name.find("state") != std::string::npos || tensor.name == "checkpoints";
    if (is_state || tensor.role == TensorRole::scratch) continue;
    std::int64_t bytes = dtype_bytes(tensor.dtype);
    for (const std::int64_t extent : tensor.shape) bytes *= extent;
    (tensor.role == TensorRole::input ? footprint.bytes_read : footprint.bytes_written) += bytes;
  }
  const std::int64_t elements = layer.batch * layer.heads_v * layer.head_dim_k * layer.head_dim_v;
  footprint.bytes_read += states_read * elements * dtype_bytes(layer.state_dtype);
  footprint.bytes_written += states_written * elements * dtype_bytes(layer.state_dtype);
  // Two sums, the decay and the update: 2 + 2 + 1 + 2 operations a state element; the rebuild needs one sum.
  footprint.flops = (layer.write_output ? 7 : 5) * tokens * elements;
  return footprint;
}

}  // namespace gdnjit::gdn

#include "codegen/gdn/layer_args.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>

#include "codegen/fields.h"
#include "codegen/gdn/options_names.h"
#include "runtime/support/check.h"

namespace gdnjit::gdn {
namespace {

const void* offset(const TensorView& view, std::int64_t elements) {
  return static_cast<const std::byte*>(view.data) + elements * dtype_bytes(view.dtype);
}

void pack_separate(const StepProblem& layer, const InputVectors& vectors, const Extents& extents, TensorReader& reader,
                   StepParams& params) {
  const auto [B, T] = extents;
  const std::int64_t H = layer.heads_k, HV = layer.heads_v, K = layer.head_dim_k, V = layer.head_dim_v;
  const auto take_keys = [&](std::string_view name, const void*& data, HeadStrides& strides) {
    const TensorView& view = reader.take(name, layer.io_dtype, {B, T, H, K});
    require_dense(name, view, 1);
    require_aligned(name, view, 3, vectors.keys, "io_alignment");
    data = view.data;
    strides = {stride(view, 0), stride(view, 1), stride(view, 2), 0};
  };
  if (LayerUses(layer).q) take_keys("q", params.q, params.q_strides);
  take_keys("k", params.k, params.k_strides);
  const TensorView& v = reader.take("v", layer.io_dtype, {B, T, HV, V});
  require_dense("v", v, 1);
  require_aligned("v", v, 3, vectors.values, "io_alignment");
  params.v = v.data;
  params.v_strides = by_head(layer, v, stride(v, 2));
}

std::int64_t packed_row(const StepProblem& layer) {
  const std::int64_t H = layer.heads_k, HV = layer.heads_v, K = layer.head_dim_k, V = layer.head_dim_v;
  // One sum for both: qkvz holds z beside v.
  return 2 * H * K + (layer.input_layout == InputLayout::qkvz ? 2 : 1) * HV * V;
}

void pack_packed(const StepProblem& layer, const InputVectors& vectors, const Extents& extents, TensorReader& reader,
                 StepParams& params) {
  const std::int64_t H = layer.heads_k, K = layer.head_dim_k, V = layer.head_dim_v, r = layer.heads_v / H;
  const TensorView& packed = reader.take("packed", layer.io_dtype, {extents.B, extents.T, packed_row(layer)});
  require_dense("packed", packed, 1);
  require_aligned("packed", packed, 2, std::max(vectors.keys, vectors.values), "io_alignment");
  const std::int64_t batch = stride(packed, 0), token = stride(packed, 1);
  params.q = packed.data;
  if (layer.input_layout == InputLayout::mixed_qkv) {
    params.k = offset(packed, H * K);
    params.v = offset(packed, 2 * H * K);
    params.q_strides = params.k_strides = {batch, token, K, 0};
    params.v_strides = by_head(layer, packed, V);
  } else {
    const std::int64_t head = 2 * K + 2 * r * V;
    params.k = offset(packed, K);
    params.v = offset(packed, 2 * K);
    params.q_strides = params.k_strides = {batch, token, head, 0};
    params.v_strides = {batch, token, head, V};
  }
}

void pack_gates(const StepProblem& layer, const Extents& extents, TensorReader& reader, StepParams& params) {
  const auto [B, T] = extents;
  const std::int64_t H = layer.heads_k, HV = layer.heads_v, K = layer.head_dim_k, r = HV / H;
  const LayerUses uses(layer);
  const bool per_channel = gate_is_per_channel(layer.gate);
  if (layer.input_layout == InputLayout::qkvz) {
    if (uses.a) {
      const DType dtype = layer.gate != Gate::none ? layer.gate_dtype : layer.beta_dtype;
      const TensorView& ba = reader.take("a", dtype, {B, T, H, 2 * r});
      require_dense("a", ba, 1);
      params.beta = ba.data;
      params.gate = offset(ba, r);
      params.gate_strides = params.beta_strides = {stride(ba, 0), stride(ba, 1), stride(ba, 2), 1};
    }
  } else {
    if (uses.a) {
      const TensorView& a = per_channel ? reader.take("a", layer.gate_dtype, {B, T, HV, K})
                                        : reader.take("a", layer.gate_dtype, {B, T, HV});
      if (per_channel) require_dense("a", a, 1);
      params.gate = a.data;
      params.gate_strides = by_head(layer, a, stride(a, 2));
    }
    if (uses.b) {
      const TensorView& b = reader.take("b", layer.beta_dtype, {B, T, HV});
      params.beta = b.data;
      params.beta_strides = by_head(layer, b, stride(b, 2));
    }
  }
  if (uses.parameters) {
    const TensorView& a_log = reader.take("a_log", layer.a_log_dtype, {HV});
    require_dense("a_log", a_log, 1);
    params.a_log = a_log.data;
    const TensorView& dt_bias = per_channel ? reader.take("dt_bias", layer.dt_bias_dtype, {HV, K})
                                            : reader.take("dt_bias", layer.dt_bias_dtype, {HV});
    require_dense("dt_bias", dt_bias, per_channel ? 2 : 1);
    params.dt_bias = dt_bias.data;
  }
}

}  // namespace

HeadStrides by_head(const StepProblem& layer, const TensorView& view, std::int64_t head) {
  const std::int64_t group = layer.heads_v / layer.heads_k;
  const std::int64_t batch = stride(view, 0), token = stride(view, 1);
  if (layer.head_map == HeadMap::grouped) return {batch, token, group * head, head};
  return {batch, token, head, layer.heads_k * head};
}

const TensorView& take_states(TensorReader& reader, std::string_view name, const StepProblem& layer, int vector,
                              std::initializer_list<std::int64_t> lead) {
  std::array<std::int64_t, kMaxRank> shape{};
  std::size_t rank = 0;
  for (const std::int64_t extent : lead) shape[rank++] = extent;
  const bool vk = layer.state_layout == StateLayout::vk;
  shape[rank++] = layer.heads_v;
  shape[rank++] = vk ? layer.head_dim_v : layer.head_dim_k;
  shape[rank++] = vk ? layer.head_dim_k : layer.head_dim_v;
  const TensorView& view = reader.take(name, layer.state_dtype, std::span(shape.data(), rank));
  require_dense(name, view, 2);
  require_aligned(name, view, view.rank - 2, vector, "state_alignment");
  return view;
}

void add_input_specs(const StepProblem& layer, const Extents& extents, std::vector<TensorSpec>& tensors) {
  const auto [B, T] = extents;
  const std::int64_t H = layer.heads_k, HV = layer.heads_v, K = layer.head_dim_k, V = layer.head_dim_v, r = HV / H;
  const LayerUses uses(layer);
  const bool per_channel = gate_is_per_channel(layer.gate);
  const auto add = [&](std::string_view name, DType dtype, std::vector<std::int64_t> shape) {
    tensors.push_back({std::string(name), dtype, std::move(shape), TensorRole::input});
  };
  if (uses.q) add("q", layer.io_dtype, {B, T, H, K});
  if (uses.separate) {
    add("k", layer.io_dtype, {B, T, H, K});
    add("v", layer.io_dtype, {B, T, HV, V});
  } else {
    add("packed", layer.io_dtype, {B, T, packed_row(layer)});
  }
  if (layer.input_layout == InputLayout::qkvz) {
    if (uses.a) add("a", layer.gate != Gate::none ? layer.gate_dtype : layer.beta_dtype, {B, T, H, 2 * r});
  } else {
    if (uses.a) add("a", layer.gate_dtype, per_channel ? std::vector{B, T, HV, K} : std::vector{B, T, HV});
    if (uses.b) add("b", layer.beta_dtype, {B, T, HV});
  }
  if (uses.parameters) {
    add("a_log", layer.a_log_dtype, {HV});
    add("dt_bias", layer.dt_bias_dtype, per_channel ? std::vector{HV, K} : std::vector{HV});
  }
}

void pack_inputs(const StepProblem& layer, const InputVectors& vectors, const Extents& extents, TensorReader& reader,
                 StepParams& params) {
  if (layer.input_layout == InputLayout::separate) {
    pack_separate(layer, vectors, extents, reader, params);
  } else {
    pack_packed(layer, vectors, extents, reader, params);
  }
  pack_gates(layer, extents, reader, params);
}

void pack_output(const StepProblem& layer, int vector, const Extents& extents, TensorReader& reader,
                 StepParams& params) {
  if (!layer.write_output) return;
  const TensorView& o = reader.take("o", layer.output_dtype, {extents.B, extents.T, layer.heads_v, layer.head_dim_v});
  require_dense("o", o, 1);
  require_aligned("o", o, 3, vector, "io_alignment");
  params.o = o.data;
  params.o_strides = {stride(o, 0), stride(o, 1), stride(o, 2), 0};
}

Extents read_extents(const StepProblem& layer, std::span<const TensorView> tensors) {
  // With an output its shape counts, so that an empty batch needs to name nothing else.
  if (layer.write_output) {
    const TensorView& o = tensors.back();
    require(o.rank == 4, "o: has rank {}, must be 4", o.rank);
    return {o.shape[0], o.shape[1]};
  }
  return describe_extents(layer, tensors);
}

Extents describe_extents(const StepProblem& layer, std::span<const TensorView> tensors) {
  const LayerUses uses(layer);
  const TensorView& first = tensors[uses.q ? 1 : 0];
  const std::string_view name = uses.separate ? "k" : "packed";
  require(first.rank == (uses.separate ? 4 : 3), "{}: has rank {}, must be {}", name, first.rank,
          uses.separate ? 4 : 3);
  return {first.shape[0], first.shape[1]};
}

void take_extent(std::string_view name, std::size_t axis, std::span<const TensorView> tensors,
                 std::vector<TensorSpec>& specs) {
  for (std::size_t i = 0; i < specs.size(); ++i) {
    if (specs[i].name != name) continue;
    require(tensors[i].rank == static_cast<int>(specs[i].shape.size()), "{}: has rank {}, must be {}", name,
            tensors[i].rank, specs[i].shape.size());
    specs[i].shape[axis] = tensors[i].shape[axis];
  }
}

std::vector<std::int64_t> state_shape(const StepProblem& layer, std::initializer_list<std::int64_t> lead) {
  const bool vk = layer.state_layout == StateLayout::vk;
  std::vector<std::int64_t> shape(lead);
  shape.push_back(layer.heads_v);
  shape.push_back(vk ? layer.head_dim_v : layer.head_dim_k);
  shape.push_back(vk ? layer.head_dim_k : layer.head_dim_v);
  return shape;
}

StateStrides state_strides(const TensorView& states) {
  if (states.rank == 5) return {stride(states, 0), stride(states, 1), stride(states, 2)};
  return {stride(states, 0), 0, stride(states, 1)};
}

IndexArray index_array(const TensorView& indices) {
  return {indices.data, stride(indices, 0), indices.rank == 2 ? stride(indices, 1) : 0};
}

}  // namespace gdnjit::gdn

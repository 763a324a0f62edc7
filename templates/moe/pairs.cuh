// Pairs of a token and a slot. Pair m slots + s is slot s of token m; the expert of slot k, where there is one, is the
// shared one, whose number is E.
#pragma once

#include "device/memory.cuh"
#include "device/warp.cuh"
#include "moe/matvec_config.cuh"

namespace gdnjit::moe {

// The expert of a pair, or -1 for one that is not here: an id out of range is not followed. `c` is the config of any of
// the kernels that work on pairs.
template <auto c>
__device__ __forceinline__ int expert_of(const MatvecParams& p, int pair) {
  const int token = pair / c.slots(), slot = pair % c.slots();
  if (c.shared_size > 0 && slot == c.top_k) return c.experts;
  long long id = device::load_index<c.id_dtype>(p.ids, token * p.ids_stride + slot);
  if constexpr (c.expert_map) {
    if (id < 0 || id >= p.map_size) return -1;
    id = p.expert_map[id];
  }
  return id >= 0 && id < c.experts ? static_cast<int>(id) : -1;
}

// The weights of expert `expert`, the shared one included.
template <auto c>
__device__ __forceinline__ ExpertMatrix matrix_of(const MatvecParams& p, int expert) {
  if (c.shared_size > 0 && expert == c.experts) return p.shared;
  ExpertMatrix m = p.routed;
  m.data = static_cast<const char*>(m.data) + expert * m.data_stride;
  if constexpr (c.scaled()) m.scales = static_cast<const char*>(m.scales) + expert * m.scales_stride;
  if constexpr (c.zero_point != ZeroPoint::eight) {
    m.zeros = static_cast<const char*>(m.zeros) + expert * m.zeros_stride;
  }
  if constexpr (c.weights == WeightFormat::nvfp4) m.global_scales += expert;
  if constexpr (c.bias) m.bias = static_cast<const char*>(m.bias) + expert * m.bias_stride;
  return m;
}

}  // namespace gdnjit::moe

// Pairs of a token and a slot, and who of them shares an expert. Pair m slots + s is slot s of token m; the expert of
// slot k, where there is one, is the shared one, whose number is E.
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

// Pairs of one expert that a warp serves at once.
struct PairGroup {
  int expert;  // -1: there is nothing to do
  int count;
};

// The group that pair `index` of a chunk leads: itself and the next ones with its expert, up to group_tokens(). There
// is none if it is not the first of a group. A whole warp calls; `members`, of the warp alone, gets the pairs.
template <MatvecConfig c>
__device__ __forceinline__ PairGroup group_led_by(const MatvecParams& p, int first, int pairs, int index,
                                                  int* members) {
  // Ids come from far away, so those of many pairs are asked for at once.
  enum : int { kAtOnce = 4, kSpan = kAtOnce * device::kWarpLanes };
  const int lane = static_cast<int>(threadIdx.x) % device::kWarpLanes;
  int expert = 0, before = 0, count = 0;
  for (int from = 0; from < pairs && count < c.group_tokens(); from += kSpan) {
    int experts[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int pair = from + i * device::kWarpLanes + lane;
      experts[i] = pair < pairs ? expert_of<c>(p, first + pair) : -1;
    }
    if (from == 0) {
      expert = expert_of<c>(p, first + index);
      if (expert < 0) return {-1, 0};
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int start = from + i * device::kWarpLanes;
      const bool same = experts[i] == expert;
      before += __popc(device::lanes_where(same && start + lane < index));
      if (start + device::kWarpLanes > index && start <= index && before % c.group_tokens() != 0) return {-1, 0};
      const unsigned lanes = device::lanes_where(same && start + lane >= index);
      const int place = count + __popc(lanes & ((1u << lane) - 1u));
      if ((lanes >> lane & 1u) != 0 && place < c.group_tokens()) members[place] = start + lane;
      count += __popc(lanes);
    }
  }
  __syncwarp();
  return {expert, count < c.group_tokens() ? count : c.group_tokens()};
}

}  // namespace gdnjit::moe

// moe.route: the k experts of each token and their weights, from the router's logits. One warp a token, everything in
// registers, nothing exchanged but over lanes.
//
// The definition, for a token's logits x[E]:
//   z = cap tanh(x / cap) + router_bias                       (each if there is one)
//   s = softmax(z) | z | sigmoid(z)                           by Scoring softmax, topk_softmax, sigmoid
//   c = s + selection_bias                                    what experts are chosen by
//   of the groups the groups_kept best (by the largest c, or the sum of the two largest), and of their experts the k
//   with the largest c, the largest first; among equals the lower number
//   w = s of the chosen; for topk_softmax softmax over their z
//   w = w / (sum of the chosen w + 1e-20) if renormalize; times scaling
// A NaN and -infinity count as the lowest finite number, +infinity as the largest: every token gets k different experts
// and finite weights. With nothing but NaN those are experts 0 .. k - 1, equal softmax weights, sigmoid weights of 0.
#pragma once

#include "device/grid.cuh"
#include "device/math.cuh"
#include "device/memory.cuh"
#include "device/sort.cuh"
#include "device/warp.cuh"
#include "moe/route_config.cuh"

namespace gdnjit::moe {

// An unsigned number that is larger the larger the value; 0 is below all of them, and what no finite value has.
__device__ __forceinline__ unsigned ordered(float value) {
  const int bits = __float_as_int(value);
  return static_cast<unsigned>(bits ^ (bits >> 31 | static_cast<int>(0x80000000u)));
}
__device__ __forceinline__ float from_ordered(unsigned key) {
  return __uint_as_float((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}

enum : unsigned { kIdBits = 1023 };
static_assert(kMaxExperts == kIdBits + 1);

// The same of a number of 16 bits and its expert in one: among equals the lower expert's is the larger. A NaN is as low
// as -infinity.
__device__ __forceinline__ unsigned packed_key(float value, int id) {
  const float lowest = __uint_as_float(0xff800000u);  // -infinity
  return (ordered(fmaxf(value, lowest) + 0.0f) & ~kIdBits) | (kIdBits - static_cast<unsigned>(id));
}
__device__ __forceinline__ int packed_id(unsigned key) { return static_cast<int>(kIdBits - (key & kIdBits)); }
__device__ __forceinline__ float packed_value(unsigned key) {
  return from_ordered((key & 0x80000000u) != 0 ? key & ~kIdBits : key | kIdBits);
}

// Finite, and 0 has one sign, so that equal numbers have equal keys.
__device__ __forceinline__ float made_finite(float value) {
  constexpr float kLargest = 3.402823466e38f;
  return fminf(fmaxf(value, -kLargest), kLargest) + 0.0f;  // fmaxf drops a NaN
}

// tanh(u). Below 1/4 the series, whose first term left out is 2^-27 of the sum; above, 1 - 2 / (e^2u + 1).
__device__ __forceinline__ float hyperbolic_tangent(float u) {
  const float u2 = u * u;
  float sum = 62.0f / 2835.0f;
  sum = fmaf(sum, u2, -17.0f / 315.0f);
  sum = fmaf(sum, u2, 2.0f / 15.0f);
  sum = fmaf(sum, u2, -1.0f / 3.0f);
  const float near = fmaf(sum * u2, u, u);
  const float size = fabsf(u);
  const float far = 1.0f - 2.0f * device::reciprocal_approx(1.0f + device::exponential(2.0f * size));
  return size < 0.25f ? near : copysignf(far, u);
}

// An expert as it was chosen.
struct Chosen {
  unsigned key;
  int id;
};

// What a slot of a token holds.
struct RoutedSlot {
  int id;
  float weight;
};

// Routes one token with a whole warp, for this kernel and for others that need the routes at hand.
template <RouteConfig c>
struct TokenRouter {
  static_assert(c.fault() == nullptr, "this problem cannot be routed");
  enum : int {
    kLaneExperts = c.lane_experts(),
    kGroupExperts = c.group_experts(),
    kGroupLanes = c.group_lanes(),
    kSortExperts = kLaneExperts > 16  ? 32
                   : kLaneExperts > 8 ? 16
                   : kLaneExperts > 4 ? 8
                   : kLaneExperts > 2 ? 4
                                      : 2,
    kNeeded = kLaneExperts < c.top_k ? kLaneExperts : c.top_k,  // of a lane's experts in order
    kUnroll = kNeeded <= 8 ? 8 : 2,
    kSumLanes = c.top_k > 16  ? 32
                : c.top_k > 8 ? 16
                : c.top_k > 4 ? 8
                : c.top_k > 2 ? 4
                : c.top_k > 1 ? 2
                              : 1,
  };

  // A lane's part of the biases.
  struct Biases {
    float router[c.router_bias ? kLaneExperts : 1];
    float selection[c.selection_bias ? kLaneExperts : 1];
  };

  static __device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x % device::kWarpLanes); }
  static __device__ __forceinline__ int group() { return lane() / kGroupLanes; }
  static __device__ __forceinline__ int first_of(int any_lane) {
    return any_lane / kGroupLanes * kGroupExperts + any_lane % kGroupLanes * kLaneExperts;
  }
  // The lane's first expert, and whether it has that many.
  static __device__ __forceinline__ int first() { return first_of(lane()); }
  static __device__ __forceinline__ bool has(int place) {
    return group() < c.groups && lane() % kGroupLanes * kLaneExperts + place < kGroupExperts;
  }

  // The lane's numbers of a row of E; those of experts that it does not have are 0.
  template <DType kDtype>
  static __device__ __forceinline__ void load_row(const void* row, float (&values)[kLaneExperts]) {
#pragma unroll
    for (int place = 0; place < kLaneExperts; place += c.vector) {
#pragma unroll
      for (int i = 0; i < c.vector; ++i) values[place + i] = 0.0f;
      if (has(place)) device::load_elements<kDtype, c.vector, c.vector>(row, first() + place, values + place);
    }
  }

  // Biases belong to the layer: a programmatic kernel loads them before it waits.
  static __device__ __forceinline__ Biases load_biases(const void* router, const void* selection) {
    Biases biases;
    if constexpr (c.router_bias) load_row<c.bias_dtype>(router, biases.router);
    if constexpr (c.selection_bias) load_row<c.bias_dtype>(selection, biases.selection);
    return biases;
  }

  // z of a logit.
  static __device__ __forceinline__ float logit(float input, float router_bias) {
    float z = made_finite(input);
    if constexpr (c.softcap > 0.0f) {
      constexpr float kInverse = 1.0f / c.softcap;
      z = c.softcap * hyperbolic_tangent(z * kInverse);
    }
    if constexpr (c.router_bias) z = made_finite(z + router_bias);
    return z;
  }

  // What the softmax over all experts divides e^(z - largest) by.
  struct Softmax {
    float largest;
    float sum;
  };
  static __device__ __forceinline__ Softmax softmax_of(const float (&z)[kLaneExperts]) {
    unsigned key = 0;
#pragma unroll
    for (int place = 0; place < kLaneExperts; ++place) {
      const unsigned other = has(place) ? ordered(z[place]) : 0u;
      key = other > key ? other : key;
    }
    Softmax softmax{from_ordered(device::max_over_lanes(key)), 0.0f};
#pragma unroll
    for (int place = 0; place < kLaneExperts; ++place) {
      const float power = device::exponential(z[place] - softmax.largest);
      softmax.sum += has(place) ? power : 0.0f;
    }
    softmax.sum = device::sum_over_lanes<device::kWarpLanes, 1>(softmax.sum);
    return softmax;
  }

  // s of a logit; of topk_softmax only what experts are chosen by.
  static __device__ __forceinline__ float score(float z, const Softmax& softmax) {
    if constexpr (c.scoring == Scoring::sigmoid) return device::sigmoid(z);
    if constexpr (c.scoring == Scoring::softmax) {
      return device::exponential(z - softmax.largest) * device::reciprocal_approx(softmax.sum);
    }
    return z;
  }

  // The two largest of them and one more key.
  static __device__ __forceinline__ void take_in(unsigned key, unsigned& largest, unsigned& second) {
    const unsigned lower = key > largest ? largest : key;
    largest = key > largest ? key : largest;
    second = lower > second ? lower : second;
  }

  // Takes the experts of groups that are not kept out of the choice.
  static __device__ __forceinline__ void keep_groups(unsigned (&keys)[kLaneExperts]) {
    unsigned worth = 0;
    unsigned second = 0;
#pragma unroll
    for (int place = 0; place < kLaneExperts; ++place) take_in(keys[place], worth, second);
#pragma unroll
    for (int offset = 1; offset < kGroupLanes; offset *= 2) {
      const unsigned other = device::from_lane_xor(worth, offset);
      if constexpr (c.sums_scores()) {
        const unsigned other_second = device::from_lane_xor(second, offset);
        second = other_second > second ? other_second : second;
      }
      take_in(other, worth, second);
    }
    if constexpr (c.sums_scores()) worth = ordered(from_ordered(worth) + from_ordered(second) + 0.0f);
    int better = 0;
#pragma unroll
    for (int other = 0; other < c.groups; ++other) {
      const unsigned theirs = device::from_lane(worth, other * kGroupLanes);
      better += theirs > worth || (theirs == worth && other < group()) ? 1 : 0;
    }
#pragma unroll
    for (int place = 0; place < kLaneExperts; ++place) {
      if (better >= c.groups_kept) keys[place] = 0;
    }
  }

  // One round of the choice: the largest of all lanes' keys, each lane's in order, goes to lane `slot`. `won`: it was
  // this lane's, and what follows takes its place.
  static __device__ __forceinline__ void pop(unsigned (&sorted)[kLaneExperts], bool won) {
#pragma unroll
    for (int place = 0; place < kNeeded; ++place) {
      const unsigned following = place + 1 < kNeeded ? sorted[(place + 1) % kNeeded] : 0u;
      sorted[place] = won ? following : sorted[place];
    }
  }

  // The k largest keys where each has its expert in it and no two are equal: lane `slot` gets that slot's. A round is
  // one maximum over the lanes, one comparison and a step of the lane that had it.
  static __device__ __forceinline__ unsigned take_largest_packed(unsigned (&keys)[kLaneExperts]) {
    device::sort_descending<0, kSortExperts>(keys);
    unsigned mine = 0;
#pragma unroll kUnroll
    for (int slot = 0; slot < c.top_k; ++slot) {
      const unsigned largest = device::max_over_lanes(keys[0]);
      pop(keys, keys[0] == largest);
      if (lane() == slot) mine = largest;
    }
    return mine;
  }

  // The same where keys may be equal: lane `slot` gets that slot's key and expert. Of the lanes with the largest key
  // the lowest has the lowest ids, and of its experts with that key the first, then the second: which one it was is
  // found out behind the rounds, for all slots at once.
  static __device__ __forceinline__ Chosen take_largest(const unsigned (&keys)[kLaneExperts]) {
    unsigned sorted[kLaneExperts];
#pragma unroll
    for (int place = 0; place < kLaneExperts; ++place) sorted[place] = keys[place];
    device::sort_descending<0, kSortExperts>(sorted);
    const unsigned this_lane = 1u << lane();
    const unsigned up_to_this = device::lanes_below() | this_lane;
    unsigned mine = 0;
    unsigned lanes = 0;
#pragma unroll kUnroll
    for (int slot = 0; slot < c.top_k; ++slot) {
      const unsigned largest = device::max_over_lanes(sorted[0]);
      const unsigned equals = device::lanes_where(sorted[0] == largest);
      pop(sorted, (equals & up_to_this) == this_lane);
      if (lane() == slot) mine = largest, lanes = equals;
    }
    const int winner = lane() < c.top_k ? __ffs(static_cast<int>(lanes)) - 1 : 0;
    const unsigned same = device::lanes_with_same(mine) & device::lanes_with_same(static_cast<unsigned>(winner));
    int to_pass = __popc(static_cast<int>(same & device::lanes_below()));
    int place = 0;
#pragma unroll
    for (int other = 0; other < kLaneExperts; ++other) {
      const bool equal = device::from_lane(keys[other], winner) == mine;
      if (equal && to_pass == 0) place = other;
      to_pass -= equal ? 1 : 0;
    }
    return {mine, lane() < c.top_k ? first_of(winner) + place : 0};
  }

  // The weight of this lane's slot from its z; lanes without a slot give 0.
  static __device__ __forceinline__ float weight(float z, const Softmax& softmax) {
    const bool has_slot = lane() < c.top_k;
    float w = score(z, softmax);
    if constexpr (c.scoring == Scoring::topk_softmax) {
      const float largest = from_ordered(device::max_over_lanes(has_slot ? ordered(z) : 0u));
      w = device::exponential(z - largest);
    }
    w = has_slot ? w : 0.0f;
    if constexpr (c.renormalize || c.scoring == Scoring::topk_softmax) {
      const float sum = device::sum_over_lanes<kSumLanes, 1>(w);
      w *= device::reciprocal_approx(sum + (c.renormalize ? 1e-20f : 0.0f));
    }
    return w * c.scaling;
  }

  // Lane `slot` gets the slot's expert and weight; lanes from k on get nothing of use. `row` has the token's logits.
  static __device__ __forceinline__ RoutedSlot route(const void* row, const void* router_bias, const Biases& biases) {
    float z[kLaneExperts];
    load_row<c.logits_dtype>(row, z);
    unsigned keys[kLaneExperts];
    Softmax softmax{0.0f, 1.0f};
    if constexpr (c.chooses_by_input()) {
#pragma unroll
      for (int place = 0; place < kLaneExperts; ++place) {
        keys[place] = c.packs_ids() ? packed_key(z[place], first() + place) : ordered(made_finite(z[place]));
      }
    }
    if constexpr (!c.chooses_by_input() || c.scoring == Scoring::softmax) {
#pragma unroll
      for (int place = 0; place < kLaneExperts; ++place) {
        z[place] = logit(z[place], c.router_bias ? biases.router[c.router_bias ? place : 0] : 0.0f);
      }
    }
    if constexpr (c.scoring == Scoring::softmax) softmax = softmax_of(z);
    if constexpr (!c.chooses_by_input()) {
#pragma unroll
      for (int place = 0; place < kLaneExperts; ++place) {
        float choice = c.chooses_by_logits() ? z[place] : score(z[place], softmax);
        if constexpr (c.selection_bias) choice += biases.selection[place];
        keys[place] = ordered(made_finite(choice));
      }
    }
#pragma unroll
    for (int place = 0; place < kLaneExperts; ++place) {
      if (!has(place)) keys[place] = 0;
    }
    if constexpr (c.groups_kept < c.groups) keep_groups(keys);

    if constexpr (c.packs_ids()) {
      const unsigned key = take_largest_packed(keys);
      return {packed_id(key), weight(logit(packed_value(key), 0.0f), softmax)};
    }
    const Chosen chosen = take_largest(keys);
    // Where the key is no logit, the slot's lane looks its expert's up again: in the L1 by now, once for all slots.
    float slot_z = from_ordered(chosen.key);
    if constexpr (c.chooses_by_input()) {
      slot_z = logit(slot_z, 0.0f);
    } else if constexpr (!c.chooses_by_logits()) {
      float bias = 0.0f;
      if constexpr (c.router_bias) bias = device::load_scalar<c.bias_dtype>(router_bias, chosen.id);
      slot_z = logit(device::load_scalar<c.logits_dtype>(row, chosen.id), bias);
    }
    return {chosen.id, weight(slot_z, softmax)};
  }
};

template <RouteConfig c>
struct Route {
  using Router = TokenRouter<c>;
  enum : int { kThreads = c.threads() };

  static __device__ __forceinline__ void store(const RouteParams& p, long long token, const RoutedSlot& slot) {
    const int lane = Router::lane();
    if (lane >= c.top_k) return;
    p.weights[token * p.weights_row + lane] = slot.weight;
    const long long place = token * p.ids_row + lane;
    if constexpr (c.id_dtype == DType::i64) {
      static_cast<long long*>(p.ids)[place] = slot.id;
    } else {
      static_cast<int*>(p.ids)[place] = slot.id;
    }
  }

  static __device__ __forceinline__ void run(const RouteParams& p) {
    if constexpr (c.programmatic) device::let_next_grid_start();
    const typename Router::Biases biases = Router::load_biases(p.router_bias, p.selection_bias);
    if constexpr (c.programmatic) device::wait_for_previous_grid();
    const long long token = static_cast<long long>(blockIdx.x) * c.warps + device::warp_of_block();
    if (token >= p.tokens) return;
    const void* row = device::element<c.logits_dtype>(p.logits, token * p.logits_row);
    store(p, token, Router::route(row, p.router_bias, biases));
  }
};

}  // namespace gdnjit::moe

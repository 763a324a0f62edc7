// What every kernel of a GDN layer makes of its inputs, whatever its way over the tokens: which key head serves a value
// head, which slots are padding, norms, gates and write strengths. `c` is the kernel's config.
#pragma once

#include <gdnjit/gdn_options.h>

#include "device/math.cuh"
#include "device/memory.cuh"

namespace gdnjit::gdn {

// A value head: key head h, and its place j in the group of the value heads that h serves.
struct ValueHead {
  int hv, h, j;
};
template <auto c>
__device__ __forceinline__ ValueHead value_head(int hv) {
  constexpr int kGroup = c.heads_v / c.heads_k;
  if constexpr (c.head_map == HeadMap::grouped) return {hv, hv / kGroup, hv % kGroup};
  return {hv, hv % c.heads_k, hv / c.heads_k};
}
// The same from the key head's side.
template <auto c>
__device__ __forceinline__ ValueHead value_head_of_group(int h, int j) {
  constexpr int kGroup = c.heads_v / c.heads_k;
  return {c.head_map == HeadMap::grouped ? h * kGroup + j : j * c.heads_k + h, h, j};
}

// The smallest slot that is not a sentinel.
template <auto c>
constexpr long long first_slot() {
  return c.pad_sentinel == PadSentinel::zero ? 1 : 0;
}

// The factor that turns x into l2norm(x), from the sum of its squares.
template <auto c>
__device__ __forceinline__ float norm_factor(float sum_squares) {
  if constexpr (c.norm == Norm::sumsq_eps) {
    return device::rsqrt_approx(sum_squares + c.norm_eps);
  } else if constexpr (c.norm == Norm::max_eps) {
    return device::reciprocal_approx(fmaxf(device::sqrt_approx(sum_squares), c.norm_eps));
  } else if constexpr (c.norm == Norm::add_eps) {
    return device::reciprocal_approx(device::sqrt_approx(sum_squares) + c.norm_eps);
  } else {
    return 1.0f;
  }
}

// What the gate of a head needs beside its input: exp(A_log), and dt_bias where it is per head.
struct GateParameters {
  float rate;
  float bias;
};
template <auto c, typename Params>
__device__ __forceinline__ GateParameters gate_parameters(const Params& p, int hv) {
  GateParameters gate = {};
  if constexpr (gate_has_parameters(c.gate)) {
    if constexpr (!gate_is_per_channel(c.gate)) gate.bias = device::load_scalar<c.dt_bias_dtype>(p.dt_bias, hv);
    gate.rate = device::exponential_split(device::load_scalar<c.a_log_dtype>(p.a_log, hv));
  }
  return gate;
}

// g from the gate's input x, natural log; not for gates that are given as exp(g), or not at all.
template <auto c>
__device__ __forceinline__ float log_decay(float x, float rate, float bias) {
  static_assert(c.gate != Gate::none && c.gate != Gate::alpha);
  if constexpr (c.gate == Gate::log || c.gate == Gate::channel_log) {
    return x;
  } else if constexpr (c.gate == Gate::channel_sigmoid) {
    return c.gate_lower_bound * device::sigmoid(rate * (x + bias));
  } else {
    return -rate * device::softplus(x + bias);
  }
}

// alpha = exp(g) from the gate's input x.
template <auto c>
__device__ __forceinline__ float decay(float x, float rate, float bias) {
  if constexpr (c.gate == Gate::alpha) {
    return x;
  } else {
    return device::exponential(log_decay<c>(x, rate, bias));
  }
}

// beta from its input x, which Beta::none does not have.
template <auto c>
__device__ __forceinline__ float write_strength(float x) {
  if constexpr (c.beta == Beta::none) {
    return 1.0f;
  } else if constexpr (c.beta == Beta::given) {
    return x;
  } else {
    return c.beta == Beta::sigmoid ? device::sigmoid(x) : 2.0f * device::sigmoid(x);
  }
}

}  // namespace gdnjit::gdn

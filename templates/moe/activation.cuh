// What becomes of gate and up, in fp32.
#pragma once

#include <gdnjit/moe_options.h>

#include "device/math.cuh"

namespace gdnjit::moe {

// tanh(x) with an absolute error of 2^-22: by e^2x, which does not overflow since |x| is bounded.
__device__ __forceinline__ float tanh_by_exponential(float x) {
  const float bounded = fminf(fmaxf(x, -15.0f), 15.0f);
  return 1.0f - 2.0f * device::reciprocal_approx(1.0f + device::exponential(2.0f * bounded));
}

template <Activation kActivation>
__device__ __forceinline__ float activate(float gate, float up, float alpha, float limit) {
  if constexpr (kActivation == Activation::silu) {
    return gate * device::sigmoid(gate) * up;
  } else if constexpr (kActivation == Activation::gelu) {
    return 0.5f * gate * (1.0f + erff(gate * 0.70710678f)) * up;
  } else if constexpr (kActivation == Activation::gelu_tanh) {
    const float inner = 0.79788456f * fmaf(0.044715f * gate * gate, gate, gate);
    return 0.5f * gate * (1.0f + tanh_by_exponential(inner)) * up;
  } else if constexpr (kActivation == Activation::swiglu_oai) {
    // (fminf would make a number of NaN.)
    const float g = limit < gate ? limit : gate, u = up < -limit ? -limit : limit < up ? limit : up;
    return (u + 1.0f) * g * device::sigmoid(alpha * g);
  } else {
    const float positive = up < 0.0f ? 0.0f : up;
    return positive * positive;
  }
}

}  // namespace gdnjit::moe

// Scalar functions of the layers, accurate to a few units in the last place of fp32.
#pragma once

namespace gdnjit::device {

// log(1 + e^x). log1p keeps the small values exact: with exp(A_log) up to 9e6 they still matter.
__device__ __forceinline__ float softplus(float x) { return x <= 20.0f ? log1pf(expf(x)) : x; }

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

}  // namespace gdnjit::device

// Scalar functions of the layers, a few units in the last place of fp32, without branches: a kernel evaluates them
// once a head, so what counts is that they are short (each library expf or division costs milliseconds of compile
// time and a slow path that is never taken). A product that meets a sum is an fmaf or exact, so that every kernel
// computes the same bits, whatever the compiler fuses.
#pragma once

namespace gdnjit::device {

// Hardware approximations; results below the normal range flush to zero. Errors from the PTX ISA.
__device__ __forceinline__ float exp2_approx(float x) {  // 2^-22 relative
  asm("ex2.approx.ftz.f32 %0, %0;" : "+f"(x));
  return x;
}
__device__ __forceinline__ float reciprocal_approx(float x) {  // 1 ulp
  asm("rcp.approx.ftz.f32 %0, %0;" : "+f"(x));
  return x;
}
__device__ __forceinline__ float rsqrt_approx(float x) {  // 2^-22.9 relative; infinity at 0
  asm("rsqrt.approx.ftz.f32 %0, %0;" : "+f"(x));
  return x;
}
__device__ __forceinline__ float sqrt_approx(float x) {  // 2^-23 relative
  asm("sqrt.approx.ftz.f32 %0, %0;" : "+f"(x));
  return x;
}

// e^x with a relative error of |x| 2^-24 + 2^-22: the rounding of x log2(e). Good where x is small whenever the result
// matters, as in a decay; 0, infinity and NaN come out as they should.
__device__ __forceinline__ float exponential(float x) {
  constexpr float kLog2e = 1.4426950408889634f;
  return exp2_approx(x * kLog2e);
}

// e^x with a relative error of 2^-21 up to |x| = 80, by splitting that product. For exp(A_log), whose error multiplies
// every decay.
__device__ __forceinline__ float exponential_split(float x) {
  constexpr float kLog2e = 1.4426950408889634f;
  constexpr float kLog2eRest = 1.9259629911266175e-8f;  // what fp32 cuts off
  constexpr float kLn2 = 0.6931471805599453f;
  const float product = x * kLog2e;
  const float rest = fmaf(x, kLog2eRest, fmaf(x, kLog2e, -product));
  const float power = exp2_approx(product);
  return fmaf(power, rest * kLn2, power);
}

// log(1 + y) for y in [-1/2, 1], relative accuracy kept down to the smallest y: 2 artanh(s), s = y / (2 + y), |s| <=
// 1/3. The series' first term left out is below 2^-28 of the sum.
__device__ __forceinline__ float log1p_unit(float y) {
  const float s = y * reciprocal_approx(2.0f + y);
  const float s2 = s * s;
  float sum = 1.0f / 15.0f;
  sum = fmaf(sum, s2, 1.0f / 13.0f);
  sum = fmaf(sum, s2, 1.0f / 11.0f);
  sum = fmaf(sum, s2, 1.0f / 9.0f);
  sum = fmaf(sum, s2, 1.0f / 7.0f);
  sum = fmaf(sum, s2, 1.0f / 5.0f);
  sum = fmaf(sum, s2, 1.0f / 3.0f);
  return 2.0f * fmaf(sum * s2, s, s);
}

// log2(x) for x >= 0, relative error 2^-21 also near 1, where the hardware's own is absolute; -infinity at 0.
__device__ __forceinline__ float log2_near_one(float x) {
  constexpr float kLog2e = 1.4426950408889634f;
  float far;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(far) : "f"(x));
  return x > 0.5f && x < 2.0f ? log1p_unit(x - 1.0f) * kLog2e : far;
}

// log(1 + e^x) = max(x, 0) + log(1 + e^-|x|). Small values stay exact: times exp(A_log) up to 9e6 they matter. Above
// 20, where the layer's definition switches to x, the second term is below half a unit in the last place.
__device__ __forceinline__ float softplus(float x) { return fmaxf(x, 0.0f) + log1p_unit(exponential(-fabsf(x))); }

__device__ __forceinline__ float sigmoid(float x) { return reciprocal_approx(1.0f + exponential(-x)); }

}  // namespace gdnjit::device

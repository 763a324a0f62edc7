// Storage types to fp32 and back. Arithmetic is always fp32; a value is rounded once, where it is stored.
//
// Elements travel in 32-bit words as they lie in memory: an fp32 in a float, two 16-bit values in an unsigned. (Float
// registers for fp32 spare the optimiser a bit cast an element, a tenth of the compile time of a decode kernel.)
#pragma once

#include <gdnjit/dtype.h>

namespace gdnjit::device {

template <DType kDtype>
struct Storage {
  using Word = unsigned;
  using Element = unsigned short;
};
template <>
struct Storage<DType::f32> {
  using Word = float;
  using Element = float;
};
template <DType kDtype>
using Word = typename Storage<kDtype>::Word;
template <DType kDtype>
using Stored = typename Storage<kDtype>::Element;  // what pointers to f32, bf16 and f16 in memory point to

// Words that hold `elements` elements.
template <DType kDtype>
constexpr int words_of(int elements) {
  return (elements * dtype_bytes(kDtype) + 3) / 4;
}

// A lone element as fp32. The upper half of a 16-bit element's word is not looked at.
template <DType kDtype>
__device__ __forceinline__ float number(Word<kDtype> word) {
  if constexpr (kDtype == DType::f32) {
    return word;
  } else if constexpr (kDtype == DType::bf16) {
    return __uint_as_float(word << 16);  // bf16 is the upper half of an fp32
  } else {
    static_assert(kDtype == DType::f16);
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(static_cast<unsigned short>(word)));
    return value;
  }
}

// Unpacks kElements elements, lowest bits first.
template <DType kDtype, int kElements, int kWords>
__device__ __forceinline__ void unpack(const Word<kDtype> (&words)[kWords], float* values) {
  static_assert(kWords == words_of<kDtype>(kElements));
#pragma unroll
  for (int w = 0; w < kWords; ++w) {
    if constexpr (kDtype == DType::f32) {
      values[w] = words[w];
    } else {
      values[2 * w] = number<kDtype>(words[w]);
      if (2 * w + 1 == kElements) break;
      if constexpr (kDtype == DType::bf16) {
        values[2 * w + 1] = __uint_as_float(words[w] & 0xffff0000u);
      } else {
        values[2 * w + 1] = number<kDtype>(words[w] >> 16);
      }
    }
  }
}

// Rounded to the 10 bits of fraction that tf32 keeps, as an operand of mma.cuh.
__device__ __forceinline__ unsigned round_tf32(float value) {
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
}

// Two numbers rounded to nearest even.
template <DType kDtype>
__device__ __forceinline__ unsigned pack_pair(float low, float high) {
  unsigned word;
  if constexpr (kDtype == DType::bf16) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  } else {
    static_assert(kDtype == DType::f16);
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  }
  return word;
}

// Rounds and packs; the inverse of unpack.
template <DType kDtype, int kElements, int kWords>
__device__ __forceinline__ void pack(const float (&values)[kElements], Word<kDtype> (&words)[kWords]) {
  static_assert(kWords == words_of<kDtype>(kElements));
#pragma unroll
  for (int w = 0; w < kWords; ++w) {
    if constexpr (kDtype == DType::f32) {
      words[w] = values[w];
    } else {
      words[w] = pack_pair<kDtype>(values[2 * w], 2 * w + 1 < kElements ? values[(2 * w + 1) % kElements] : 0.0f);
    }
  }
}

}  // namespace gdnjit::device

// Storage types to fp32 and back. Arithmetic is always fp32; a value is rounded once, where it is stored.
//
// Elements travel in 32-bit words as they lie in memory: an fp32 in a float, two 16-bit values in an unsigned. (Float
// registers for fp32 spare the optimiser a bit cast an element, a tenth of the compile time of a decode kernel.)
#pragma once

#include <gdnjit/dtype.h>

namespace gdnjit::device {

template <DType kDtype>
struct WordOf {
  using type = unsigned;
};
template <>
struct WordOf<DType::f32> {
  using type = float;
};
template <DType kDtype>
using Word = typename WordOf<kDtype>::type;

// Words that hold `elements` elements.
template <DType kDtype>
constexpr int words_of(int elements) {
  return (elements * dtype_bytes(kDtype) + 3) / 4;
}

// Unpacks kElements elements, lowest bits first. For a lone 16-bit element the word's high half is 0.
template <DType kDtype, int kElements, int kWords>
__device__ __forceinline__ void unpack(const Word<kDtype> (&words)[kWords], float* values) {
  static_assert(kWords == words_of<kDtype>(kElements));
#pragma unroll
  for (int e = 0; e < kElements; ++e) {
    if constexpr (kDtype == DType::f32) {
      values[e] = words[e];
    } else if constexpr (kDtype == DType::bf16) {
      // bf16 is the upper half of an fp32.
      values[e] = __uint_as_float(e % 2 == 0 ? words[e / 2] << 16 : words[e / 2] & 0xffff0000u);
    } else {
      static_assert(kDtype == DType::f16);
      const unsigned short half = static_cast<unsigned short>(e % 2 == 0 ? words[e / 2] : words[e / 2] >> 16);
      asm("cvt.f32.f16 %0, %1;" : "=f"(values[e]) : "h"(half));
    }
  }
}

// Rounded to the 10 bits of fraction that tf32 keeps, as an operand of mma.cuh.
__device__ __forceinline__ unsigned round_tf32(float value) {
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
}

// Rounds to nearest even and packs; the inverse of unpack.
template <DType kDtype, int kElements, int kWords>
__device__ __forceinline__ void pack(const float (&values)[kElements], Word<kDtype> (&words)[kWords]) {
  static_assert(kWords == words_of<kDtype>(kElements));
#pragma unroll
  for (int w = 0; w < kWords; ++w) {
    if constexpr (kDtype == DType::f32) {
      words[w] = values[w];
    } else {
      const float low = values[2 * w];
      const float high = 2 * w + 1 < kElements ? values[(2 * w + 1) % kElements] : 0.0f;
      if constexpr (kDtype == DType::bf16) {
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(words[w]) : "f"(high), "f"(low));
      } else {
        static_assert(kDtype == DType::f16);
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(words[w]) : "f"(high), "f"(low));
      }
    }
  }
}

}  // namespace gdnjit::device

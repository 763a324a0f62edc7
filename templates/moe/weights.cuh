// Weights as they lie in memory to operands of mma.m16n8k16, in registers and without tables.
//
// fragment() turns eight consecutive weights of a row into four registers, two elements each: the low halves hold
// weights first(r), the high halves second(r). Tokens are laid out in the same pairs (pair_up()).
#pragma once

#include <gdnjit/moe_options.h>

#include "device/convert.cuh"

namespace gdnjit::moe {

// Bits of a constant as 16-bit element in both halves of a register.
template <bool kF16>
constexpr unsigned both(unsigned bf16, unsigned f16) {
  const unsigned bits = kF16 ? f16 : bf16;
  return bits << 16 | bits;
}

// a b in both halves; the product of a number and a power of two, exact also where `a` is subnormal. (Adding -0 keeps
// the sign of zeros.)
template <bool kF16>
__device__ __forceinline__ unsigned scale_pair(unsigned a, unsigned b) {
  unsigned d;
  if constexpr (kF16) {
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(0x80008000u));
  } else {
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(0x80008000u));
  }
  return d;
}

__device__ __forceinline__ unsigned permute_bytes(unsigned a, unsigned b, unsigned selector) {
  unsigned d;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(selector));
  return d;
}

// (a & kMask) | base in one instruction, which has room for one constant only: `base` is in a register.
template <unsigned kMask>
__device__ __forceinline__ unsigned masked_onto(unsigned a, unsigned base) {
  unsigned d;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(d) : "r"(a), "n"(kMask), "r"(base));
  return d;
}

// What of x a bf16 keeps, and the rest.
__device__ __forceinline__ unsigned take_bf16(float& low, float& high) {
  const float values[2] = {low, high};
  unsigned words[1];
  device::pack<DType::bf16>(values, words);
  low -= __uint_as_float(words[0] << 16);
  high -= __uint_as_float(words[0] & 0xffff0000u);
  return words[0];
}

// Of one format; kF16: the elements are fp16, else bf16. Both hold every weight of up to 8 bits exactly.
template <WeightFormat kFormat, bool kF16>
struct Weights {
  enum : bool {
    // Pairs are weights j and j + 4 of an eight: both halves of a word are masked at once. Else they are neighbours, as
    // tokens lie in memory.
    kPairsAcross = kFormat == WeightFormat::int4,
    // Elements are weights plus kBias: the exponent's bits are put over a nibble, and nothing is subtracted. What that
    // adds to a sum is kBias times the sum of the group's inputs, which one more mma yields for all rows at once.
    kBiased = kFormat == WeightFormat::int4,
  };
  // The last bit of 128.0 in bf16 is a 1, so a nibble there needs no shift if it is the word's first; in fp16 bit 4 of
  // 64.0 is, where the second nibble lies.
  enum : int { kBias = kF16 ? 64 : 128 };

  static __device__ __forceinline__ void fragment(const unsigned (&words)[4], int chunk, unsigned (&a)[4]) {
    if constexpr (kFormat == WeightFormat::bf16 || kFormat == WeightFormat::f16) {
#pragma unroll
      for (int r = 0; r < 4; ++r) a[r] = words[r];
    } else if constexpr (kFormat == WeightFormat::int4) {
      nibbles(words[chunk], a);
    } else if constexpr (kFormat == WeightFormat::mxfp4 || kFormat == WeightFormat::nvfp4) {
      e2m1(words[chunk], a);
    } else {
#pragma unroll
      for (int w = 0; w < 2; ++w) {
        unsigned pairs[2];
        if constexpr (kFormat == WeightFormat::int8) {
          int8(words[2 * chunk + w], pairs);
        } else {
          e4m3(words[2 * chunk + w], pairs);
        }
        a[2 * w] = pairs[0];
        a[2 * w + 1] = pairs[1];
      }
    }
  }

 private:
  static __device__ __forceinline__ void nibbles(unsigned word, unsigned (&a)[4]) {
    constexpr unsigned kMask = both<kF16>(0x000f, 0x00f0);
    constexpr unsigned kBits = both<kF16>(0x4300, 0x5400);
    constexpr int kPlace = kF16 ? 4 : 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int right = 4 * j - kPlace;
      a[j] = masked_onto<kMask>(right > 0 ? word >> right : word << -right, kBits);
    }
  }

  // Weights 2 j and 2 j + 1 each as the first of a byte's nibbles, its sign spread over the byte above (prmt's bit 3
  // repeats a byte's first bit). One shift then takes exponent and fraction of both to their places, and leaves the
  // sign in the first bit. 17 instructions for eight weights, eight of them on the ALU, which takes a warp every other
  // clock.
  static __device__ __forceinline__ void e2m1(unsigned word, unsigned (&a)[4]) {
    constexpr unsigned kMask = both<kF16>(0x81c0, 0x8e00), kPower = both<kF16>(0x7e80, 0x7400);
    constexpr int kPlace = kF16 ? 5 : 2;
    const unsigned even = word << 4;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const unsigned spread = permute_bytes(even, word, 0xc480u + 0x1111u * static_cast<unsigned>(j));
      a[j] = scale_pair<kF16>((spread << kPlace) & kMask, kPower);
    }
  }

  // The same for four bits of exponent and three of fraction, eight instructions for four weights. The two codes of NaN
  // read as 480.
  static __device__ __forceinline__ void e4m3(unsigned word, unsigned (&pairs)[2]) {
    constexpr unsigned kMask = both<kF16>(0x87f0, 0xbf80), kPower = both<kF16>(0x7b80, 0x5c00);
    constexpr int kPlace = kF16 ? 7 : 4;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const unsigned spread = permute_bytes(word, 0, j == 0 ? 0x9180 : 0xb3a2);
      pairs[j] = scale_pair<kF16>((spread << kPlace) & kMask, kPower);
    }
  }

  // fp16: the byte with its sign bit flipped, q + 128, under the exponent of 1024; then the difference. bf16, which has
  // room for one bit less: the low seven bits under the exponent of 128, and the sign bit under that of -128, where it
  // makes -256 of it; then the sum. Both are exact.
  static __device__ __forceinline__ void int8(unsigned word, unsigned (&pairs)[2]) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const unsigned selector = j == 0 ? 0x4140 : 0x4342;
      if constexpr (kF16) {
        const unsigned sum = permute_bytes(word ^ 0x80808080u, 0x64646464u, selector);
        asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(pairs[j]) : "r"(sum), "r"(0x64806480u));
      } else {
        const unsigned bits = permute_bytes(word, 0xc3c3c3c3u, selector);
        asm("fma.rn.bf16x2 %0, %1, %2, %3;"
            : "=r"(pairs[j])
            : "r"(bits & 0x437f437fu), "r"(0x3f803f80u), "r"(bits & 0xff80ff80u));
      }
    }
  }
};

// Eight elements of a token, in order, to the pairs of a format.
template <bool kPairsAcross>
__device__ __forceinline__ void pair_up(const unsigned (&words)[4], unsigned (&b)[4]) {
  if constexpr (kPairsAcross) {
#pragma unroll
    for (int j = 0; j < 4; ++j) b[j] = permute_bytes(words[j / 2], words[2 + j / 2], j % 2 == 0 ? 0x5410 : 0x7632);
  } else {
#pragma unroll
    for (int j = 0; j < 4; ++j) b[j] = words[j];
  }
}

// Two weights in fp16 as bf16 and what that leaves of them.
__device__ __forceinline__ void split_f16(unsigned pair, unsigned& first, unsigned& rest) {
  const unsigned words[1] = {pair};
  float values[2];
  device::unpack<DType::f16, 2>(words, values);
  first = take_bf16(values[0], values[1]);
  rest = take_bf16(values[0], values[1]);
}

// A scale as it lies in memory, its bits lowest first.
template <WeightFormat kFormat, DType kDtype>
__device__ __forceinline__ float scale_of(unsigned bits) {
  if constexpr (kFormat == WeightFormat::mxfp4) {
    // e8m0: an exponent. 0 is 2^-127, 255 is NaN, which infinity becomes in a product with 0.
    const unsigned power = bits << 23 & 0x7f800000u;
    const float value = __uint_as_float(power > 0x00400000u ? power : 0x00400000u);
    return fmaf(value, 0.0f, value);
  } else if constexpr (kFormat == WeightFormat::nvfp4) {
    // e4m3: the largest number is 448; NaN would be 480, and 9/8 of it overflow at 2^119.
    const int spread = static_cast<int>(bits << 24) >> 4;
    const float value = __uint_as_float(static_cast<unsigned>(spread) & 0x87f00000u) * 0x1p120f;
    return fmaf(value * 0x1.2p119f, 0.0f, value);
  } else if constexpr (kDtype == DType::f32) {
    return __uint_as_float(bits);
  } else {
    const unsigned words[1] = {bits & 0xffffu};
    float value[1];
    device::unpack<kDtype, 1>(words, value);
    return value[0];
  }
}

}  // namespace gdnjit::moe

// Global memory, up to 16 bytes a lane.
#pragma once

#include "device/convert.cuh"
#include "device/memory_hint.cuh"

namespace gdnjit::device {

// Words of 32 bits that hold `elements` elements.
template <DType kDtype>
constexpr int words_of(int elements) {
  return (elements * dtype_bytes(kDtype) + 3) / 4;
}

// Loads kBytes (2, 4, 8 or 16) from an address aligned to kBytes. Volatile: a load after a store to the same
// place is a new load, and loads are issued in the order written.
template <int kBytes, CacheHint kHint, int kWords>
__device__ __forceinline__ void load_words(const void* address, unsigned (&words)[kWords]) {
  static_assert(kBytes == 2 || kBytes == 4 || kBytes == 8 || kBytes == 16);
  static_assert(kWords == (kBytes + 3) / 4);
  if constexpr (kBytes == 2) {
    unsigned short half;
    asm volatile("ld.global.b16 %0, [%1];" : "=h"(half) : "l"(address));
    words[0] = half;
  } else if constexpr (kBytes == 4) {
    if constexpr (kHint == CacheHint::streaming) {
      asm volatile("ld.global.cs.b32 %0, [%1];" : "=r"(words[0]) : "l"(address));
    } else {
      asm volatile("ld.global.b32 %0, [%1];" : "=r"(words[0]) : "l"(address));
    }
  } else if constexpr (kBytes == 8) {
    if constexpr (kHint == CacheHint::streaming) {
      asm volatile("ld.global.cs.v2.b32 {%0, %1}, [%2];" : "=r"(words[0]), "=r"(words[1]) : "l"(address));
    } else {
      asm volatile("ld.global.v2.b32 {%0, %1}, [%2];" : "=r"(words[0]), "=r"(words[1]) : "l"(address));
    }
  } else if constexpr (kHint == CacheHint::streaming) {
    asm volatile("ld.global.cs.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3]) : "l"(address));
  } else {
    asm volatile("ld.global.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3]) : "l"(address));
  }
}

// Stores kBytes (2, 4, 8 or 16) to an address aligned to kBytes.
template <int kBytes, CacheHint kHint, int kWords>
__device__ __forceinline__ void store_words(void* address, const unsigned (&words)[kWords]) {
  static_assert(kBytes == 2 || kBytes == 4 || kBytes == 8 || kBytes == 16);
  static_assert(kWords == (kBytes + 3) / 4);
  if constexpr (kBytes == 2) {
    asm volatile("st.global.b16 [%0], %1;" ::"l"(address), "h"(static_cast<unsigned short>(words[0])) : "memory");
  } else if constexpr (kBytes == 4) {
    if constexpr (kHint == CacheHint::streaming) {
      asm volatile("st.global.cs.b32 [%0], %1;" ::"l"(address), "r"(words[0]) : "memory");
    } else {
      asm volatile("st.global.b32 [%0], %1;" ::"l"(address), "r"(words[0]) : "memory");
    }
  } else if constexpr (kBytes == 8) {
    if constexpr (kHint == CacheHint::streaming) {
      asm volatile("st.global.cs.v2.b32 [%0], {%1, %2};" ::"l"(address), "r"(words[0]), "r"(words[1]) : "memory");
    } else {
      asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(address), "r"(words[0]), "r"(words[1]) : "memory");
    }
  } else if constexpr (kHint == CacheHint::streaming) {
    asm volatile("st.global.cs.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(address), "r"(words[0]), "r"(words[1]),
                 "r"(words[2]), "r"(words[3]) : "memory");
  } else {
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(address), "r"(words[0]), "r"(words[1]),
                 "r"(words[2]), "r"(words[3]) : "memory");
  }
}

// Address of element `index`, in 64-bit arithmetic.
template <DType kDtype>
__device__ __forceinline__ const void* element(const void* base, long long index) {
  return static_cast<const char*>(base) + index * dtype_bytes(kDtype);
}
template <DType kDtype>
__device__ __forceinline__ void* element(void* base, long long index) {
  return static_cast<char*>(base) + index * dtype_bytes(kDtype);
}

// Loads kElements consecutive elements as fp32, kVector elements an access.
template <DType kDtype, int kVector, int kElements>
__device__ __forceinline__ void load_elements(const void* base, long long index, float (&values)[kElements]) {
  static_assert(kElements % kVector == 0);
#pragma unroll
  for (int start = 0; start < kElements; start += kVector) {
    unsigned words[words_of<kDtype>(kVector)];
    float part[kVector];
    load_words<kVector * dtype_bytes(kDtype), CacheHint::normal>(element<kDtype>(base, index + start), words);
    unpack<kDtype>(words, part);
#pragma unroll
    for (int e = 0; e < kVector; ++e) values[start + e] = part[e];
  }
}

template <DType kDtype>
__device__ __forceinline__ float load_scalar(const void* base, long long index) {
  float value[1];
  load_elements<kDtype, 1>(base, index, value);
  return value[0];
}

template <DType kDtype>
__device__ __forceinline__ void store_scalar(void* base, long long index, float value) {
  const float values[1] = {value};
  unsigned words[1];
  pack<kDtype>(values, words);
  store_words<dtype_bytes(kDtype), CacheHint::normal>(element<kDtype>(base, index), words);
}

// An index of 32 or 64 bits.
template <DType kDtype>
__device__ __forceinline__ long long load_index(const void* base, long long index) {
  static_assert(kDtype == DType::i32 || kDtype == DType::i64);
  if constexpr (kDtype == DType::i32) {
    return static_cast<const int*>(base)[index];
  } else {
    return static_cast<const long long*>(base)[index];
  }
}

}  // namespace gdnjit::device

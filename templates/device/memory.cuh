// Global memory, up to 16 bytes a lane.
#pragma once

#include "device/convert.cuh"
#include "device/memory_hint.cuh"

namespace gdnjit::device {

// Hides from the compiler how `pointer` came about. With few passes (KernelText::quick_compile) it would sum up each
// address at a constant distance from it anew.
template <typename T>
__device__ __forceinline__ void settle(T*& pointer) {
  asm("" : "+l"(pointer));
}

// load_words and store_words for one register class: kBytes (2, 4, 8 or 16) at an address aligned to kBytes; two bytes
// are a word's lower half. Volatile: a load after a store to the same place is a new load, and loads are issued in the
// order written. (Two bytes are not: no assembler constraint takes them without a move.)
#define GDNJIT_WORD_ACCESS(Type, c)                                                                                   \
  template <int kBytes, CacheHint kHint, int kWords>                                                                  \
  __device__ __forceinline__ void load_words(const void* address, Type(&w)[kWords]) {                                 \
    static_assert(kWords == (kBytes + 3) / 4 && (kBytes == 2 || kBytes == 4 || kBytes == 8 || kBytes == 16));         \
    if constexpr (kBytes == 2) {                                                                                      \
      w[0] = *static_cast<const unsigned short*>(address);                                                            \
    } else if constexpr (kHint == CacheHint::normal) {                                                                \
      if constexpr (kBytes == 4) {                                                                                    \
        asm volatile("ld.global.b32 %0, [%1];" : "=" c(w[0]) : "l"(address));                                         \
      } else if constexpr (kBytes == 8) {                                                                             \
        asm volatile("ld.global.v2.b32 {%0, %1}, [%2];" : "=" c(w[0]), "=" c(w[1]) : "l"(address));                   \
      } else {                                                                                                        \
        asm volatile("ld.global.v4.b32 {%0, %1, %2, %3}, [%4];"                                                       \
                     : "=" c(w[0]), "=" c(w[1]), "=" c(w[2]), "=" c(w[3])                                             \
                     : "l"(address));                                                                                 \
      }                                                                                                               \
    } else {                                                                                                          \
      if constexpr (kBytes == 4) {                                                                                    \
        asm volatile("ld.global.cs.b32 %0, [%1];" : "=" c(w[0]) : "l"(address));                                      \
      } else if constexpr (kBytes == 8) {                                                                             \
        asm volatile("ld.global.cs.v2.b32 {%0, %1}, [%2];" : "=" c(w[0]), "=" c(w[1]) : "l"(address));                \
      } else {                                                                                                        \
        asm volatile("ld.global.cs.v4.b32 {%0, %1, %2, %3}, [%4];"                                                    \
                     : "=" c(w[0]), "=" c(w[1]), "=" c(w[2]), "=" c(w[3])                                             \
                     : "l"(address));                                                                                 \
      }                                                                                                               \
    }                                                                                                                 \
  }                                                                                                                   \
  template <int kBytes, CacheHint kHint, int kWords>                                                                  \
  __device__ __forceinline__ void store_words(void* address, const Type(&w)[kWords]) {                                \
    static_assert(kWords == (kBytes + 3) / 4 && (kBytes == 2 || kBytes == 4 || kBytes == 8 || kBytes == 16));         \
    if constexpr (kBytes == 2) {                                                                                      \
      *static_cast<unsigned short*>(address) = static_cast<unsigned short>(w[0]);                                     \
    } else if constexpr (kHint == CacheHint::normal) {                                                                \
      if constexpr (kBytes == 4) {                                                                                    \
        asm volatile("st.global.b32 [%0], %1;" ::"l"(address), c(w[0]) : "memory");                                   \
      } else if constexpr (kBytes == 8) {                                                                             \
        asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(address), c(w[0]), c(w[1]) : "memory");                 \
      } else {                                                                                                        \
        asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(address), c(w[0]), c(w[1]), c(w[2]), c(w[3])    \
                     : "memory");                                                                                     \
      }                                                                                                               \
    } else {                                                                                                          \
      if constexpr (kBytes == 4) {                                                                                    \
        asm volatile("st.global.cs.b32 [%0], %1;" ::"l"(address), c(w[0]) : "memory");                                \
      } else if constexpr (kBytes == 8) {                                                                             \
        asm volatile("st.global.cs.v2.b32 [%0], {%1, %2};" ::"l"(address), c(w[0]), c(w[1]) : "memory");              \
      } else {                                                                                                        \
        asm volatile("st.global.cs.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(address), c(w[0]), c(w[1]), c(w[2]), c(w[3]) \
                     : "memory");                                                                                     \
      }                                                                                                               \
    }                                                                                                                 \
  }

GDNJIT_WORD_ACCESS(unsigned, "r")
GDNJIT_WORD_ACCESS(float, "f")
#undef GDNJIT_WORD_ACCESS

// Loads kElements consecutive elements as they lie in memory, in one access.
template <DType kDtype, int kElements, CacheHint kHint, int kWords>
__device__ __forceinline__ void load_vector(const void* address, Word<kDtype> (&words)[kWords]) {
  load_words<kElements * dtype_bytes(kDtype), kHint>(address, words);
}

template <DType kDtype, int kElements, CacheHint kHint, int kWords>
__device__ __forceinline__ void store_vector(void* address, const Word<kDtype> (&words)[kWords]) {
  store_words<kElements * dtype_bytes(kDtype), kHint>(address, words);
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
__device__ __forceinline__ void load_elements(const void* base, long long index, float* values) {
  static_assert(kElements % kVector == 0);
#pragma unroll
  for (int start = 0; start < kElements; start += kVector) {
    Word<kDtype> words[words_of<kDtype>(kVector)];
    load_vector<kDtype, kVector, CacheHint::normal>(element<kDtype>(base, index + start), words);
    unpack<kDtype, kVector>(words, values + start);
  }
}

// One element as it lies in memory, and as fp32. kGlobal: with few passes the compiler does not find out by itself that
// 16 bits come from global memory. (With all of them the plain load is better: it may be moved.)
template <DType kDtype, bool kGlobal = false>
__device__ __forceinline__ Word<kDtype> load_word(const void* base, long long index) {
  const Stored<kDtype>* address = static_cast<const Stored<kDtype>*>(base) + index;
  if constexpr (kDtype == DType::f32) {
    float word;
    asm volatile("ld.global.b32 %0, [%1];" : "=f"(word) : "l"(address));
    return word;
  } else if constexpr (kGlobal) {
    unsigned word;  // an access may be narrower than its register
    asm volatile("ld.global.u16 %0, [%1];" : "=r"(word) : "l"(address));
    return word;
  } else {
    return *address;
  }
}
template <DType kDtype>
__device__ __forceinline__ float load_scalar(const void* base, long long index) {
  return number<kDtype>(load_word<kDtype>(base, index));
}

template <DType kDtype>
__device__ __forceinline__ void store_scalar(void* base, long long index, float value) {
  void* address = element<kDtype>(base, index);
  if constexpr (kDtype == DType::f32) {
    asm volatile("st.global.b32 [%0], %1;" ::"l"(address), "f"(value) : "memory");
  } else {
    *static_cast<unsigned short*>(address) = static_cast<unsigned short>(pack_pair<kDtype>(value, 0.0f));
  }
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

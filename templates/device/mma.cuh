// mma.sync: D += A B by one warp, D 16 x 8, all three in registers. sm_80 and later; fp8 from sm_89.
//
// Who holds what, with lane = 4 g + t and P = 32 / bits elements in a register:
//   A, register r: row g + 8 (r % 2), columns 4 P (r / 2) + P t and the P - 1 behind it
//   B, register r: column g,          rows    4 P r       + P t and the P - 1 behind it
//   D, element i:  row g + 8 (i / 2), column  2 t + i % 2
// So the D of one product, packed to 16 bits, is the A of the next: registers {D[0..1], D[2..3]} of two neighbouring
// tiles are A's four.
#pragma once

#include "device/element.cuh"

namespace gdnjit::device {

// The pattern above, for code that loads or masks elements itself.
template <Element kElement>
struct MmaPlaces {
  static constexpr int kPacked = packed<kElement>();
  static constexpr int a_row(int lane, int r) { return lane / 4 + 8 * (r % 2); }
  static constexpr int a_column(int lane, int r) { return 4 * kPacked * (r / 2) + kPacked * (lane % 4); }
  static constexpr int b_row(int lane, int r) { return 4 * kPacked * r + kPacked * (lane % 4); }
  static constexpr int b_column(int lane) { return lane / 4; }
};
constexpr int mma_d_row(int lane, int i) { return lane / 4 + 8 * (i / 2); }
constexpr int mma_d_column(int lane, int i) { return 2 * (lane % 4) + i % 2; }

// One instruction with A in 4 registers and B in 2, or with A in 2 and B in 1.
#define GDNJIT_MMA_WIDE(instruction, c)                                                                           \
  asm volatile("mma.sync.aligned." instruction " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
               : "+" c(d[0]), "+" c(d[1]), "+" c(d[2]), "+" c(d[3])                                               \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
#define GDNJIT_MMA_NARROW(instruction)                                                                \
  asm volatile("mma.sync.aligned." instruction " {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};" \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                       \
               : "r"(a[0]), "r"(a[1]), "r"(b[0]))

// k = 16 of 16-bit elements.
template <Element kElement>
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  static_assert(element_bits(kElement) == 16);
  if constexpr (kElement == Element::bf16) {
    GDNJIT_MMA_WIDE("m16n8k16.row.col.f32.bf16.bf16.f32", "f");
  } else {
    GDNJIT_MMA_WIDE("m16n8k16.row.col.f32.f16.f16.f32", "f");
  }
}

// The same with fp16 sums: D's register r holds elements 2 r and 2 r + 1.
__device__ __forceinline__ void mma_m16n8k16_f16(unsigned (&d)[2], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %3, %4, %5}, {%6, %7}, {%0, %1};"
               : "+r"(d[0]), "+r"(d[1])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// k = 8 of 16-bit elements.
template <Element kElement>
__device__ __forceinline__ void mma_m16n8k8(float (&d)[4], const unsigned (&a)[2], const unsigned (&b)[1]) {
  static_assert(element_bits(kElement) == 16);
  if constexpr (kElement == Element::bf16) {
    GDNJIT_MMA_NARROW("m16n8k8.row.col.f32.bf16.bf16.f32");
  } else {
    GDNJIT_MMA_NARROW("m16n8k8.row.col.f32.f16.f16.f32");
  }
}

// k = 8 and k = 4 of tf32: fp32 bits whose lowest 13 are ignored.
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  GDNJIT_MMA_WIDE("m16n8k8.row.col.f32.tf32.tf32.f32", "f");
}
__device__ __forceinline__ void mma_m16n8k4_tf32(float (&d)[4], const unsigned (&a)[2], const unsigned (&b)[1]) {
  GDNJIT_MMA_NARROW("m16n8k4.row.col.f32.tf32.tf32.f32");
}

// k = 32 of fp8, the two formats mixed as you like.
template <Element kA, Element kB = kA>
__device__ __forceinline__ void mma_m16n8k32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  static_assert(is_fp8(kA) && is_fp8(kB));
  if constexpr (kA == Element::e4m3 && kB == Element::e4m3) {
    GDNJIT_MMA_WIDE("m16n8k32.row.col.f32.e4m3.e4m3.f32", "f");
  } else if constexpr (kA == Element::e4m3) {
    GDNJIT_MMA_WIDE("m16n8k32.row.col.f32.e4m3.e5m2.f32", "f");
  } else if constexpr (kB == Element::e4m3) {
    GDNJIT_MMA_WIDE("m16n8k32.row.col.f32.e5m2.e4m3.f32", "f");
  } else {
    GDNJIT_MMA_WIDE("m16n8k32.row.col.f32.e5m2.e5m2.f32", "f");
  }
}

// k = 32 of 8-bit integers; sums that leave 32 bits are clamped.
template <Element kA, Element kB = kA>
__device__ __forceinline__ void mma_m16n8k32(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  static_assert(is_int8(kA) && is_int8(kB));
  if constexpr (kA == Element::s8 && kB == Element::s8) {
    GDNJIT_MMA_WIDE("m16n8k32.row.col.satfinite.s32.s8.s8.s32", "r");
  } else if constexpr (kA == Element::s8) {
    GDNJIT_MMA_WIDE("m16n8k32.row.col.satfinite.s32.s8.u8.s32", "r");
  } else if constexpr (kB == Element::s8) {
    GDNJIT_MMA_WIDE("m16n8k32.row.col.satfinite.s32.u8.s8.s32", "r");
  } else {
    GDNJIT_MMA_WIDE("m16n8k32.row.col.satfinite.s32.u8.u8.s32", "r");
  }
}

#undef GDNJIT_MMA_WIDE
#undef GDNJIT_MMA_NARROW

}  // namespace gdnjit::device

// Types of matrix elements that tensor cores take. Elements travel packed in 32-bit registers, lowest bits first.
#pragma once

#include <gdnjit/dtype.h>

namespace gdnjit::device {

enum class Element : unsigned char { bf16, f16, tf32, e4m3, e5m2, s8, u8 };

constexpr int element_bits(Element element) {
  switch (element) {
    case Element::bf16:
    case Element::f16: return 16;
    case Element::tf32: return 32;
    default: return 8;
  }
}
constexpr bool is_fp8(Element element) { return element == Element::e4m3 || element == Element::e5m2; }
constexpr bool is_int8(Element element) { return element == Element::s8 || element == Element::u8; }

// Elements in a 32-bit register.
template <Element kElement>
constexpr int packed() {
  return 32 / element_bits(kElement);
}

// The tensor-core type of a storage type; fp32 is multiplied as tf32 (10 bits of fraction).
constexpr Element element_of(DType dtype) {
  return dtype == DType::bf16 ? Element::bf16 : dtype == DType::f16 ? Element::f16 : Element::tf32;
}

}  // namespace gdnjit::device

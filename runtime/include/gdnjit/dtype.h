// Element types of tensors. This header has no includes: host code and NVRTC templates read the same text.
#pragma once

namespace gdnjit {

// DO NOT RENUMBER: the values appear in the C interface. Add at the end.
enum class DType : unsigned char { f32 = 0, bf16 = 1, f16 = 2, i32 = 3, i64 = 4, u8 = 5 };

// Size of one element in bytes.
constexpr int dtype_bytes(DType dtype) {
  switch (dtype) {
    case DType::f32: return 4;
    case DType::bf16: return 2;
    case DType::f16: return 2;
    case DType::i32: return 4;
    case DType::i64: return 8;
    case DType::u8: return 1;
  }
  return 0;
}

}  // namespace gdnjit

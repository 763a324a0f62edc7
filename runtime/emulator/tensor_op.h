// Tensor-core instructions after decoding: what the decoder knows about mma and wgmma and an Instruction has no room
// for. Beside Program::instructions; Instruction::target is the index.
#pragma once

#include <cstdint>

namespace gdnjit::emulator {

// Types of matrix elements. f32 and s32 are accumulators only.
enum class ElementType : std::uint8_t { f16, bf16, tf32, e4m3, e5m2, s8, u8, s4, u4, f32, s32 };

constexpr int element_bits(ElementType type) {
  switch (type) {
    case ElementType::f16:
    case ElementType::bf16: return 16;
    case ElementType::tf32:
    case ElementType::f32:
    case ElementType::s32: return 32;
    case ElementType::s4:
    case ElementType::u4: return 4;
    default: return 8;
  }
}
constexpr bool is_integer_element(ElementType type) {
  return type == ElementType::s8 || type == ElementType::u8 || type == ElementType::s4 || type == ElementType::u4 ||
         type == ElementType::s32;
}

// D = A B + C of a warp (mma: m = 16, n = 8) or D += A B of a warpgroup (wgmma: m = 64).
// Registers are slots of Program::operands from `operands` on: D, then A (unless a descriptor names it), B, C for mma;
// D, then A for wgmma, whose descriptors are Instruction::a and b and whose scale-d is the predicate c.
struct TensorOp {
  ElementType a = ElementType::bf16;
  ElementType b = ElementType::bf16;
  ElementType d = ElementType::f32;  // C is the same
  std::uint16_t n = 8;
  std::uint16_t k = 16;
  std::uint32_t operands = 0;
  std::uint16_t d_registers = 0;
  std::uint16_t a_registers = 0;  // 0: a descriptor
  std::uint16_t b_registers = 0;  // 0: a descriptor
  bool satfinite = false;
  bool negate_a = false;
  bool negate_b = false;
  bool a_mn_major = false;
  bool b_mn_major = false;
};

}  // namespace gdnjit::emulator

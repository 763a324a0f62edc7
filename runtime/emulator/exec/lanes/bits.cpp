// Logic, shifts and bit fields; also logic on predicates.
#include "runtime/emulator/exec/lanes.h"
#include "runtime/emulator/semantics/integers.h"

namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA {
namespace {

template <Opcode kOp, typename T>
void execute(Warp& warp, const Instruction& in) {
  if constexpr (kOp == Opcode::and_) binary<T, T>(warp, in, [](T a, T b) { return static_cast<T>(a & b); });
  if constexpr (kOp == Opcode::or_) binary<T, T>(warp, in, [](T a, T b) { return static_cast<T>(a | b); });
  if constexpr (kOp == Opcode::xor_) binary<T, T>(warp, in, [](T a, T b) { return static_cast<T>(a ^ b); });
  if constexpr (kOp == Opcode::not_) unary<T, T>(warp, in, [](T a) { return static_cast<T>(~a); });
  if constexpr (kOp == Opcode::cnot) unary<T, T>(warp, in, [](T a) { return static_cast<T>(a == 0 ? 1 : 0); });
  if constexpr (kOp == Opcode::popc)
    unary<T, std::uint32_t>(warp, in, [](T a) { return static_cast<std::uint32_t>(__builtin_popcountll(a)); });
  if constexpr (kOp == Opcode::clz) unary<T, std::uint32_t>(warp, in, [](T a) { return count_leading_zeros(a); });
  if constexpr (kOp == Opcode::brev && sizeof(T) == 4) unary<T, T>(warp, in, [](T a) { return reverse_bits_32(a); });
  if constexpr (kOp == Opcode::brev && sizeof(T) == 8) unary<T, T>(warp, in, [](T a) { return reverse_bits_64(a); });
  if constexpr (kOp == Opcode::bfi) {
    const auto* a = warp.values<T>(in.a);
    const auto* b = warp.values<T>(in.b);
    const auto* position = warp.values<std::uint32_t>(in.c);
    const auto* length = warp.values<std::uint32_t>(warp.program->operands[in.operands]);
    for_lanes(warp, warp.values<T>(in.dst),
              [&](int lane) { return insert_field<T>(a[lane], b[lane], position[lane], length[lane]); });
  }
}

template <Opcode kOp>
Handler pick(Type type) {
  switch (type_bytes(type)) {
    case 2: return execute<kOp, std::uint16_t>;
    case 4: return execute<kOp, std::uint32_t>;
    case 8: return execute<kOp, std::uint64_t>;
    default: return nullptr;
  }
}
template <Opcode kOp>
Handler pick_32_64(Type type) {
  return type_bytes(type) == 4   ? execute<kOp, std::uint32_t>
         : type_bytes(type) == 8 ? execute<kOp, std::uint64_t>
                                 : nullptr;
}

template <typename T, bool kLeft>
void execute_shift(Warp& warp, const Instruction& in) {
  ternary<T, std::uint32_t, T, T>(
      warp, in, [](T a, std::uint32_t by, T) { return kLeft ? shift_left(a, by) : shift_right(a, by); });
}
template <bool kLeft>
Handler pick_shift(Type type) {
  switch (type) {
    case Type::b16:
    case Type::u16: return execute_shift<std::uint16_t, kLeft>;
    case Type::b32:
    case Type::u32: return execute_shift<std::uint32_t, kLeft>;
    case Type::b64:
    case Type::u64: return execute_shift<std::uint64_t, kLeft>;
    case Type::s16: return execute_shift<std::int16_t, kLeft>;
    case Type::s32: return execute_shift<std::int32_t, kLeft>;
    case Type::s64: return execute_shift<std::int64_t, kLeft>;
    default: return nullptr;
  }
}

template <bool kLeft, bool kClamp>
void execute_funnel(Warp& warp, const Instruction& in) {
  using U = std::uint32_t;
  ternary<U, U, U, U>(
      warp, in, [](U a, U b, U c) { return kLeft ? funnel_left(a, b, c, kClamp) : funnel_right(a, b, c, kClamp); });
}

void execute_lop3(Warp& warp, const Instruction& in) {
  using U = std::uint32_t;
  const auto table = static_cast<U>(in.immediate);
  // Each row of the truth table as all ones or all zeros.
  U rows[8];
  for (U row = 0; row < 8; ++row) rows[row] = (table >> row & 1U) != 0 ? ~0U : 0U;
  ternary<U, U, U, U>(warp, in, [&rows](U a, U b, U c) {
    const U low = (~b & ((~c & rows[0]) | (c & rows[1]))) | (b & ((~c & rows[2]) | (c & rows[3])));
    const U high = (~b & ((~c & rows[4]) | (c & rows[5]))) | (b & ((~c & rows[6]) | (c & rows[7])));
    return (~a & low) | (a & high);
  });
}

void execute_prmt(Warp& warp, const Instruction& in) {
  using U = std::uint32_t;
  const auto mode = static_cast<PermuteMode>(in.flags);
  ternary<U, U, U, U>(warp, in, [mode](U a, U b, U c) { return permute(a, b, c, mode); });
}

template <typename T>
void execute_bfe(Warp& warp, const Instruction& in) {
  using U = std::uint32_t;
  ternary<T, U, U, T>(warp, in, [](T a, U position, U length) { return extract_field<T>(a, position, length); });
}
template <typename T>
void execute_bfind(Warp& warp, const Instruction& in) {
  const bool shift_amount = in.flags != 0;
  unary<T, std::uint32_t>(warp, in, [shift_amount](T a) { return find_bit(a, shift_amount); });
}

Handler pick_bfe(Type type) {
  switch (type) {
    case Type::u32: return execute_bfe<std::uint32_t>;
    case Type::s32: return execute_bfe<std::int32_t>;
    case Type::u64: return execute_bfe<std::uint64_t>;
    case Type::s64: return execute_bfe<std::int64_t>;
    default: return nullptr;
  }
}
Handler pick_bfind(Type type) {
  switch (type) {
    case Type::u32: return execute_bfind<std::uint32_t>;
    case Type::s32: return execute_bfind<std::int32_t>;
    case Type::u64: return execute_bfind<std::uint64_t>;
    case Type::s64: return execute_bfind<std::int64_t>;
    default: return nullptr;
  }
}

// Predicates are bit masks over the lanes, so their logic is one operation.
template <Opcode kOp>
void execute_predicate(Warp& warp, const Instruction& in) {
  const std::uint32_t a = warp.predicates[in.a.offset] ^ ((in.flags & kNegateFirst) != 0 ? ~0U : 0U);
  const std::uint32_t b = warp.predicates[in.b.offset] ^ ((in.flags & kNegateSecond) != 0 ? ~0U : 0U);
  std::uint32_t result = ~a;
  if constexpr (kOp == Opcode::and_) result = a & b;
  if constexpr (kOp == Opcode::or_) result = a | b;
  if constexpr (kOp == Opcode::xor_) result = a ^ b;
  std::uint32_t& destination = warp.predicates[in.dst.offset];
  destination = (destination & ~warp.mask) | (result & warp.mask);
}

Handler find_predicate(Opcode op) {
  switch (op) {
    case Opcode::and_: return execute_predicate<Opcode::and_>;
    case Opcode::or_: return execute_predicate<Opcode::or_>;
    case Opcode::xor_: return execute_predicate<Opcode::xor_>;
    case Opcode::not_: return execute_predicate<Opcode::not_>;
    default: return nullptr;
  }
}

}  // namespace

Handler find_bits(const OpKey& key) {
  if (key.type == Type::pred) return find_predicate(key.op);
  switch (key.op) {
    case Opcode::and_: return pick<Opcode::and_>(key.type);
    case Opcode::or_: return pick<Opcode::or_>(key.type);
    case Opcode::xor_: return pick<Opcode::xor_>(key.type);
    case Opcode::not_: return pick<Opcode::not_>(key.type);
    case Opcode::cnot: return pick<Opcode::cnot>(key.type);
    case Opcode::popc: return pick_32_64<Opcode::popc>(key.type);
    case Opcode::clz: return pick_32_64<Opcode::clz>(key.type);
    case Opcode::brev: return pick_32_64<Opcode::brev>(key.type);
    case Opcode::bfi: return pick_32_64<Opcode::bfi>(key.type);
    case Opcode::shl: return pick_shift<true>(key.type);
    case Opcode::shr: return pick_shift<false>(key.type);
    case Opcode::shf_l: return key.sat ? execute_funnel<true, true> : execute_funnel<true, false>;
    case Opcode::shf_r: return key.sat ? execute_funnel<false, true> : execute_funnel<false, false>;
    case Opcode::lop3: return execute_lop3;
    case Opcode::prmt: return execute_prmt;
    case Opcode::bfe: return pick_bfe(key.type);
    case Opcode::bfind: return pick_bfind(key.type);
    default: return nullptr;
  }
}

}  // namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA

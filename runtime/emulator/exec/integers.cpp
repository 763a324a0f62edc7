// Carry chains, dot products, 24-bit products, masks. Rare enough to be compiled once, for any CPU.
#include "runtime/emulator/semantics/integers.h"

#include "runtime/emulator/exec/handlers.h"

namespace gdnjit::emulator {
namespace {

// f(lane) into the active lanes of dst; T is the size of a lane.
template <typename T, typename F>
void each_lane(Warp& warp, const Instruction& in, F f) {
  T* destination = warp.values<T>(in.dst);
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    destination[lane] = f(lane);
  }
}

// U: the unsigned type of the width; the product's upper half depends on the sign. target: the id of the carry flag.
template <Opcode kOp, typename U, bool kSigned>
void execute_carry(Warp& warp, const Instruction& in) {
  const U* a = warp.values<U>(in.a);
  const U* b = warp.values<U>(in.b);
  const U* c = warp.values<U>(in.c);
  std::uint32_t& carry = warp.predicates[in.target];
  const std::uint32_t carry_in = (in.flags & kReadsCarry) != 0 ? carry : 0;
  std::uint32_t carry_out = 0;
  each_lane<U>(warp, in, [&](int lane) {
    const auto incoming = static_cast<U>(carry_in >> lane & 1U);
    U x = a[lane];
    U y = b[lane];
    U result = 0;
    bool first = false;
    bool second = false;
    if constexpr (kOp == Opcode::sub_carry) {
      first = __builtin_sub_overflow(x, y, &result);
      second = __builtin_sub_overflow(result, incoming, &result);
    } else {
      using Factor = std::conditional_t<kSigned, std::make_signed_t<U>, U>;
      if constexpr (kOp == Opcode::mad_carry) x = wrap_mul(x, y), y = c[lane];
      if constexpr (kOp == Opcode::mad_hi_carry)
        x = static_cast<U>(mul_high(static_cast<Factor>(x), static_cast<Factor>(y))), y = c[lane];
      first = __builtin_add_overflow(x, y, &result);
      second = __builtin_add_overflow(result, incoming, &result);
    }
    if (first || second) carry_out |= 1U << lane;
    return result;
  });
  if ((in.flags & kWritesCarry) == 0) return;
  carry = (carry & ~warp.mask) | carry_out;
  warp.written[in.target] = (warp.written[in.target] | warp.mask) & ~warp.undefined;
}

template <Opcode kOp>
Handler pick_carry(Type type) {
  switch (type) {
    case Type::u32: return execute_carry<kOp, std::uint32_t, false>;
    case Type::s32: return execute_carry<kOp, std::uint32_t, true>;
    case Type::u64: return execute_carry<kOp, std::uint64_t, false>;
    case Type::s64: return execute_carry<kOp, std::uint64_t, true>;
    default: return nullptr;
  }
}

// The element `index` of `bits` bits, extended.
std::int64_t element(std::uint32_t value, std::uint32_t index, std::uint32_t bits, bool is_signed) {
  const std::uint32_t shifted = value >> (index * bits) << (32 - bits);
  return is_signed ? static_cast<std::int32_t>(shifted) >> (32 - bits)
                   : static_cast<std::int64_t>(shifted >> (32 - bits));
}

// flags: 1 for signed elements of a, 2 of b. dp2a takes 16-bit elements of a; count 2 is .hi.
template <bool kTwo>
void execute_dot(Warp& warp, const Instruction& in) {
  const auto* a = warp.values<std::uint32_t>(in.a);
  const auto* b = warp.values<std::uint32_t>(in.b);
  const auto* c = warp.values<std::uint32_t>(in.c);
  const bool a_signed = (in.flags & 1U) != 0;
  const bool b_signed = (in.flags & 2U) != 0;
  each_lane<std::uint32_t>(warp, in, [&](int lane) {
    std::int64_t sum = c[lane];
    for (std::uint32_t i = 0; i < (kTwo ? 2U : 4U); ++i) {
      const std::uint32_t of_b = kTwo && in.count == 2 ? i + 2 : i;
      sum += element(a[lane], i, kTwo ? 16 : 8, a_signed) * element(b[lane], of_b, 8, b_signed);
    }
    return static_cast<std::uint32_t>(sum);
  });
}

// flags: 1 signed, 2 .hi (bits 16 to 47 of the product), 4 saturate.
void execute_product_24(Warp& warp, const Instruction& in) {
  const auto* a = warp.values<std::uint32_t>(in.a);
  const auto* b = warp.values<std::uint32_t>(in.b);
  const auto* c = warp.values<std::uint32_t>(in.c);
  const bool is_signed = (in.flags & 1U) != 0;
  each_lane<std::uint32_t>(warp, in, [&](int lane) {
    const std::int64_t product = element(a[lane], 0, 24, is_signed) * element(b[lane], 0, 24, is_signed);
    const auto part = static_cast<std::uint32_t>((in.flags & 2U) != 0 ? product >> 16 : product);
    if ((in.flags & 4U) != 0)
      return static_cast<std::uint32_t>(
          add_saturated(static_cast<std::int32_t>(part), static_cast<std::int32_t>(c[lane])));
    return part + c[lane];
  });
}

// flags: 2 clamp, otherwise only the lowest five bits of position and width count.
void execute_bmsk(Warp& warp, const Instruction& in) {
  const auto* a = warp.values<std::uint32_t>(in.a);
  const auto* b = warp.values<std::uint32_t>(in.b);
  const bool clamps = (in.flags & 2U) != 0;
  each_lane<std::uint32_t>(warp, in, [&](int lane) {
    const std::uint32_t position = a[lane] & 31U;
    const std::uint32_t end = position + (b[lane] & 31U);
    const std::uint32_t from = clamps && a[lane] >= 32 ? 0 : ~0U << position;
    const std::uint32_t beyond = end >= 32 || (clamps && b[lane] >= 32) ? 0 : ~0U << end;
    return from & ~beyond;
  });
}

// flags: 1 signed, 2 clamp.
void execute_szext(Warp& warp, const Instruction& in) {
  const auto* a = warp.values<std::uint32_t>(in.a);
  const auto* b = warp.values<std::uint32_t>(in.b);
  each_lane<std::uint32_t>(warp, in, [&](int lane) {
    if ((in.flags & 2U) != 0 && b[lane] >= 32) return a[lane];
    const std::uint32_t width = b[lane] & 31U;
    const std::uint32_t beyond = ~0U << width;
    const bool negative = (in.flags & 1U) != 0 && width != 0 && (a[lane] >> (width - 1) & 1U) != 0;
    return (a[lane] & ~beyond) | (negative ? beyond : 0U);
  });
}

// The n-th set bit of a mask at or behind (before, for negative n) a base.
std::uint32_t nth_set(std::uint32_t mask, std::uint32_t base, std::int32_t offset) {
  if (offset == 0) return base < 32 && (mask >> base & 1U) != 0 ? base : ~0U;
  std::uint32_t left = (offset < 0 ? 0U - static_cast<std::uint32_t>(offset) : static_cast<std::uint32_t>(offset)) - 1;
  for (std::uint32_t at = base; at<32; at += offset> 0 ? 1U : ~0U) {
    if ((mask >> at & 1U) == 0) continue;
    if (left-- == 0) return at;
  }
  return ~0U;
}

void execute_fns(Warp& warp, const Instruction& in) {
  const auto* mask = warp.values<std::uint32_t>(in.a);
  const auto* base = warp.values<std::uint32_t>(in.b);
  const auto* offset = warp.values<std::int32_t>(in.c);
  each_lane<std::uint32_t>(warp, in, [&](int lane) { return nth_set(mask[lane], base[lane], offset[lane]); });
}

// operands: the predicate that is set, the one that is combined.
void execute_lop3_predicate(Warp& warp, const Instruction& in) {
  const auto* a = warp.values<std::uint32_t>(in.a);
  const auto* b = warp.values<std::uint32_t>(in.b);
  const auto* c = warp.values<std::uint32_t>(in.c);
  const Slot* more = &warp.program->operands[in.operands];
  const std::uint32_t third = warp.predicates[more[1].offset] ^ ((in.flags & kNegateThird) != 0 ? ~0U : 0U);
  std::uint32_t truth = 0;
  each_lane<std::uint32_t>(warp, in, [&](int lane) {
    const std::uint32_t result = lop3(a[lane], b[lane], c[lane], static_cast<std::uint32_t>(in.immediate));
    if (result != 0) truth |= 1U << lane;
    return result;
  });
  const bool is_and = static_cast<BoolOp>(in.flags & kCombineMask) == BoolOp::land;
  const std::uint32_t value = is_and ? truth & third : truth | third;
  std::uint32_t& destination = warp.predicates[more[0].offset];
  destination = (destination & ~warp.mask) | (value & warp.mask);
  warp.written[more[0].id] = (warp.written[more[0].id] | warp.mask) & ~warp.undefined;
}

}  // namespace

Handler find_integer_forms(const OpKey& key) {
  switch (key.op) {
    case Opcode::add_carry: return pick_carry<Opcode::add_carry>(key.type);
    case Opcode::sub_carry: return pick_carry<Opcode::sub_carry>(key.type);
    case Opcode::mad_carry: return pick_carry<Opcode::mad_carry>(key.type);
    case Opcode::mad_hi_carry: return pick_carry<Opcode::mad_hi_carry>(key.type);
    case Opcode::dp4a: return execute_dot<false>;
    case Opcode::dp2a: return execute_dot<true>;
    case Opcode::product_24: return execute_product_24;
    case Opcode::bmsk: return execute_bmsk;
    case Opcode::szext: return execute_szext;
    case Opcode::fns: return execute_fns;
    case Opcode::lop3_predicate: return execute_lop3_predicate;
    default: return nullptr;
  }
}

}  // namespace gdnjit::emulator

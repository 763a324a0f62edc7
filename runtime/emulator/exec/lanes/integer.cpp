// Integer arithmetic.
#include <cstdlib>

#include "runtime/emulator/exec/lanes.h"
#include "runtime/emulator/semantics/integers.h"

namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA {
namespace {

template <Opcode kOp, typename T, bool kSat>
T two(T a, T b) {
  if constexpr (kOp == Opcode::add && kSat) return add_saturated(a, b);
  if constexpr (kOp == Opcode::sub && kSat) return sub_saturated(a, b);
  if constexpr (kOp == Opcode::add) return wrap_add(a, b);
  if constexpr (kOp == Opcode::sub) return wrap_sub(a, b);
  if constexpr (kOp == Opcode::mul) return wrap_mul(a, b);
  if constexpr (kOp == Opcode::mul_hi) return mul_high(a, b);
  if constexpr (kOp == Opcode::div) return divide(a, b);
  if constexpr (kOp == Opcode::rem) return remainder_of(a, b);
  if constexpr (kOp == Opcode::min) return a < b ? a : b;
  if constexpr (kOp == Opcode::max) return a > b ? a : b;
}

template <typename T>
struct Wider;
template <>
struct Wider<std::int16_t> {
  using type = std::int32_t;
};
template <>
struct Wider<std::uint16_t> {
  using type = std::uint32_t;
};
template <>
struct Wider<std::int32_t> {
  using type = std::int64_t;
};
template <>
struct Wider<std::uint32_t> {
  using type = std::uint64_t;
};

template <Opcode kOp, typename T, bool kSat = false>
void execute(Warp& warp, const Instruction& in) {
  if constexpr (kOp == Opcode::mul_wide) {
    using W = typename Wider<T>::type;
    binary<T, W>(warp, in, [](T a, T b) { return wrap_mul<W>(a, b); });
  } else if constexpr (kOp == Opcode::mad_wide) {
    using W = typename Wider<T>::type;
    ternary<T, T, W, W>(warp, in, [](T a, T b, W c) { return wrap_add<W>(wrap_mul<W>(a, b), c); });
  } else if constexpr (kOp == Opcode::mad) {
    ternary<T, T, T, T>(warp, in, [](T a, T b, T c) { return wrap_add(wrap_mul(a, b), c); });
  } else if constexpr (kOp == Opcode::mad_hi) {
    ternary<T, T, T, T>(
        warp, in, [](T a, T b, T c) { return kSat ? add_saturated(mul_high(a, b), c) : wrap_add(mul_high(a, b), c); });
  } else if constexpr (kOp == Opcode::sad) {
    ternary<T, T, T, T>(warp, in, [](T a, T b, T c) { return wrap_add(c, a < b ? wrap_sub(b, a) : wrap_sub(a, b)); });
  } else if constexpr (kOp == Opcode::neg) {
    unary<T, T>(warp, in, [](T a) { return wrap_sub<T>(0, a); });
  } else if constexpr (kOp == Opcode::abs) {
    unary<T, T>(warp, in, [](T a) { return a < 0 ? wrap_sub<T>(0, a) : a; });
  } else {
    binary<T, T>(warp, in, [](T a, T b) { return two<kOp, T, kSat>(a, b); });
  }
}

template <Opcode kOp>
Handler pick(Type type) {
  switch (type) {
    case Type::u16: return execute<kOp, std::uint16_t>;
    case Type::s16: return execute<kOp, std::int16_t>;
    case Type::u32: return execute<kOp, std::uint32_t>;
    case Type::s32: return execute<kOp, std::int32_t>;
    case Type::u64: return execute<kOp, std::uint64_t>;
    case Type::s64: return execute<kOp, std::int64_t>;
    default: return nullptr;
  }
}

template <Opcode kOp>
Handler pick_signed(Type type) {
  switch (type) {
    case Type::s16: return execute<kOp, std::int16_t>;
    case Type::s32: return execute<kOp, std::int32_t>;
    case Type::s64: return execute<kOp, std::int64_t>;
    default: return nullptr;
  }
}

template <Opcode kOp>
Handler pick_widening(Type type) {
  switch (type) {
    case Type::u16: return execute<kOp, std::uint16_t>;
    case Type::s16: return execute<kOp, std::int16_t>;
    case Type::u32: return execute<kOp, std::uint32_t>;
    case Type::s32: return execute<kOp, std::int32_t>;
    default: return nullptr;
  }
}

}  // namespace

Handler find_integer(const OpKey& key) {
  if (!is_integer(key.type) || key.ftz || key.relu || key.variant != 0 || key.nan || key.round != Round::none)
    return nullptr;
  if (key.sat) {
    if (key.type != Type::s32) return nullptr;
    if (key.op == Opcode::add) return execute<Opcode::add, std::int32_t, true>;
    if (key.op == Opcode::sub) return execute<Opcode::sub, std::int32_t, true>;
    if (key.op == Opcode::mad_hi) return execute<Opcode::mad_hi, std::int32_t, true>;
    return nullptr;
  }
  switch (key.op) {
    case Opcode::add: return pick<Opcode::add>(key.type);
    case Opcode::sub: return pick<Opcode::sub>(key.type);
    case Opcode::mul: return pick<Opcode::mul>(key.type);
    case Opcode::mul_hi: return pick<Opcode::mul_hi>(key.type);
    case Opcode::mad: return pick<Opcode::mad>(key.type);
    case Opcode::mad_hi: return pick<Opcode::mad_hi>(key.type);
    case Opcode::mul_wide: return pick_widening<Opcode::mul_wide>(key.type);
    case Opcode::mad_wide: return pick_widening<Opcode::mad_wide>(key.type);
    case Opcode::div: return pick<Opcode::div>(key.type);
    case Opcode::rem: return pick<Opcode::rem>(key.type);
    case Opcode::min: return pick<Opcode::min>(key.type);
    case Opcode::max: return pick<Opcode::max>(key.type);
    case Opcode::sad: return pick<Opcode::sad>(key.type);
    case Opcode::neg: return pick_signed<Opcode::neg>(key.type);
    case Opcode::abs: return pick_signed<Opcode::abs>(key.type);
    default: return nullptr;
  }
}

}  // namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA

// Arithmetic on f16, bf16, and pairs: f16x2, bf16x2, f32x2, u16x2, s16x2; f32 arithmetic on 16-bit factors; min and max
// in the forms beyond two plain operands.
#include "runtime/emulator/semantics/packed.h"

#include "runtime/emulator/exec/lanes.h"
#include "runtime/emulator/semantics/integers.h"

namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA {
namespace {

using U = std::uint32_t;

template <typename Format, bool kFtz>
U taken(U bits) {
  return kFtz ? Format::flush(bits) : bits & 0xffffU;
}

template <Opcode kOp, typename Format, bool kFtz, Clamp kClamp>
U compute(U a, U b, U c) {
  const float x = Format::widen(taken<Format, kFtz>(a));
  const float y = Format::widen(taken<Format, kFtz>(b));
  U result = 0;
  if constexpr (kOp == Opcode::add) result = Format::add(x, y);
  if constexpr (kOp == Opcode::sub) result = Format::add(x, -y);
  if constexpr (kOp == Opcode::mul) result = Format::mul(x, y);
  if constexpr (kOp == Opcode::fma) result = Format::fma(x, y, Format::widen(taken<Format, kFtz>(c)));
  if constexpr (kOp == Opcode::ex2) result = Format::narrow(ex2_approx(x));
  if constexpr (kOp == Opcode::tanh) result = Format::narrow(tanh_approx(x));
  if constexpr (kFtz) result = Format::flush(result);
  return clamp_16<Format, kClamp>(result);
}

// f for one value, or for both halves of a pair.
template <bool kPair, typename F>
void halves(Warp& warp, const Instruction& in, F f) {
  const auto* a = warp.values<U>(in.a);
  const auto* b = warp.values<U>(in.b);
  const auto* c = warp.values<U>(in.c);
  for_lanes(warp, warp.values<U>(in.dst), [&](int lane) {
    const U low = f(a[lane] & 0xffffU, b[lane] & 0xffffU, c[lane] & 0xffffU);
    if constexpr (!kPair) return low;
    return low | f(a[lane] >> 16, b[lane] >> 16, c[lane] >> 16) << 16;
  });
}

template <Opcode kOp, typename Format, bool kPair, bool kFtz, Clamp kClamp>
void execute_16(Warp& warp, const Instruction& in) {
  halves<kPair>(warp, in, [](U a, U b, U c) { return compute<kOp, Format, kFtz, kClamp>(a, b, c); });
}

template <Opcode kOp, bool kPair>
Handler pick_f16(const OpKey& key) {
  if (key.sat && key.relu) return nullptr;
  if (key.sat)
    return key.ftz ? execute_16<kOp, F16, kPair, true, Clamp::sat> : execute_16<kOp, F16, kPair, false, Clamp::sat>;
  if (key.relu) {
    if constexpr (kOp != Opcode::fma) return nullptr;
    return key.ftz ? execute_16<kOp, F16, kPair, true, Clamp::relu> : execute_16<kOp, F16, kPair, false, Clamp::relu>;
  }
  return key.ftz ? execute_16<kOp, F16, kPair, true, Clamp::none> : execute_16<kOp, F16, kPair, false, Clamp::none>;
}

template <Opcode kOp, bool kPair>
Handler pick_bf16(const OpKey& key) {
  if (key.sat || key.ftz || (key.relu && kOp != Opcode::fma)) return nullptr;
  return key.relu ? execute_16<kOp, Bf16, kPair, false, Clamp::relu> : execute_16<kOp, Bf16, kPair, false, Clamp::none>;
}

template <Opcode kOp>
Handler pick_arithmetic(const OpKey& key) {
  if ((key.round != Round::none && key.round != Round::rn) || key.nan || key.variant != 0) return nullptr;
  switch (key.type) {
    case Type::f16: return pick_f16<kOp, false>(key);
    case Type::f16x2: return pick_f16<kOp, true>(key);
    case Type::bf16: return pick_bf16<kOp, false>(key);
    case Type::bf16x2: return pick_bf16<kOp, true>(key);
    default: return nullptr;
  }
}

// ex2 flushes subnormals of bf16, always, and never those of f16; tanh flushes none.
template <Opcode kOp>
Handler pick_function(const OpKey& key) {
  constexpr bool kFlushes = kOp == Opcode::ex2;
  const bool is_bf16 = key.type == Type::bf16 || key.type == Type::bf16x2;
  if (key.ftz != (kFlushes && is_bf16)) return nullptr;
  switch (key.type) {
    case Type::f16: return execute_16<kOp, F16, false, false, Clamp::none>;
    case Type::f16x2: return execute_16<kOp, F16, true, false, Clamp::none>;
    case Type::bf16: return execute_16<kOp, Bf16, false, kFlushes, Clamp::none>;
    case Type::bf16x2: return execute_16<kOp, Bf16, true, kFlushes, Clamp::none>;
    default: return nullptr;
  }
}

template <typename Format, bool kPair, bool kMax, bool kFtz, bool kNan, bool kXor>
void execute_extreme(Warp& warp, const Instruction& in) {
  halves<kPair>(warp, in, [](U a, U b, U) {
    return extreme_16<Format>(taken<Format, kFtz>(a), taken<Format, kFtz>(b), kMax, kNan, kXor);
  });
}

template <typename Format, bool kPair, bool kMax, bool kFtz>
Handler pick_nan(const OpKey& key) {
  if (key.variant == kXorSign)
    return key.nan ? execute_extreme<Format, kPair, kMax, kFtz, true, true>
                   : execute_extreme<Format, kPair, kMax, kFtz, false, true>;
  return key.nan ? execute_extreme<Format, kPair, kMax, kFtz, true, false>
                 : execute_extreme<Format, kPair, kMax, kFtz, false, false>;
}

template <typename Format, bool kPair>
Handler pick_extreme(const OpKey& key) {
  constexpr bool kMayFlush = std::is_same_v<Format, F16>;
  if (key.relu || key.sat || (key.ftz && !kMayFlush)) return nullptr;
  if (key.op == Opcode::max)
    return key.ftz ? pick_nan<Format, kPair, true, kMayFlush>(key) : pick_nan<Format, kPair, true, false>(key);
  return key.ftz ? pick_nan<Format, kPair, false, kMayFlush>(key) : pick_nan<Format, kPair, false, false>(key);
}

template <typename Format, bool kPair, bool kNegate, bool kFtz>
void execute_sign(Warp& warp, const Instruction& in) {
  halves<kPair>(warp, in, [](U a, U, U) {
    const U bits = taken<Format, kFtz>(a);
    const float value = Format::widen(bits);
    if (value != value) return U{0x7fff};
    return kNegate ? bits ^ 0x8000U : bits & 0x7fffU;
  });
}

template <bool kNegate>
Handler pick_sign(const OpKey& key) {
  switch (key.type) {
    case Type::f16: return key.ftz ? execute_sign<F16, false, kNegate, true> : execute_sign<F16, false, kNegate, false>;
    case Type::f16x2: return key.ftz ? execute_sign<F16, true, kNegate, true> : execute_sign<F16, true, kNegate, false>;
    case Type::bf16: return key.ftz ? nullptr : execute_sign<Bf16, false, kNegate, false>;
    case Type::bf16x2: return key.ftz ? nullptr : execute_sign<Bf16, true, kNegate, false>;
    default: return nullptr;
  }
}

Handler find_16(const OpKey& key) {
  switch (key.op) {
    case Opcode::add: return pick_arithmetic<Opcode::add>(key);
    case Opcode::sub: return pick_arithmetic<Opcode::sub>(key);
    case Opcode::mul: return pick_arithmetic<Opcode::mul>(key);
    case Opcode::fma: return pick_arithmetic<Opcode::fma>(key);
    case Opcode::ex2: return pick_function<Opcode::ex2>(key);
    case Opcode::tanh: return pick_function<Opcode::tanh>(key);
    case Opcode::neg: return pick_sign<true>(key);
    case Opcode::abs: return pick_sign<false>(key);
    case Opcode::min:
    case Opcode::max:
      switch (key.type) {
        case Type::f16: return pick_extreme<F16, false>(key);
        case Type::f16x2: return pick_extreme<F16, true>(key);
        case Type::bf16: return pick_extreme<Bf16, false>(key);
        default: return pick_extreme<Bf16, true>(key);
      }
    default: return nullptr;
  }
}

// ---- f32x2

template <Opcode kOp, Round kRound, bool kFtz>
float compute_f32(float a, float b, float c) {
  if constexpr (kFtz) a = flush(a), b = flush(b), c = flush(c);
  float result = 0;
  if constexpr (kOp == Opcode::add) result = add_round<kRound>(a, b);
  if constexpr (kOp == Opcode::sub) result = add_round<kRound>(a, -b);
  if constexpr (kOp == Opcode::mul) result = mul_round<kRound>(a, b);
  if constexpr (kOp == Opcode::fma) result = fma_round<kRound>(a, b, c);
  return canonical(kFtz ? flush(result) : result);
}

template <Opcode kOp, Round kRound, bool kFtz>
void execute_f32x2(Warp& warp, const Instruction& in) {
  const auto* a = warp.values<std::uint64_t>(in.a);
  const auto* b = warp.values<std::uint64_t>(in.b);
  const auto* c = warp.values<std::uint64_t>(in.c);
  const auto low = [](std::uint64_t pair) { return float_of(static_cast<U>(pair)); };
  const auto high = [](std::uint64_t pair) { return float_of(static_cast<U>(pair >> 32)); };
  for_lanes(warp, warp.values<std::uint64_t>(in.dst), [&](int lane) {
    const U first = bits_of(compute_f32<kOp, kRound, kFtz>(low(a[lane]), low(b[lane]), low(c[lane])));
    const U second = bits_of(compute_f32<kOp, kRound, kFtz>(high(a[lane]), high(b[lane]), high(c[lane])));
    return static_cast<std::uint64_t>(second) << 32 | first;
  });
}

template <Opcode kOp, bool kFtz>
Handler pick_round(Round round) {
  switch (round) {
    case Round::none:
    case Round::rn: return execute_f32x2<kOp, Round::rn, kFtz>;
    case Round::rz: return execute_f32x2<kOp, Round::rz, kFtz>;
    case Round::rm: return execute_f32x2<kOp, Round::rm, kFtz>;
    case Round::rp: return execute_f32x2<kOp, Round::rp, kFtz>;
    default: return nullptr;
  }
}

Handler find_f32x2(const OpKey& key) {
  if (key.sat || key.relu) return nullptr;
  switch (key.op) {
    case Opcode::add:
      return key.ftz ? pick_round<Opcode::add, true>(key.round) : pick_round<Opcode::add, false>(key.round);
    case Opcode::sub:
      return key.ftz ? pick_round<Opcode::sub, true>(key.round) : pick_round<Opcode::sub, false>(key.round);
    case Opcode::mul:
      return key.ftz ? pick_round<Opcode::mul, true>(key.round) : pick_round<Opcode::mul, false>(key.round);
    case Opcode::fma:
      return key.ftz ? pick_round<Opcode::fma, true>(key.round) : pick_round<Opcode::fma, false>(key.round);
    default: return nullptr;
  }
}

// ---- f32 arithmetic on 16-bit factors. flags: the rounding; the addend is operand c.

float fma_any(float a, float b, float c, Round round) {
  switch (round) {
    case Round::rz: return fma_round<Round::rz>(a, b, c);
    case Round::rm: return fma_round<Round::rm>(a, b, c);
    case Round::rp: return fma_round<Round::rp>(a, b, c);
    default: return fma_round<Round::rn>(a, b, c);
  }
}

template <Opcode kOp, typename Format, bool kSat>
void execute_mixed(Warp& warp, const Instruction& in) {
  const auto round = static_cast<Round>(in.flags);
  ternary<U, U, float, float>(warp, in, [round](U a, U b, float c) {
    const float factor = kOp == Opcode::fma ? Format::widen(b) : 1.0F;
    const float result = fma_any(Format::widen(a), factor, kOp == Opcode::sub ? -c : c, round);
    return kSat ? saturate(result) : canonical(result);
  });
}

template <Opcode kOp>
Handler pick_mixed(const OpKey& key) {
  if (key.source == Type::f16) return key.sat ? execute_mixed<kOp, F16, true> : execute_mixed<kOp, F16, false>;
  return key.sat ? execute_mixed<kOp, Bf16, true> : execute_mixed<kOp, Bf16, false>;
}

Handler find_mixed(const OpKey& key) {
  if (key.relu) return nullptr;
  switch (key.op) {
    case Opcode::add: return pick_mixed<Opcode::add>(key);
    case Opcode::sub: return pick_mixed<Opcode::sub>(key);
    case Opcode::fma: return pick_mixed<Opcode::fma>(key);
    default: return nullptr;
  }
}

// ---- integers

template <Opcode kOp, typename T, bool kRelu>
void execute_integers(Warp& warp, const Instruction& in) {
  halves<true>(warp, in, [](U a, U b, U) {
    const T x = static_cast<T>(a);
    const T y = static_cast<T>(b);
    T result = kOp == Opcode::add ? wrap_add(x, y) : kOp == Opcode::min ? (x < y ? x : y) : (x > y ? x : y);
    if (kRelu && std::is_signed_v<T> && result < T{0}) result = 0;
    return static_cast<U>(static_cast<std::uint16_t>(result));
  });
}

Handler find_integers(const OpKey& key) {
  if (key.sat || key.round != Round::none) return nullptr;
  const bool is_signed = key.type == Type::s16x2;
  if (key.relu && (!is_signed || key.op == Opcode::add)) return nullptr;
  switch (key.op) {
    case Opcode::add: return execute_integers<Opcode::add, std::uint16_t, false>;
    case Opcode::min:
      if (!is_signed) return execute_integers<Opcode::min, std::uint16_t, false>;
      return key.relu ? execute_integers<Opcode::min, std::int16_t, true>
                      : execute_integers<Opcode::min, std::int16_t, false>;
    case Opcode::max:
      if (!is_signed) return execute_integers<Opcode::max, std::uint16_t, false>;
      return key.relu ? execute_integers<Opcode::max, std::int16_t, true>
                      : execute_integers<Opcode::max, std::int16_t, false>;
    default: return nullptr;
  }
}

template <bool kMax>
void execute_relu_s32(Warp& warp, const Instruction& in) {
  binary<std::int32_t, std::int32_t>(warp, in, [](std::int32_t a, std::int32_t b) {
    const std::int32_t best = kMax ? (a > b ? a : b) : (a < b ? a : b);
    return best < 0 ? 0 : best;
  });
}

// ---- f32: .xorsign.abs, and three operands

template <bool kMax, bool kFtz, bool kNan>
void execute_xorsign(Warp& warp, const Instruction& in) {
  binary<float, float>(warp, in, [](float a, float b) {
    return kFtz ? extreme_xorsign(flush(a), flush(b), kMax, kNan) : extreme_xorsign(a, b, kMax, kNan);
  });
}

template <bool kMax, bool kFtz, bool kNan>
void execute_three(Warp& warp, const Instruction& in) {
  ternary<float, float, float, float>(warp, in, [](float a, float b, float c) {
    if (kFtz) a = flush(a), b = flush(b), c = flush(c);
    return kMax ? maximum(maximum(a, b, kNan), c, kNan) : minimum(minimum(a, b, kNan), c, kNan);
  });
}
// .abs: the magnitudes are compared.
template <bool kMax, bool kFtz, bool kNan>
void execute_three_absolute(Warp& warp, const Instruction& in) {
  ternary<float, float, float, float>(warp, in, [](float a, float b, float c) {
    if (kFtz) a = flush(a), b = flush(b), c = flush(c);
    a = std::fabs(a), b = std::fabs(b), c = std::fabs(c);
    return kMax ? maximum(maximum(a, b, kNan), c, kNan) : minimum(minimum(a, b, kNan), c, kNan);
  });
}

template <bool kMax, bool kFtz, bool kNan>
Handler pick_f32_form(const OpKey& key) {
  if (key.op == Opcode::min || key.op == Opcode::max) return execute_xorsign<kMax, kFtz, kNan>;
  return key.variant == kAbsolute ? execute_three_absolute<kMax, kFtz, kNan> : execute_three<kMax, kFtz, kNan>;
}

template <bool kMax>
Handler pick_f32(const OpKey& key) {
  if (key.relu) return nullptr;
  if (key.ftz) return key.nan ? pick_f32_form<kMax, true, true>(key) : pick_f32_form<kMax, true, false>(key);
  return key.nan ? pick_f32_form<kMax, false, true>(key) : pick_f32_form<kMax, false, false>(key);
}

Handler find_f32(const OpKey& key) {
  if (key.source != Type::none) return find_mixed(key);
  switch (key.op) {
    case Opcode::min3: return pick_f32<false>(key);
    case Opcode::max3: return pick_f32<true>(key);
    case Opcode::min: return key.variant == kXorSign ? pick_f32<false>(key) : nullptr;
    case Opcode::max: return key.variant == kXorSign ? pick_f32<true>(key) : nullptr;
    default: return nullptr;
  }
}

}  // namespace

Handler find_packed(const OpKey& key) {
  if (key.op > Opcode::sad) return nullptr;  // not arithmetic
  switch (key.type) {
    case Type::f16:
    case Type::bf16:
    case Type::f16x2:
    case Type::bf16x2: return key.source == Type::none ? find_16(key) : nullptr;
    case Type::f32x2: return find_f32x2(key);
    case Type::u16x2:
    case Type::s16x2: return find_integers(key);
    case Type::s32:
      if (!key.relu) return nullptr;
      if (key.op == Opcode::min) return execute_relu_s32<false>;
      return key.op == Opcode::max ? execute_relu_s32<true> : nullptr;
    case Type::f32: return find_f32(key);
    default: return nullptr;
  }
}

}  // namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA

// f32 and f64 arithmetic.
#include "runtime/emulator/semantics/floating.h"

#include "runtime/emulator/exec/lanes.h"

namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA {
namespace {

template <bool kFtz, typename T>
T take(T value) {
  if constexpr (kFtz && std::is_same_v<T, float>) return flush(value);
  return value;
}

template <bool kFtz, bool kSat, typename T>
T give(T value) {
  if constexpr (kFtz && std::is_same_v<T, float>) value = flush(value);
  if constexpr (kSat) return saturate(value);
  return canonical(value);
}

template <Opcode kOp, Round kRound, typename T>
T two(T a, T b) {
  if constexpr (std::is_same_v<T, float>) {
    if constexpr (kOp == Opcode::add) return add_round<kRound>(a, b);
    if constexpr (kOp == Opcode::sub) return add_round<kRound>(a, -b);
    if constexpr (kOp == Opcode::mul) return mul_round<kRound>(a, b);
    if constexpr (kOp == Opcode::div) return div_round<kRound>(a, b);
    if constexpr (kOp == Opcode::div_full) return a / b;
    if constexpr (kOp == Opcode::div_approx) return div_approx(a, b);
  } else {
    if constexpr (kOp == Opcode::add) return a + b;
    if constexpr (kOp == Opcode::sub) return a - b;
    if constexpr (kOp == Opcode::mul) return a * b;
    if constexpr (kOp == Opcode::div) return a / b;
  }
}

template <Opcode kOp, Round kRound>
float one(float a) {
  if constexpr (kOp == Opcode::sqrt) return sqrt_round<kRound>(a);
  if constexpr (kOp == Opcode::sqrt_approx) return __builtin_sqrtf(a);
  if constexpr (kOp == Opcode::rcp) return div_round<kRound>(1.0F, a);
  if constexpr (kOp == Opcode::rcp_approx) return rcp_approx(a);
  if constexpr (kOp == Opcode::rsqrt_approx) return rsqrt_approx(a);
  if constexpr (kOp == Opcode::ex2) return ex2_approx(a);
  if constexpr (kOp == Opcode::lg2) return lg2_approx(a);
  if constexpr (kOp == Opcode::sin) return sin_approx(a);
  if constexpr (kOp == Opcode::cos) return cos_approx(a);
  if constexpr (kOp == Opcode::tanh) return tanh_approx(a);
}

template <Opcode kOp, typename T, Round kRound, bool kFtz, bool kSat>
void execute(Warp& warp, const Instruction& in) {
  if constexpr (kOp == Opcode::fma) {
    ternary<T, T, T, T>(warp, in, [](T a, T b, T c) {
      a = take<kFtz>(a), b = take<kFtz>(b), c = take<kFtz>(c);
      if constexpr (std::is_same_v<T, float>) return give<kFtz, kSat>(fma_round<kRound>(a, b, c));
      if constexpr (std::is_same_v<T, double>) return give<kFtz, kSat>(__builtin_fma(a, b, c));
    });
  } else if constexpr (kOp >= Opcode::sqrt && kOp <= Opcode::tanh) {
    unary<T, T>(warp, in, [](T a) { return give<kFtz, kSat>(one<kOp, kRound>(take<kFtz>(a))); });
  } else {
    binary<T, T>(warp, in,
                 [](T a, T b) { return give<kFtz, kSat>(two<kOp, kRound, T>(take<kFtz>(a), take<kFtz>(b))); });
  }
}

template <Opcode kOp, Round kRound>
Handler pick_flags(const OpKey& key) {
  if (key.ftz) return key.sat ? execute<kOp, float, kRound, true, true> : execute<kOp, float, kRound, true, false>;
  return key.sat ? execute<kOp, float, kRound, false, true> : execute<kOp, float, kRound, false, false>;
}

template <Opcode kOp>
Handler pick_round(const OpKey& key) {
  switch (key.round) {
    case Round::none:
    case Round::rn: return pick_flags<kOp, Round::rn>(key);
    case Round::rz: return pick_flags<kOp, Round::rz>(key);
    case Round::rm: return pick_flags<kOp, Round::rm>(key);
    case Round::rp: return pick_flags<kOp, Round::rp>(key);
    default: return nullptr;
  }
}

template <Opcode kOp>
Handler pick_approximate(const OpKey& key) {
  if (key.round != Round::none || key.sat) return nullptr;
  return key.ftz ? execute<kOp, float, Round::none, true, false> : execute<kOp, float, Round::none, false, false>;
}

template <typename T, bool kFtz, bool kNan>
void execute_min(Warp& warp, const Instruction& in) {
  binary<T, T>(warp, in, [](T a, T b) { return minimum(take<kFtz>(a), take<kFtz>(b), kNan); });
}
template <typename T, bool kFtz, bool kNan>
void execute_max(Warp& warp, const Instruction& in) {
  binary<T, T>(warp, in, [](T a, T b) { return maximum(take<kFtz>(a), take<kFtz>(b), kNan); });
}
// As recorded on an H200, neg and abs.ftz make NaN canonical. abs alone, unrecorded, changes the sign bit only.
template <bool kFtz, typename T>
T abs_of(T value) {
  return kFtz ? canonical(take<kFtz>(std::fabs(value))) : std::fabs(value);
}
template <typename T, bool kFtz>
void execute_abs(Warp& warp, const Instruction& in) {
  unary<T, T>(warp, in, [](T a) { return abs_of<kFtz>(a); });
}
template <typename T, bool kFtz>
void execute_neg(Warp& warp, const Instruction& in) {
  unary<T, T>(warp, in, [](T a) { return canonical(take<kFtz>(-a)); });
}
// copysign a, b: the sign of a on the magnitude of b.
template <typename T>
void execute_copysign(Warp& warp, const Instruction& in) {
  binary<T, T>(warp, in, [](T a, T b) { return std::copysign(b, a); });
}

template <Opcode kOp>
Handler pick_double(const OpKey& key) {
  if ((key.round != Round::none && key.round != Round::rn) || key.ftz || key.sat) return nullptr;
  return execute<kOp, double, Round::rn, false, false>;
}

void execute_sqrt_f64(Warp& warp, const Instruction& in) {
  unary<double, double>(warp, in, [](double a) { return __builtin_sqrt(a); });
}
void execute_rcp_f64(Warp& warp, const Instruction& in) {
  unary<double, double>(warp, in, [](double a) { return 1.0 / a; });
}

Handler find_f64(const OpKey& key) {
  switch (key.op) {
    case Opcode::add: return pick_double<Opcode::add>(key);
    case Opcode::sub: return pick_double<Opcode::sub>(key);
    case Opcode::mul: return pick_double<Opcode::mul>(key);
    case Opcode::div: return pick_double<Opcode::div>(key);
    case Opcode::fma: return pick_double<Opcode::fma>(key);
    case Opcode::min: return key.ftz || key.nan ? nullptr : execute_min<double, false, false>;
    case Opcode::max: return key.ftz || key.nan ? nullptr : execute_max<double, false, false>;
    case Opcode::abs: return key.ftz ? nullptr : execute_abs<double, false>;
    case Opcode::neg: return key.ftz ? nullptr : execute_neg<double, false>;
    case Opcode::copysign: return execute_copysign<double>;
    case Opcode::sqrt: return key.round == Round::rn ? execute_sqrt_f64 : nullptr;
    case Opcode::rcp: return key.round == Round::rn ? execute_rcp_f64 : nullptr;
    default: return nullptr;
  }
}

template <bool kFtz>
Handler find_min_max(const OpKey& key) {
  if (key.op == Opcode::min) return key.nan ? execute_min<float, kFtz, true> : execute_min<float, kFtz, false>;
  return key.nan ? execute_max<float, kFtz, true> : execute_max<float, kFtz, false>;
}

}  // namespace

Handler find_floating(const OpKey& key) {
  if (key.relu || key.variant != 0 || key.source != Type::none) return nullptr;
  if (key.type == Type::f64) return find_f64(key);
  if (key.type != Type::f32) return nullptr;
  switch (key.op) {
    case Opcode::add: return pick_round<Opcode::add>(key);
    case Opcode::sub: return pick_round<Opcode::sub>(key);
    case Opcode::mul: return pick_round<Opcode::mul>(key);
    case Opcode::fma: return pick_round<Opcode::fma>(key);
    case Opcode::div: return key.sat ? nullptr : pick_round<Opcode::div>(key);
    case Opcode::sqrt: return key.sat ? nullptr : pick_round<Opcode::sqrt>(key);
    case Opcode::rcp: return key.sat ? nullptr : pick_round<Opcode::rcp>(key);
    case Opcode::div_approx: return pick_approximate<Opcode::div_approx>(key);
    case Opcode::div_full: return pick_approximate<Opcode::div_full>(key);
    case Opcode::sqrt_approx: return pick_approximate<Opcode::sqrt_approx>(key);
    case Opcode::rcp_approx: return pick_approximate<Opcode::rcp_approx>(key);
    case Opcode::rsqrt_approx: return pick_approximate<Opcode::rsqrt_approx>(key);
    case Opcode::ex2: return pick_approximate<Opcode::ex2>(key);
    case Opcode::lg2: return pick_approximate<Opcode::lg2>(key);
    case Opcode::sin: return pick_approximate<Opcode::sin>(key);
    case Opcode::cos: return pick_approximate<Opcode::cos>(key);
    case Opcode::tanh: return pick_approximate<Opcode::tanh>(key);
    case Opcode::min:
    case Opcode::max: return key.ftz ? find_min_max<true>(key) : find_min_max<false>(key);
    case Opcode::abs: return key.ftz ? execute_abs<float, true> : execute_abs<float, false>;
    case Opcode::neg: return key.ftz ? execute_neg<float, true> : execute_neg<float, false>;
    case Opcode::copysign: return execute_copysign<float>;
    default: return nullptr;
  }
}

}  // namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA

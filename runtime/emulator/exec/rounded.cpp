// f64 arithmetic rounded towards zero or an infinity, in the host's own rounding modes; and the f64 approximations.
#include <cfenv>
#include <cmath>

#include "runtime/emulator/exec/handlers.h"
#include "runtime/emulator/semantics/floating.h"

namespace gdnjit::emulator {
namespace {

// Keeps the compiler from moving arithmetic on the value out of the region with another rounding mode.
inline void pin(double& value) {
  volatile double held = value;
  value = held;
}

int host_mode(Round round) {
  switch (round) {
    case Round::rz: return FE_TOWARDZERO;
    case Round::rm: return FE_DOWNWARD;
    case Round::rp: return FE_UPWARD;
    default: return FE_TONEAREST;
  }
}

template <Opcode kOp>
double compute(double a, double b, double c) {
  if constexpr (kOp == Opcode::add) return a + b;
  if constexpr (kOp == Opcode::sub) return a - b;
  if constexpr (kOp == Opcode::mul) return a * b;
  if constexpr (kOp == Opcode::div) return a / b;
  if constexpr (kOp == Opcode::fma) return __builtin_fma(a, b, c);
  if constexpr (kOp == Opcode::sqrt) return __builtin_sqrt(a);
  if constexpr (kOp == Opcode::rcp) return 1.0 / a;
}

template <Opcode kOp, Round kRound>
void execute(Warp& warp, const Instruction& in) {
  const auto* a = warp.values<double>(in.a);
  const auto* b = warp.values<double>(in.b);
  const auto* c = warp.values<double>(in.c);
  auto* destination = warp.values<double>(in.dst);
  std::fesetround(host_mode(kRound));
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    double x = a[lane];
    double y = b[lane];
    double z = c[lane];
    pin(x), pin(y), pin(z);
    double result = compute<kOp>(x, y, z);
    pin(result);
    destination[lane] = result;
  }
  std::fesetround(FE_TONEAREST);
}

template <Opcode kOp>
Handler pick(Round round) {
  switch (round) {
    case Round::rz: return execute<kOp, Round::rz>;
    case Round::rm: return execute<kOp, Round::rm>;
    case Round::rp: return execute<kOp, Round::rp>;
    default: return nullptr;
  }
}

// The .ftz forms know the upper 32 bits of their operand and give the upper 32 bits of a result, and flush.
double upper(double value) { return std::bit_cast<double>(bits_of(value) & 0xffffffff00000000ULL); }
double flush_upper(double value) {
  const std::uint64_t bits = bits_of(upper(value));
  return std::bit_cast<double>((bits & 0x7ff0000000000000ULL) == 0 ? bits & 0x8000000000000000ULL : bits);
}
double canonical_nan(double value) { return value != value ? std::bit_cast<double>(0x7fffffff00000000ULL) : value; }

template <bool kRoot, bool kFtz>
void execute_approximation(Warp& warp, const Instruction& in) {
  const auto* a = warp.values<double>(in.a);
  auto* destination = warp.values<double>(in.dst);
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    const double x = kFtz ? flush_upper(a[lane]) : a[lane];
    // The square root of -0 is -0, so that both functions give an infinity of the zero's sign.
    const double result = 1.0 / (kRoot ? std::sqrt(x) : x);
    destination[lane] = canonical_nan(kFtz ? flush_upper(result) : result);
  }
}

}  // namespace

Handler find_rounded(const OpKey& key) {
  if (key.type != Type::f64 || key.source != Type::none || key.sat || key.relu || key.nan) return nullptr;
  if (key.op == Opcode::rcp_approx) return key.ftz ? execute_approximation<false, true> : nullptr;
  if (key.op == Opcode::rsqrt_approx)
    return key.ftz ? execute_approximation<true, true> : execute_approximation<true, false>;
  if (key.ftz) return nullptr;
  switch (key.op) {
    case Opcode::add: return pick<Opcode::add>(key.round);
    case Opcode::sub: return pick<Opcode::sub>(key.round);
    case Opcode::mul: return pick<Opcode::mul>(key.round);
    case Opcode::div: return pick<Opcode::div>(key.round);
    case Opcode::fma: return pick<Opcode::fma>(key.round);
    case Opcode::sqrt: return pick<Opcode::sqrt>(key.round);
    case Opcode::rcp: return pick<Opcode::rcp>(key.round);
    default: return nullptr;
  }
}

}  // namespace gdnjit::emulator

// Comparisons into predicates or registers, and selection by them.
#include <cmath>

#include "runtime/emulator/exec/lanes.h"
#include "runtime/emulator/semantics/packed.h"

namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA {
namespace {

template <Compare kCompare, typename T>
bool holds(T a, T b) {
  if constexpr (kCompare == Compare::eq) return a == b;
  if constexpr (kCompare == Compare::lt) return a < b;
  if constexpr (kCompare == Compare::le) return a <= b;
  if constexpr (kCompare == Compare::gt) return a > b;
  if constexpr (kCompare == Compare::ge) return a >= b;
  if constexpr (std::is_floating_point_v<T>) {
    // The ordered forms are false with a NaN, the forms ending in u are true.
    if constexpr (kCompare == Compare::ne) return a < b || a > b;
    if constexpr (kCompare == Compare::equ) return !(a < b || a > b);
    if constexpr (kCompare == Compare::neu) return a != b;
    if constexpr (kCompare == Compare::ltu) return !(a >= b);
    if constexpr (kCompare == Compare::leu) return !(a > b);
    if constexpr (kCompare == Compare::gtu) return !(a <= b);
    if constexpr (kCompare == Compare::geu) return !(a < b);
    if constexpr (kCompare == Compare::num) return a == a && b == b;
    if constexpr (kCompare == Compare::nan) return a != a || b != b;
  } else {
    return a != b;
  }
}

template <Compare kCompare, typename T, bool kFtz>
std::uint32_t compare_lanes(Warp& warp, const Instruction& in) {
  const auto* a = warp.values<Stored<T>>(in.a);
  const auto* b = warp.values<Stored<T>>(in.b);
  alignas(64) std::uint32_t bits[kLanes];
#pragma GCC ivdep
  for (int lane = 0; lane < kLanes; ++lane) {
    T x = loaded<T>(a[lane]);
    T y = loaded<T>(b[lane]);
    if constexpr (kFtz) x = flush(x), y = flush(y);
    bits[lane] = holds<kCompare, T>(x, y) ? 1U << lane : 0U;
  }
  std::uint32_t result = 0;
  for (int lane = 0; lane < kLanes; ++lane) result |= bits[lane];
  return result;
}

// The second operand of .and/.or/.xor is predicate c.
std::uint32_t combine(const Warp& warp, const Instruction& in, std::uint32_t compared) {
  const std::uint32_t third = warp.predicates[in.c.offset] ^ ((in.flags & kNegateThird) != 0 ? ~0U : 0U);
  switch (static_cast<BoolOp>(in.flags & kCombineMask)) {
    case BoolOp::land: return compared & third;
    case BoolOp::lor: return compared | third;
    case BoolOp::lxor: return compared ^ third;
    case BoolOp::none: return compared;
  }
  return compared;
}

void set_predicate(Warp& warp, Slot slot, std::uint32_t value) {
  std::uint32_t& destination = warp.predicates[slot.offset];
  destination = (destination & ~warp.mask) | (value & warp.mask);
}

template <Compare kCompare, typename T, bool kFtz>
void execute_setp(Warp& warp, const Instruction& in) {
  const std::uint32_t compared = compare_lanes<kCompare, T, kFtz>(warp, in);
  const std::uint32_t value = combine(warp, in, compared);
  if (in.count == 2) {
    // setp p|q: q gets the comparison's complement, combined in the same way.
    const Slot second = warp.program->operands[in.operands];
    const std::uint32_t complement = combine(warp, in, ~compared);
    set_predicate(warp, second, complement);
    warp.written[second.id] = (warp.written[second.id] | warp.mask) & ~warp.undefined;
  }
  set_predicate(warp, in.dst, value);
}

// set: the immediate is the value for true, zero for false.
template <Compare kCompare, typename T, bool kFtz>
void execute_set(Warp& warp, const Instruction& in) {
  const std::uint32_t value = combine(warp, in, compare_lanes<kCompare, T, kFtz>(warp, in));
  const auto truth = static_cast<std::uint32_t>(in.immediate);
  for_lanes(warp, warp.values<std::uint32_t>(in.dst), [=](int lane) { return (value >> lane & 1U) != 0 ? truth : 0U; });
}

template <typename T, bool kFtz, Compare kCompare>
Handler pick_kind(const OpKey& key) {
  return key.op == Opcode::setp ? execute_setp<kCompare, T, kFtz> : execute_set<kCompare, T, kFtz>;
}

template <typename T, bool kFtz = false>
Handler pick_compare(const OpKey& key) {
  switch (key.compare) {
    case Compare::eq: return pick_kind<T, kFtz, Compare::eq>(key);
    case Compare::ne: return pick_kind<T, kFtz, Compare::ne>(key);
    case Compare::lt: return pick_kind<T, kFtz, Compare::lt>(key);
    case Compare::le: return pick_kind<T, kFtz, Compare::le>(key);
    case Compare::gt: return pick_kind<T, kFtz, Compare::gt>(key);
    case Compare::ge: return pick_kind<T, kFtz, Compare::ge>(key);
    default: break;
  }
  if constexpr (std::is_floating_point_v<T>) {
    switch (key.compare) {
      case Compare::equ: return pick_kind<T, kFtz, Compare::equ>(key);
      case Compare::neu: return pick_kind<T, kFtz, Compare::neu>(key);
      case Compare::ltu: return pick_kind<T, kFtz, Compare::ltu>(key);
      case Compare::leu: return pick_kind<T, kFtz, Compare::leu>(key);
      case Compare::gtu: return pick_kind<T, kFtz, Compare::gtu>(key);
      case Compare::geu: return pick_kind<T, kFtz, Compare::geu>(key);
      case Compare::num: return pick_kind<T, kFtz, Compare::num>(key);
      case Compare::nan: return pick_kind<T, kFtz, Compare::nan>(key);
      default: break;
    }
  }
  return nullptr;
}

// f16 and bf16 are compared as f32. kHalf: which half of the registers.
template <Compare kCompare, typename Format, bool kFtz, int kHalf>
std::uint32_t compare_half(Warp& warp, const Instruction& in) {
  const auto* a = warp.values<std::uint32_t>(in.a);
  const auto* b = warp.values<std::uint32_t>(in.b);
  std::uint32_t result = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    const auto taken = [](std::uint32_t bits) {
      bits = bits >> (16 * kHalf) & 0xffffU;
      return Format::widen(kFtz ? Format::flush(bits) : bits);
    };
    if (holds<kCompare, float>(taken(a[lane]), taken(b[lane]))) result |= 1U << lane;
  }
  return result;
}

template <Compare kCompare, typename Format, bool kFtz>
void execute_setp_16(Warp& warp, const Instruction& in) {
  set_predicate(warp, in.dst, combine(warp, in, compare_half<kCompare, Format, kFtz, 0>(warp, in)));
}

// setp p|q: p from the low halves, q from the high ones.
template <Compare kCompare, typename Format, bool kFtz>
void execute_setp_pair(Warp& warp, const Instruction& in) {
  const std::uint32_t low = combine(warp, in, compare_half<kCompare, Format, kFtz, 0>(warp, in));
  const std::uint32_t high = combine(warp, in, compare_half<kCompare, Format, kFtz, 1>(warp, in));
  if (in.count == 2) {
    const Slot second = warp.program->operands[in.operands];
    set_predicate(warp, second, high);
    warp.written[second.id] = (warp.written[second.id] | warp.mask) & ~warp.undefined;
  }
  set_predicate(warp, in.dst, low);
}

// set of 16-bit values. The immediate is the value for true; for pairs, of one half.
template <Compare kCompare, typename Format, bool kFtz, bool kPair>
void execute_set_16(Warp& warp, const Instruction& in) {
  const std::uint32_t low = combine(warp, in, compare_half<kCompare, Format, kFtz, 0>(warp, in));
  const std::uint32_t high = kPair ? combine(warp, in, compare_half<kCompare, Format, kFtz, 1>(warp, in)) : 0;
  const auto truth = static_cast<std::uint32_t>(in.immediate);
  for_lanes(warp, warp.values<std::uint32_t>(in.dst), [=](int lane) {
    const std::uint32_t first = (low >> lane & 1U) != 0 ? truth : 0U;
    return kPair ? first | ((high >> lane & 1U) != 0 ? truth << 16 : 0U) : first;
  });
}

template <Compare kCompare, typename Format, bool kFtz, bool kPair>
Handler pick_16_kind(const OpKey& key) {
  if (key.op == Opcode::set) return execute_set_16<kCompare, Format, kFtz, kPair>;
  return kPair ? execute_setp_pair<kCompare, Format, kFtz> : execute_setp_16<kCompare, Format, kFtz>;
}

template <typename Format, bool kFtz, bool kPair>
Handler pick_16(const OpKey& key) {
  switch (key.compare) {
    case Compare::eq: return pick_16_kind<Compare::eq, Format, kFtz, kPair>(key);
    case Compare::ne: return pick_16_kind<Compare::ne, Format, kFtz, kPair>(key);
    case Compare::lt: return pick_16_kind<Compare::lt, Format, kFtz, kPair>(key);
    case Compare::le: return pick_16_kind<Compare::le, Format, kFtz, kPair>(key);
    case Compare::gt: return pick_16_kind<Compare::gt, Format, kFtz, kPair>(key);
    case Compare::ge: return pick_16_kind<Compare::ge, Format, kFtz, kPair>(key);
    case Compare::equ: return pick_16_kind<Compare::equ, Format, kFtz, kPair>(key);
    case Compare::neu: return pick_16_kind<Compare::neu, Format, kFtz, kPair>(key);
    case Compare::ltu: return pick_16_kind<Compare::ltu, Format, kFtz, kPair>(key);
    case Compare::leu: return pick_16_kind<Compare::leu, Format, kFtz, kPair>(key);
    case Compare::gtu: return pick_16_kind<Compare::gtu, Format, kFtz, kPair>(key);
    case Compare::geu: return pick_16_kind<Compare::geu, Format, kFtz, kPair>(key);
    case Compare::num: return pick_16_kind<Compare::num, Format, kFtz, kPair>(key);
    case Compare::nan: return pick_16_kind<Compare::nan, Format, kFtz, kPair>(key);
  }
  return nullptr;
}

Handler find_comparison_16(const OpKey& key) {
  switch (key.source) {
    case Type::f16: return key.ftz ? pick_16<F16, true, false>(key) : pick_16<F16, false, false>(key);
    case Type::f16x2: return key.ftz ? pick_16<F16, true, true>(key) : pick_16<F16, false, true>(key);
    case Type::bf16: return key.ftz ? nullptr : pick_16<Bf16, false, false>(key);
    case Type::bf16x2: return key.ftz ? nullptr : pick_16<Bf16, false, true>(key);
    default: return nullptr;
  }
}

Handler find_comparison(const OpKey& key) {
  if (key.source >= Type::f16 && key.source <= Type::bf16x2) return find_comparison_16(key);
  if (key.ftz && key.source != Type::f32) return nullptr;
  switch (key.source) {
    case Type::b16:
    case Type::u16: return pick_compare<std::uint16_t>(key);
    case Type::s16: return pick_compare<std::int16_t>(key);
    case Type::b32:
    case Type::u32: return pick_compare<std::uint32_t>(key);
    case Type::s32: return pick_compare<std::int32_t>(key);
    case Type::b64:
    case Type::u64: return pick_compare<std::uint64_t>(key);
    case Type::s64: return pick_compare<std::int64_t>(key);
    case Type::f32: return key.ftz ? pick_compare<float, true>(key) : pick_compare<float>(key);
    case Type::f64: return pick_compare<double>(key);
    default: return nullptr;
  }
}

void copy_written(Warp& warp, const Instruction& in, std::uint32_t value) {
  std::uint32_t& destination = warp.written[in.dst.id];
  destination = (destination & ~warp.mask) | (value & warp.mask);
}

// Selecting an unwritten value is no use of it: compilers select between a value and an undefined one.
template <typename T>
void execute_selp(Warp& warp, const Instruction& in) {
  const std::uint32_t choice = warp.predicates[in.c.offset] ^ ((in.flags & kNegateThird) != 0 ? ~0U : 0U);
  const auto* a = warp.values<T>(in.a);
  const auto* b = warp.values<T>(in.b);
  const std::uint32_t defined = (choice & warp.written[in.a.id]) | (~choice & warp.written[in.b.id]);
  copy_written(warp, in, defined & ~warp.undefined);
  for_lanes(warp, warp.values<T>(in.dst), [=](int lane) { return (choice >> lane & 1U) != 0 ? a[lane] : b[lane]; });
}

template <typename T, typename C>
void execute_slct(Warp& warp, const Instruction& in) {
  ternary<T, T, C, T>(warp, in, [](T a, T b, C c) { return c >= 0 ? a : b; });
}

enum class FloatTest : std::uint8_t { finite, infinite, number, notanumber, normal, subnormal };

template <typename T>
bool test_float(T value, FloatTest test) {
  switch (test) {
    case FloatTest::finite: return std::isfinite(value);
    case FloatTest::infinite: return std::isinf(value);
    case FloatTest::number: return !std::isnan(value);
    case FloatTest::notanumber: return std::isnan(value);
    case FloatTest::normal: return std::isnormal(value) || value == 0;
    case FloatTest::subnormal: return std::fpclassify(value) == FP_SUBNORMAL;
  }
  return false;
}

template <typename T>
void execute_testp(Warp& warp, const Instruction& in) {
  const auto* a = warp.values<T>(in.a);
  std::uint32_t result = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    if (test_float(a[lane], static_cast<FloatTest>(in.flags))) result |= 1U << lane;
  }
  set_predicate(warp, in.dst, result);
}

}  // namespace

Handler find_compare(const OpKey& key) {
  switch (key.op) {
    case Opcode::setp:
    case Opcode::set: return find_comparison(key);
    case Opcode::selp:
      return type_bytes(key.type) > 8    ? nullptr
             : type_bytes(key.type) == 8 ? execute_selp<std::uint64_t>
                                         : execute_selp<std::uint32_t>;
    case Opcode::slct:
      if (key.source == Type::s32) {
        return type_bytes(key.type) == 8 ? execute_slct<std::uint64_t, std::int32_t>
                                         : execute_slct<std::uint32_t, std::int32_t>;
      }
      return type_bytes(key.type) == 8 ? execute_slct<std::uint64_t, float> : execute_slct<std::uint32_t, float>;
    case Opcode::testp: return key.type == Type::f64 ? execute_testp<double> : execute_testp<float>;
    default: return nullptr;
  }
}

}  // namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA

#include "runtime/emulator/exec/video.h"

#include <algorithm>

#include "runtime/emulator/exec/handlers.h"

namespace gdnjit::emulator {
namespace {

struct Field {
  std::uint32_t shift = 0;
  std::uint32_t bits = 32;
};

Field field_of(std::uint32_t select) {
  if (select == 0) return {};
  return select < 5 ? Field{(select - 1) * 8, 8} : Field{(select - 5) * 16, 16};
}

std::int64_t extract(std::uint64_t value, Field field, bool is_signed) {
  const std::uint64_t bits = value >> field.shift << (64 - field.bits);
  return is_signed ? static_cast<std::int64_t>(bits) >> (64 - field.bits)
                   : static_cast<std::int64_t>(bits >> (64 - field.bits));
}

std::int64_t saturated(std::int64_t value, std::uint32_t bits, bool is_signed) {
  const std::int64_t low = is_signed ? -(std::int64_t{1} << (bits - 1)) : 0;
  return std::clamp(value, low, low + (std::int64_t{1} << bits) - 1);
}

bool holds(std::uint8_t compare, std::int64_t a, std::int64_t b) {
  switch (compare) {
    case 0: return a == b;
    case 1: return a != b;
    case 2: return a < b;
    case 3: return a <= b;
    case 4: return a > b;
    default: return a >= b;
  }
}

std::int64_t combine(const VideoSpec& spec, std::int64_t a, std::int64_t b) {
  switch (spec.op) {
    case VideoOp::add: return a + b;
    case VideoOp::sub: return a - b;
    case VideoOp::absdiff: return a < b ? b - a : a - b;
    case VideoOp::min: return std::min(a, b);
    case VideoOp::max: return std::max(a, b);
    case VideoOp::avrg: return (a + b + (a + b >= 0 ? 1 : 0)) >> 1;
    case VideoOp::set: return holds(spec.compare, a, b) ? 1 : 0;
    case VideoOp::shl:
    case VideoOp::shr: {
      const std::int64_t by = spec.clamps ? std::min<std::int64_t>(b, 32) : b & 31;
      if (spec.op == VideoOp::shr) return a >> by;
      return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) << by);
    }
    case VideoOp::mad: break;
  }
  return 0;
}

// Up to 66 bits before the shift. A negated product or addend is its complement plus one.
std::uint32_t multiply_add(const VideoSpec& spec, std::int64_t a, std::int64_t b, std::uint32_t c) {
  const bool negates = spec.a_negated != spec.b_negated;
  const bool is_signed = spec.a_signed || spec.b_signed || negates || spec.c_negated;
  __int128 value = static_cast<__int128>(a) * b;
  if (negates) value = -value;
  __int128 addend = is_signed ? static_cast<__int128>(static_cast<std::int32_t>(c)) : static_cast<__int128>(c);
  if (spec.c_negated) addend = -addend;
  value = (value + addend + (spec.plus_one ? 1 : 0)) >> spec.shift;
  if (spec.saturates) {
    const __int128 low = is_signed ? -(__int128{1} << 31) : 0;
    value = std::clamp<__int128>(value, low, low + (__int128{1} << 32) - 1);
  }
  return static_cast<std::uint32_t>(value);
}

std::uint32_t one_element(const VideoSpec& spec, std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  const std::int64_t x = extract(a, field_of(spec.a_select), spec.a_signed);
  const std::int64_t y = extract(b, field_of(spec.b_select), spec.b_signed);
  if (spec.op == VideoOp::mad) return multiply_add(spec, x, y, c);
  const Field target = field_of(spec.merge);
  std::int64_t result = combine(spec, x, y);
  if (spec.saturates) result = saturated(result, target.bits, spec.result_signed);
  const auto word = static_cast<std::uint32_t>(result);
  const auto less = [&] {
    return spec.result_signed ? static_cast<std::int32_t>(word) < static_cast<std::int32_t>(c) : word < c;
  };
  switch (spec.second) {
    case VideoSecond::add: return word + c;
    case VideoSecond::min: return less() ? word : c;
    case VideoSecond::max: return less() ? c : word;
    case VideoSecond::none: break;
  }
  if (spec.merge == 0) return word;
  const std::uint32_t mask = ((1U << target.bits) - 1) << target.shift;
  return (c & ~mask) | (word << target.shift & mask);
}

std::uint32_t all_elements(const VideoSpec& spec, std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  const std::uint32_t bits = 32 / spec.elements;
  const std::uint64_t both = static_cast<std::uint64_t>(b) << 32 | a;
  const std::uint32_t mask = (1U << bits) - 1;
  std::uint32_t result = c;
  for (std::uint32_t i = 0; i < spec.elements; ++i) {
    if ((spec.mask >> i & 1U) == 0) continue;
    const std::int64_t x = extract(both, {(spec.a_select >> (4 * i) & 7U) * bits, bits}, spec.a_signed);
    const std::int64_t y = extract(both, {(spec.b_select >> (4 * i) & 7U) * bits, bits}, spec.b_signed);
    std::int64_t value = combine(spec, x, y);
    if (spec.saturates) value = saturated(value, bits, spec.result_signed);
    if (spec.accumulates) {
      result += static_cast<std::uint32_t>(value);
    } else {
      result = (result & ~(mask << (i * bits))) | (static_cast<std::uint32_t>(value) & mask) << (i * bits);
    }
  }
  return result;
}

void execute_video(Warp& warp, const Instruction& in) {
  const VideoSpec& spec = warp.program->video[in.target];
  const auto* a = warp.values<std::uint32_t>(in.a);
  const auto* b = warp.values<std::uint32_t>(in.b);
  const auto* c = warp.values<std::uint32_t>(in.c);
  auto* destination = warp.values<std::uint32_t>(in.dst);
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    destination[lane] = spec.elements == 0 ? one_element(spec, a[lane], b[lane], c[lane])
                                           : all_elements(spec, a[lane], b[lane], c[lane]);
  }
}

}  // namespace

Handler find_video(const OpKey& key) { return key.op == Opcode::video ? execute_video : nullptr; }

}  // namespace gdnjit::emulator

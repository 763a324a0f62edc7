// cvt between f32, f16 or bf16 and pairs of 8, 6 and 4 bits, and cvt.pack.
#include "runtime/emulator/exec/lanes.h"
#include "runtime/emulator/semantics/minifloat.h"

namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA {
namespace {

using U = std::uint32_t;

// Elements of 6 bits take a byte each.
constexpr U element_bits(const MiniFormat& format) { return format.width == 4 ? 4 : 8; }

// The value from operand a goes to the upper half.
template <const MiniFormat& kFormat, bool kRelu>
void from_f32(Warp& warp, const Instruction& in) {
  const auto* a = warp.values<float>(in.a);
  const auto* b = warp.values<float>(in.b);
  for_lanes(warp, warp.values<U>(in.dst), [=](int lane) {
    return float_to_mini<kFormat>(a[lane], kRelu) << element_bits(kFormat) | float_to_mini<kFormat>(b[lane], kRelu);
  });
}

template <const MiniFormat& kFormat, bool kRelu>
void from_f16(Warp& warp, const Instruction& in) {
  unary<U, U>(warp, in, [](U a) {
    return float_to_mini<kFormat>(f16_to_float(a >> 16), kRelu) << element_bits(kFormat) |
           float_to_mini<kFormat>(f16_to_float(a & 0xffffU), kRelu);
  });
}

// Every value of these formats is an f16.
template <const MiniFormat& kFormat, bool kRelu>
void to_f16(Warp& warp, const Instruction& in) {
  unary<U, U>(warp, in, [](U a) {
    const auto convert_one = [](U bits) {
      const float value = mini_to_float<kFormat>(bits);
      return float_to_f16_rn(kRelu && value <= 0 ? 0.0F : value);
    };
    return convert_one(a >> element_bits(kFormat)) << 16 | convert_one(a);
  });
}

template <const MiniFormat& kFormat>
Handler pick(const OpKey& key) {
  if (key.type == Type::f16x2) return key.relu ? to_f16<kFormat, true> : to_f16<kFormat, false>;
  if (key.source == Type::f32) return key.relu ? from_f32<kFormat, true> : from_f32<kFormat, false>;
  return key.relu ? from_f16<kFormat, true> : from_f16<kFormat, false>;
}

template <bool kUp, bool kFinite>
void scale_from_f32(Warp& warp, const Instruction& in) {
  const auto* a = warp.values<float>(in.a);
  const auto* b = warp.values<float>(in.b);
  for_lanes(warp, warp.values<U>(in.dst), [=](int lane) {
    return float_to_ue8m0(a[lane], kUp, kFinite) << 8 | float_to_ue8m0(b[lane], kUp, kFinite);
  });
}
template <bool kUp, bool kFinite>
void scale_from_bf16(Warp& warp, const Instruction& in) {
  unary<U, U>(warp, in, [](U a) {
    return float_to_ue8m0(bf16_to_float(a >> 16), kUp, kFinite) << 8 |
           float_to_ue8m0(bf16_to_float(a & 0xffffU), kUp, kFinite);
  });
}
template <bool kUp, bool kFinite>
Handler pick_scale(const OpKey& key) {
  return key.source == Type::f32 ? scale_from_f32<kUp, kFinite> : scale_from_bf16<kUp, kFinite>;
}
void scale_to_bf16(Warp& warp, const Instruction& in) {
  unary<U, U>(warp, in, [](U a) { return ue8m0_to_bf16(a >> 8) << 16 | ue8m0_to_bf16(a); });
}

Handler find_scale(const OpKey& key) {
  const bool up = key.round == Round::rp;
  if (key.type == Type::bf16x2) return scale_to_bf16;
  if (key.variant == kSatFinite) return up ? pick_scale<true, true>(key) : pick_scale<false, true>(key);
  return up ? pick_scale<true, false>(key) : pick_scale<false, false>(key);
}

// cvt.pack: a and b cut to the range of `count` bits, signed with flags = 1, above them the low bits of c.
void execute_pack(Warp& warp, const Instruction& in) {
  const auto* c = warp.values<U>(in.c);
  const U width = in.count;
  const bool is_signed = (in.flags & 1U) != 0;
  const std::int64_t low = is_signed ? -(std::int64_t{1} << (width - 1)) : 0;
  const std::int64_t high = (std::int64_t{1} << (is_signed ? width - 1 : width)) - 1;
  const auto* a = warp.values<std::int32_t>(in.a);
  const auto* b = warp.values<std::int32_t>(in.b);
  const U mask = (1U << width) - 1;
  for_lanes(warp, warp.values<U>(in.dst), [=](int lane) {
    const auto cut = [=](std::int64_t value) {
      return static_cast<U>(value < low ? low : value > high ? high : value) & mask;
    };
    const U above = width == 16 ? 0 : c[lane] << (2 * width);
    return above | cut(a[lane]) << width | cut(b[lane]);
  });
}

}  // namespace

Handler find_narrow(const OpKey& key) {
  if (key.op == Opcode::cvt_integers) return execute_pack;
  if (key.op != Opcode::cvt_narrow) return nullptr;
  switch (key.type == Type::f16x2 || key.type == Type::bf16x2 ? key.source : key.type) {
    case Type::e4m3x2: return pick<kE4m3>(key);
    case Type::e5m2x2: return pick<kE5m2>(key);
    case Type::e2m3x2: return pick<kE2m3>(key);
    case Type::e3m2x2: return pick<kE3m2>(key);
    case Type::e2m1x2: return pick<kE2m1>(key);
    case Type::ue8m0x2: return find_scale(key);
    default: return nullptr;
  }
}

}  // namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA

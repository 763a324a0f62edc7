// cvt: fast forms for what kernels convert all the time, the library function for the rest.
#include "runtime/emulator/exec/lanes.h"
#include "runtime/emulator/semantics/formats.h"

namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA {
namespace {

ConvertSpec spec_of(const Instruction& in) {
  const auto packed = static_cast<std::uint64_t>(in.immediate);
  return {static_cast<Type>(packed & 0xffU),
          static_cast<Type>(packed >> 8 & 0xffU),
          static_cast<Round>(packed >> 16 & 0xffU),
          (packed >> 24 & 1U) != 0,
          (packed >> 25 & 1U) != 0,
          (packed >> 26 & 1U) != 0,
          (packed >> 27 & 1U) != 0};
}

template <typename S, typename D>
void execute_general(Warp& warp, const Instruction& in) {
  const ConvertSpec spec = spec_of(in);
  const auto* a = warp.values<S>(in.a);
  auto* destination = warp.values<D>(in.dst);
  for (int lane = 0; lane < kLanes; ++lane) {
    if ((warp.mask >> lane & 1U) != 0) destination[lane] = static_cast<D>(convert(spec, a[lane]));
  }
}

Handler find_general(const OpKey& key) {
  const bool wide_source = type_bytes(key.source) == 8;
  if (wide_source)
    return key.wide_register ? execute_general<std::uint64_t, std::uint64_t>
                             : execute_general<std::uint64_t, std::uint32_t>;
  return key.wide_register ? execute_general<std::uint32_t, std::uint64_t>
                           : execute_general<std::uint32_t, std::uint32_t>;
}

// S -> T, extended to the register D.
template <typename S, typename T, typename D>
void execute_integer(Warp& warp, const Instruction& in) {
  const auto* a = warp.values<Stored<S>>(in.a);
  for_lanes(warp, warp.values<D>(in.dst), [=](int lane) {
    return static_cast<D>(static_cast<std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>>(
        static_cast<T>(loaded<S>(a[lane]))));
  });
}

template <typename S, typename T>
Handler pick_register(const OpKey& key) {
  return key.wide_register ? execute_integer<S, T, std::uint64_t> : execute_integer<S, T, std::uint32_t>;
}

template <typename S>
Handler pick_target(const OpKey& key) {
  switch (key.type) {
    case Type::u8: return pick_register<S, std::uint8_t>(key);
    case Type::s8: return pick_register<S, std::int8_t>(key);
    case Type::u16: return pick_register<S, std::uint16_t>(key);
    case Type::s16: return pick_register<S, std::int16_t>(key);
    case Type::u32: return pick_register<S, std::uint32_t>(key);
    case Type::s32: return pick_register<S, std::int32_t>(key);
    case Type::u64: return pick_register<S, std::uint64_t>(key);
    case Type::s64: return pick_register<S, std::int64_t>(key);
    default: return nullptr;
  }
}

Handler find_integers(const OpKey& key) {
  switch (key.source) {
    case Type::u8: return pick_target<std::uint8_t>(key);
    case Type::s8: return pick_target<std::int8_t>(key);
    case Type::u16: return pick_target<std::uint16_t>(key);
    case Type::s16: return pick_target<std::int16_t>(key);
    case Type::u32: return pick_target<std::uint32_t>(key);
    case Type::s32: return pick_target<std::int32_t>(key);
    case Type::u64: return pick_target<std::uint64_t>(key);
    case Type::s64: return pick_target<std::int64_t>(key);
    default: return nullptr;
  }
}

void half_to_f32(Warp& warp, const Instruction& in) {
  unary<std::uint16_t, float>(warp, in, [](std::uint16_t a) { return f16_to_float(a); });
}
void bf16_to_f32(Warp& warp, const Instruction& in) {
  unary<std::uint16_t, float>(warp, in, [](std::uint16_t a) { return bf16_to_float(a); });
}
void f32_to_half(Warp& warp, const Instruction& in) {
  unary<float, std::uint16_t>(warp, in, [](float a) { return static_cast<std::uint16_t>(float_to_f16_rn(a)); });
}
void f32_to_bf16(Warp& warp, const Instruction& in) {
  unary<float, std::uint16_t>(warp, in, [](float a) { return static_cast<std::uint16_t>(float_to_bf16_rn(a)); });
}
void saturate_f32(Warp& warp, const Instruction& in) {
  unary<float, float>(warp, in, [](float a) { return saturate(a); });
}
void s32_to_f32(Warp& warp, const Instruction& in) {
  unary<std::int32_t, float>(warp, in, [](std::int32_t a) { return static_cast<float>(a); });
}
void u32_to_f32(Warp& warp, const Instruction& in) {
  unary<std::uint32_t, float>(warp, in, [](std::uint32_t a) { return static_cast<float>(a); });
}

Handler find_fast(const OpKey& key) {
  const bool plain = !key.ftz && !key.sat && !key.relu && key.variant == 0;
  const bool nearest = key.round == Round::rn && plain;
  if (key.type == Type::f32 && key.source == Type::f16 && plain) return half_to_f32;
  if (key.type == Type::f32 && key.source == Type::bf16 && plain) return bf16_to_f32;
  if (key.type == Type::f16 && key.source == Type::f32 && nearest) return f32_to_half;
  if (key.type == Type::bf16 && key.source == Type::f32 && nearest) return f32_to_bf16;
  if (key.type == Type::f32 && key.source == Type::s32 && nearest) return s32_to_f32;
  if (key.type == Type::f32 && key.source == Type::u32 && nearest) return u32_to_f32;
  if (key.type == Type::f32 && key.source == Type::f32 && key.sat && !key.ftz && key.round == Round::none)
    return saturate_f32;
  return nullptr;
}

// cvt.rn.bf16x2.f32 d, a, b: a goes to the upper half.
void pack_bf16_rn(Warp& warp, const Instruction& in) {
  binary<float, std::uint32_t>(warp, in,
                               [](float a, float b) { return float_to_bf16_rn(a) << 16 | float_to_bf16_rn(b); });
}
void pack_f16_rn(Warp& warp, const Instruction& in) {
  binary<float, std::uint32_t>(warp, in,
                               [](float a, float b) { return float_to_f16_rn(a) << 16 | float_to_f16_rn(b); });
}
void pack_general(Warp& warp, const Instruction& in) {
  const ConvertSpec spec = spec_of(in);
  binary<std::uint32_t, std::uint32_t>(warp, in, [spec](std::uint32_t a, std::uint32_t b) {
    return static_cast<std::uint32_t>(convert(spec, a) << 16 | convert(spec, b));
  });
}

Handler find_packing(const OpKey& key) {
  const bool plain = key.round == Round::rn && !key.relu && key.variant == 0;
  if (plain && key.type == Type::bf16x2) return pack_bf16_rn;
  if (plain && key.type == Type::f16x2) return pack_f16_rn;
  return pack_general;
}

}  // namespace

Handler find_convert(const OpKey& key) {
  if (key.op == Opcode::cvt_pack) return find_packing(key);
  if (key.op != Opcode::cvt) return nullptr;
  if (key.ftz && key.type != Type::f32 && key.source != Type::f32) return nullptr;
  if (is_integer(key.type) && is_integer(key.source)) return key.sat ? find_general(key) : find_integers(key);
  if (const Handler fast = key.wide_register ? nullptr : find_fast(key)) return fast;
  return find_general(key);
}

}  // namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA

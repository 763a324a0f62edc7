// cvt.
#include "runtime/emulator/decode/decoder.h"

namespace gdnjit::emulator {
namespace {

// The types cvt converts between, apart from the packed forms.
bool convertible(Type type) {
  return is_integer(type) || type == Type::f16 || type == Type::bf16 || type == Type::f32 || type == Type::f64 ||
         type == Type::tf32;
}

std::int64_t pack_spec(Type to, Type from, const OpKey& key) {
  const bool satfinite = key.variant == kSatFinite;
  return static_cast<std::int64_t>(
      static_cast<std::uint64_t>(to) | static_cast<std::uint64_t>(from) << 8 |
      static_cast<std::uint64_t>(key.round) << 16 | static_cast<std::uint64_t>(key.ftz) << 24 |
      static_cast<std::uint64_t>(key.sat) << 25 | static_cast<std::uint64_t>(key.relu) << 26 |
      static_cast<std::uint64_t>(satfinite) << 27);
}

bool is_half(Type type) { return type == Type::f16 || type == Type::bf16; }

// Pairs of 8, 6 or 4 bits.
bool is_narrow(Type type) { return type >= Type::e4m3x2 && type <= Type::ue8m0x2; }

bool is_integral(Round round) {
  return round == Round::rni || round == Round::rzi || round == Round::rmi || round == Round::rpi;
}

// What PTX demands of the rounding modifier; a form outside these rules does not exist.
bool rounding_fits(Type to, Type from, Round round) {
  if (to == Type::tf32) return from == Type::f32 && (round == Round::rna || round == Round::rn || round == Round::rz);
  if (from == Type::tf32 || round == Round::rna) return false;
  if (!is_float(from) && !is_float(to)) return round == Round::none;
  if (!is_float(to)) return is_integral(round);
  if (!is_float(from)) return round != Round::none && !is_integral(round);
  if (to == from) return round == Round::none || is_integral(round);
  const bool widens = type_bytes(to) > type_bytes(from);
  if (widens) return round == Round::none || (from == Type::bf16 && !is_integral(round));
  return round != Round::none && !is_integral(round);
}

}  // namespace

void Decoder::cvt() {
  if (take("pack")) return cvt_integers();
  const Type to = need_type();
  const Type from = need_type();
  key_.round = take_any_round();
  key_.ftz = take("ftz");
  key_.sat = take("sat");
  key_.relu = take("relu");
  key_.variant = take("satfinite") ? kSatFinite : 0;
  key_.type = to;
  key_.source = from;
  if (is_narrow(to) || is_narrow(from)) return cvt_narrow();
  if (to == Type::bf16x2 || to == Type::f16x2) return cvt_pack(to);
  if (!convertible(to) || !convertible(from)) unsupported("cvt from .{} to .{}", type_name(from), type_name(to));
  if (!rounding_fits(to, from, key_.round))
    unsupported("this rounding of a conversion from .{} to .{}", type_name(from), type_name(to));
  if ((key_.relu || key_.variant == kSatFinite) && !((is_half(to) || to == Type::tf32) && from == Type::f32))
    unsupported(".relu or .satfinite of this conversion");
  if ((key_.relu || key_.variant == kSatFinite) && key_.round != Round::rn && key_.round != Round::rz &&
      (key_.relu || to != Type::tf32))
    unsupported("this rounding with .relu or .satfinite");
  if (key_.sat &&
      (key_.relu || key_.variant == kSatFinite || to == Type::tf32 || to == Type::bf16 || from == Type::bf16))
    unsupported(".sat of this conversion");
  expect_operands(2, 2);
  // Operand registers may be wider than the types: sources are cut, results extended.
  const auto slot_of = [&](const Operand& value, Type type) {
    if (value.kind != Operand::Kind::reg) return source(value, type);
    const int bytes = type_bytes(kernel_.registers[value.reg].type);
    if (bytes < type_bytes(type)) malformed("the register '{}' is too small for .{}", value.name, type_name(type));
    if (bytes == 8 && type_bytes(type) < 8 && &value == &operand(1))
      unsupported("a 64-bit register as .{}", type_name(type));
    return register_slot(value.reg);
  };
  use(inst_.a, slot_of(operand(1), from));
  if (operand(0).kind != Operand::Kind::reg) malformed("cvt needs a register as its destination");
  inst_.dst = slot_of(operand(0), to);
  mark(inst_.dst);
  key_.wide_register = register_bytes(operand(0)) == 8;
  inst_.immediate = pack_spec(to, from, key_);
  finish(Opcode::cvt, Class::conversion);
}

// cvt.rn.bf16x2.f32 d, a, b.
void Decoder::cvt_pack(Type to) {
  if (key_.source != Type::f32) unsupported("cvt from .{} to .{}", type_name(key_.source), type_name(to));
  if (key_.round != Round::rn && key_.round != Round::rz) malformed("a rounding mode is needed");
  if (key_.ftz || key_.sat) unsupported(".ftz or .sat of a packed conversion");
  expect_operands(3, 3);
  use(inst_.a, source(operand(1), Type::f32));
  use(inst_.b, source(operand(2), Type::f32));
  inst_.dst = destination(operand(0), to);
  mark(inst_.dst);
  inst_.immediate = pack_spec(to == Type::bf16x2 ? Type::bf16 : Type::f16, Type::f32, key_);
  finish(Opcode::cvt_pack, Class::conversion);
}

// cvt.rn.satfinite.e4m3x2.f32 d, a, b and its like, from pairs of f16, and back.
void Decoder::cvt_narrow() {
  const Type to = key_.type;
  const Type from = key_.source;
  if (key_.ftz || key_.sat) unsupported(".ftz or .sat of a conversion to or from {} bits", type_name(to));
  const bool is_scale = to == Type::ue8m0x2 || from == Type::ue8m0x2;
  const bool widens = is_narrow(from);
  const bool known = widens                                     ? to == (is_scale ? Type::bf16x2 : Type::f16x2)
                     : from == Type::f32                        ? true
                     : to == Type::ue8m0x2                      ? from == Type::bf16x2
                     : to == Type::e2m3x2 || to == Type::e3m2x2 ? false
                                                                : from == Type::f16x2;
  if (!known) unsupported("cvt from .{} to .{}", type_name(from), type_name(to));
  const bool rounds =
      to == Type::ue8m0x2 ? key_.round == Round::rz || key_.round == Round::rp : key_.round == Round::rn;
  if (!rounds) unsupported("this rounding of a conversion from .{} to .{}", type_name(from), type_name(to));
  if (is_scale ? key_.relu : (key_.variant == kSatFinite) == widens) malformed("the modifiers .satfinite and .relu");
  if (is_scale && widens && key_.variant == kSatFinite) malformed(".satfinite");
  const bool pair = from == Type::f32;
  expect_operands(pair ? 3 : 2, pair ? 3 : 2);
  use(inst_.a, source_any(operand(1), type_bytes(from)));
  if (pair) use(inst_.b, source(operand(2), Type::f32));
  inst_.dst = destination(operand(0), to);
  mark(inst_.dst);
  finish(Opcode::cvt_narrow, Class::conversion);
}

// cvt.pack.sat.u8.s32.b32 d, a, b, c: 2, 4, 8 or 16 bits of a and b.
void Decoder::cvt_integers() {
  static constexpr std::pair<std::string_view, std::uint8_t> kWidths[] = {
      {"u2", 2}, {"s2", 2}, {"u4", 4}, {"s4", 4}, {"u8", 8}, {"s8", 8}, {"u16", 16}, {"s16", 16}};
  if (!take("sat")) malformed("cvt.pack needs .sat");
  for (const auto& [name, width] : kWidths) {
    if (inst_.count != 1 || !take(name)) continue;
    inst_.count = width;
    inst_.flags = name.front() == 's' ? 1 : 0;
  }
  if (inst_.count == 1) unsupported("cvt.pack to this type");
  if (need_type() != Type::s32) unsupported("cvt.pack takes .s32");
  const bool has_rest = inst_.count != 16;
  if (has_rest && need_type() != Type::b32) malformed("cvt.pack to less than 16 bits needs .b32");
  expect_operands(has_rest ? 4 : 3, has_rest ? 4 : 3);
  use(inst_.a, source(operand(1), Type::s32));
  use(inst_.b, source(operand(2), Type::s32));
  if (has_rest) use(inst_.c, source(operand(3), Type::b32));
  inst_.dst = destination(operand(0), Type::b32);
  mark(inst_.dst);
  finish(Opcode::cvt_integers, Class::conversion);
}

}  // namespace gdnjit::emulator

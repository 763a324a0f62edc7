// Integer instructions beyond plain arithmetic: carry chains, dot products, 24-bit products, masks.
#include "runtime/emulator/decode/decoder.h"

namespace gdnjit::emulator {

// The condition code's carry flag, as a predicate of its own.
Slot Decoder::carry_slot() {
  if (carry_ == kConstantId) {
    carry_ = static_cast<std::uint16_t>(program_.ids++);
    program_.id_names.emplace_back("the carry flag");
  }
  return {carry_, carry_};
}

// add.cc addc subc mad.cc madc: d, a, b{, c}.
void Decoder::carry_arithmetic(Opcode op, Type type, bool reads, bool writes) {
  if (!is_integer(type) || type_bytes(type) < 4) malformed("a carry of .{}", type_name(type));
  const bool is_mad = op == Opcode::mad_carry || op == Opcode::mad_hi_carry;
  expect_operands(is_mad ? 4 : 3, is_mad ? 4 : 3);
  key_.type = type;
  use(inst_.a, source(operand(1), type));
  use(inst_.b, source(operand(2), type));
  if (is_mad) use(inst_.c, source(operand(3), type));
  const Slot carry = carry_slot();
  if (reads) check(carry);
  inst_.target = carry.id;
  inst_.flags = static_cast<std::uint8_t>((reads ? kReadsCarry : 0) | (writes ? kWritesCarry : 0));
  inst_.dst = destination(operand(0), type);
  mark(inst_.dst);
  finish(op, Class::integer_arithmetic);
}

// addc, subc, madc.
void Decoder::with_carry() {
  const std::string_view root = statement_->opcode.front();
  const Type type = need_type();
  const bool writes = take("cc");
  Opcode op = root == "addc" ? Opcode::add_carry : Opcode::sub_carry;
  if (root == "madc") {
    op = take("hi") ? Opcode::mad_hi_carry : Opcode::mad_carry;
    if (op == Opcode::mad_carry && !take("lo")) malformed("madc needs .lo or .hi");
  }
  carry_arithmetic(op, type, true, writes);
}

// dp4a.atype.btype d, a, b, c; dp2a.lo.atype.btype d, a, b, c.
void Decoder::dot_product() {
  const bool two = statement_->opcode.front() == "dp2a";
  if (two) {
    if (take("hi")) {
      inst_.count = 2;
    } else if (!take("lo")) {
      malformed("dp2a needs .lo or .hi");
    }
  }
  const Type a = need_type();
  const Type b = need_type();
  const auto is_word = [](Type type) { return type == Type::u32 || type == Type::s32; };
  if (!is_word(a) || !is_word(b)) malformed("a dot product of .{} and .{}", type_name(a), type_name(b));
  inst_.flags = static_cast<std::uint8_t>((is_signed(a) ? 1 : 0) | (is_signed(b) ? 2 : 0));
  three_words(two ? Opcode::dp2a : Opcode::dp4a);
}

// d, a, b, c of 32 bits each.
void Decoder::three_words(Opcode op) {
  expect_operands(4, 4);
  key_.type = Type::b32;
  use(inst_.a, source(operand(1), Type::b32));
  use(inst_.b, source(operand(2), Type::b32));
  use(inst_.c, source(operand(3), Type::b32));
  inst_.dst = destination(operand(0), Type::b32);
  mark(inst_.dst);
  finish(op, Class::integer_arithmetic);
}

// mul24.mode.type d, a, b; mad24.mode{.sat}.type d, a, b, c.
void Decoder::product_24() {
  const bool adds = statement_->opcode.front() == "mad24";
  const bool high = take("hi");
  if (!high && !take("lo")) malformed("needs .lo or .hi");
  const Type type = need_type();
  if (type != Type::u32 && type != Type::s32) malformed("24-bit factors of .{}", type_name(type));
  const bool saturates = take("sat");
  if (saturates && !(adds && high && type == Type::s32)) malformed("'.sat' belongs to mad24.hi.sat.s32");
  inst_.flags = static_cast<std::uint8_t>((is_signed(type) ? 1 : 0) | (high ? 2 : 0) | (saturates ? 4 : 0));
  key_.type = type;
  expect_operands(adds ? 4 : 3, adds ? 4 : 3);
  use(inst_.a, source(operand(1), type));
  use(inst_.b, source(operand(2), type));
  inst_.c = constant(0, false);
  if (adds) use(inst_.c, source(operand(3), type));
  inst_.dst = destination(operand(0), type);
  mark(inst_.dst);
  finish(Opcode::product_24, Class::integer_arithmetic);
}

// bmsk.mode.b32 d, position, width; szext.mode.type d, a, width.
void Decoder::bit_mask() {
  const bool extends = statement_->opcode.front() == "szext";
  const bool clamps = take("clamp");
  if (!clamps && !take("wrap")) malformed("needs .clamp or .wrap");
  const Type type = need_type();
  if (extends ? type != Type::u32 && type != Type::s32 : type != Type::b32)
    malformed("{} of .{}", statement_->opcode.front(), type_name(type));
  inst_.flags = static_cast<std::uint8_t>((is_signed(type) ? 1 : 0) | (clamps ? 2 : 0));
  binary_same(extends ? Opcode::szext : Opcode::bmsk, type, Class::integer_arithmetic);
}

// fns.b32 d, mask, base, offset.
void Decoder::fns() {
  if (need_type() != Type::b32) malformed("fns takes .b32");
  three_words(Opcode::fns);
}

// lop3.BoolOp.b32 d|p, a, b, c, table, q: p is whether d is not zero, combined with q.
void Decoder::lop3_predicate(BoolOp combine) {
  if (operand(0).kind != Operand::Kind::pair || combine == BoolOp::lxor) malformed("lop3 with a predicate is d|p");
  expect_operands(6, 6);
  key_.type = Type::b32;
  use(inst_.a, source(operand(1), Type::b32));
  use(inst_.b, source(operand(2), Type::b32));
  use(inst_.c, source(operand(3), Type::b32));
  const Operand& table = operand(4);
  if (table.kind != Operand::Kind::integer || table.value > 255) malformed("lop3 needs a table in 0..255");
  inst_.immediate = static_cast<std::int64_t>(table.value);
  bool negated = false;
  const Slot third = predicate(operand(5), &negated);
  check(third);
  inst_.dst = destination(operand(0).items[0], Type::b32);
  mark(inst_.dst);
  const Slot more[] = {destination(operand(0).items[1], Type::pred), third};
  inst_.operands = add_operands(more);
  inst_.flags = static_cast<std::uint8_t>(static_cast<std::uint8_t>(combine) | (negated ? kNegateThird : 0));
  finish(Opcode::lop3_predicate, Class::integer_arithmetic);
}

}  // namespace gdnjit::emulator

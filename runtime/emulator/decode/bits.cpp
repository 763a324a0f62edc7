#include "runtime/emulator/decode/decoder.h"
#include "runtime/emulator/semantics/integers.h"

namespace gdnjit::emulator {

// d, a.
void Decoder::unary_bits(Opcode op, Type type, Type result) {
  expect_operands(2, 2);
  key_.type = type;
  use(inst_.a, source(operand(1), type));
  inst_.dst = destination(operand(0), result);
  mark(inst_.dst);
  finish(op, is_float(type) ? Class::float_arithmetic : Class::integer_arithmetic);
}

void Decoder::logic() {
  static const std::unordered_map<std::string_view, Opcode> kOps{
      {"and", Opcode::and_}, {"or", Opcode::or_}, {"xor", Opcode::xor_}, {"not", Opcode::not_}, {"cnot", Opcode::cnot}};
  const Opcode op = kOps.at(statement_->opcode.front());
  const bool is_unary = op == Opcode::not_ || op == Opcode::cnot;
  const Type type = need_type();
  if (type != Type::pred) {
    if (!is_bits(type)) unsupported("logic on .{}", type_name(type));
    return is_unary ? unary_bits(op, type, type) : binary_same(op, type, Class::integer_arithmetic);
  }
  expect_operands(is_unary ? 2 : 3, is_unary ? 2 : 3);
  key_.type = type;
  bool negated = false;
  use(inst_.a, predicate(operand(1), &negated));
  if (negated) inst_.flags |= kNegateFirst;
  if (!is_unary) {
    use(inst_.b, predicate(operand(2), &negated));
    if (negated) inst_.flags |= kNegateSecond;
  }
  inst_.dst = destination(operand(0), Type::pred);
  mark(inst_.dst);
  finish(op, Class::control);
}

void Decoder::shift() {
  const bool left = statement_->opcode.front() == "shl";
  const Type type = need_type();
  if (left && !is_bits(type)) malformed("shl takes .b16, .b32 or .b64");
  expect_operands(3, 3);
  key_.type = type;
  use(inst_.a, source(operand(1), type));
  use(inst_.b, source(operand(2), Type::u32));
  inst_.dst = destination(operand(0), type);
  mark(inst_.dst);
  finish(left ? Opcode::shl : Opcode::shr, Class::integer_arithmetic);
}

void Decoder::funnel() {
  const bool left = take("l");
  if (!left && !take("r")) malformed("shf needs .l or .r");
  key_.sat = take("clamp");
  if (!key_.sat && !take("wrap")) malformed("shf needs .clamp or .wrap");
  const Type type = need_type();
  if (type != Type::b32) malformed("shf takes .b32");
  expect_operands(4, 4);
  key_.type = type;
  use(inst_.a, source(operand(1), type));
  use(inst_.b, source(operand(2), type));
  use(inst_.c, source(operand(3), type));
  inst_.dst = destination(operand(0), type);
  mark(inst_.dst);
  finish(left ? Opcode::shf_l : Opcode::shf_r, Class::integer_arithmetic);
}

void Decoder::lop3() {
  const Type type = need_type();
  if (type != Type::b32) malformed("lop3 takes .b32");
  if (take("and")) return lop3_predicate(BoolOp::land);
  if (take("or")) return lop3_predicate(BoolOp::lor);
  expect_operands(5, 5);
  key_.type = type;
  use(inst_.a, source(operand(1), type));
  use(inst_.b, source(operand(2), type));
  use(inst_.c, source(operand(3), type));
  const Operand& table = operand(4);
  if (table.kind != Operand::Kind::integer || table.value > 255) malformed("lop3 needs a table in 0..255");
  inst_.immediate = static_cast<std::int64_t>(table.value);
  inst_.dst = destination(operand(0), type);
  mark(inst_.dst);
  finish(Opcode::lop3, Class::integer_arithmetic);
}

void Decoder::prmt() {
  static constexpr std::pair<std::string_view, PermuteMode> kModes[] = {
      {"f4e", PermuteMode::f4e}, {"b4e", PermuteMode::b4e}, {"rc8", PermuteMode::rc8},
      {"ecl", PermuteMode::ecl}, {"ecr", PermuteMode::ecr}, {"rc16", PermuteMode::rc16}};
  const Type type = need_type();
  if (type != Type::b32) malformed("prmt takes .b32");
  PermuteMode mode = PermuteMode::bytes;
  for (const auto& [name, value] : kModes) {
    if (take(name)) mode = value;
  }
  inst_.flags = static_cast<std::uint8_t>(mode);
  expect_operands(4, 4);
  key_.type = type;
  use(inst_.a, source(operand(1), type));
  use(inst_.b, source(operand(2), type));
  use(inst_.c, source(operand(3), type));
  inst_.dst = destination(operand(0), type);
  mark(inst_.dst);
  finish(Opcode::prmt, Class::integer_arithmetic);
}

void Decoder::bfe() {
  const Type type = need_type();
  expect_operands(4, 4);
  key_.type = type;
  use(inst_.a, source(operand(1), type));
  use(inst_.b, source(operand(2), Type::u32));
  use(inst_.c, source(operand(3), Type::u32));
  inst_.dst = destination(operand(0), type);
  mark(inst_.dst);
  finish(Opcode::bfe, Class::integer_arithmetic);
}

void Decoder::bfi() {
  const Type type = need_type();
  if (type != Type::b32 && type != Type::b64) malformed("bfi takes .b32 or .b64");
  expect_operands(5, 5);
  key_.type = type;
  use(inst_.a, source(operand(1), type));
  use(inst_.b, source(operand(2), type));
  use(inst_.c, source(operand(3), Type::u32));
  const Slot length = source(operand(4), Type::u32);
  check(length);
  inst_.operands = add_operands(std::span(&length, 1));
  inst_.dst = destination(operand(0), type);
  mark(inst_.dst);
  finish(Opcode::bfi, Class::integer_arithmetic);
}

void Decoder::bfind() {
  inst_.flags = take("shiftamt") ? 1 : 0;
  unary_bits(Opcode::bfind, need_type(), Type::u32);
}

void Decoder::count_bits() {
  static const std::unordered_map<std::string_view, Opcode> kOps{
      {"clz", Opcode::clz}, {"popc", Opcode::popc}, {"brev", Opcode::brev}};
  const Opcode op = kOps.at(statement_->opcode.front());
  const Type type = need_type();
  if (type != Type::b32 && type != Type::b64) malformed("takes .b32 or .b64");
  unary_bits(op, type, op == Opcode::brev ? type : Type::u32);
}

// The comparison operator, the combining operator and the compared type of setp and set.
void Decoder::comparison(Type& compared, bool& combined) {
  static constexpr std::pair<std::string_view, Compare> kCompares[] = {
      {"eq", Compare::eq},   {"ne", Compare::ne},   {"lt", Compare::lt},   {"le", Compare::le},   {"gt", Compare::gt},
      {"ge", Compare::ge},   {"lo", Compare::lt},   {"ls", Compare::le},   {"hi", Compare::gt},   {"hs", Compare::ge},
      {"equ", Compare::equ}, {"neu", Compare::neu}, {"ltu", Compare::ltu}, {"leu", Compare::leu}, {"gtu", Compare::gtu},
      {"geu", Compare::geu}, {"num", Compare::num}, {"nan", Compare::nan}};
  bool found = false;
  for (const auto& [name, value] : kCompares) {
    if (!found && take(name)) {
      key_.compare = value;
      found = true;
      if ((name == "lo" || name == "ls" || name == "hi" || name == "hs") && is_signed(compared))
        malformed("'.{}' compares unsigned values", name);
    }
  }
  if (!found) malformed("no comparison operator");
  BoolOp combine = BoolOp::none;
  if (take("and")) combine = BoolOp::land;
  if (take("or")) combine = BoolOp::lor;
  if (take("xor")) combine = BoolOp::lxor;
  inst_.flags |= static_cast<std::uint8_t>(combine);
  combined = combine != BoolOp::none;
  key_.ftz = take("ftz");
  key_.source = compared;
}

void Decoder::setp() {
  Type compared = need_type();
  bool combined = false;
  comparison(compared, combined);
  expect_operands(combined ? 4 : 3, combined ? 4 : 3);
  use(inst_.a, source(operand(1), compared));
  use(inst_.b, source(operand(2), compared));
  if (combined) {
    bool negated = false;
    use(inst_.c, predicate(operand(3), &negated));
    if (negated) inst_.flags |= kNegateThird;
  }
  const Operand& result = operand(0);
  const bool halves = compared == Type::f16x2 || compared == Type::bf16x2;
  if (result.kind == Operand::Kind::pair) {
    if (!halves && (compared == Type::f16 || compared == Type::bf16))
      malformed("one comparison of 16-bit values gives one predicate");
    inst_.dst = destination(result.items[0], Type::pred);
    const Slot second = destination(result.items[1], Type::pred);
    inst_.count = 2;
    inst_.operands = add_operands(std::span(&second, 1));
  } else {
    inst_.dst = destination(result, Type::pred);
  }
  mark(inst_.dst);
  key_.type = Type::pred;
  finish(Opcode::setp, Class::control);
}

// What set writes for true: 1.0 or all ones; for pairs, to each half. PTX defines these combinations only.
std::int64_t Decoder::truth_of_set(Type result, Type compared) const {
  const bool halves = compared == Type::f16x2 || compared == Type::bf16x2;
  const bool is_16 = compared == Type::f16 || compared == Type::bf16;
  switch (result) {
    case Type::u32:
    case Type::s32: return halves ? 0xffff : 0xffffffff;
    case Type::f32:
      if (halves || is_16) break;
      return 0x3f800000;
    case Type::u16:
    case Type::s16:
      if (!is_16) break;
      return 0xffff;
    case Type::f16:
      if (halves) break;
      return 0x3c00;
    case Type::bf16:
      if (halves) break;
      return 0x3f80;
    case Type::f16x2:
      if (compared != Type::f16x2) break;
      return 0x3c00;
    case Type::bf16x2:
      if (compared != Type::bf16x2) break;
      return 0x3f80;
    default: break;
  }
  unsupported("set from .{} into .{}", type_name(compared), type_name(result));
}

void Decoder::set() {
  const Type result = need_type();
  Type compared = need_type();
  inst_.immediate = truth_of_set(result, compared);
  bool combined = false;
  comparison(compared, combined);
  expect_operands(combined ? 4 : 3, combined ? 4 : 3);
  use(inst_.a, source(operand(1), compared));
  use(inst_.b, source(operand(2), compared));
  if (combined) {
    bool negated = false;
    use(inst_.c, predicate(operand(3), &negated));
    if (negated) inst_.flags |= kNegateThird;
  }
  inst_.dst = destination(operand(0), result);
  mark(inst_.dst);
  key_.type = result;
  finish(Opcode::set, Class::integer_arithmetic);
}

void Decoder::selp() {
  const Type type = need_type();
  expect_operands(4, 4);
  key_.type = type;
  inst_.a = source(operand(1), type);
  inst_.b = source(operand(2), type);
  bool negated = false;
  use(inst_.c, predicate(operand(3), &negated));
  if (negated) inst_.flags |= kNegateThird;
  inst_.dst = destination(operand(0), type);
  finish(Opcode::selp, Class::integer_arithmetic);
}

void Decoder::slct() {
  const Type type = need_type();
  const Type selector = need_type();
  if (type_bytes(type) > 8) malformed("slct of .{}", type_name(type));
  if (selector != Type::s32 && selector != Type::f32) malformed("slct selects by .s32 or .f32");
  key_.ftz = take("ftz");
  expect_operands(4, 4);
  key_.type = type;
  key_.source = selector;
  use(inst_.a, source(operand(1), type));
  use(inst_.b, source(operand(2), type));
  use(inst_.c, source(operand(3), selector));
  inst_.dst = destination(operand(0), type);
  mark(inst_.dst);
  finish(Opcode::slct, Class::integer_arithmetic);
}

void Decoder::testp() {
  static constexpr std::string_view kTests[] = {"finite", "infinite", "number", "notanumber", "normal", "subnormal"};
  const Type type = need_type();
  if (type != Type::f32 && type != Type::f64) malformed("testp takes .f32 or .f64");
  bool found = false;
  for (std::uint8_t test = 0; test < 6; ++test) {
    if (take(kTests[test])) {
      inst_.flags = test;
      found = true;
    }
  }
  if (!found) malformed("no test named");
  expect_operands(2, 2);
  key_.type = type;
  use(inst_.a, source(operand(1), type));
  inst_.dst = destination(operand(0), Type::pred);
  mark(inst_.dst);
  finish(Opcode::testp, Class::control);
}

}  // namespace gdnjit::emulator

#include "runtime/emulator/decode/decoder.h"

namespace gdnjit::emulator {
namespace {

Class arithmetic_class(Type type) { return is_float(type) ? Class::float_arithmetic : Class::integer_arithmetic; }

}  // namespace

// d, a, b of one type.
void Decoder::binary_same(Opcode op, Type type, Class counted) {
  expect_operands(3, 3);
  key_.type = type;
  use(inst_.a, source(operand(1), type));
  use(inst_.b, source(operand(2), type));
  inst_.dst = destination(operand(0), type);
  mark(inst_.dst);
  finish(op, counted);
}

void Decoder::add_sub() {
  const bool is_add = statement_->opcode.front() == "add";
  const Opcode op = is_add ? Opcode::add : Opcode::sub;
  const Type type = need_type();
  if (take("cc")) return carry_arithmetic(is_add ? Opcode::add_carry : Opcode::sub_carry, type, false, true);
  key_.round = take_round();
  key_.ftz = take("ftz");
  key_.sat = take("sat");
  if (const auto narrow = take_type()) return mixed(op, type, *narrow);
  binary_same(op, type, arithmetic_class(type));
}

// add.f32.f16 d, a, c and fma.rn.f32.f16 d, a, b, c: f32 arithmetic on 16-bit factors.
void Decoder::mixed(Opcode op, Type type, Type narrow) {
  if (type != Type::f32 || (narrow != Type::f16 && narrow != Type::bf16) || key_.ftz)
    unsupported("arithmetic on .{} and .{}", type_name(type), type_name(narrow));
  const bool is_fma = op == Opcode::fma;
  expect_operands(is_fma ? 4 : 3, is_fma ? 4 : 3);
  key_.type = type;
  key_.source = narrow;
  use(inst_.a, source(operand(1), narrow));
  if (is_fma) use(inst_.b, source(operand(2), narrow));
  use(inst_.c, source(operand(is_fma ? 3 : 2), type));
  inst_.dst = destination(operand(0), type);
  mark(inst_.dst);
  inst_.flags = static_cast<std::uint8_t>(key_.round);
  finish(op, Class::float_arithmetic);
}

void Decoder::mul() {
  const Type type = need_type();
  if (is_float(type)) {
    key_.round = take_round();
    key_.ftz = take("ftz");
    key_.sat = take("sat");
    return binary_same(Opcode::mul, type, Class::float_arithmetic);
  }
  if (take("wide")) {
    expect_operands(3, 3);
    key_.type = type;
    use(inst_.a, source(operand(1), type));
    use(inst_.b, source(operand(2), type));
    if (type_bytes(type) == 8) unsupported("mul.wide of 64-bit values");
    inst_.dst = destination(operand(0), type_bytes(type) == 4 ? Type::b64 : Type::b32);
    mark(inst_.dst);
    return finish(Opcode::mul_wide, Class::integer_arithmetic);
  }
  if (take("hi")) return binary_same(Opcode::mul_hi, type, Class::integer_arithmetic);
  if (!take("lo")) malformed("mul of integers needs .lo, .hi or .wide");
  binary_same(Opcode::mul, type, Class::integer_arithmetic);
}

void Decoder::mad() {
  const Type type = need_type();
  if (is_float(type)) {
    key_.type = type;
    return fma();
  }
  if (take("cc")) {
    const bool high = take("hi");
    if (!high && !take("lo")) malformed("mad.cc needs .lo or .hi");
    return carry_arithmetic(high ? Opcode::mad_hi_carry : Opcode::mad_carry, type, false, true);
  }
  Opcode op = Opcode::mad;
  Type result = type;
  if (take("wide")) {
    if (type_bytes(type) == 8) unsupported("mad.wide of 64-bit values");
    op = Opcode::mad_wide;
    result = type_bytes(type) == 4 ? Type::b64 : Type::b32;
  } else if (take("hi")) {
    op = Opcode::mad_hi;
    key_.sat = take("sat");
  } else if (!take("lo")) {
    malformed("mad of integers needs .lo, .hi or .wide");
  }
  expect_operands(4, 4);
  key_.type = type;
  use(inst_.a, source(operand(1), type));
  use(inst_.b, source(operand(2), type));
  use(inst_.c, source(operand(3), result));
  inst_.dst = destination(operand(0), result);
  mark(inst_.dst);
  finish(op, Class::integer_arithmetic);
}

// fma, and mad of floating-point types, which has been fma since sm_20.
void Decoder::fma() {
  const Type type = key_.type == Type::none ? need_type() : key_.type;
  key_.type = type;
  key_.round = take_round();
  if (key_.round == Round::none) malformed("a rounding mode is needed");
  key_.ftz = take("ftz");
  key_.sat = take("sat");
  key_.relu = take("relu");
  if (const auto narrow = take_type()) return mixed(Opcode::fma, type, *narrow);
  expect_operands(4, 4);
  use(inst_.a, source(operand(1), type));
  use(inst_.b, source(operand(2), type));
  use(inst_.c, source(operand(3), type));
  inst_.dst = destination(operand(0), type);
  mark(inst_.dst);
  finish(Opcode::fma, Class::float_arithmetic);
}

void Decoder::div() {
  const Type type = need_type();
  if (!is_float(type)) return binary_same(Opcode::div, type, Class::integer_arithmetic);
  Opcode op = Opcode::div;
  if (take("approx")) {
    op = Opcode::div_approx;
  } else if (take("full")) {
    op = Opcode::div_full;
  } else {
    key_.round = take_round();
    if (key_.round == Round::none) malformed("a rounding mode, .approx or .full is needed");
  }
  key_.ftz = take("ftz");
  binary_same(op, type, Class::float_arithmetic);
}

void Decoder::rem() { binary_same(Opcode::rem, need_type(), Class::integer_arithmetic); }

void Decoder::min_max() {
  const bool is_min = statement_->opcode.front() == "min";
  const Type type = need_type();
  key_.ftz = take("ftz");
  key_.nan = take("NaN");
  key_.relu = take("relu");
  if (!is_float(type) && (key_.ftz || key_.nan)) unsupported("integer min and max have no such modifier");
  const bool three = operand_count() == 4;
  if (take("xorsign")) {
    if (!take("abs") || three) malformed("'.xorsign' belongs to '.abs' of two operands");
    key_.variant = kXorSign;
  } else if (three && take("abs")) {
    key_.variant = kAbsolute;
  }
  if (three) return min_max_3(is_min ? Opcode::min3 : Opcode::max3, type);
  binary_same(is_min ? Opcode::min : Opcode::max, type, arithmetic_class(type));
}

void Decoder::min_max_3(Opcode op, Type type) {
  if (type != Type::f32) malformed("three operands only for .f32");
  key_.type = type;
  use(inst_.a, source(operand(1), type));
  use(inst_.b, source(operand(2), type));
  use(inst_.c, source(operand(3), type));
  inst_.dst = destination(operand(0), type);
  mark(inst_.dst);
  finish(op, Class::float_arithmetic);
}

void Decoder::abs_neg() {
  const Opcode op = statement_->opcode.front() == "abs" ? Opcode::abs : Opcode::neg;
  const Type type = need_type();
  key_.ftz = take("ftz");
  unary_bits(op, type, type);
}

void Decoder::copysign() { binary_same(Opcode::copysign, need_type(), Class::float_arithmetic); }

void Decoder::square_root() { rounded_or_approximate(Opcode::sqrt, Opcode::sqrt_approx); }

void Decoder::reciprocal() { rounded_or_approximate(Opcode::rcp, Opcode::rcp_approx); }

void Decoder::rounded_or_approximate(Opcode rounded, Opcode approximation) {
  const Type type = need_type();
  const bool approximate = take("approx");
  if (!approximate) {
    key_.round = take_round();
    if (key_.round == Round::none) malformed("a rounding mode or .approx is needed");
  }
  key_.ftz = take("ftz");
  key_.type = type;
  expect_operands(2, 2);
  use(inst_.a, source(operand(1), type));
  inst_.dst = destination(operand(0), type);
  mark(inst_.dst);
  finish(approximate ? approximation : rounded, Class::special_function);
}

void Decoder::rsqrt() { approximate(); }

// f(a) that exists only as .approx.
void Decoder::approximate() {
  static const std::unordered_map<std::string_view, Opcode> kOps{{"rsqrt", Opcode::rsqrt_approx},
                                                                 {"ex2", Opcode::ex2},
                                                                 {"lg2", Opcode::lg2},
                                                                 {"sin", Opcode::sin},
                                                                 {"cos", Opcode::cos},
                                                                 {"tanh", Opcode::tanh}};
  const Type type = need_type();
  if (!take("approx")) malformed("'.approx' is needed");
  key_.ftz = take("ftz");
  key_.type = type;
  expect_operands(2, 2);
  use(inst_.a, source(operand(1), type));
  inst_.dst = destination(operand(0), type);
  mark(inst_.dst);
  finish(kOps.at(statement_->opcode.front()), Class::special_function);
}

void Decoder::sad() {
  const Type type = need_type();
  key_.type = type;
  expect_operands(4, 4);
  use(inst_.a, source(operand(1), type));
  use(inst_.b, source(operand(2), type));
  use(inst_.c, source(operand(3), type));
  inst_.dst = destination(operand(0), type);
  mark(inst_.dst);
  finish(Opcode::sad, Class::integer_arithmetic);
}

}  // namespace gdnjit::emulator

// Movement: mov, cvta, ld, st.
#include "runtime/emulator/decode/decoder.h"

namespace gdnjit::emulator {

void Decoder::mov() {
  expect_operands(2, 2);
  if (operand(1).kind == Operand::Kind::vector) return pack();
  if (operand(0).kind == Operand::Kind::vector) return unpack();
  const Type type = need_type();
  key_.type = type;
  if (type == Type::pred) {
    bool negated = false;
    inst_.a = predicate(operand(1), &negated);
    if (negated) inst_.flags |= kNegateFirst;
  } else {
    const Operand& value = operand(1);
    if (value.kind == Operand::Kind::symbol &&
        (value.name == "%clock" || value.name == "%clock64" || value.name == "%clock_hi" ||
         value.name == "%globaltimer" || value.name == "%globaltimer_lo" || value.name == "%globaltimer_hi")) {
      inst_.flags = value.name.ends_with("_hi") ? 1 : 0;
      inst_.dst = destination(operand(0), type);
      mark(inst_.dst);
      return finish(Opcode::clock, Class::data_movement);
    }
    if (value.kind == Operand::Kind::symbol) {
      if (const auto offset = frame_offset(value.name)) return frame_address(*offset + value.value, type);
    }
    inst_.a = source_any(value, type_bytes(type));
  }
  inst_.dst = destination(operand(0), type);
  finish(Opcode::mov, Class::data_movement);
}

// mov.b32 d, {a, b}.
void Decoder::pack() {
  const Type type = need_type();
  key_.type = type;
  const std::vector<Operand>& parts = operand(1).items;
  const int count = static_cast<int>(parts.size());
  if (type == Type::b128
          ? count != 2
          : (count != 2 && count != 4) || type_bytes(type) % count != 0 || type_bytes(type) / count > 4) {
    unsupported("packing {} values into .{}", count, type_name(type));
  }
  const int width = type_bytes(type) / count;
  std::vector<Slot> slots;
  for (const Operand& part : parts) slots.push_back(source_any(part, width));
  inst_.operands = add_operands(slots);
  inst_.count = static_cast<std::uint8_t>(count);
  inst_.flags = static_cast<std::uint8_t>(width);
  inst_.dst = destination(operand(0), type);
  finish(Opcode::pack, Class::data_movement);
}

// mov.b32 {a, b}, d.
void Decoder::unpack() {
  const Type type = need_type();
  key_.type = type;
  const std::vector<Operand>& parts = operand(0).items;
  const int count = static_cast<int>(parts.size());
  if (type == Type::b128
          ? count != 2
          : (count != 2 && count != 4) || type_bytes(type) % count != 0 || type_bytes(type) / count > 4) {
    unsupported("unpacking .{} into {} values", type_name(type), count);
  }
  const int width = type_bytes(type) / count;
  std::vector<Slot> slots;
  for (const Operand& part : parts)
    slots.push_back(destination(part, width == 8   ? Type::b64
                                      : width == 4 ? Type::b32
                                      : width == 2 ? Type::b16
                                                   : Type::b8));
  inst_.a = source_any(operand(1), type_bytes(type));
  inst_.operands = add_operands(slots);
  inst_.count = static_cast<std::uint8_t>(count);
  inst_.flags = static_cast<std::uint8_t>(width);
  finish(Opcode::unpack, Class::data_movement);
}

void Decoder::cvta() {
  const bool from_generic = take("to");
  const Space space = take_space();
  const Type type = need_type();
  if (space == Space::generic) malformed("cvta needs a state space");
  expect_operands(2, 2);
  inst_.flags = static_cast<std::uint8_t>(space);
  const int bytes = type_bytes(type);
  if (bytes != 4 && bytes != 8) malformed("cvta takes .u32 or .u64");
  use(inst_.a, source_any(operand(1), bytes));
  inst_.dst = destination(operand(0), type);
  mark(inst_.dst);
  key_.type = type;
  key_.wide_address = bytes == 8;
  key_.wide_register = bytes == 8;
  finish(from_generic ? Opcode::cvta_from_generic : Opcode::cvta_to_generic, Class::integer_arithmetic);
}

void Decoder::isspacep() {
  const Space space = take_space();
  if (space == Space::generic || space == Space::constant) unsupported("isspacep of this state space");
  inst_.flags = static_cast<std::uint8_t>(space);
  expect_operands(2, 2);
  use(inst_.a, source_any(operand(1), 8));
  inst_.dst = destination(operand(0), Type::pred);
  mark(inst_.dst);
  finish(Opcode::isspacep, Class::control);
}

namespace {

Class access_class(Space space, bool is_load) {
  switch (space) {
    case Space::cluster:
    case Space::shared: return is_load ? Class::shared_load : Class::shared_store;
    case Space::local: return Class::local;
    case Space::param: return Class::data_movement;
    default: return is_load ? Class::global_load : Class::global_store;
  }
}

}  // namespace

void Decoder::ld() {
  take_ordering();
  const Space space = take_space();
  take_cache_hints();
  const int count = take("v2") ? 2 : take("v4") ? 4 : take("v8") ? 8 : 1;
  const Type type = need_type();
  const std::size_t policy = take_policy();
  expect_operands(2 + policy, 2 + policy);
  if (type == Type::b128 && count == 1) return move_128(Opcode::ld_128, space);
  if (type_bytes(type) == 0) malformed("ld of .{}", type_name(type));
  if (count * type_bytes(type) > (space == Space::global ? 32 : 16)) malformed("an access of more than 16 bytes");
  std::vector<Operand> single{operand(0)};
  const bool is_vector = operand(0).kind == Operand::Kind::vector;
  if (is_vector != (count > 1)) malformed("the destination does not have {} elements", count);
  const std::vector<Operand>& targets = is_vector ? operand(0).items : single;
  if (static_cast<int>(targets.size()) != count) malformed("the destination does not have {} elements", count);
  std::vector<Slot> slots;
  int register_width = 0;
  for (const Operand& target : targets) {
    if (target.kind == Operand::Kind::sink) {
      slots.push_back(scratch(Type::b64));
      continue;
    }
    if (target.kind != Operand::Kind::reg) malformed("ld needs registers");
    const int bytes = register_bytes(target);
    if (type_bytes(kernel_.registers[target.reg].type) < type_bytes(type))
      malformed("the register '{}' is too small", target.name);
    if (register_width != 0 && register_width != bytes) unsupported("registers of different sizes in one vector");
    register_width = bytes;
    slots.push_back(register_slot(target.reg));
  }
  key_.wide_register = register_width == 8;
  key_.type = type;
  key_.space = space;
  address(operand(1), space);
  inst_.count = static_cast<std::uint8_t>(count);
  inst_.dst = slots.front();
  if (count > 1) inst_.operands = add_operands(slots);
  finish(Opcode::ld, access_class(space, true));
}

// ld and st of one 128-bit register.
void Decoder::move_128(Opcode op, Space space) {
  const bool is_load = op == Opcode::ld_128;
  key_.type = Type::b128;
  key_.space = space;
  address(operand(is_load ? 1 : 0), space);
  if (is_load) {
    inst_.dst = destination(operand(0), Type::b128);
    mark(inst_.dst);
  } else {
    if (key_.space == Space::param) malformed("nothing can be stored there");
    use(inst_.b, source_any(operand(1), 16));
  }
  inst_.target = key_.wide_address ? 1 : 0;
  finish(op, access_class(space, is_load));
}

void Decoder::st() {
  take_ordering();
  const Space space = take_space();
  take_cache_hints();
  const int count = take("v2") ? 2 : take("v4") ? 4 : take("v8") ? 8 : 1;
  const Type type = need_type();
  const std::size_t policy = take_policy();
  expect_operands(2 + policy, 2 + policy);
  if (space == Space::constant) malformed("nothing can be stored there");
  if (type == Type::b128 && count == 1) return move_128(Opcode::st_128, space);
  if (type_bytes(type) == 0) malformed("st of .{}", type_name(type));
  if (count * type_bytes(type) > (space == Space::global ? 32 : 16)) malformed("an access of more than 16 bytes");
  const bool is_vector = operand(1).kind == Operand::Kind::vector;
  if (is_vector != (count > 1)) malformed("the source does not have {} elements", count);
  std::vector<Operand> single{operand(1)};
  const std::vector<Operand>& sources = is_vector ? operand(1).items : single;
  if (static_cast<int>(sources.size()) != count) malformed("the source does not have {} elements", count);
  int register_width = 0;
  for (const Operand& value : sources) {
    if (value.kind != Operand::Kind::reg) continue;
    const int bytes = register_bytes(value);
    if (type_bytes(kernel_.registers[value.reg].type) < type_bytes(type))
      malformed("the register '{}' is too small", value.name);
    if (register_width != 0 && register_width != bytes) unsupported("registers of different sizes in one vector");
    register_width = bytes;
  }
  if (register_width == 0) register_width = type_bytes(type) == 8 ? 8 : 4;
  std::vector<Slot> slots;
  for (const Operand& value : sources) {
    slots.push_back(value.kind == Operand::Kind::reg ? register_slot(value.reg) : source_any(value, register_width));
  }
  key_.wide_register = register_width == 8;
  key_.type = type;
  key_.space = space;
  address(operand(0), space);
  if (key_.space == Space::param) malformed("nothing can be stored there");
  inst_.count = static_cast<std::uint8_t>(count);
  inst_.b = slots.front();
  if (count > 1) inst_.operands = add_operands(slots);
  finish(Opcode::st, access_class(space, false));
}

// A prefetch never faults on a GPU, so its address is not checked either.
void Decoder::prefetch() {
  if (take("tensormap")) return prefetch_tensormap();
  take_space();
  for (const char* level : {"L1", "L2", "L2::evict_last", "L2::evict_normal"}) take(level);
  expect_operands(1, 1);
  address(operand(0), Space::generic);
  inst_.checked[0] = kConstantId;
  finish(Opcode::prefetch, Class::other);
}

}  // namespace gdnjit::emulator

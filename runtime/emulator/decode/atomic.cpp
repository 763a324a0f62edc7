// atom, red, and what tells caches how to treat memory.
#include "runtime/emulator/decode/decoder.h"

namespace gdnjit::emulator {
namespace {

Class atomic_class(Space space) {
  return space == Space::shared || space == Space::cluster ? Class::shared_store : Class::global_store;
}

bool is_16(Type type) { return type == Type::f16 || type == Type::bf16 || type == Type::f16x2 || type == Type::bf16x2; }

}  // namespace

// The policy behind the operands of an instruction with .L2::cache_hint: a hint, which changes nothing here. Returns
// how many operands it is.
std::size_t Decoder::take_policy() {
  if (!take("L2::cache_hint")) return 0;
  if (operand_count() == 0) malformed("too few operands");
  check(source_any(operand(operand_count() - 1), 8));
  return 1;
}

AtomicOp Decoder::take_atomic_op() {
  static constexpr std::pair<std::string_view, AtomicOp> kOps[] = {
      {"add", AtomicOp::add}, {"min", AtomicOp::min},  {"max", AtomicOp::max},   {"and", AtomicOp::and_},
      {"or", AtomicOp::or_},  {"xor", AtomicOp::xor_}, {"exch", AtomicOp::exch}, {"cas", AtomicOp::cas},
      {"inc", AtomicOp::inc}, {"dec", AtomicOp::dec}};
  for (const auto& [name, value] : kOps) {
    if (take(name)) return value;
  }
  unsupported("no atomic operation that the emulator knows");
}

void Decoder::atom() {
  const bool returns = statement_->opcode.front() == "atom";
  take_ordering();
  if (inst_.order == Order::weak) inst_.order = Order::relaxed;
  const Space space = take_space();
  key_.atomic = take_atomic_op();
  const bool noftz = take("noftz");
  const int elements = take("v2") ? 2 : take("v4") ? 4 : take("v8") ? 8 : 1;
  const Type type = need_type();
  key_.type = type;
  key_.space = space;
  if (noftz != is_16(type)) malformed("'.noftz' belongs to operations on 16-bit floats");
  const std::size_t policy = key_.atomic == AtomicOp::cas ? 0 : take_policy();
  const std::size_t first = returns ? 1 : 0;
  const bool compares = key_.atomic == AtomicOp::cas;
  const std::size_t count = first + (compares ? 3 : 2) + policy;
  expect_operands(count, count);
  if (space == Space::local || space == Space::param || space == Space::constant)
    malformed("atomics of this state space");
  address(operand(first), space);
  if (elements > 1 || is_16(type)) return atom_vector(elements, returns);
  use(inst_.b, source_any(operand(first + 1), type_bytes(type)));
  if (compares) use(inst_.c, source_any(operand(first + 2), type_bytes(type)));
  if (returns && operand(0).kind != Operand::Kind::sink) {
    inst_.dst = destination(operand(0), type);
    mark(inst_.dst);
    inst_.flags = 1;
  }
  if (type == Type::b128 || type == Type::b16) {
    if (type == Type::b128 && !compares && key_.atomic != AtomicOp::exch)
      unsupported("this atomic operation of 128 bits");
    inst_.target = key_.wide_address ? 1 : 0;
    inst_.count = compares ? 2 : 1;
    return finish(type == Type::b128 ? Opcode::atom_128 : Opcode::atom_vector, atomic_class(space));
  }
  inst_.count = key_.wide_address ? 1 : 0;
  finish(Opcode::atom, atomic_class(space));
}

// {d0, d1}, [a], {b0, b1}; one element without braces.
void Decoder::atom_vector(int elements, bool returns) {
  const Type type = key_.type;
  const int largest = type_bytes(type) == 2 ? 8 : 4;
  const bool known = elements > 1 ? is_16(type) || type == Type::f32 : key_.atomic == AtomicOp::add;
  if (!known || elements > largest) unsupported("atomics of {} elements of .{}", elements, type_name(type));
  if (elements > 1 && key_.space != Space::global && key_.space != Space::generic)
    malformed("vectors are updated in .global only");
  const auto items = [&](const Operand& operand) -> std::vector<Operand> {
    if (elements == 1) return {operand};
    if (operand.kind != Operand::Kind::vector || static_cast<int>(operand.items.size()) != elements)
      malformed("{} elements are needed", elements);
    return operand.items;
  };
  std::vector<Slot> slots(static_cast<std::size_t>(elements));
  const bool wanted = returns && operand(0).kind != Operand::Kind::sink;
  if (wanted) {
    std::size_t index = 0;
    for (const Operand& item : items(operand(0))) slots[index++] = destination(item, type);
  }
  for (const Operand& item : items(operand(returns ? 2 : 1))) slots.push_back(source_any(item, type_bytes(type)));
  inst_.operands = add_operands(slots);
  inst_.count = static_cast<std::uint8_t>(elements);
  inst_.flags = wanted ? 1 : 0;
  inst_.target = key_.wide_address ? 1 : 0;
  finish(Opcode::atom_vector, atomic_class(key_.space));
}

// createpolicy: policies are hints, and all alike here.
void Decoder::create_policy() {
  const bool by_range = take("range");
  const bool from_property = take("cvt");
  if (!by_range && !from_property && !take("fractional")) malformed("needs .fractional, .range or .cvt");
  if (from_property && !take("L2")) malformed("createpolicy.cvt needs .L2");
  if (by_range) take("global");
  for (int level = 0; level < 2; ++level) {
    for (const char* priority : {"L2::evict_last", "L2::evict_normal", "L2::evict_first", "L2::evict_unchanged"}) {
      if (!from_property && take(priority)) break;
    }
  }
  if (need_type() != Type::b64) malformed("a policy is .b64");
  expect_operands(by_range ? 4 : from_property ? 2 : 1, by_range ? 4 : 2);
  if (by_range) {
    if (operand(1).kind != Operand::Kind::address) malformed("an address in brackets is needed");
    check(source_any(operand(2), 4));
    check(source_any(operand(3), 4));
  } else if (from_property) {
    check(source_any(operand(1), 8));
  } else if (operand_count() == 2) {
    check(source_any(operand(1), 4));
  }
  inst_.a = constant(0, true);
  inst_.dst = destination(operand(0), Type::b64);
  key_.type = Type::b64;
  finish(Opcode::mov, Class::other);
}

// applypriority and discard [a], 128. What is discarded stays readable here.
void Decoder::cache_control() {
  take("global");
  const bool discards = statement_->opcode.front() == "discard";
  if (!take(discards ? "L2" : "L2::evict_normal")) malformed("the cache level is missing");
  expect_operands(2, 2);
  if (operand(1).kind != Operand::Kind::integer || operand(1).value != 128) malformed("the size is 128");
  address(operand(0), Space::generic);
  finish(Opcode::prefetch, Class::other);
}

}  // namespace gdnjit::emulator

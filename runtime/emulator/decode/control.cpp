// Branches, barriers and the exchange among lanes.
#include "runtime/emulator/decode/decoder.h"

namespace gdnjit::emulator {

void Decoder::bra() {
  take("uni");
  expect_operands(1, 1);
  if (operand(0).kind != Operand::Kind::symbol) malformed("bra needs a label");
  inst_.target = branch_target(operand(0).name, statement_->scope);
  finish(Opcode::bra, Class::control);
}

// brx.idx index, table.
void Decoder::brx() {
  if (!take("idx")) malformed("brx needs .idx");
  take("uni");
  expect_operands(2, 2);
  use(inst_.a, source(operand(0), Type::u32));
  const BranchTargets* table = nullptr;
  for (const BranchTargets& candidate : kernel_.branch_targets) {
    if (candidate.name == operand(1).name) table = &candidate;
  }
  if (operand(1).kind != Operand::Kind::symbol || table == nullptr) malformed("brx needs a list of .branchtargets");
  inst_.target = static_cast<std::uint32_t>(program_.targets.size());
  inst_.target_count = static_cast<std::uint32_t>(table->targets.size());
  for (const std::string_view label : table->targets) program_.targets.push_back(branch_target(label, table->scope));
  finish(Opcode::brx, Class::control);
}

void Decoder::ret() {
  take("uni");
  expect_operands(0, 0);
  inst_.target = function_;
  const bool returns = function_ != 0 && statement_->opcode.front() == "ret";
  finish(returns ? Opcode::ret : Opcode::exit, Class::control);
}

// A signal to a profiler.
void Decoder::pmevent() {
  take("mask");
  expect_operands(1, 1);
  if (operand(0).kind != Operand::Kind::integer) malformed("pmevent needs a number");
  finish(Opcode::nop, Class::control);
}

void Decoder::trap() {
  expect_operands(0, 0);
  finish(Opcode::trap, Class::control);
}

// bar{.cta}.sync a{, b}; bar.arrive a, b; bar.red.op d, a{, b}, p; bar.warp.sync mask.
void Decoder::barrier() {
  if (take("warp")) {
    if (!take("sync")) malformed("bar.warp needs .sync");
    expect_operands(1, 1);
    use(inst_.a, source(operand(0), Type::b32));
    return finish(Opcode::warp_sync, Class::control);
  }
  if (take("cluster")) return cluster_barrier();
  take("cta");
  take("aligned");
  const bool arrives = take("arrive");
  const bool reduces = take("red");
  if (!arrives && !reduces && !take("sync")) malformed("needs .sync, .arrive or .red");
  // barrier.sync without .aligned may be reached by part of a warp; here the whole warp must arrive, as in all our
  // kernels.
  std::size_t number = 0;
  std::size_t last = operand_count();
  if (reduces) {
    inst_.flags |= kBarrierReduces;
    inst_.count = take("popc") ? kReducePopc : take("and") ? kReduceAnd : take("or") ? kReduceOr : 0;
    if (inst_.count == 0) malformed("bar.red needs .popc, .and or .or");
    const Type result = need_type();
    if ((inst_.count == kReducePopc) != (result == Type::u32) || (result != Type::u32 && result != Type::pred))
      malformed("bar.red into .{}", type_name(result));
    expect_operands(3, 4);
    inst_.dst = destination(operand(0), result);
    bool negated = false;
    use(inst_.c, predicate(operand(operand_count() - 1), &negated));
    if (negated) inst_.flags |= kNegateThird;
    number = 1;
    --last;
  } else {
    expect_operands(arrives ? 2 : 1, 2);
  }
  use(inst_.a, source(operand(number), Type::u32));
  if (number + 1 < last) {
    use(inst_.b, source(operand(number + 1), Type::u32));
    inst_.flags |= kBarrierCounts;
  }
  finish(arrives ? Opcode::barrier_arrive : reduces ? Opcode::barrier_red : Opcode::barrier_sync, Class::control);
}

// shfl.sync.mode.b32 d|p, a, b, c, members. An unwritten value may be passed on, as by mov.
void Decoder::shfl() {
  if (!take("sync")) unsupported("shfl without .sync does not exist since sm_70");
  const bool up = take("up");
  const bool down = take("down");
  const bool bfly = take("bfly");
  const bool idx = take("idx");
  if (up + down + bfly + idx != 1) malformed("shfl needs one of .up, .down, .bfly, .idx");
  key_.variant = static_cast<std::uint8_t>(up     ? ShuffleMode::up
                                           : down ? ShuffleMode::down
                                           : bfly ? ShuffleMode::bfly
                                                  : ShuffleMode::idx);
  const Type type = need_type();
  if (type != Type::b32) malformed("shfl takes .b32");
  key_.type = type;
  expect_operands(5, 5);
  Slot predicate_slot;
  const Operand& result = operand(0);
  if (result.kind == Operand::Kind::pair) {
    inst_.dst = destination(result.items[0], type);
    if (result.items[1].kind != Operand::Kind::sink) predicate_slot = destination(result.items[1], Type::pred);
  } else {
    inst_.dst = destination(result, type);
  }
  inst_.a = source(operand(1), type);
  use(inst_.b, source(operand(2), type));
  use(inst_.c, source(operand(3), type));
  const Slot members = source(operand(4), Type::b32);
  check(members);
  const Slot more[] = {predicate_slot, members};
  inst_.operands = add_operands(more);
  finish(Opcode::shfl, Class::shuffle);
}

void Decoder::vote() {
  if (!take("sync")) unsupported("vote without .sync does not exist since sm_70");
  const Opcode op = take("all")   ? Opcode::vote_all
                    : take("any") ? Opcode::vote_any
                    : take("uni") ? Opcode::vote_uni
                                  : Opcode::vote_ballot;
  if (op == Opcode::vote_ballot && !take("ballot")) malformed("vote needs .all, .any, .uni or .ballot");
  const Type type = need_type();
  if ((op == Opcode::vote_ballot) != (type == Type::b32) || (type != Type::b32 && type != Type::pred))
    malformed("vote into .{}", type_name(type));
  key_.type = type;
  expect_operands(3, 3);
  bool negated = false;
  use(inst_.a, predicate(operand(1), &negated));
  if (negated) inst_.flags |= kNegateFirst;
  use(inst_.b, source(operand(2), Type::b32));
  inst_.dst = destination(operand(0), type);
  mark(inst_.dst);
  finish(op, Class::shuffle);
}

void Decoder::activemask() {
  const Type type = need_type();
  if (type != Type::b32) malformed("activemask takes .b32");
  expect_operands(1, 1);
  inst_.dst = destination(operand(0), type);
  mark(inst_.dst);
  finish(Opcode::activemask, Class::shuffle);
}

void Decoder::match() {
  const bool all = take("all");
  if (!all && !take("any")) malformed("match needs .all or .any");
  if (!take("sync")) malformed("match needs .sync");
  const Type type = need_type();
  if (type != Type::b32 && type != Type::b64) malformed("match takes .b32 or .b64");
  key_.type = type;
  expect_operands(3, 3);
  Slot predicate_slot;
  const Operand& result = operand(0);
  if (result.kind == Operand::Kind::pair) {
    if (!all) malformed("match.any has no predicate");
    inst_.dst = destination(result.items[0], Type::b32);
    if (result.items[1].kind != Operand::Kind::sink) predicate_slot = destination(result.items[1], Type::pred);
  } else {
    inst_.dst = destination(result, Type::b32);
  }
  mark(inst_.dst);
  use(inst_.a, source_any(operand(1), type_bytes(type)));
  use(inst_.b, source(operand(2), Type::b32));
  inst_.operands = add_operands(std::span(&predicate_slot, 1));
  finish(all ? Opcode::match_all : Opcode::match_any, Class::shuffle);
}

void Decoder::redux() {
  static constexpr std::pair<std::string_view, AtomicOp> kOps[] = {{"add", AtomicOp::add}, {"min", AtomicOp::min},
                                                                   {"max", AtomicOp::max}, {"and", AtomicOp::and_},
                                                                   {"or", AtomicOp::or_},  {"xor", AtomicOp::xor_}};
  if (!take("sync")) malformed("redux needs .sync");
  bool found = false;
  for (const auto& [name, value] : kOps) {
    if (!found && take(name)) {
      inst_.flags = static_cast<std::uint8_t>(value);
      found = true;
    }
  }
  const Type type = need_type();
  if (!found || type_bytes(type) != 4 || is_float(type)) unsupported("this form of redux");
  key_.type = type;
  expect_operands(3, 3);
  use(inst_.a, source(operand(1), type));
  use(inst_.b, source(operand(2), Type::b32));
  inst_.dst = destination(operand(0), type);
  mark(inst_.dst);
  finish(Opcode::redux, Class::shuffle);
}

// elect.sync d|p, members.
void Decoder::elect() {
  if (!take("sync")) malformed("elect needs .sync");
  expect_operands(2, 2);
  const Operand& result = operand(0);
  if (result.kind != Operand::Kind::pair) malformed("elect needs d|p");
  inst_.dst = destination(result.items[0], Type::b32);
  mark(inst_.dst);
  const Slot leader = destination(result.items[1], Type::pred);
  inst_.operands = add_operands(std::span(&leader, 1));
  use(inst_.a, source(operand(1), Type::b32));
  finish(Opcode::elect, Class::shuffle);
}

// griddepcontrol: launches run one after the other. nanosleep: time does not pass.
void Decoder::no_effect() {
  const std::string_view root = statement_->opcode.front();
  if (root == "griddepcontrol") {
    if (!take("wait") && !take("launch_dependents")) malformed("griddepcontrol needs .wait or .launch_dependents");
    expect_operands(0, 0);
  } else {
    if (need_type() != Type::u32) malformed("nanosleep takes .u32");
    expect_operands(1, 1);
    inst_.a = source(operand(0), Type::u32);
  }
  finish(Opcode::nop, root == "nanosleep" ? Class::other : Class::control);
}

}  // namespace gdnjit::emulator

#include "runtime/emulator/decode/decoder.h"

#include <algorithm>
#include <bit>

namespace gdnjit::emulator {
// ---- the statement at hand

void Decoder::raise(ErrorCode code, const std::string& what) const {
  const std::size_t line = static_cast<std::size_t>(statement_ != nullptr ? statement_->line : kernel_.line);
  std::string text;
  if (line >= 1 && line <= program_.line_starts.size()) {
    const std::size_t begin = program_.line_starts[line - 1];
    text = program_.text.substr(begin, program_.text.find('\n', begin) - begin);
    text.erase(0, text.find_first_not_of(" \t"));
  }
  fail(code, "loading kernel '{}' into the emulator: PTX line {}: {}\n  {}", kernel_.name, line, what, text);
}

bool Decoder::take(std::string_view modifier) {
  const auto found = std::find(modifiers_.begin(), modifiers_.end(), modifier);
  if (found == modifiers_.end()) return false;
  modifiers_.erase(found);
  return true;
}

std::optional<Type> Decoder::take_type() {
  for (auto place = modifiers_.begin(); place != modifiers_.end(); ++place) {
    if (const auto type = find_type(*place)) {
      modifiers_.erase(place);
      return type;
    }
  }
  return std::nullopt;
}

Type Decoder::need_type() {
  const auto type = take_type();
  if (!type) unsupported("no type that the emulator knows");
  return *type;
}

Round Decoder::take_round() {
  if (take("rn")) return Round::rn;
  if (take("rz")) return Round::rz;
  if (take("rm")) return Round::rm;
  if (take("rp")) return Round::rp;
  return Round::none;
}

Round Decoder::take_any_round() {
  if (take("rni")) return Round::rni;
  if (take("rzi")) return Round::rzi;
  if (take("rmi")) return Round::rmi;
  if (take("rpi")) return Round::rpi;
  if (take("rna")) return Round::rna;
  return take_round();
}

Space Decoder::take_space() {
  if (take("global")) return Space::global;
  if (take("shared") || take("shared::cta")) return Space::shared;
  if (take("shared::cluster")) return Space::cluster;
  if (take("local")) return Space::local;
  if (take("const")) return Space::constant;
  if (take("param") || take("param::entry") || take("param::func")) return Space::param;
  return Space::generic;
}

// Hints change speed on a GPU and nothing here.
void Decoder::take_cache_hints() {
  for (const char* hint : {"nc", "ca", "cg", "cs", "cv", "lu", "wb", "wt", "L1::evict_normal", "L1::evict_unchanged",
                           "L1::evict_first", "L1::evict_last", "L1::no_allocate", "L2::evict_normal",
                           "L2::evict_first", "L2::evict_last", "L2::64B", "L2::128B", "L2::256B"}) {
    take(hint);
  }
}

// The emulator's memory is sequentially consistent, which satisfies every ordering.
void Decoder::take_ordering() {
  take("weak");
  take("mmio");
  if (take("volatile") || take("relaxed")) inst_.order = Order::relaxed;
  if (take("acquire")) inst_.order = Order::acquire;
  if (take("release")) inst_.order = Order::release;
  if (take("acq_rel") || take("sc")) inst_.order = Order::acq_rel;
  if (take("cta")) inst_.scope = Scope::cta;
  if (take("cluster")) inst_.scope = Scope::cluster;
  if (take("gpu") || take("sys")) inst_.scope = Scope::gpu;
}

const Operand& Decoder::operand(std::size_t index) const {
  if (index >= statement_->operands.size()) malformed("too few operands");
  return statement_->operands[index];
}

void Decoder::expect_operands(std::size_t least, std::size_t most) {
  const std::size_t count = statement_->operands.size();
  if (count < least || count > most)
    malformed("{} operands; expected {}", count,
              least == most ? fmt::format("{}", least) : fmt::format("{} to {}", least, most));
}

// ---- operands to slots

Slot Decoder::register_slot(std::uint32_t index) {
  Slot& slot = registers_[index];
  const Register& reg = kernel_.registers[index];
  if (slot.id == kConstantId) {
    if (program_.ids >= 0xffffU) unsupported("more than 65000 registers in use");
    slot.id = static_cast<std::uint16_t>(program_.ids++);
    program_.id_names.push_back(reg.name);
    if (reg.type == Type::pred) {
      slot.offset = slot.id;
    } else {
      slot.offset = program_.lane_bytes;
      program_.lane_bytes += kLanes * std::max(static_cast<std::uint32_t>(type_bytes(reg.type)), 4U);
    }
  }
  return slot;
}

int Decoder::register_bytes(const Operand& operand) const {
  const Type type = kernel_.registers[operand.reg].type;
  return type == Type::pred ? 0 : std::max(type_bytes(type), 4);
}

Slot Decoder::constant(std::uint64_t value, bool wide) {
  if (!wide) value &= 0xffffffffU;
  const auto [place, is_new] = constants_.try_emplace({value, wide}, program_.lane_bytes);
  if (is_new) {
    program_.constants.push_back({program_.lane_bytes, wide, value});
    program_.lane_bytes += kLanes * (wide ? 8U : 4U);
  }
  return {place->second, kConstantId};
}

Slot Decoder::special(std::string_view name, int bytes) {
  static const std::unordered_map<std::string_view, Special> kSpecials{
      {"%tid.x", Special::tid_x},
      {"%tid.y", Special::tid_y},
      {"%tid.z", Special::tid_z},
      {"%ntid.x", Special::ntid_x},
      {"%ntid.y", Special::ntid_y},
      {"%ntid.z", Special::ntid_z},
      {"%ctaid.x", Special::ctaid_x},
      {"%ctaid.y", Special::ctaid_y},
      {"%ctaid.z", Special::ctaid_z},
      {"%nctaid.x", Special::nctaid_x},
      {"%nctaid.y", Special::nctaid_y},
      {"%nctaid.z", Special::nctaid_z},
      {"%cluster_ctaid.x", Special::cluster_ctaid_x},
      {"%cluster_ctaid.y", Special::cluster_ctaid_y},
      {"%cluster_ctaid.z", Special::cluster_ctaid_z},
      {"%cluster_nctaid.x", Special::cluster_nctaid_x},
      {"%cluster_nctaid.y", Special::cluster_nctaid_y},
      {"%cluster_nctaid.z", Special::cluster_nctaid_z},
      {"%clusterid.x", Special::clusterid_x},
      {"%clusterid.y", Special::clusterid_y},
      {"%clusterid.z", Special::clusterid_z},
      {"%nclusterid.x", Special::nclusterid_x},
      {"%nclusterid.y", Special::nclusterid_y},
      {"%nclusterid.z", Special::nclusterid_z},
      {"%cluster_ctarank", Special::cluster_ctarank},
      {"%cluster_nctarank", Special::cluster_nctarank},
      {"%laneid", Special::laneid},
      {"%warpid", Special::warpid},
      {"%nwarpid", Special::nwarpid},
      {"%smid", Special::smid},
      {"%nsmid", Special::nsmid},
      {"%lanemask_eq", Special::lanemask_eq},
      {"%lanemask_le", Special::lanemask_le},
      {"%lanemask_lt", Special::lanemask_lt},
      {"%lanemask_ge", Special::lanemask_ge},
      {"%lanemask_gt", Special::lanemask_gt},
      {"%gridid", Special::zero},
      {"%current_graph_exec", Special::zero},
      {"%aggr_smem_size", Special::aggr_smem_size},
      {"%dynamic_smem_size", Special::dynamic_smem_size},
      {"%total_smem_size", Special::total_smem_size}};
  const auto found = kSpecials.find(name);
  if (found == kSpecials.end()) unsupported("the emulator does not know '{}'", name);
  const auto [place, is_new] = specials_.try_emplace(fmt::format("{}/{}", name, bytes), program_.lane_bytes);
  if (is_new) {
    program_.specials.push_back({program_.lane_bytes, bytes == 8, found->second});
    program_.lane_bytes += kLanes * (bytes == 8 ? 8U : 4U);
  }
  return {static_cast<std::uint32_t>(place->second), kConstantId};
}

std::optional<std::uint64_t> Decoder::symbol_value(std::string_view name) const {
  if (const auto found = local_symbols_.find(name); found != local_symbols_.end()) return found->second;
  if (const auto found = symbols_.global.find(name); found != symbols_.global.end()) return found->second;
  if (symbols_.functions.contains(name)) return function_address(function_index(program_, symbols_, name));
  return std::nullopt;
}

Slot Decoder::symbol_address(const Operand& operand, int bytes) {
  if (operand.name == "WARP_SZ") return constant(kLanes, bytes == 8);
  const auto value = symbol_value(operand.name);
  if (!value) return special(operand.name, bytes);
  return constant(*value + operand.value, bytes == 8);
}

Slot Decoder::source_any(const Operand& operand, int bytes) {
  if (bytes > 8 && operand.kind != Operand::Kind::reg) malformed("a register of {} bytes is needed", bytes);
  switch (operand.kind) {
    case Operand::Kind::reg: {
      const int size = type_bytes(kernel_.registers[operand.reg].type);
      if (operand.negated) malformed("'!' before the register '{}', which is no predicate", operand.name);
      if (size != bytes) malformed("the register '{}' has {} bytes where {} are needed", operand.name, size, bytes);
      return register_slot(operand.reg);
    }
    case Operand::Kind::integer: return constant(operand.value, bytes == 8);
    case Operand::Kind::symbol: return symbol_address(operand, bytes);
    case Operand::Kind::real32:
      if (bytes == 4) return constant(operand.value, false);
      if (bytes == 8)
        return constant(std::bit_cast<std::uint64_t>(
                            static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(operand.value)))),
                        true);
      malformed("a 32-bit literal where {} bytes are needed", bytes);
    case Operand::Kind::real64:
      if (bytes == 8) return constant(operand.value, true);
      if (bytes == 4)
        return constant(std::bit_cast<std::uint32_t>(static_cast<float>(std::bit_cast<double>(operand.value))), false);
      malformed("a 64-bit literal where {} bytes are needed", bytes);
    default: malformed("an operand of a form that this instruction does not take");
  }
}

Slot Decoder::source(const Operand& operand, Type type) {
  if (is_float(type) && operand.kind == Operand::Kind::integer)
    malformed("an integer literal where a floating-point value is needed");
  const bool real = operand.kind == Operand::Kind::real32 || operand.kind == Operand::Kind::real64;
  if (is_integer(type) && real) malformed("a floating-point literal where an integer is needed");
  return source_any(operand, type_bytes(type));
}

Slot Decoder::predicate(const Operand& operand, bool* negated) {
  if (operand.kind == Operand::Kind::integer && negated != nullptr) {
    // true and false as literals
    *negated = false;
    const std::uint16_t id = operand.value != 0 ? kConstantId : kFalseId;
    return {id, id};
  }
  if (operand.kind != Operand::Kind::reg || kernel_.registers[operand.reg].type != Type::pred)
    malformed("a predicate register is needed");
  if (negated != nullptr) {
    *negated = operand.negated;
  } else if (operand.negated) {
    malformed("'!' is not possible here");
  }
  return register_slot(operand.reg);
}

Slot Decoder::destination(const Operand& operand, Type type) {
  if (operand.kind == Operand::Kind::sink) return scratch(type);
  if (operand.kind != Operand::Kind::reg || operand.negated) malformed("a register is needed as the destination");
  const Type actual = kernel_.registers[operand.reg].type;
  if (type == Type::pred ? actual != Type::pred : type_bytes(actual) != type_bytes(type)) {
    malformed("the register '{}' is {} where {} is needed", operand.name, type_name(actual), type_name(type));
  }
  return register_slot(operand.reg);
}

// What '_' writes to: a register that nobody reads.
Slot Decoder::scratch(Type type) {
  if (type == Type::pred) {
    if (scratch_predicate_ == kConstantId) {
      scratch_predicate_ = static_cast<std::uint16_t>(program_.ids++);
      program_.id_names.emplace_back("_");
    }
    return {scratch_predicate_, scratch_predicate_};
  }
  if (scratch_offset_ == 0) {
    scratch_offset_ = program_.lane_bytes;
    program_.lane_bytes += kLanes * 16U;
  }
  return {scratch_offset_, kConstantId};
}

// [register + offset], [symbol + offset] or [number].
void Decoder::address(const Operand& operand, Space space) {
  if (operand.kind != Operand::Kind::address) malformed("an address in brackets is needed");
  if (operand.items.size() != 1) malformed("coordinates belong to tensor copies");
  const Operand& base = operand.items[0];
  inst_.immediate = static_cast<std::int64_t>(operand.value);
  key_.wide_address = true;
  if (base.kind == Operand::Kind::reg) {
    const int bytes = type_bytes(kernel_.registers[base.reg].type);
    if (bytes != 8 && !(bytes == 4 && (space == Space::shared || space == Space::cluster || space == Space::local ||
                                       space == Space::param))) {
      malformed("the address register '{}' has {} bytes", base.name, bytes);
    }
    key_.wide_address = bytes == 8;
    use(inst_.a, register_slot(base.reg));
  } else if (base.kind == Operand::Kind::integer) {
    inst_.a = constant(base.value, true);
  } else if (const auto offset = frame_offset(base.name)) {
    // Variables of a function, and the parameters and results of calls: local memory.
    if (space != Space::param && space != Space::local) malformed("'{}' is in the stack frame", base.name);
    inst_.a = frame_slot();
    inst_.immediate += static_cast<std::int64_t>(*offset);
    key_.space = Space::local;
  } else {
    const auto value = symbol_value(base.name);
    if (!value) malformed("'{}' is neither a register nor a variable", base.name);
    inst_.a = constant(*value, true);
  }
}

void Decoder::check(Slot slot) {
  if (slot.id == kConstantId) return;
  if (checks_ < 4) {
    inst_.checked[checks_++] = slot.id;
    return;
  }
  unsupported("too many operands to check");
}

std::uint32_t Decoder::add_operands(std::span<const Slot> slots) {
  const auto first = static_cast<std::uint32_t>(program_.operands.size());
  program_.operands.insert(program_.operands.end(), slots.begin(), slots.end());
  return first;
}

std::uint32_t Decoder::branch_target(std::string_view label, int scope) const {
  for (; scope >= 0; scope = kernel_.scope_parent[static_cast<std::size_t>(scope)]) {
    if (const auto found = labels_.find({scope, label}); found != labels_.end()) return found->second;
  }
  malformed("there is no label '{}'", label);
}

void Decoder::finish(Opcode op, Class counted) {
  if (!modifiers_.empty())
    unsupported("the emulator does not know '.{}' of '{}'", modifiers_.front(), statement_->opcode.front());
  key_.op = op;
  inst_.counted = counted;
  inst_.critical = op >= Opcode::ld && op != Opcode::prefetch;
  inst_.run = set_.find(key_);
  if (inst_.run == nullptr) unsupported("the emulator does not execute this form of '{}'", statement_->opcode.front());
  if (statement_->guarded) {
    Operand guard;
    guard.kind = Operand::Kind::reg;
    guard.reg = statement_->guard;
    inst_.guard = predicate(guard, nullptr).id;
    inst_.guard_flip = statement_->guard_negated ? ~0U : 0U;
  }
  inst_.index = static_cast<std::uint32_t>(program_.instructions.size());
  program_.instructions.push_back(inst_);
  program_.places.push_back({statement_->line, statement_->place});
}

}  // namespace gdnjit::emulator

// Registers that are put together from parts, as in mov.b64 %rd1, {%r1, %r2}: compilers fill parts that nobody needs
// with registers that nobody wrote. Where a register is only ever assembled so, and copied, whether it is defined is
// kept for each part; what takes it apart the same way asks for the parts it wants. Any other use asks for the whole.
#include <map>

#include "runtime/emulator/decode/decoder.h"

namespace gdnjit::emulator {
namespace {

using Parts = std::map<std::uint32_t, std::size_t>;  // by register: how many parts it has

bool is_register(const Operand& operand) { return operand.kind == Operand::Kind::reg; }

bool is_mov(const Statement& statement) {
  return statement.opcode.front() == "mov" && statement.operands.size() == 2 && statement.opcode.back() != "b128";
}
bool assembles(const Statement& statement) {
  return is_mov(statement) && is_register(statement.operands[0]) && statement.operands[1].kind == Operand::Kind::vector;
}
bool takes_apart(const Statement& statement) {
  return is_mov(statement) && statement.operands[0].kind == Operand::Kind::vector && is_register(statement.operands[1]);
}
// Of 64 bits.
bool copies(const Statement& statement) {
  return is_mov(statement) && is_register(statement.operands[0]) && is_register(statement.operands[1]) &&
         statement.opcode.back().ends_with("64");
}

// Gives the copies of assembled registers their parts too.
void spread(const std::vector<Statement>& statements, Parts& parts) {
  for (bool grows = true; grows;) {
    grows = false;
    for (const Statement& statement : statements) {
      if (!copies(statement)) continue;
      const auto source = parts.find(statement.operands[1].reg);
      if (source != parts.end()) {
        grows = parts.emplace(statement.operands[0].reg, source->second).second || grows;
      }
    }
  }
}

// Drops the registers that `operand` names.
bool drop(const Operand& operand, Parts& parts) {
  bool dropped = (is_register(operand) || operand.kind == Operand::Kind::part) && parts.erase(operand.reg) > 0;
  for (const Operand& item : operand.items) dropped = drop(item, parts) || dropped;
  return dropped;
}

// Leaves the registers that nothing else writes: whatever is not known to be one of these may be a write.
void keep_pure(const std::vector<Statement>& statements, Parts& parts) {
  for (bool shrinks = true; shrinks;) {
    shrinks = false;
    for (const Statement& statement : statements) {
      if (statement.operands.empty()) continue;
      const Operand& target = statement.operands.front();
      const auto found = is_register(target) ? parts.find(target.reg) : parts.end();
      if (found != parts.end() && assembles(statement) && statement.operands[1].items.size() == found->second) continue;
      if (found != parts.end() && copies(statement)) {
        const auto source = parts.find(statement.operands[1].reg);
        if (source != parts.end() && source->second == found->second) continue;
      }
      shrinks = drop(target, parts) || shrinks;
    }
  }
}

}  // namespace

// REQUIRES: the body's statements are the instructions from `first` on, one to one.
void Decoder::track_parts(std::size_t first) {
  Parts parts;
  for (const Statement& statement : kernel_.statements) {
    if (assembles(statement)) parts.emplace(statement.operands[0].reg, statement.operands[1].items.size());
  }
  if (parts.empty()) return;
  spread(kernel_.statements, parts);
  keep_pure(kernel_.statements, parts);

  std::map<std::uint32_t, std::uint32_t> places;  // by register: the id of its first part
  for (const auto& [reg, count] : parts) {
    if (program_.ids + count >= 0xffffU) return;  // too many registers to be exact
    places.emplace(reg, program_.ids);
    program_.ids += static_cast<std::uint32_t>(count);
    program_.id_names.insert(program_.id_names.end(), count, "a part of " + kernel_.registers[reg].name);
  }
  const auto place_of = [&](const Operand& operand) {
    const auto found = places.find(operand.reg);
    return found == places.end() ? 0U : found->second;
  };
  for (std::size_t index = 0; index < kernel_.statements.size(); ++index) {
    const Statement& statement = kernel_.statements[index];
    Instruction& instruction = program_.instructions[first + index];
    if (assembles(statement)) {
      instruction.target = place_of(statement.operands[0]);
    } else if (takes_apart(statement)) {
      const auto found = parts.find(statement.operands[1].reg);
      if (found != parts.end() && found->second == statement.operands[0].items.size())
        instruction.target = place_of(statement.operands[1]);
    } else if (copies(statement) && place_of(statement.operands[0]) != 0) {
      instruction.target = place_of(statement.operands[0]);
      instruction.target_count = place_of(statement.operands[1]);
      instruction.count = static_cast<std::uint8_t>(parts.at(statement.operands[0].reg));
    }
  }
}

}  // namespace gdnjit::emulator

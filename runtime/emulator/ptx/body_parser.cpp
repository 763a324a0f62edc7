// Kernel bodies: declarations, labels and instructions, with the nested scopes that inline assembly opens.
#include <algorithm>

#include "runtime/emulator/ptx/parser.h"

namespace gdnjit::emulator {

void BodyParser::parse() {
  open_scope();
  cursor_.expect("{");
  depth_ = 1;
  while (depth_ > 0) {
    if (cursor_.at_end()) cursor_.error("the kernel '{}' never ends", kernel_.name);
    statement();
  }
}

void BodyParser::open_scope() {
  const int parent = scopes_.empty() ? -1 : scopes_.back().number;
  scopes_.push_back({static_cast<int>(kernel_.scope_parent.size()), {}});
  kernel_.scope_parent.push_back(parent);
}

void BodyParser::statement() {
  if (cursor_.take("{")) {
    if (++depth_ > kMaxNesting) cursor_.error("more than {} nested scopes", kMaxNesting);
    open_scope();
  } else if (cursor_.take("}")) {
    --depth_;
    scopes_.pop_back();
  } else if (cursor_.take(";")) {
    // Inline assembly leaves empty statements.
  } else if (cursor_.peek().text.starts_with('.')) {
    directive();
  } else if (cursor_.peek().kind == Token::Kind::word && cursor_.peek(1).is(":")) {
    label();
  } else {
    instruction();
  }
}

void BodyParser::directive() {
  if (cursor_.take(".reg")) return declare_registers(cursor_.word());
  // Written without a blank in the headers of CUDA: .reg.b16 a;
  if (cursor_.peek().text.starts_with(".reg.")) return declare_registers(cursor_.next().text.substr(4));
  if (cursor_.take(".loc")) return line_directive();
  if (cursor_.take(".pragma")) {
    cursor_.next();
    return cursor_.expect(";");
  }
  Space space = Space::shared;
  if (cursor_.take(".local")) {
    space = Space::local;
  } else if (cursor_.take(".param")) {
    space = Space::param;
  } else if (!cursor_.take(".shared")) {
    cursor_.unsupported("'{}' in a kernel", cursor_.peek().text);
  }
  kernel_.variables.push_back(parse_variable(cursor_, space));
  kernel_.variables.back().scope = scopes_.back().number;
  cursor_.expect(";");
}

void BodyParser::add_register(const std::string& name, Type type) {
  if (kernel_.registers.size() >= kMaxRegisters) cursor_.error("more than {} registers", kMaxRegisters);
  names_.push_back(std::make_unique<std::string>(name));
  const auto index = static_cast<std::uint32_t>(kernel_.registers.size());
  if (!scopes_.back().registers.emplace(*names_.back(), index).second) {
    cursor_.error("the register '{}' is declared twice", name);
  }
  kernel_.registers.push_back({name, type});
}

// .reg .b32 %r<10>, %x;
void BodyParser::declare_registers(std::string_view type_word) {
  const auto type = find_type(type_word.starts_with('.') ? type_word.substr(1) : type_word);
  if (!type) cursor_.unsupported("the register type '{}'", type_word);
  do {
    const std::string name(cursor_.word());
    if (cursor_.take("<")) {
      const std::uint64_t count = cursor_.integer();
      cursor_.expect(">");
      if (count > kMaxRegisters) cursor_.error("{}<{}>: more than {} registers", name, count, kMaxRegisters);
      for (std::uint64_t index = 0; index < count; ++index) add_register(name + std::to_string(index), *type);
    } else {
      add_register(name, *type);
    }
  } while (cursor_.take(","));
  cursor_.expect(";");
}

// .loc file line column [, function_name label [+ n]] [, inlined_at file line column]
void BodyParser::line_directive() {
  place_.file = static_cast<std::uint32_t>(cursor_.integer());
  place_.line = static_cast<std::uint32_t>(cursor_.integer());
  cursor_.integer();
  while (cursor_.take(",")) {
    const std::string_view word = cursor_.word();
    if (word == "function_name") {
      cursor_.word();
      if (cursor_.take("+")) cursor_.integer();
    } else if (word == "inlined_at") {
      for (int number = 0; number < 3; ++number) cursor_.integer();
    } else {
      cursor_.unsupported("'{}' in .loc", word);
    }
  }
}

void BodyParser::label() {
  const std::string_view name = cursor_.word();
  cursor_.expect(":");
  if (cursor_.take(".branchtargets")) return branch_targets(name);
  if (cursor_.take(".callprototype")) return call_prototype(name);
  // The functions an indirect call may reach; every call checks its target's parameters itself.
  if (cursor_.take(".calltargets")) cursor_.unsupported("'.calltargets'");
  kernel_.labels.push_back({name, scopes_.back().number, static_cast<std::uint32_t>(kernel_.statements.size())});
}

void BodyParser::branch_targets(std::string_view name) {
  BranchTargets targets{name, scopes_.back().number, {}, cursor_.peek().line};
  do {
    targets.targets.push_back(cursor_.word());
  } while (cursor_.take(","));
  cursor_.expect(";");
  kernel_.branch_targets.push_back(std::move(targets));
}

void BodyParser::call_prototype(std::string_view name) {
  CallPrototype prototype{name, scopes_.back().number, {}, {}};
  if (cursor_.take("(")) {
    for (const Variable& result : parse_parameters(cursor_)) prototype.result_bytes.push_back(result.bytes);
  }
  cursor_.expect("_");
  if (cursor_.take("(")) {
    for (const Variable& parameter : parse_parameters(cursor_)) prototype.parameter_bytes.push_back(parameter.bytes);
  }
  while (cursor_.take(".noreturn")) {
  }
  cursor_.expect(";");
  kernel_.prototypes.push_back(std::move(prototype));
}

void BodyParser::instruction() {
  Statement statement;
  statement.line = cursor_.peek().line;
  statement.scope = scopes_.back().number;
  statement.place = place_;
  if (cursor_.take("@")) {
    statement.guarded = true;
    statement.guard_negated = cursor_.take("!");
    const std::string_view name = cursor_.word();
    if (!find_register(name, statement.guard)) cursor_.error("the guard '{}' is not a register", name);
  }
  std::string_view opcode = cursor_.word();
  for (std::size_t dot; (dot = opcode.find('.')) != std::string_view::npos; opcode.remove_prefix(dot + 1)) {
    statement.opcode.push_back(opcode.substr(0, dot));
  }
  statement.opcode.push_back(opcode);
  if (!cursor_.take(";")) {
    do {
      statement.operands.push_back(operand());
    } while (cursor_.take(","));
    cursor_.expect(";");
  }
  kernel_.statements.push_back(std::move(statement));
}

Operand BodyParser::operand() {
  Operand result;
  if (cursor_.take("!")) {
    result = named(cursor_.word());
    result.negated = true;
    if (result.kind != Operand::Kind::reg) cursor_.error("'!' needs a predicate register");
    return result;
  }
  if (cursor_.take("[")) return address();
  if (cursor_.take("(")) {
    result.kind = Operand::Kind::list;
    if (cursor_.take(")")) return result;
    do {
      result.items.push_back(named(cursor_.word()));
    } while (cursor_.take(","));
    cursor_.expect(")");
    return result;
  }
  if (cursor_.take("{")) {
    result.kind = Operand::Kind::vector;
    do {
      if (cursor_.peek().is("{") || cursor_.peek().is("(") || result.items.size() >= 256)
        cursor_.error("a vector that no instruction takes");
      result.items.push_back(operand());
    } while (cursor_.take(","));
    cursor_.expect("}");
    return result;
  }
  if (cursor_.peek().is("-") && cursor_.peek(1).kind == Token::Kind::word) {
    cursor_.next();
    result = named(cursor_.word());
    if (result.kind == Operand::Kind::reg) {
      result.kind = Operand::Kind::part;
      result.name = {};
    } else if (result.kind != Operand::Kind::part) {
      cursor_.error("'-' needs a register");
    }
    result.negated = true;
    return result;
  }
  if (cursor_.peek().kind == Token::Kind::number || cursor_.peek().is("-")) return cursor_.number();
  const std::string_view name = cursor_.word();
  if (name != "_") result = named(name);
  if (cursor_.take("|")) {
    Operand pair;
    pair.kind = Operand::Kind::pair;
    pair.items.push_back(std::move(result));
    const std::string_view second = cursor_.word();
    pair.items.push_back(second == "_" ? Operand{} : named(second));
    return pair;
  }
  if (result.kind == Operand::Kind::symbol && (cursor_.peek().is("+") || cursor_.peek().is("-"))) {
    if (cursor_.peek().is("+")) cursor_.next();
    result.value = cursor_.signed_integer();
  }
  return result;
}

// What follows '[': name, name+integer or an integer; then {coordinates} of a tensor copy.
Operand BodyParser::address() {
  Operand result;
  result.kind = Operand::Kind::address;
  if (cursor_.peek().kind == Token::Kind::number || cursor_.peek().is("-")) {
    result.items.push_back(cursor_.number());
  } else {
    result.items.push_back(named(cursor_.word()));
    if (result.items.back().kind == Operand::Kind::part) cursor_.error("an address in a part of a register");
    if (cursor_.take("+")) {
      result.value = cursor_.signed_integer();
    } else if (cursor_.peek().is("-")) {
      result.value = cursor_.signed_integer();
    }
  }
  if (cursor_.take(",")) {
    if (!cursor_.peek().is("{")) cursor_.error("expected coordinates, found '{}'", cursor_.peek().text);
    result.items.push_back(operand());
  }
  cursor_.expect("]");
  return result;
}

Operand BodyParser::named(std::string_view name) {
  Operand result;
  result.kind = find_register(name, result.reg) ? Operand::Kind::reg : Operand::Kind::symbol;
  result.name = name;
  const std::size_t dot = name.find('.');
  if (result.kind == Operand::Kind::symbol && dot != std::string_view::npos &&
      find_register(name.substr(0, dot), result.reg)) {
    result.kind = Operand::Kind::part;
    result.name = name.substr(dot + 1);
  }
  return result;
}

bool BodyParser::find_register(std::string_view name, std::uint32_t& index) const {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    if (const auto found = scope->registers.find(name); found != scope->registers.end()) {
      index = found->second;
      return true;
    }
  }
  return false;
}

}  // namespace gdnjit::emulator

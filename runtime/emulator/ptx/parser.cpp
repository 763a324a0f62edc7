// The module level: directives, variables, kernel headers.
#include "runtime/emulator/ptx/parser.h"

#include <bit>
#include <cstdlib>
#include <limits>

namespace gdnjit::emulator {
namespace {

int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return 99;
}

// False if the text is no number or does not fit into 64 bits.
bool read_digits(std::string_view text, unsigned base, std::uint64_t& value) {
  if (text.empty()) return false;
  value = 0;
  for (char c : text) {
    const int digit = digit_value(c);
    if (digit >= static_cast<int>(base)) return false;
    if (value > (std::numeric_limits<std::uint64_t>::max() - static_cast<std::uint64_t>(digit)) / base) return false;
    value = value * base + static_cast<std::uint64_t>(digit);
  }
  return true;
}

bool read_integer(std::string_view text, std::uint64_t& value) {
  if (text.ends_with('U')) text.remove_suffix(1);
  if (text.size() > 2 && text[0] == '0') {
    if (text[1] == 'x' || text[1] == 'X') return read_digits(text.substr(2), 16, value);
    if (text[1] == 'b' || text[1] == 'B') return read_digits(text.substr(2), 2, value);
  }
  if (text.size() > 1 && text[0] == '0') return read_digits(text.substr(1), 8, value);
  return read_digits(text, 10, value);
}

}  // namespace

std::uint64_t TokenCursor::integer() {
  std::uint64_t value = 0;
  if (peek().kind != Token::Kind::number || !read_integer(peek().text, value)) {
    error("expected a whole number, found '{}'", peek().text);
  }
  next();
  return value;
}

std::uint64_t TokenCursor::signed_integer() {
  const bool negative = take("-");
  if (!negative) take("+");
  const std::uint64_t value = integer();
  return negative ? 0 - value : value;
}

Operand TokenCursor::number() {
  Operand operand;
  const bool negative = peek().is("-");
  const std::string_view text = peek(negative ? 1 : 0).text;
  const char kind = text.size() > 2 && text[0] == '0' ? text[1] : ' ';
  const bool hexadecimal_float = (kind == 'f' || kind == 'F' || kind == 'd' || kind == 'D');
  if (hexadecimal_float) {
    const bool is_double = kind == 'd' || kind == 'D';
    if (negative) next();
    if (text.size() != (is_double ? 18U : 10U) || !read_digits(text.substr(2), 16, operand.value)) {
      error("'{}' is not a floating-point literal", text);
    }
    next();
    operand.kind = is_double ? Operand::Kind::real64 : Operand::Kind::real32;
    if (negative) operand.value ^= is_double ? 1ULL << 63 : 1ULL << 31;
  } else if (text.find('.') != std::string_view::npos && kind != 'x') {
    if (negative) next();
    const std::string copy(text);
    char* end = nullptr;
    const double value = std::strtod(copy.c_str(), &end);
    if (end != copy.c_str() + copy.size()) error("'{}' is not a number", text);
    next();
    operand.kind = Operand::Kind::real64;
    operand.value = std::bit_cast<std::uint64_t>(negative ? -value : value);
  } else {
    operand.kind = Operand::Kind::integer;
    operand.value = signed_integer();
  }
  return operand;
}

namespace {

// One value of an initialiser, appended little-endian in `width` bytes.
void initialiser_value(TokenCursor& cursor, Variable& variable, int width) {
  if (cursor.peek().kind == Token::Kind::word) {
    const bool generic = cursor.take("generic");
    if (generic) cursor.expect("(");
    SymbolReference reference{variable.contents.size(), cursor.word(), 0};
    if (generic) cursor.expect(")");
    if (cursor.take("+")) reference.addend = static_cast<std::int64_t>(cursor.signed_integer());
    if (width != 8) cursor.error("the address of '{}' needs 8 bytes", reference.name);
    variable.references.push_back(reference);
    variable.contents.resize(variable.contents.size() + 8);
    return;
  }
  const Operand value = cursor.number();
  for (int byte = 0; byte < width; ++byte)
    variable.contents.push_back(static_cast<unsigned char>(value.value >> (8 * byte)));
}

void initialiser(TokenCursor& cursor, Variable& variable, int width) {
  variable.initialised = true;
  if (!cursor.take("{")) return initialiser_value(cursor, variable, width);
  if (cursor.peek().is("{")) cursor.unsupported("a nested initialiser of '{}'", variable.name);
  while (!cursor.take("}")) {
    initialiser_value(cursor, variable, width);
    if (variable.contents.size() > variable.bytes)
      cursor.error("'{}' has more initial values than elements", variable.name);
    if (!cursor.peek().is("}")) cursor.expect(",");
  }
}

}  // namespace

Variable parse_variable(TokenCursor& cursor, Space space) {
  Variable variable;
  variable.space = space;
  variable.line = cursor.peek().line;
  std::uint64_t vector = 1;
  Type type = Type::none;
  while (cursor.peek().text.starts_with('.')) {
    const std::string_view word = cursor.word();
    if (word == ".align") {
      variable.alignment = cursor.integer();
      if (!std::has_single_bit(variable.alignment) || variable.alignment > 4096) {
        cursor.error(".align {}: must be a power of two up to 4096", variable.alignment);
      }
    } else if (word == ".v2" || word == ".v4") {
      vector = word == ".v2" ? 2 : 4;
    } else if (word == ".ptr") {
      // Says what a pointer parameter points to: a space and an alignment, both only hints.
      while (cursor.take(".global") || cursor.take(".const") || cursor.take(".shared") || cursor.take(".local")) {
      }
      if (cursor.take(".align")) cursor.integer();
    } else if (const auto found = find_type(word.substr(1)); found && type == Type::none && type_bytes(*found) > 0) {
      type = *found;
    } else {
      cursor.unsupported("'{}' in a declaration", word);
    }
  }
  if (type == Type::none) cursor.error("a declaration without a type");
  variable.name = cursor.word();
  variable.bytes = static_cast<std::uint64_t>(type_bytes(type)) * vector;
  variable.alignment = std::max<std::uint64_t>(variable.alignment, variable.bytes);
  while (cursor.take("[")) {
    if (cursor.take("]")) {
      variable.is_dynamic = true;
      variable.bytes = 0;
      continue;
    }
    const std::uint64_t count = cursor.integer();
    cursor.expect("]");
    if (count != 0 && variable.bytes > kMaxVariableBytes / count) cursor.error("'{}' is too large", variable.name);
    variable.bytes *= count;
  }
  if (cursor.take("=")) {
    if (space != Space::global && space != Space::constant)
      cursor.error("'{}' cannot have initial values", variable.name);
    initialiser(cursor, variable, type_bytes(type));
    if (variable.is_dynamic) variable.bytes = variable.contents.size();
    if (variable.contents.size() > variable.bytes)
      cursor.error("'{}' has more initial values than elements", variable.name);
  }
  return variable;
}

std::vector<Variable> parse_parameters(TokenCursor& cursor) {
  std::vector<Variable> parameters;
  if (cursor.take(")")) return parameters;
  do {
    if (cursor.peek().is(".reg")) cursor.unsupported("a parameter in a register");
    cursor.expect(".param");
    parameters.push_back(parse_variable(cursor, Space::param));
  } while (cursor.take(","));
  cursor.expect(")");
  return parameters;
}

namespace {

class ModuleParser {
 public:
  explicit ModuleParser(const std::vector<Token>& tokens) : cursor_(tokens) {}

  ModuleText parse() {
    while (!cursor_.at_end()) directive();
    if (module_.target.empty()) cursor_.error("no .target directive: this is not PTX");
    return std::move(module_);
  }

 private:
  void directive() {
    const Token token = cursor_.peek();
    if (cursor_.take(".version")) {
      cursor_.next();
    } else if (cursor_.take(".target")) {
      module_.target = cursor_.word();
      while (cursor_.take(",")) cursor_.word();
    } else if (cursor_.take(".address_size")) {
      if (cursor_.integer() != 64) cursor_.error("only .address_size 64 is supported");
    } else if (cursor_.take(".file")) {
      file();
    } else if (cursor_.take(".section")) {
      cursor_.word();
      skip_braces();
    } else if (cursor_.take(".visible") || cursor_.take(".weak") || cursor_.take(".extern") ||
               cursor_.take(".common")) {
      // Linkage: a module stands alone here.
    } else if (cursor_.take(".global")) {
      variable(Space::global);
    } else if (cursor_.take(".const")) {
      variable(Space::constant);
    } else if (cursor_.take(".shared")) {
      variable(Space::shared);
    } else if (cursor_.take(".pragma")) {
      cursor_.next();
      cursor_.expect(";");
    } else if (cursor_.take(".entry")) {
      kernel();
    } else if (cursor_.take(".func")) {
      function();
    } else {
      cursor_.unsupported("'{}' at module level", token.text);
    }
  }

  void file() {
    SourceFile file;
    file.number = static_cast<std::uint32_t>(cursor_.integer());
    if (cursor_.peek().kind != Token::Kind::string) cursor_.error(".file without a name");
    file.path = cursor_.next().text;
    while (cursor_.take(",")) cursor_.integer();
    module_.files.push_back(file);
  }

  void skip_braces() {
    cursor_.expect("{");
    for (int depth = 1; depth > 0;) {
      if (cursor_.at_end()) cursor_.error("a section never ends");
      const Token token = cursor_.next();
      if (token.is("{")) ++depth;
      if (token.is("}")) --depth;
    }
  }

  void variable(Space space) {
    module_.variables.push_back(parse_variable(cursor_, space));
    cursor_.expect(";");
  }

  void kernel() {
    KernelText kernel;
    kernel.line = cursor_.peek().line;
    kernel.name = cursor_.word();
    if (cursor_.take("(")) kernel.parameters = parse_parameters(cursor_);
    while (!cursor_.peek().is("{")) kernel_directive(kernel);
    BodyParser(cursor_, kernel).parse();
    module_.kernels.push_back(std::move(kernel));
  }

  // .func (.param .b32 result) name (.param .b32 a) { ... } or a declaration, which ends with ';'.
  void function() {
    KernelText function;
    function.line = cursor_.peek().line;
    if (cursor_.take("(")) function.results = parse_parameters(cursor_);
    function.name = cursor_.word();
    if (cursor_.take("(")) function.parameters = parse_parameters(cursor_);
    while (cursor_.take(".noreturn")) {
    }
    if (cursor_.take(";")) {
      function.has_body = false;
    } else if (cursor_.peek().is("{")) {
      BodyParser(cursor_, function).parse();
    } else {
      cursor_.unsupported("'{}' of a function", cursor_.peek().text);
    }
    module_.functions.push_back(std::move(function));
  }

  void sizes(std::string_view word, std::uint64_t (&size)[3]) {
    int axis = 0;
    do {
      if (axis == 3) cursor_.error("{} has more than three sizes", word);
      size[axis] = cursor_.integer();
      if (size[axis] == 0 || size[axis] > 1024) cursor_.error("{} {}: must lie in 1..1024", word, size[axis]);
      ++axis;
    } while (cursor_.take(","));
  }

  void kernel_directive(KernelText& kernel) {
    const std::string_view word = cursor_.word();
    std::uint64_t size[3] = {1, 1, 1};
    if (word == ".reqnctapercluster") {
      sizes(word, size);
      for (int i = 0; i < 3; ++i) kernel.required_cluster[i] = static_cast<std::uint32_t>(size[i]);
    } else if (word == ".explicitcluster") {
      // The launch says how large; the device checks that it does.
    } else if (word == ".maxntid" || word == ".reqntid") {
      sizes(word, size);
      kernel.max_threads = static_cast<std::uint32_t>(size[0] * size[1] * size[2]);
      if (word == ".reqntid") {
        for (int i = 0; i < 3; ++i) kernel.required_block[i] = static_cast<std::uint32_t>(size[i]);
      }
    } else if (word == ".minnctapersm" || word == ".maxnreg" || word == ".maxclusterrank") {
      cursor_.integer();
    } else if (word == ".pragma") {
      cursor_.next();
      cursor_.expect(";");
    } else {
      cursor_.unsupported("'{}' of a kernel", word);
    }
  }

  TokenCursor cursor_;
  ModuleText module_;
};

}  // namespace

ModuleText parse_module(std::string_view text) {
  const std::vector<Token> tokens = tokenize(text);
  return ModuleParser(tokens).parse();
}

}  // namespace gdnjit::emulator

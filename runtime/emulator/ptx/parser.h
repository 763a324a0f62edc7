// The parser's shared parts: a cursor over tokens, and the two halves (module level, kernel bodies).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/emulator/ptx/syntax.h"
#include "runtime/emulator/ptx/token.h"
#include "runtime/support/check.h"

namespace gdnjit::emulator {

// Limits that keep hostile text from exhausting memory; far above what a compiler emits.
inline constexpr std::uint64_t kMaxRegisters = 60000;
inline constexpr std::uint64_t kMaxVariableBytes = 1ULL << 30;
inline constexpr std::uint64_t kMaxParameterBytes = 32764;  // of the hardware since CUDA 12.1
inline constexpr int kMaxNesting = 64;

class TokenCursor {
 public:
  explicit TokenCursor(const std::vector<Token>& tokens) : tokens_(tokens) {}

  const Token& peek(std::size_t ahead = 0) const {
    return tokens_[position_ + ahead < tokens_.size() ? position_ + ahead : tokens_.size() - 1];
  }
  Token next() {
    const Token token = peek();
    if (position_ + 1 < tokens_.size()) ++position_;
    return token;
  }
  bool at_end() const { return peek().kind == Token::Kind::end; }
  bool take(std::string_view text) {
    if (!peek().is(text)) return false;
    next();
    return true;
  }
  void expect(std::string_view text) {
    if (!take(text)) error("expected '{}', found '{}'", text, peek().text);
  }
  std::string_view word() {
    if (peek().kind != Token::Kind::word) error("expected a name, found '{}'", peek().text);
    return next().text;
  }
  // An unsigned integer literal.
  std::uint64_t integer();
  // [-]integer, as two's complement.
  std::uint64_t signed_integer();
  // Integer, 0f or 0d literal with an optional sign.
  Operand number();

  template <typename... Args>
  [[noreturn]] void error(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorCode::device_failed, "reading PTX: line {}: {}", peek().line,
         fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  [[noreturn]] void unsupported(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorCode::unsupported, "reading PTX: line {}: {}; the emulator does not know it", peek().line,
         fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  const std::vector<Token>& tokens_;
  std::size_t position_ = 0;
};

// Reads what follows a state space: "[.align n] [.v4] .type name [size] [= values]" without the ';' or ','.
Variable parse_variable(TokenCursor& cursor, Space space);

// Reads "(.param .b32 a, .param .b64 b)" behind its '('.
std::vector<Variable> parse_parameters(TokenCursor& cursor);

// Reads a kernel's body from its '{' to its '}'.
class BodyParser {
 public:
  BodyParser(TokenCursor& cursor, KernelText& kernel) : cursor_(cursor), kernel_(kernel) {}
  void parse();

 private:
  struct Scope {
    int number = 0;
    std::unordered_map<std::string_view, std::uint32_t> registers;
  };

  void statement();
  void directive();
  void declare_registers(std::string_view type_word);
  void add_register(const std::string& name, Type type);
  void line_directive();
  void label();
  void branch_targets(std::string_view name);
  void call_prototype(std::string_view name);
  void instruction();
  Operand operand();
  Operand address();
  Operand named(std::string_view name);
  void open_scope();
  bool find_register(std::string_view name, std::uint32_t& index) const;

  TokenCursor& cursor_;
  KernelText& kernel_;
  std::vector<Scope> scopes_;
  // Register names as the scopes' keys see them; stable because the kernel's vector may move its strings.
  std::vector<std::unique_ptr<std::string>> names_;
  SourcePlace place_;
  int depth_ = 0;
};

}  // namespace gdnjit::emulator

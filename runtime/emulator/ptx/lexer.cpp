#include <cctype>

#include "runtime/emulator/ptx/token.h"
#include "runtime/support/check.h"

namespace gdnjit::emulator {
namespace {

bool starts_word(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '$' || c == '%' || c == '.';
}
bool continues_word(char c) { return starts_word(c) || std::isdigit(static_cast<unsigned char>(c)) != 0; }

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  std::vector<Token> run() {
    std::vector<Token> tokens;
    while (skip_blanks()) tokens.push_back(next());
    tokens.push_back({Token::Kind::end, "end of text", line_});
    return tokens;
  }

 private:
  char at(std::size_t index) const { return index < text_.size() ? text_[index] : '\0'; }

  // False at the end of the text.
  bool skip_blanks() {
    while (position_ < text_.size()) {
      const char c = text_[position_];
      if (c == '\n') ++line_;
      if (c == '/' && at(position_ + 1) == '/') {
        while (position_ < text_.size() && text_[position_] != '\n') ++position_;
      } else if (c == '/' && at(position_ + 1) == '*') {
        skip_comment();
      } else if (std::isspace(static_cast<unsigned char>(c)) != 0 || c == '\0') {
        // NVRTC counts the terminating zero in the size of its text.
        ++position_;
      } else {
        return true;
      }
    }
    return false;
  }

  void skip_comment() {
    const int begin = line_;
    for (position_ += 2; position_ < text_.size(); ++position_) {
      if (text_[position_] == '\n') ++line_;
      if (text_[position_] == '*' && at(position_ + 1) == '/') {
        position_ += 2;
        return;
      }
    }
    fail(ErrorCode::device_failed, "reading PTX: line {}: the comment never ends", begin);
  }

  Token next() {
    const std::size_t begin = position_;
    const char c = text_[position_];
    if (starts_word(c)) {
      while (continues_word(at(position_)) || is_double_colon()) position_ += is_double_colon() ? 2 : 1;
      return {Token::Kind::word, text_.substr(begin, position_ - begin), line_};
    }
    if (std::isdigit(static_cast<unsigned char>(c)) != 0) {
      while (std::isalnum(static_cast<unsigned char>(at(position_))) != 0 || at(position_) == '.' ||
             is_exponent_sign(begin)) {
        ++position_;
      }
      return {Token::Kind::number, text_.substr(begin, position_ - begin), line_};
    }
    if (c == '"') return string();
    constexpr std::string_view kMarks = "{}[]()<>,;:@!|+-=*&~/^?";
    if (kMarks.find(c) == std::string_view::npos) {
      fail(ErrorCode::device_failed, "reading PTX: line {}: character 0x{:02x} does not belong here", line_,
           static_cast<unsigned char>(c));
    }
    ++position_;
    return {Token::Kind::mark, text_.substr(begin, 1), line_};
  }

  // "::" inside an opcode such as ld.global.L1::no_allocate.L2::128B.
  bool is_double_colon() const {
    return at(position_) == ':' && at(position_ + 1) == ':' && continues_word(at(position_ + 2));
  }

  // The sign in 1.5e-3, but not in 0x1e-3.
  bool is_exponent_sign(std::size_t begin) const {
    const char c = at(position_);
    if ((c != '-' && c != '+') || position_ == begin) return false;
    const char before = at(position_ - 1);
    if (before != 'e' && before != 'E') return false;
    return text_.substr(begin, position_ - begin).find('.') != std::string_view::npos;
  }

  Token string() {
    const int begin_line = line_;
    const std::size_t begin = ++position_;
    while (position_ < text_.size() && text_[position_] != '"' && text_[position_] != '\n') ++position_;
    if (at(position_) != '"') fail(ErrorCode::device_failed, "reading PTX: line {}: the string never ends", begin_line);
    return {Token::Kind::string, text_.substr(begin, position_++ - begin), begin_line};
  }

  std::string_view text_;
  std::size_t position_ = 0;
  int line_ = 1;
};

}  // namespace

std::vector<Token> tokenize(std::string_view text) { return Lexer(text).run(); }

}  // namespace gdnjit::emulator

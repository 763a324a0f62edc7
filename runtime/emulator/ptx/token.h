// The words of PTX text.
#pragma once

#include <string_view>
#include <vector>

namespace gdnjit::emulator {

struct Token {
  enum class Kind : unsigned char {
    word,    // names, registers, directives and dotted opcodes: "%r1", ".reg", "ld.global.L1::no_allocate.f32"
    number,  // "12", "0x1F", "0f3F800000"
    string,  // without its quotes
    mark,    // one character
    end,
  };
  Kind kind = Kind::end;
  std::string_view text;
  int line = 0;  // from 1

  bool is(std::string_view expected) const { return kind != Kind::string && text == expected; }
};

// Ends with a Token of Kind::end. The tokens point into `text`. Throws Error(device_failed) for a character that
// no PTX has, or an unterminated comment or string.
std::vector<Token> tokenize(std::string_view text);

}  // namespace gdnjit::emulator

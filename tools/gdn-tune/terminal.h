// What is known about the terminal, and colours on it. detect() is the only place that asks.
#pragma once

#include <string>
#include <string_view>

namespace gdnjit::tool {

enum class Style : unsigned char { plain, strong, faint, good, bad, caution };

struct Terminal {
  bool out_is_terminal = false;
  bool error_is_terminal = false;
  bool out_color = false;    // colours on standard output
  bool error_color = false;  // colours on standard error
  int columns = 0;           // width; 0: unknown, do not wrap or cut

  // Colours need a terminal, and NO_COLOR (any non-empty value) or TERM=dumb turns them off.
  static Terminal detect();
};

// `text` with the escape sequence of `style` around it, or as it is if `color` is false.
std::string paint(std::string_view text, Style style, bool color);

// Characters as a terminal counts them: code points of UTF-8.
std::size_t display_width(std::string_view text);

// `text` cut to `width` characters, with "..." where something is missing. Never cuts inside a code point.
std::string cut(std::string_view text, std::size_t width);

}  // namespace gdnjit::tool

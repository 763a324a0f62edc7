#include "tools/gdn-tune/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>

namespace gdnjit::tool {
namespace {

bool starts_code_point(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U; }

int terminal_columns() {
  winsize size{};
  for (int descriptor : {STDOUT_FILENO, STDERR_FILENO}) {
    if (ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  }
  return 0;
}

bool colors_wanted() {
  const char* no_color = std::getenv("NO_COLOR");
  if (no_color != nullptr && *no_color != '\0') return false;
  const char* term = std::getenv("TERM");
  return term != nullptr && std::string_view(term) != "dumb";
}

}  // namespace

Terminal Terminal::detect() {
  Terminal terminal;
  terminal.out_is_terminal = isatty(STDOUT_FILENO) == 1;
  terminal.error_is_terminal = isatty(STDERR_FILENO) == 1;
  const bool colors = colors_wanted();
  terminal.out_color = colors && terminal.out_is_terminal;
  terminal.error_color = colors && terminal.error_is_terminal;
  terminal.columns = terminal_columns();
  return terminal;
}

std::string paint(std::string_view text, Style style, bool color) {
  if (!color || style == Style::plain || text.empty()) return std::string(text);
  const char* code = "";
  switch (style) {
    case Style::plain: break;
    case Style::strong: code = "1"; break;
    case Style::faint: code = "2"; break;
    case Style::good: code = "32"; break;
    case Style::bad: code = "31"; break;
    case Style::caution: code = "33"; break;
  }
  return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  for (char byte : text) width += starts_code_point(byte) ? 1 : 0;
  return width;
}

std::string cut(std::string_view text, std::size_t width) {
  if (display_width(text) <= width) return std::string(text);
  const std::string_view dots = std::string_view("...").substr(0, width);
  std::size_t characters = 0;
  std::size_t end = 0;
  while (end < text.size()) {
    if (starts_code_point(text[end]) && characters++ == width - dots.size()) break;
    ++end;
  }
  return std::string(text.substr(0, end)) + std::string(dots);
}

}  // namespace gdnjit::tool

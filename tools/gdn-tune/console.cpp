#include "tools/gdn-tune/console.h"

#include <fmt/format.h>

#include <cstdio>

#include "runtime/support/log.h"

namespace gdnjit::tool {

Console::Console(const Terminal& terminal, bool json, bool quiet) : terminal_(terminal), json_(json), quiet_(quiet) {
  set_warning_sink([this](std::string_view text) { warning(text); });
}

Console::~Console() { set_warning_sink({}); }

void Console::print(std::string_view text) const {
  if (!json_) std::fwrite(text.data(), 1, text.size(), stdout);
}

void Console::print(const Table& table) const {
  const std::size_t columns = terminal_.out_is_terminal ? static_cast<std::size_t>(terminal_.columns) : 0;
  print(table.text(terminal_.out_color, columns));
}

void Console::note(std::string_view text) const {
  if (!quiet_) write_error("note", Style::strong, text);
}

void Console::warning(std::string_view text) const { write_error("warning", Style::caution, text); }

void Console::error(std::string_view text) const { write_error("error", Style::bad, text); }

void Console::write_error(std::string_view label, Style style, std::string_view text) const {
  if (const auto progress = progress_.lock()) progress->clear();
  const std::string line =
      fmt::format("gdn-tune: {} {}\n", paint(fmt::format("{}:", label), style, terminal_.error_color), text);
  std::fwrite(line.data(), 1, line.size(), stderr);
}

std::shared_ptr<Progress> Console::progress(std::string title) {
  Progress::Settings settings;
  settings.visible = terminal_.error_is_terminal && !quiet_;
  settings.columns = static_cast<std::size_t>(terminal_.columns);
  auto progress = std::make_shared<Progress>(std::move(title), std::move(settings));
  progress_ = progress;
  return progress;
}

}  // namespace gdnjit::tool

#include "tools/gdn-tune/table.h"

#include <algorithm>
#include <numeric>

#include "runtime/support/check.h"

namespace gdnjit::tool {
namespace {

constexpr std::size_t kGap = 2;
constexpr std::size_t kLeastWidth = 8;

}  // namespace

void Table::add_row(std::vector<Cell> cells) {
  GDNJIT_CHECK(cells.size() == columns_.size(), "a row of {} cells in a table of {} columns", cells.size(),
               columns_.size());
  rows_.push_back(std::move(cells));
}

std::vector<std::size_t> Table::widths(std::size_t max_width) const {
  std::vector<std::size_t> widths;
  for (std::size_t column = 0; column < columns_.size(); ++column) {
    std::size_t width = display_width(columns_[column].title);
    for (const auto& row : rows_) width = std::max(width, display_width(row[column].text));
    widths.push_back(width);
  }
  if (max_width == 0 || columns_.empty()) return widths;
  std::size_t total = std::accumulate(widths.begin(), widths.end(), kGap * (columns_.size() - 1));
  while (total > max_width) {
    std::size_t widest = columns_.size();
    for (std::size_t column = 0; column < columns_.size(); ++column) {
      if (!columns_[column].flexible || widths[column] <= kLeastWidth) continue;
      if (widest == columns_.size() || widths[column] > widths[widest]) widest = column;
    }
    if (widest == columns_.size()) break;
    --widths[widest];
    --total;
  }
  return widths;
}

std::string Table::line(const std::vector<Cell>& cells, const std::vector<std::size_t>& widths, bool color) const {
  std::string text;
  std::size_t blanks = 0;  // owed before the next character, so that no line ends in them
  for (std::size_t column = 0; column < cells.size(); ++column) {
    const std::string shown = cut(cells[column].text, widths[column]);
    const std::size_t padding = widths[column] - display_width(shown);
    const bool right = columns_[column].align == Align::right;
    blanks += right ? padding : 0;
    if (!shown.empty()) {
      text.append(blanks, ' ');
      text += paint(shown, cells[column].style, color);
      blanks = 0;
    }
    blanks += (right ? 0 : padding) + kGap;
  }
  return text + '\n';
}

std::string Table::text(bool color, std::size_t max_width) const {
  const std::vector<std::size_t> column_widths = widths(max_width);
  std::vector<Cell> titles;
  for (const Column& column : columns_) titles.emplace_back(column.title, Style::strong);
  std::string text = line(titles, column_widths, color);
  for (const auto& row : rows_) text += line(row, column_widths, color);
  return text;
}

}  // namespace gdnjit::tool

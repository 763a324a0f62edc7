// Aligned columns of text.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tools/gdn-tune/terminal.h"

namespace gdnjit::tool {

class Table {
 public:
  enum class Align : unsigned char { left, right };

  struct Column {
    std::string title;
    Align align = Align::left;
    bool flexible = false;  // may be cut when the table is wider than the terminal
  };

  struct Cell {
    Cell(std::string cell_text, Style cell_style = Style::plain) : text(std::move(cell_text)), style(cell_style) {}
    Cell(const char* cell_text) : text(cell_text) {}
    std::string text;
    Style style = Style::plain;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // REQUIRES: one cell per column.
  void add_row(std::vector<Cell> cells);
  bool empty() const { return rows_.empty(); }

  // A line of titles and one per row, each ended by '\n'; two blanks between columns and none at the end of a line.
  // With max_width > 0 the widest flexible columns are cut, to eight characters at the least, until a line fits.
  std::string text(bool color = false, std::size_t max_width = 0) const;

 private:
  std::vector<std::size_t> widths(std::size_t max_width) const;
  std::string line(const std::vector<Cell>& cells, const std::vector<std::size_t>& widths, bool color) const;

  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace gdnjit::tool

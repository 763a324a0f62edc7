// Where a command writes. People read tables on standard output; with --json, programs read one object there and
// nothing else. Progress and warnings go to standard error.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "tools/gdn-tune/progress.h"
#include "tools/gdn-tune/table.h"
#include "tools/gdn-tune/terminal.h"

namespace gdnjit::tool {

class Console {
 public:
  Console(const Terminal& terminal, bool json, bool quiet);
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  bool json() const { return json_; }
  // Standard output, for people: nothing with --json.
  void print(std::string_view text) const;
  void print(const Table& table) const;
  // `text` in a style, if standard output shows colours.
  std::string styled(std::string_view text, Style style) const { return paint(text, style, terminal_.out_color); }
  // Standard error: "note: ..." (not with --quiet) and "warning: ...". Both make way for a progress line.
  void note(std::string_view text) const;
  void warning(std::string_view text) const;
  void error(std::string_view text) const;

  // Shown on a terminal only, and not with --quiet. At most one at a time.
  std::shared_ptr<Progress> progress(std::string title);

 private:
  void write_error(std::string_view label, Style style, std::string_view text) const;

  Terminal terminal_;
  bool json_;
  bool quiet_;
  std::weak_ptr<Progress> progress_;
};

}  // namespace gdnjit::tool

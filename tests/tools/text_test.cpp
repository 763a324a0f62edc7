#include <doctest/doctest.h>

#include "tools/gdn-tune/table.h"
#include "tools/gdn-tune/terminal.h"
#include "tools/gdn-tune/units.h"

namespace gdnjit::tool {

TEST_CASE("durations keep two units at most") {
  CHECK(duration_text(0) == "0.0 s");
  CHECK(duration_text(0.44) == "0.4 s");
  CHECK(duration_text(9.94) == "9.9 s");
  CHECK(duration_text(9.96) == "10 s");
  CHECK(duration_text(59.6) == "1 m 00 s");
  CHECK(duration_text(65) == "1 m 05 s");
  CHECK(duration_text(3599) == "59 m 59 s");
  CHECK(duration_text(7800) == "2 h 10 m");
  CHECK(duration_text(-1) == "?");
  CHECK(duration_text(1.0 / 0.0) == "?");
}

TEST_CASE("sizes, counts and ratios read as people write them") {
  CHECK(bytes_text(0) == "0 B");
  CHECK(bytes_text(1023) == "1023 B");
  CHECK(bytes_text(1024) == "1.0 KB");
  CHECK(bytes_text(13722) == "13.4 KB");
  CHECK(bytes_text((1 << 20) - 1) == "1.0 MB");
  CHECK(bytes_text(std::int64_t{3} << 30) == "3.0 GB");
  CHECK(count_text(0) == "0");
  CHECK(count_text(999) == "999");
  CHECK(count_text(1000) == "1,000");
  CHECK(count_text(1234567) == "1,234,567");
  CHECK(ratio_text(1.239) == "1.24x");
  CHECK(error_text(0) == "0");
  CHECK(error_text(0.00213) == "2.1e-03");
  CHECK(microseconds_text(3.421) == "3.42 us");
  CHECK(microseconds_text(12500) == "12.50 ms");
  CHECK(plural(1, "problem") == "1 problem");
  CHECK(plural(1200, "problem") == "1,200 problems");
}

TEST_CASE("ages use the largest unit that fits") {
  CHECK(age_text(0) == "just now");
  CHECK(age_text(59) == "just now");
  CHECK(age_text(60) == "1 minute ago");
  CHECK(age_text(7200) == "2 hours ago");
  CHECK(age_text(86400 * 3 + 5) == "3 days ago");
}

TEST_CASE("a table aligns its columns and leaves no blanks at line ends") {
  Table table({{"problem"}, {"time", Table::Align::right}, {"note"}});
  table.add_row({"B=1", "3.42 us", "measured"});
  table.add_row({"B=1024", "10 us", ""});
  CHECK(table.text() ==
        "problem     time  note\n"
        "B=1      3.42 us  measured\n"
        "B=1024     10 us\n");
}

TEST_CASE("a table counts characters, not bytes") {
  Table table({{"name"}, {"x"}});
  table.add_row({"m\xC3\xBCon", "1"});
  table.add_row({"muon+", "2"});
  CHECK(table.text() == "name   x\nm\xC3\xBCon   1\nmuon+  2\n");
}

TEST_CASE("only flexible columns are cut to the terminal's width") {
  Table table({{"fixed"}, {"tiles", Table::Align::left, true}});
  table.add_row({"0123456789", "block_v=32 lanes_k=8 warps=4"});
  CHECK(table.text(false, 24) == "fixed       tiles\n0123456789  block_v=3...\n");
  // Below eight characters nothing is gained by cutting further.
  CHECK(table.text(false, 5) == "fixed       tiles\n0123456789  block...\n");
  CHECK(table.text(false, 0).find("warps=4") != std::string::npos);
}

TEST_CASE("colours change nothing about the layout") {
  Table table({{"result"}, {"x"}});
  table.add_row({{"pass", Style::good}, "1"});
  std::string colored = table.text(true);
  CHECK(colored.find("\x1b[32mpass\x1b[0m") != std::string::npos);
  for (std::size_t at; (at = colored.find('\x1b')) != std::string::npos;) {
    colored.erase(at, colored.find('m', at) - at + 1);
  }
  CHECK(colored == table.text(false));
}

TEST_CASE("a text is cut between characters") {
  CHECK(cut("abcdef", 6) == "abcdef");
  CHECK(cut("abcdef", 5) == "ab...");
  CHECK(cut("\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC", 4) == "\xC3\xBC...");
  CHECK(cut("abcdef", 2) == "..");
  CHECK(cut("abcdef", 0).empty());
}

TEST_CASE("paint leaves plain text and colourless terminals alone") {
  CHECK(paint("x", Style::bad, false) == "x");
  CHECK(paint("x", Style::plain, true) == "x");
  CHECK(paint("", Style::bad, true).empty());
  CHECK(paint("x", Style::bad, true) == "\x1b[31mx\x1b[0m");
}

}  // namespace gdnjit::tool

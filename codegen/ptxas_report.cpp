#include "codegen/ptxas_report.h"

#include <algorithm>
#include <charconv>

#include "runtime/support/text.h"

namespace gdnjit {
namespace {

// The whole number that stands before `unit`: 40 in "Used 40 registers". 0 if the line does not have it.
int number_before(std::string_view line, std::string_view unit) {
  const std::size_t at = line.find(unit);
  if (at == std::string_view::npos) return 0;
  std::size_t begin = at;
  while (begin > 0 && line[begin - 1] >= '0' && line[begin - 1] <= '9') --begin;
  int value = 0;
  std::from_chars(line.data() + begin, line.data() + at, value);
  return value;
}

bool contains(std::string_view line, std::string_view part) { return line.find(part) != std::string_view::npos; }

// "... entry function 'name' for ..." -> name.
std::string_view quoted_name(std::string_view line) {
  const std::size_t open = line.find('\'');
  if (open == std::string_view::npos) return {};
  const std::size_t close = line.find('\'', open + 1);
  return close == std::string_view::npos ? std::string_view{} : line.substr(open + 1, close - open - 1);
}

}  // namespace

std::optional<PtxasReport> parse_ptxas_report(std::string_view log, std::string_view entry) {
  PtxasReport report;
  bool inside = false;
  bool used_seen = false;
  for (const std::string& line : split(log, '\n')) {
    if (contains(line, "Compiling entry function")) {
      inside = quoted_name(line) == entry;
    } else if (!inside) {
      continue;
    } else if (contains(line, " bytes stack frame")) {
      report.stack_bytes += number_before(line, " bytes stack frame");
      report.spill_store_bytes += number_before(line, " bytes spill stores");
      report.spill_load_bytes += number_before(line, " bytes spill loads");
    } else if (contains(line, "Used ") && contains(line, " registers")) {
      report.registers = number_before(line, " registers");
      report.barriers = number_before(line, " barriers");
      report.static_shared_bytes = number_before(line, " bytes smem");
      used_seen = true;
    }
  }
  if (!used_seen) return std::nullopt;
  return report;
}

std::string reproducible_log(std::string_view log) {
  std::string kept;
  for (const std::string& line : split(log, '\n')) {
    if (!line.empty() && !contains(line, "Compile time = ")) kept += line + "\n";
  }
  return kept;
}

std::string first_error_of(std::string_view log) {
  for (const std::string& line : split(log, '\n')) {
    const bool error = contains(line, ": error") || contains(line, "catastrophic error") ||
                       contains(line, "ptxas fatal") || contains(line, "; error") || contains(line, "nvrtc: error");
    if (error) return line.substr(std::min(line.size(), line.find_first_not_of(' ')));
  }
  return "";
}

}  // namespace gdnjit

// Tuning records as text that people review: one JSON object a line, the fields of fields.h in their order, enums by
// name, a digest as hexadecimal digits, a number that JSON lacks as "nan", "inf" or "-inf". The winner of a group has
// "chosen_unix_s", the time of the choice. Empty lines and lines that begin with '#' are skipped.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "cache/record.h"

namespace gdnjit::cache {

// `chosen_unix_s` counts if record.chosen.
std::string text_of(const TuningRecord& record, std::int64_t chosen_unix_s);

// Throws Error(invalid_argument) that says what is wrong with the line.
struct ParsedTuning {
  TuningRecord record;
  std::int64_t chosen_unix_s = 0;
};
ParsedTuning parse_tuning(std::string_view line);

}  // namespace gdnjit::cache

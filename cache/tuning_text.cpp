#include "cache/tuning_text.h"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "cache/row.h"
#include "runtime/support/check.h"
#include "runtime/support/text.h"

namespace gdnjit::cache {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kChosen = "chosen_unix_s";

const std::vector<std::string>& names(TuningStatus) {
  static const std::vector<std::string> list{"ok", "wrong", "crashed", "hung", "rejected"};
  return list;
}
const std::vector<std::string>& names(TuningBasis) {
  static const std::vector<std::string> list{"measured", "modelled"};
  return list;
}

template <typename Field>
Json json_of(const Field& field) {
  if constexpr (std::is_same_v<Field, Digest>) {
    return field.hex();
  } else if constexpr (std::is_enum_v<Field>) {
    const auto& list = names(field);
    const auto index = static_cast<std::size_t>(field);
    return index < list.size() ? Json(list[index]) : Json(static_cast<int>(field));
  } else if constexpr (std::is_same_v<Field, double>) {
    if (std::isnan(field)) return "nan";
    if (std::isinf(field)) return field > 0 ? "inf" : "-inf";
    return field;
  } else {
    return field;
  }
}

[[noreturn]] void refuse(const char* name, const Json& value, std::string_view rule) {
  fail(ErrorCode::invalid_argument, "{}={}: {}", name, value.dump(-1, ' ', false, Json::error_handler_t::replace),
       rule);
}

void read(const char* name, const Json& value, Digest& digest) {
  const std::string text = value.is_string() ? value.get<std::string>() : "";
  const auto half = [&](std::size_t at, std::uint64_t& to) {
    const char* end = text.data() + at + 16;
    return std::from_chars(text.data() + at, end, to, 16).ptr == end;
  };
  if (text.size() != 32 || !half(0, digest.high) || !half(16, digest.low)) {
    refuse(name, value, "must be 32 hexadecimal digits");
  }
}

void read(const char* name, const Json& value, double& number) {
  if (value.is_number()) {
    number = value.get<double>();
  } else if (value == "nan") {
    number = std::numeric_limits<double>::quiet_NaN();
  } else if (value == "inf" || value == "-inf") {
    number = value == "inf" ? std::numeric_limits<double>::infinity() : -std::numeric_limits<double>::infinity();
  } else {
    refuse(name, value, "must be a number, \"nan\", \"inf\" or \"-inf\"");
  }
}

void read(const char* name, const Json& value, std::string& text) {
  if (!value.is_string()) refuse(name, value, "must be a text");
  text = value.get<std::string>();
}

void read(const char* name, const Json& value, bool& truth) {
  if (!value.is_boolean()) refuse(name, value, "must be true or false");
  truth = value.get<bool>();
}

template <typename Field>
requires std::is_enum_v<Field>
void read(const char* name, const Json& value, Field& field) {
  const auto& list = names(field);
  const std::string word = value.is_string() ? value.get<std::string>() : "";
  const auto found = std::find(list.begin(), list.end(), word);
  if (found == list.end()) refuse(name, value, "is not one of " + join(list, ", "));
  field = static_cast<Field>(found - list.begin());
}

template <typename Field>
requires std::is_integral_v<Field>
void read(const char* name, const Json& value, Field& field) {
  if (!value.is_number_integer()) refuse(name, value, "must be a whole number");
  field = value.get<Field>();
}

}  // namespace

std::string text_of(const TuningRecord& record, std::int64_t chosen_unix_s) {
  Json line;
  visit_fields(record, [&](const char* name, const auto& field) { line[name] = json_of(field); });
  if (record.chosen) line[kChosen] = chosen_unix_s;
  return line.dump(-1, ' ', false, Json::error_handler_t::replace);
}

ParsedTuning parse_tuning(std::string_view text) {
  const Json line = Json::parse(text, nullptr, false);
  if (!line.is_object()) fail(ErrorCode::invalid_argument, "not a JSON object");
  ParsedTuning parsed;
  std::set<std::string> known{kChosen};
  visit_fields(parsed.record, [&](const char* name, auto& field) {
    known.insert(name);
    if (!line.contains(name)) fail(ErrorCode::invalid_argument, "the field '{}' is missing", name);
    read(name, line[name], field);
  });
  for (const auto& [name, value] : line.items()) {
    if (known.contains(name)) continue;
    const std::vector<std::string> words(known.begin(), known.end());
    fail(ErrorCode::invalid_argument, "unknown field '{}'{}", name, suggestion(name, words));
  }
  parsed.record.chosen = line.contains(kChosen);
  if (parsed.record.chosen) read(kChosen, line[kChosen], parsed.chosen_unix_s);
  return parsed;
}

}  // namespace gdnjit::cache

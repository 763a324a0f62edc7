#include "codegen/fields.h"

#include <algorithm>
#include <cmath>

namespace gdnjit {

std::optional<std::string_view> find_field(const FieldMap& fields, std::string_view name) {
  const auto found = std::find_if(fields.begin(), fields.end(), [&](const auto& field) { return field.first == name; });
  if (found == fields.end()) return std::nullopt;
  return found->second;
}

void set_field(FieldMap& fields, std::string_view name, std::string value) {
  for (auto& field : fields) {
    if (field.first == name) {
      field.second = std::move(value);
      return;
    }
  }
  fields.emplace_back(name, std::move(value));
}

std::string fields_text(const FieldMap& fields) {
  std::string text;
  for (const auto& [name, value] : fields) {
    if (!text.empty()) text += ' ';
    text += fmt::format("{}={}", name, value);
  }
  return text;
}

FieldMap parse_fields(std::string_view text) {
  FieldMap fields;
  for (const std::string& piece : split(text, ' ')) {
    if (piece.empty()) continue;
    const std::size_t equals = piece.find('=');
    require(equals != std::string::npos && equals > 0, "'{}': expected name=value", piece);
    fields.emplace_back(piece.substr(0, equals), piece.substr(equals + 1));
  }
  return fields;
}

FieldMap subfields(const FieldMap& fields, std::string_view part) {
  const std::string prefix = fmt::format("{}.", part);
  FieldMap own;
  for (const auto& [name, value] : fields) {
    if (name.starts_with(prefix)) own.emplace_back(name.substr(prefix.size()), value);
  }
  return own;
}

FieldMap without_subfields(const FieldMap& fields) {
  FieldMap own = fields;
  std::erase_if(own, [](const auto& field) { return field.first.find('.') != std::string::npos; });
  return own;
}

void add_subfields(FieldMap& fields, std::string_view part, const FieldMap& own) {
  for (const auto& [name, value] : own) set_field(fields, fmt::format("{}.{}", part, name), value);
}

namespace detail {

std::string float_text(float value) { return fmt::format("{}", value); }

bool parse_value(std::string_view text, float& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && std::isfinite(value);
}

bool parse_value(std::string_view text, bool& value) {
  value = text == "true" || text == "1" || text == "yes";
  return value || text == "false" || text == "0" || text == "no";
}

}  // namespace detail

}  // namespace gdnjit

// Structs as lists of named fields. A struct with visit_fields(self, visitor) gets, from that one list, its text
// form, its parser, its C++ initialiser for generated source, and its command-line names.
#pragma once

#include <gdnjit/dtype.h>

#include <array>
#include <charconv>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "runtime/support/check.h"
#include "runtime/support/text.h"

namespace gdnjit {

// Field names and values as text, in declaration order. The exchange form between rooms: command line, tuning
// records, JSON. Hot paths use the typed structs.
using FieldMap = std::vector<std::pair<std::string, std::string>>;

std::optional<std::string_view> find_field(const FieldMap& fields, std::string_view name);
void set_field(FieldMap& fields, std::string_view name, std::string value);  // replaces or appends
std::string fields_text(const FieldMap& fields);                             // "H=16 HV=32 ..."
FieldMap parse_fields(std::string_view text);  // inverse of fields_text; throws invalid_argument

// Specialise for each enum that is a field: `type` as written in generated source and `names` in value order.
template <typename Enum>
struct EnumNames;

template <>
struct EnumNames<DType> {
  static constexpr std::string_view type = "gdnjit::DType";
  static constexpr std::array<std::string_view, 6> names{"f32", "bf16", "f16", "i32", "i64", "u8"};
};

template <typename Enum>
requires std::is_enum_v<Enum> std::string_view enum_name(Enum value) {
  return EnumNames<Enum>::names.at(static_cast<std::size_t>(value));
}

namespace detail {

struct AnyValue {
  template <typename T>
  constexpr operator T() const;  // never defined: only for counting members
};

template <typename T, typename... Values>
constexpr std::size_t count_members() {
  if constexpr (requires { T{Values{}..., AnyValue{}}; }) {
    return count_members<T, Values..., AnyValue>();
  } else {
    return sizeof...(Values);
  }
}

template <typename T>
constexpr std::size_t count_visited() {
  T value{};
  std::size_t count = 0;
  visit_fields(value, [&](std::string_view, auto&) { ++count; });
  return count;
}

std::string float_text(float value);  // shortest text that reads back to the same float
bool parse_value(std::string_view text, float& value);
bool parse_value(std::string_view text, bool& value);

template <std::integral T>
requires(!std::same_as<T, bool>) bool parse_value(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace detail

// True if visit_fields names every member. Use in a static_assert beside the struct's operator.
template <typename T>
constexpr bool every_field_visited() {
  return detail::count_members<T>() == detail::count_visited<T>();
}

template <typename T>
std::string value_text(const T& value) {
  if constexpr (std::is_enum_v<T>) {
    return std::string(enum_name(value));
  } else if constexpr (std::same_as<T, float>) {
    return detail::float_text(value);
  } else if constexpr (std::same_as<T, bool>) {
    return value ? "true" : "false";
  } else {
    return fmt::format("{}", value);
  }
}

// Parses one value; the message names field, value and what is allowed.
template <typename T>
void parse_field(std::string_view name, std::string_view text, T& value) {
  if constexpr (std::is_enum_v<T>) {
    const auto& names = EnumNames<T>::names;
    for (std::size_t index = 0; index < names.size(); ++index) {
      if (names[index] == text) {
        value = static_cast<T>(index);
        return;
      }
    }
    const std::vector<std::string> known(names.begin(), names.end());
    fail(ErrorCode::invalid_argument, "{}={}: unknown value{}", name, text, suggestion(text, known));
  } else {
    require(detail::parse_value(text, value), "{}={}: not a {}", name, text,
            std::same_as<T, bool>    ? "boolean (true, false)"
            : std::same_as<T, float> ? "number"
                                     : "whole number");
  }
}

template <typename T>
FieldMap to_fields(const T& object) {
  static_assert(every_field_visited<T>(), "visit_fields leaves out a member");
  FieldMap fields;
  visit_fields(object, [&](std::string_view name, const auto& value) { fields.emplace_back(name, value_text(value)); });
  return fields;
}

// Starts from `object` (the defaults) and sets the given fields. Unknown names throw with a suggestion.
template <typename T>
T from_fields(const FieldMap& fields, T object = {}) {
  for (const auto& [name, text] : fields) {
    bool known = false;
    visit_fields(object, [&, &wanted = name, &value_text = text](std::string_view field, auto& value) {
      if (field != wanted) return;
      parse_field(field, value_text, value);
      known = true;
    });
    if (known) continue;
    std::vector<std::string> names;
    visit_fields(object, [&](std::string_view field, auto&) { names.emplace_back(field); });
    fail(ErrorCode::invalid_argument, "unknown field '{}'{}", name, suggestion(name, names));
  }
  return object;
}

// `to` with every field that `from` has too, by name and type.
template <typename To, typename From>
To with_fields_of(const From& from, To to = {}) {
  visit_fields(to, [&](std::string_view wanted, auto& target) {
    visit_fields(from, [&](std::string_view name, const auto& value) {
      if constexpr (std::is_same_v<std::remove_cvref_t<decltype(value)>, std::remove_cvref_t<decltype(target)>>) {
        if (name == wanted) target = value;
      }
    });
  });
  return to;
}

// A C++ initialiser with designated fields, for generated source: "{.block_v = 16, .gate = gdnjit::gdn::Gate::raw}".
// REQUIRES: visit_fields uses the member names. Floats are written in hexadecimal, so they are exact.
template <typename T>
std::string designated_initializer(const T& object) {
  static_assert(every_field_visited<T>(), "visit_fields leaves out a member");
  std::string text;
  visit_fields(object, [&](std::string_view name, const auto& value) {
    using Value = std::remove_cvref_t<decltype(value)>;
    std::string literal;
    if constexpr (std::is_enum_v<Value>) {
      literal = fmt::format("{}::{}", EnumNames<Value>::type, enum_name(value));
    } else if constexpr (std::same_as<Value, float>) {
      literal = fmt::format("{:a}f", value);
    } else {
      literal = value_text(value);
    }
    text += fmt::format("    .{} = {},\n", name, literal);
  });
  return "{\n" + text + "}";
}

}  // namespace gdnjit

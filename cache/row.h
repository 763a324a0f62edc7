// Rows from records and back, driven by the field lists of fields.h. The checksum of a row covers every field.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "cache/database.h"
#include "cache/fields.h"

namespace gdnjit::cache {

using DigestBytes = std::array<std::byte, 16>;

inline DigestBytes bytes_of(const Digest& digest) {
  DigestBytes bytes{};
  for (int i = 0; i < 8; ++i) {
    bytes[static_cast<std::size_t>(i)] = static_cast<std::byte>(digest.high >> (56 - 8 * i));
    bytes[static_cast<std::size_t>(i + 8)] = static_cast<std::byte>(digest.low >> (56 - 8 * i));
  }
  return bytes;
}

inline Digest digest_from(std::span<const std::byte> bytes) {
  Digest digest;
  if (bytes.size() != 16) return digest;
  for (std::size_t i = 0; i < 8; ++i) {
    digest.high = digest.high << 8 | static_cast<std::uint64_t>(bytes[i]);
    digest.low = digest.low << 8 | static_cast<std::uint64_t>(bytes[i + 8]);
  }
  return digest;
}

template <typename Field>
concept Integral = std::is_integral_v<Field> || std::is_enum_v<Field>;

// Feeds the fields of a record, in order, into one digest.
class ChecksumBuilder {
 public:
  void operator()(const char*, const Digest& field) { add(field); }
  void operator()(const char*, const std::string& field) { add(digest_of(std::string_view(field))); }
  void operator()(const char*, const std::vector<std::byte>& field) { add(digest_of(std::span(field))); }
  void operator()(const char*, double field) {
    if (std::isnan(field)) field = std::numeric_limits<double>::quiet_NaN();
    if (field == 0) field = 0;  // SQLite does not keep the sign of a zero
    add(std::bit_cast<std::uint64_t>(field));
  }
  void operator()(const char*, Integral auto field) { add(static_cast<std::uint64_t>(field)); }

  Digest digest() const { return digest_of(std::span<const std::byte>(text_)); }

 private:
  void add(const Digest& digest) {
    const DigestBytes bytes = bytes_of(digest);
    text_.insert(text_.end(), bytes.begin(), bytes.end());
  }
  void add(std::uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8) text_.push_back(static_cast<std::byte>(value >> shift));
  }

  std::vector<std::byte> text_;
};

template <typename Record>
Digest checksum_of(const Record& record) {
  ChecksumBuilder builder;
  visit_fields(record, builder);
  return builder.digest();
}

// "key,request,...": all columns but the checksum.
template <typename Record>
const std::string& column_names() {
  static const std::string names = [] {
    std::string text;
    const Record record{};
    visit_fields(record, [&](const char* column, const auto&) { text.append(text.empty() ? "" : ",").append(column); });
    return text;
  }();
  return names;
}

// "SELECT checksum,id,<columns> FROM <table> <rest>", for read_row().
template <typename Record>
std::string select_sql(std::string_view rest) {
  std::string sql = "SELECT checksum,id," + column_names<Record>() + " FROM " + TableOf<Record>::kName + " ";
  return sql.append(rest);
}

// Adds the row, in place of any row of the same identity.
template <typename Record>
bool write_row(Database& database, const Record& record) {
  static const std::string sql = [] {
    std::string text = std::string("INSERT OR REPLACE INTO ") + TableOf<Record>::kName + " (" + column_names<Record>() +
                       ",checksum) VALUES (?";
    for (const char c : column_names<Record>()) text += c == ',' ? ",?" : "";
    return text + ",?)";
  }();
  std::vector<DigestBytes> digests;  // bound by address, so it must not grow
  digests.reserve(3);
  Query query(database, sql);
  visit_fields(record, [&]<typename Field>(const char*, const Field& field) {
    if constexpr (std::is_same_v<Field, Digest>) {
      query.bind(std::span<const std::byte>(digests.emplace_back(bytes_of(field))));
    } else if constexpr (Integral<Field>) {
      query.bind(static_cast<std::int64_t>(field));
    } else if constexpr (std::is_same_v<Field, std::vector<std::byte>>) {
      query.bind(std::span(field));
    } else if constexpr (std::is_same_v<Field, std::string>) {
      query.bind(std::string_view(field));
    } else {
      query.bind(field);
    }
  });
  query.bind(std::span<const std::byte>(digests.emplace_back(bytes_of(checksum_of(record)))));
  return query.run();
}

// Reads the row under `query`, which runs a select_sql(). False: the checksum tells that the row is damaged.
template <typename Record>
bool read_row(const Query& query, Record& record) {
  int column = 2;
  visit_fields(record, [&]<typename Field>(const char*, Field& field) {
    if constexpr (std::is_same_v<Field, Digest>) {
      field = digest_from(query.bytes(column));
    } else if constexpr (Integral<Field>) {
      field = static_cast<Field>(query.integer(column));
    } else if constexpr (std::is_same_v<Field, std::vector<std::byte>>) {
      const auto bytes = query.bytes(column);
      field.assign(bytes.begin(), bytes.end());
    } else if constexpr (std::is_same_v<Field, std::string>) {
      field = query.text(column);
    } else {
      field = query.real(column);
    }
    ++column;
  });
  return digest_from(query.bytes(0)) == checksum_of(record);
}

inline std::int64_t row_id(const Query& query) { return query.integer(1); }

}  // namespace gdnjit::cache

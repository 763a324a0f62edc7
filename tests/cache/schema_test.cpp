#include "cache/schema.h"

#include <doctest/doctest.h>

#include <set>

#include "cache/row.h"
#include "cache/user_file.h"
#include "tests/cache/fixture.h"

using namespace gdnjit;
using namespace gdnjit::cache;
using namespace gdnjit::cache::test;

namespace {

template <typename Record>
void check_columns(Database& database) {
  std::set<std::string> listed{"id", "checksum"};
  const Record record{};
  visit_fields(record, [&](const char* name, const auto&) { CHECK(listed.insert(name).second); });
  std::set<std::string> stored;
  const std::string sql = std::string("SELECT name FROM pragma_table_info('") + TableOf<Record>::kName + "')";
  Query query(database, sql);
  while (query.next()) stored.emplace(query.text(0));
  CHECK(stored == listed);
}

// Every field in turn differs from the default, and the checksum tells.
template <typename Record>
void check_checksum_covers_all() {
  std::set<std::string> seen{checksum_of(Record{}).hex()};
  std::size_t fields = 0;
  const Record defaults{};
  visit_fields(defaults, [&](const char*, const auto&) { ++fields; });
  for (std::size_t changed = 0; changed < fields; ++changed) {
    Record record{};
    std::size_t index = 0;
    visit_fields(record, [&]<typename Field>(const char*, Field& field) {
      if (index++ != changed) return;
      if constexpr (std::is_same_v<Field, Digest>) {
        field.low = 1;
      } else if constexpr (std::is_same_v<Field, std::string>) {
        field = "x";
      } else if constexpr (std::is_same_v<Field, std::vector<std::byte>>) {
        field.resize(1);
      } else {
        field = static_cast<Field>(1);
      }
    });
    CHECK_MESSAGE(seen.insert(checksum_of(record).hex()).second, "field ", changed);
  }
}

}  // namespace

TEST_CASE("the tables have the columns of the field lists and no others") {
  const TempDir dir;
  Database database(filled(dir.path(), 1), OpenMode::read_only, 0);
  check_columns<BinaryRecord>(database);
  check_columns<TuningRecord>(database);
  check_columns<Choice>(database);
  check_columns<ToolchainRow>(database);
  CHECK(database.integer("PRAGMA application_id") == kApplicationId);
  CHECK(database.integer("PRAGMA user_version") == kSchemaVersion);
  CHECK(read_bytes(dir / kFileName).substr(68, 4) == "gdnj");
}

TEST_CASE("a checksum covers every field and does not confuse one with another") {
  check_checksum_covers_all<BinaryRecord>();
  check_checksum_covers_all<TuningRecord>();
  check_checksum_covers_all<Choice>();
  check_checksum_covers_all<ToolchainRow>();
}

TEST_CASE("the stored checksum of a record is fixed by the format") {
  // If this changes, every cache in the world is rebuilt: raise kSchemaVersion.
  CHECK(checksum_of(binary(1, 16)).hex() == "7f21dacf76b7443fda09430975e5f0d5");
}

// The stored format and its versions.
#pragma once

#include <cstdint>
#include <span>

#include "cache/database.h"

namespace gdnjit::cache {

// In the file's header, so that `file` and we tell a kernel cache from any other SQLite database: "gdnj".
inline constexpr std::int64_t kApplicationId = 0x67646e6a;
// Raise it with each migration added to schema.cpp.
inline constexpr int kSchemaVersion = 1;

enum class SchemaState {
  ready,
  empty,    // a new file, and the caller did not allow to fill it
  older,    // of an earlier version, and the caller did not allow to migrate it
  newer,    // written by a later version: to be left alone
  foreign,  // a database of another program
  failed,   // see the Database
};

// One step forward: SQL that takes version `from` to `from + 1`. Steps are never edited once released.
struct Migration {
  int from;
  const char* sql;
};
std::span<const Migration> migrations();

// Looks at the header. With `may_write`, fills an empty file and migrates an older one, in one transaction.
SchemaState prepare_schema(Database& database, bool may_write);
// The same with given steps; the version aimed at is that of the last step.
SchemaState prepare_schema(Database& database, bool may_write, std::span<const Migration> steps);

}  // namespace gdnjit::cache

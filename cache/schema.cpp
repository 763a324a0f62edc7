#include "cache/schema.h"

#include <fmt/format.h>

#include <array>

namespace gdnjit::cache {
namespace {

// The stored format.
//
//   file      := header binary* use* result* choice* toolchain*
//   header    := application_id "gdnj", user_version = schema version, page size 4096
//   binary    := one compile: the columns of BinaryRecord, checksum               (table binaries, unique by key)
//   use       := key, last_used_unix_s                                            (table uses)
//   result    := one candidate: the columns of TuningRecord but `chosen`, checksum
//                                   (table tuning, unique by operator problem device deployment basis tiles)
//   choice    := operator problem device deployment basis -> tiles, chosen_unix_s, checksum   (table choices)
//   toolchain := path -> size, modified_ns, toolchain, turn, checksum             (table toolchains)
//   digest    := 16 bytes, high word first, most significant byte first           (key, request, checksum)
//   checksum  := digest of the concatenated digests of all other columns, in the order of fields.h; an integer is
//                8 bytes and a real its 8 IEEE bytes, least significant first, with one NaN and one zero
//
// Rows of `binaries` are written once; what changes with use sits in `uses`, which has no checksum because a wrong
// time there costs at most a recompilation. Large columns come last: a reader of the small ones does not follow
// their overflow pages.
//
// Version history:
//   1  the first.
constexpr const char* kVersion1 = R"sql(
CREATE TABLE binaries (
  id INTEGER PRIMARY KEY,
  key BLOB NOT NULL UNIQUE,
  request BLOB NOT NULL,
  status INTEGER NOT NULL,
  operator TEXT NOT NULL,
  signature TEXT NOT NULL,
  arch TEXT NOT NULL,
  options TEXT NOT NULL,
  toolchain TEXT NOT NULL,
  entry TEXT NOT NULL,
  registers INTEGER NOT NULL,
  static_shared_bytes INTEGER NOT NULL,
  stack_bytes INTEGER NOT NULL,
  spill_store_bytes INTEGER NOT NULL,
  spill_load_bytes INTEGER NOT NULL,
  compile_ms REAL,
  created_unix_s INTEGER NOT NULL,
  checksum BLOB NOT NULL,
  log TEXT NOT NULL,
  source TEXT NOT NULL,
  ptx TEXT NOT NULL,
  cubin BLOB NOT NULL
);
CREATE INDEX binaries_request ON binaries (request, status, created_unix_s);
CREATE TABLE uses (
  key BLOB PRIMARY KEY,
  last_used_unix_s INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE tuning (
  id INTEGER PRIMARY KEY,
  operator TEXT NOT NULL,
  problem TEXT NOT NULL,
  device TEXT NOT NULL,
  deployment TEXT NOT NULL,
  basis INTEGER NOT NULL,
  tiles TEXT NOT NULL,
  arch TEXT NOT NULL,
  status INTEGER NOT NULL,
  is_default INTEGER NOT NULL,
  time_us REAL,
  spread_us REAL,
  samples INTEGER NOT NULL,
  error REAL,
  key BLOB NOT NULL,
  toolchain TEXT NOT NULL,
  reason TEXT NOT NULL,
  created_unix_s INTEGER NOT NULL,
  checksum BLOB NOT NULL,
  UNIQUE (operator, problem, device, deployment, basis, tiles)
);
CREATE TABLE choices (
  id INTEGER PRIMARY KEY,
  operator TEXT NOT NULL,
  problem TEXT NOT NULL,
  device TEXT NOT NULL,
  deployment TEXT NOT NULL,
  basis INTEGER NOT NULL,
  tiles TEXT NOT NULL,
  chosen_unix_s INTEGER NOT NULL,
  checksum BLOB NOT NULL,
  UNIQUE (operator, problem, device, deployment, basis)
);
CREATE TABLE toolchains (
  id INTEGER PRIMARY KEY,
  path TEXT NOT NULL UNIQUE,
  size INTEGER NOT NULL,
  modified_ns INTEGER NOT NULL,
  toolchain TEXT NOT NULL,
  turn INTEGER NOT NULL,
  checksum BLOB NOT NULL
);
)sql";

constexpr std::array kMigrations{Migration{0, kVersion1}};
static_assert(kMigrations.size() == kSchemaVersion);

SchemaState state_of(Database& database, int version_aimed_at) {
  const std::int64_t application = database.integer("PRAGMA application_id");
  const std::int64_t version = database.integer("PRAGMA user_version");
  if (!database.ok()) return SchemaState::failed;
  if (application == 0 && version == 0) {
    const std::int64_t tables = database.integer("SELECT count(*) FROM sqlite_master");
    if (!database.ok()) return SchemaState::failed;
    return tables == 0 ? SchemaState::empty : SchemaState::foreign;
  }
  if (application != kApplicationId || version < 1) return SchemaState::foreign;
  if (version > version_aimed_at) return SchemaState::newer;
  return version < version_aimed_at ? SchemaState::older : SchemaState::ready;
}

// All of the header is read from one state of the file: another process may fill it at this moment, and half of its
// header would look like that of a foreign file.
SchemaState look(Database& database, int version_aimed_at) {
  if (database.in_transaction()) return state_of(database, version_aimed_at);
  if (!database.run("BEGIN")) return SchemaState::failed;
  const SchemaState state = state_of(database, version_aimed_at);
  if (!database.run("COMMIT")) {
    // After a failure run() does nothing; the transaction must still end.
    database.end_transaction();
    return SchemaState::failed;
  }
  return state;
}

}  // namespace

std::span<const Migration> migrations() { return kMigrations; }

SchemaState prepare_schema(Database& database, bool may_write) {
  return prepare_schema(database, may_write, migrations());
}

SchemaState prepare_schema(Database& database, bool may_write, std::span<const Migration> steps) {
  const int aim = steps.back().from + 1;
  SchemaState state = look(database, aim);
  if (!may_write || (state != SchemaState::empty && state != SchemaState::older)) return state;

  Transaction transaction(database);
  if (!transaction.open()) return SchemaState::failed;
  // Another process may have done it while this one waited for the lock.
  state = look(database, aim);
  if (state != SchemaState::empty && state != SchemaState::older) return state;
  const std::int64_t version = database.integer("PRAGMA user_version");
  for (const Migration& step : steps) {
    if (step.from >= version && !database.run(step.sql)) return SchemaState::failed;
  }
  const std::string header = fmt::format("PRAGMA application_id={}; PRAGMA user_version={}", kApplicationId, aim);
  if (!database.run(header.c_str()) || !transaction.commit()) return SchemaState::failed;
  return SchemaState::ready;
}

}  // namespace gdnjit::cache

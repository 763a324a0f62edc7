// SQLite without exceptions: every failure is a value, kept in the Database until it is asked for.
// One Database is one connection, used by one thread at a time (its owner holds a mutex) and by the process that
// opened it (a connection does not survive fork).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

struct sqlite3;
struct sqlite3_stmt;

namespace gdnjit::cache {

enum class OpenMode {
  read_write,  // the file must exist (an empty one is an empty database)
  read_only,   // others may write to it meanwhile; what a killed writer left half-done is rolled back if possible
  immutable,   // nobody writes to it: no locks, no journal, works in a read-only folder
};

// What went wrong, sorted by what a cache does about it.
enum class Trouble {
  none,
  locked,     // somebody holds the file; try later
  corrupt,    // not a database, or a damaged one
  mismatch,   // our SQL does not fit its tables
  moved,      // the file is no longer at its path
  read_only,  // reading works, writing never will
  failed,     // full disk, input or output error, no memory
};

class Database {
 public:
  Database(const std::filesystem::path& file, OpenMode mode, int busy_timeout_ms);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  // The first failure since clear(), and its text for people.
  Trouble trouble() const { return trouble_; }
  const std::string& text() const { return text_; }
  bool ok() const { return trouble_ == Trouble::none; }
  void clear();
  // Notes a failure that SQLite does not see.
  void fail(Trouble what, std::string text);

  // Runs statements that return no rows.
  bool run(const char* sql);
  // The first column of the first row; 0 if there is none.
  std::int64_t integer(std::string_view sql);
  // True while the file at the path is the one that is open.
  bool in_place() const;
  bool writable() const;
  bool in_transaction() const;
  // Rolls back whatever is open, also after a failure.
  void end_transaction();

  // Drops the handle without touching it: for the child of a fork, where closing would harm the parent's locks.
  void abandon();

 private:
  friend class Query;
  friend class Transaction;
  sqlite3_stmt* prepared(std::string_view sql);
  bool prepare_to_write();
  void note(int code);

  sqlite3* handle_ = nullptr;
  bool query_only_ = false;
  bool journal_set_ = false;
  std::unordered_map<std::string, sqlite3_stmt*> statements_;
  Trouble trouble_ = Trouble::none;
  std::string text_;
};

// One run of a statement. Bound text and bytes must live until the Query is gone; so must the Database.
// Destroying it ends the run, which also gives up the read lock.
class Query {
 public:
  Query(Database& database, std::string_view sql);
  ~Query();
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;

  // Parameters are bound from left to right. A NaN is stored as NULL and read back as NaN.
  Query& bind(std::int64_t value);
  Query& bind(double value);
  Query& bind(std::string_view text);
  Query& bind(std::span<const std::byte> bytes);

  bool next();  // true: a row can be read; false: the end, or a failure noted in the Database
  bool run();   // to the end; true unless it failed

  std::int64_t integer(int column) const;
  double real(int column) const;
  std::string_view text(int column) const;             // valid until next()
  std::span<const std::byte> bytes(int column) const;  // valid until next()

 private:
  void check(int code);

  Database& database_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

// Rolls back unless committed. BEGIN IMMEDIATE: a writer waits at the start, where waiting is safe. REQUIRES: the file
// is known to be ours, because the first one on a connection sets the journal up, which changes a file in WAL mode.
class Transaction {
 public:
  explicit Transaction(Database& database);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  bool open() const { return open_; }
  bool commit();

 private:
  Database& database_;
  bool open_ = false;
};

}  // namespace gdnjit::cache

#include "cache/database.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include <cmath>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

namespace gdnjit::cache {
namespace {

// No stored value is near this; a damaged length field must not make SQLite allocate a gigabyte.
constexpr int kMaxValueBytes = 256 << 20;

Trouble classify(int code) {
  switch (code) {
    case SQLITE_READONLY_DBMOVED: return Trouble::moved;
    case SQLITE_IOERR_SHORT_READ:
    case SQLITE_IOERR_CORRUPTFS: return Trouble::corrupt;
    default: break;
  }
  switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL: return Trouble::locked;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT: return Trouble::corrupt;
    case SQLITE_ERROR:
    case SQLITE_SCHEMA:
    case SQLITE_MISMATCH:
    case SQLITE_CONSTRAINT:
    case SQLITE_RANGE: return Trouble::mismatch;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH: return Trouble::read_only;
    default: return Trouble::failed;
  }
}

// An absolute path as a file: URI; a path may hold any of "?#%" and a URI may not.
std::string uri_of(const std::string& path, std::string_view query) {
  std::string uri = "file:";
  for (const char c : path) {
    if (c == '?' || c == '#' || c == '%') {
      uri += fmt::format("%{:02x}", static_cast<unsigned char>(c));
    } else {
      uri += c;
    }
  }
  return uri.append(query);
}

// Handles of a parent process. Kept reachable, never used, never closed.
void keep_forever(sqlite3* handle) {
  static auto* mutex = new std::mutex;
  static auto* handles = new std::vector<sqlite3*>;
  std::lock_guard lock(*mutex);
  handles->push_back(handle);
}

}  // namespace

Database::Database(const std::filesystem::path& file, OpenMode mode, int busy_timeout_ms) {
  std::error_code ignored;
  std::filesystem::path absolute = std::filesystem::absolute(file, ignored);
  const std::string path = (absolute.empty() ? file : absolute).string();
  const bool immutable = mode == OpenMode::immutable;
  const int flags = SQLITE_OPEN_NOMUTEX | (immutable ? SQLITE_OPEN_READONLY | SQLITE_OPEN_URI : SQLITE_OPEN_READWRITE);
  const std::string name = immutable ? uri_of(path, "?mode=ro&immutable=1") : path;
  const int code = sqlite3_open_v2(name.c_str(), &handle_, flags, nullptr);
  if (code != SQLITE_OK) {
    note(code);
    return;
  }
  sqlite3_extended_result_codes(handle_, 1);
  sqlite3_busy_timeout(handle_, busy_timeout_ms);
  sqlite3_limit(handle_, SQLITE_LIMIT_LENGTH, kMaxValueBytes);
  sqlite3_db_config(handle_, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_db_config(handle_, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  query_only_ = mode != OpenMode::read_write;
  run(query_only_ ? "PRAGMA cell_size_check=ON; PRAGMA query_only=ON" : "PRAGMA cell_size_check=ON");
}

Database::~Database() {
  for (auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close_v2(handle_);
}

void Database::abandon() {
  if (handle_) keep_forever(handle_);
  statements_.clear();
  handle_ = nullptr;
  trouble_ = Trouble::failed;
  text_ = "opened by another process";
}

void Database::clear() {
  if (!handle_) return;
  trouble_ = Trouble::none;
  text_.clear();
}

void Database::fail(Trouble what, std::string text) {
  if (trouble_ != Trouble::none) return;
  trouble_ = what;
  text_ = std::move(text);
}

void Database::note(int code) {
  if (trouble_ != Trouble::none) return;
  trouble_ = classify(code);
  text_ = fmt::format("{} (SQLite {})", handle_ ? sqlite3_errmsg(handle_) : sqlite3_errstr(code), code);
}

// Not WAL: it fails on network file systems and in read-only folders, and releases before 3.51.3 can corrupt the file
// when a checkpoint meets a writer. TRUNCATE spares the folder two writes per commit against DELETE. No mmap either.
// Left until the first write, because a process that finds all its kernels never gets here.
bool Database::prepare_to_write() {
  if (!journal_set_) {
    journal_set_ =
        run("PRAGMA journal_mode=TRUNCATE; PRAGMA synchronous=NORMAL; PRAGMA mmap_size=0;"
            "PRAGMA temp_store=MEMORY");
  }
  return journal_set_;
}

bool Database::run(const char* sql) {
  if (!ok()) return false;
  const int code = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) note(code);
  return code == SQLITE_OK;
}

std::int64_t Database::integer(std::string_view sql) {
  Query query(*this, sql);
  return query.next() ? query.integer(0) : 0;
}

bool Database::in_place() const {
  int moved = 0;
  return handle_ && sqlite3_file_control(handle_, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK && moved == 0;
}

bool Database::writable() const { return handle_ && !query_only_ && sqlite3_db_readonly(handle_, "main") == 0; }

bool Database::in_transaction() const { return handle_ && sqlite3_get_autocommit(handle_) == 0; }

void Database::end_transaction() {
  // SQLite may have rolled back by itself after a full disk; a second ROLLBACK would be an error of no interest.
  if (in_transaction()) sqlite3_exec(handle_, "ROLLBACK", nullptr, nullptr, nullptr);
}

sqlite3_stmt* Database::prepared(std::string_view sql) {
  if (!ok()) return nullptr;
  std::string text(sql);
  if (const auto found = statements_.find(text); found != statements_.end()) return found->second;
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(handle_, text.c_str(), static_cast<int>(text.size()) + 1,
                                      SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (code != SQLITE_OK) {
    note(code);
    return nullptr;
  }
  statements_.emplace(std::move(text), statement);
  return statement;
}

Query::Query(Database& database, std::string_view sql) : database_(database), statement_(database.prepared(sql)) {}

Query::~Query() {
  if (!statement_) return;
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

void Query::check(int code) {
  if (code != SQLITE_OK) database_.note(code);
}

Query& Query::bind(std::int64_t value) {
  if (statement_) check(sqlite3_bind_int64(statement_, ++bound_, value));
  return *this;
}

Query& Query::bind(double value) {
  if (statement_) check(sqlite3_bind_double(statement_, ++bound_, value));
  return *this;
}

Query& Query::bind(std::string_view text) {
  const char* data = text.data() ? text.data() : "";
  if (statement_) check(sqlite3_bind_text64(statement_, ++bound_, data, text.size(), SQLITE_STATIC, SQLITE_UTF8));
  return *this;
}

Query& Query::bind(std::span<const std::byte> bytes) {
  const void* data = bytes.data() ? static_cast<const void*>(bytes.data()) : "";
  if (statement_) check(sqlite3_bind_blob64(statement_, ++bound_, data, bytes.size(), SQLITE_STATIC));
  return *this;
}

bool Query::next() {
  if (!statement_ || !database_.ok()) return false;
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) database_.note(code);
  return false;
}

bool Query::run() {
  while (next()) {
  }
  return database_.ok();
}

std::int64_t Query::integer(int column) const { return sqlite3_column_int64(statement_, column); }

double Query::real(int column) const {
  if (sqlite3_column_type(statement_, column) == SQLITE_NULL) return std::numeric_limits<double>::quiet_NaN();
  return sqlite3_column_double(statement_, column);
}

std::string_view Query::text(int column) const {
  const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
  return data ? std::string_view(data, static_cast<std::size_t>(sqlite3_column_bytes(statement_, column)))
              : std::string_view();
}

std::span<const std::byte> Query::bytes(int column) const {
  const auto* data = static_cast<const std::byte*>(sqlite3_column_blob(statement_, column));
  if (!data) return {};
  return {data, static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
}

Transaction::Transaction(Database& database)
    : database_(database), open_(database.prepare_to_write() && database.run("BEGIN IMMEDIATE")) {}

Transaction::~Transaction() {
  if (open_) database_.end_transaction();
}

bool Transaction::commit() {
  if (!open_ || !database_.ok() || !database_.run("COMMIT")) return false;
  open_ = false;
  return true;
}

}  // namespace gdnjit::cache

#include "cache/store.h"

#include <fmt/format.h>

#include <map>
#include <tuple>

#include "cache/row.h"
#include "cache/schema.h"

namespace gdnjit::cache {
namespace {

auto group_of(const auto& row) {
  return std::tie(row.operator_name, row.problem, row.device, row.deployment, row.basis);
}

std::int64_t stored_bytes(const BinaryRecord& r) {
  const std::size_t bytes =
      r.signature.size() + r.source.size() + r.ptx.size() + r.cubin.size() + r.log.size() + r.options.size() + 512;
  return static_cast<std::int64_t>(bytes);
}

// Bytes of pages that hold something. Freed pages stay in the file and are used again.
std::int64_t used_bytes(Database& database) {
  const std::int64_t pages = database.integer("PRAGMA page_count") - database.integer("PRAGMA freelist_count");
  return pages * database.integer("PRAGMA page_size");
}

bool delete_binary(Database& database, std::span<const std::byte> key) {
  return Query(database, "DELETE FROM binaries WHERE key=?").bind(key).run() &&
         Query(database, "DELETE FROM uses WHERE key=?").bind(key).run();
}

}  // namespace

bool same_group(const TuningRecord& a, const TuningRecord& b) { return group_of(a) == group_of(b); }

// Runs the work in a transaction, unless another version has migrated the file since it was opened: a row that looks
// damaged or a column that looks forgotten may then be one that this version does not know.
template <typename Work>
bool Store::write(const Work& work) {
  if (database_.in_transaction()) return work();  // of the caller, who commits it
  Transaction transaction(database_);
  if (!transaction.open()) return false;
  if (database_.integer("PRAGMA user_version") != kSchemaVersion) {
    database_.fail(Trouble::mismatch, "the schema version changed");
    return false;
  }
  return work() && transaction.commit();
}

// Runs the query and hands over each sound row; then deletes the damaged ones, when no statement is reading.
template <typename Record, typename Visit, typename... Values>
void Store::each(const std::string& sql, const Visit& visit, const Values&... values) {
  std::vector<std::int64_t> bad;
  {
    Query query(database_, sql);
    (query.bind(values), ...);
    while (query.next()) {
      Record record;
      if (read_row(query, record)) {
        if constexpr (std::is_invocable_v<Visit, Record&&, const Query&>) {
          visit(std::move(record), query);
        } else {
          visit(std::move(record));
        }
      } else {
        bad.push_back(row_id(query));
      }
    }
  }
  damaged_ += static_cast<std::int64_t>(bad.size());
  if (bad.empty() || !database_.ok() || !database_.writable()) return;
  static const std::string remove = std::string("DELETE FROM ") + TableOf<Record>::kName + " WHERE id=?";
  write([&] {
    for (const std::int64_t id : bad) Query(database_, remove).bind(id).run();
    return true;
  });
}

std::optional<StoredBinary> Store::find_binary(const Digest& key) {
  static const std::string sql =
      "SELECT checksum,id," + column_names<BinaryRecord>() +
      ",(SELECT last_used_unix_s FROM uses WHERE uses.key=binaries.key) FROM binaries WHERE key=?";
  static const int last_used_column = [] {
    int columns = 2;
    const BinaryRecord record{};
    visit_fields(record, [&](const char*, const auto&) { ++columns; });
    return columns;
  }();
  const DigestBytes bytes = bytes_of(key);
  std::optional<StoredBinary> found;
  each<BinaryRecord>(
      sql,
      [&](BinaryRecord&& record, const Query& query) {
        // A damaged index can lead to a sound row of another key.
        if (record.key == key) found = StoredBinary{std::move(record), query.integer(last_used_column)};
      },
      std::span<const std::byte>(bytes));
  return found;
}

std::optional<BinaryRecord> Store::find_request(const Digest& request, std::string_view signature) {
  static const std::string sql =
      select_sql<BinaryRecord>("WHERE request=? AND status=0 ORDER BY created_unix_s DESC, key");
  const DigestBytes bytes = bytes_of(request);
  std::optional<BinaryRecord> found;
  each<BinaryRecord>(
      sql,
      [&](BinaryRecord&& record) {
        if (!found && record.request == request && record.signature == signature) found = std::move(record);
      },
      std::span<const std::byte>(bytes));
  return found;
}

bool Store::evict_for(const Digest& kept, std::int64_t size_limit_bytes) {
  if (used_bytes(database_) <= size_limit_bytes) return database_.ok();
  // A tenth below, so that a full cache does not evict at every insertion.
  const std::int64_t target = size_limit_bytes - size_limit_bytes / 10;
  std::vector<DigestBytes> oldest;
  {
    Query query(database_,
                "SELECT b.key FROM binaries b LEFT JOIN uses u ON u.key=b.key "
                "ORDER BY coalesce(u.last_used_unix_s,0), b.key");
    while (query.next()) oldest.push_back(bytes_of(digest_from(query.bytes(0))));
  }
  const DigestBytes kept_bytes = bytes_of(kept);
  for (const DigestBytes& key : oldest) {
    if (!database_.ok() || used_bytes(database_) <= target) break;
    if (key != kept_bytes) delete_binary(database_, key);
  }
  return database_.ok();
}

bool Store::put_binary(const BinaryRecord& record, std::int64_t now_unix_s, std::int64_t size_limit_bytes) {
  if (stored_bytes(record) > size_limit_bytes) return true;
  return write([&] {
    return write_row(database_, record) && write_use(record.key, now_unix_s) && evict_for(record.key, size_limit_bytes);
  });
}

bool Store::remove_binaries(std::span<const Digest> keys) {
  return write([&] {
    for (const Digest& key : keys) {
      const DigestBytes bytes = bytes_of(key);
      if (!delete_binary(database_, bytes)) return false;
    }
    return true;
  });
}

bool Store::write_use(const Digest& key, std::int64_t now_unix_s) {
  const DigestBytes bytes = bytes_of(key);
  Query query(database_, "INSERT OR REPLACE INTO uses (key,last_used_unix_s) VALUES (?,?)");
  return query.bind(std::span<const std::byte>(bytes)).bind(now_unix_s).run();
}

bool Store::touch(std::span<const Digest> keys, std::int64_t now_unix_s) {
  return write([&] {
    for (const Digest& key : keys) {
      if (!write_use(key, now_unix_s)) return false;
    }
    return true;
  });
}

std::vector<TuningRecord> Store::find_tuning(std::string_view operator_name, std::string_view problem,
                                             std::string_view device) {
  // One text for each set of given arguments, so that the index serves every one of them.
  std::string where;
  const auto match = [&](std::string_view column, std::string_view value) {
    if (!value.empty()) where += fmt::format("{} {}=?", where.empty() ? "WHERE" : " AND", column);
  };
  match("operator", operator_name);
  match("problem", problem);
  match("device", device);

  std::vector<TuningRecord> rows;
  std::vector<Choice> choices;
  const auto run = [&]<typename Record>(std::vector<Record>& into, std::string_view order) {
    const std::string sql = select_sql<Record>(where + std::string(order));
    const auto visit = [&](Record&& record) { into.push_back(std::move(record)); };
    std::vector<std::string_view> values;
    for (const std::string_view value : {operator_name, problem, device}) {
      if (!value.empty()) values.push_back(value);
    }
    switch (values.size()) {
      case 0: each<Record>(sql, visit); break;
      case 1: each<Record>(sql, visit, values[0]); break;
      case 2: each<Record>(sql, visit, values[0], values[1]); break;
      default: each<Record>(sql, visit, values[0], values[1], values[2]); break;
    }
  };
  run(rows, " ORDER BY operator,problem,device,deployment,basis,tiles");
  if (!rows.empty()) run(choices, " ORDER BY operator,problem,device,deployment,basis");

  std::map<decltype(group_of(rows.front())), const std::string*> chosen;
  for (const Choice& choice : choices) chosen.emplace(group_of(choice), &choice.tiles);
  for (TuningRecord& row : rows) {
    const auto found = chosen.find(group_of(row));
    row.chosen = found != chosen.end() && *found->second == row.tiles;
  }
  return rows;
}

bool Store::put_tuning(const TuningRecord& record) {
  return write([&] { return write_row(database_, record); });
}

bool Store::choose_tuning(const TuningRecord& winner, std::int64_t now_unix_s) {
  const Choice choice{.operator_name = winner.operator_name,
                      .problem = winner.problem,
                      .device = winner.device,
                      .deployment = winner.deployment,
                      .basis = winner.basis,
                      .tiles = winner.tiles,
                      .chosen_unix_s = now_unix_s};
  return write([&] { return write_row(database_, winner) && write_row(database_, choice); });
}

std::optional<ToolchainRow> Store::find_toolchain(std::string_view path) {
  static const std::string sql = select_sql<ToolchainRow>("WHERE path=?");
  std::optional<ToolchainRow> found;
  each<ToolchainRow>(
      sql, [&](ToolchainRow&& row) { found = std::move(row); }, path);
  return found;
}

std::optional<ToolchainRow> Store::last_toolchain() {
  static const std::string sql = select_sql<ToolchainRow>("ORDER BY turn DESC, path LIMIT 1");
  std::optional<ToolchainRow> found;
  each<ToolchainRow>(sql, [&](ToolchainRow&& row) { found = std::move(row); });
  return found;
}

bool Store::put_toolchain(ToolchainRow row) {
  return write([&] {
    row.turn = database_.integer("SELECT coalesce(max(turn),0)+1 FROM toolchains");
    return write_row(database_, row);
  });
}

void Store::each_binary(const std::function<void(const BinaryRecord&)>& visit) {
  static const std::string sql = select_sql<BinaryRecord>("ORDER BY key");
  each<BinaryRecord>(sql, [&](BinaryRecord&& record) { visit(record); });
}

std::vector<TuningRecord> Store::all_tuning() { return find_tuning("", "", ""); }

std::vector<Choice> Store::all_choices() {
  static const std::string sql = select_sql<Choice>("ORDER BY operator,problem,device,deployment,basis");
  std::vector<Choice> choices;
  each<Choice>(sql, [&](Choice&& choice) { choices.push_back(std::move(choice)); });
  return choices;
}

std::vector<ToolchainRow> Store::all_toolchains() {
  static const std::string sql = select_sql<ToolchainRow>("ORDER BY path");
  std::vector<ToolchainRow> rows;
  each<ToolchainRow>(sql, [&](ToolchainRow&& row) { rows.push_back(std::move(row)); });
  return rows;
}

}  // namespace gdnjit::cache

// Moving rows between files. Every decision between two rows is the maximum of a total order over their content, so
// the same inputs give the same rows in whatever order and grouping they come.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <tuple>

#include "cache/layer.h"
#include "cache/maintenance.h"
#include "cache/opened_file.h"
#include "cache/permissions.h"
#include "cache/row.h"
#include "cache/schema.h"
#include "cache/tuning_text.h"
#include "runtime/support/check.h"

namespace gdnjit::cache {
namespace {

using For = OpenedFile::For;

// The newer row wins, then the one with the smaller checksum; a ready binary wins over a failed compile.
bool beats(const BinaryRecord& a, const BinaryRecord& b) {
  const auto rank = [](const BinaryRecord& r) {
    return std::tuple(r.status == BinaryStatus::ready ? 0 : 1, -r.created_unix_s, bytes_of(checksum_of(r)));
  };
  return rank(a) < rank(b);
}

bool beats(const TuningRecord& a, const TuningRecord& b) {
  return std::tuple(-a.created_unix_s, bytes_of(checksum_of(a))) <
         std::tuple(-b.created_unix_s, bytes_of(checksum_of(b)));
}

bool beats(const Choice& a, const Choice& b) {
  return std::tie(b.chosen_unix_s, a.tiles) < std::tie(a.chosen_unix_s, b.tiles);
}

auto identity_of(const TuningRecord& r) {
  return std::tuple(r.operator_name, r.problem, r.device, r.deployment, r.basis, r.tiles);
}
auto identity_of(const Choice& c) { return std::tuple(c.operator_name, c.problem, c.device, c.deployment, c.basis); }

// The rows of a file by identity, to be met by those of others.
template <typename Record>
class Rivals {
 public:
  explicit Rivals(std::vector<Record> rows) {
    for (Record& row : rows) rows_.emplace(identity_of(row), std::move(row));
  }
  // True if the row is new or better than the present one, whose place it then takes.
  bool take(const Record& row) {
    const auto [found, added] = rows_.try_emplace(identity_of(row), row);
    if (added) return true;
    if (!beats(row, found->second)) return false;
    found->second = row;
    return true;
  }

 private:
  std::map<decltype(identity_of(std::declval<Record>())), Record> rows_;
};

std::int64_t merge_binaries(OpenedFile& into, OpenedFile& from) {
  std::int64_t changed = 0;
  from.store().each_binary([&](const BinaryRecord& record) {
    const std::optional<StoredBinary> present = into.store().find_binary(record.key);
    if (present && !beats(record, present->record)) return;
    if (write_row(into.database(), record)) ++changed;
  });
  Query uses(from.database(), "SELECT key,last_used_unix_s FROM uses");
  while (uses.next()) {
    Query(into.database(),
          "INSERT INTO uses (key,last_used_unix_s) SELECT key,?2 FROM binaries WHERE key=?1 "
          "ON CONFLICT (key) DO UPDATE SET last_used_unix_s=max(last_used_unix_s,excluded.last_used_unix_s)")
        .bind(uses.bytes(0))
        .bind(uses.integer(1))
        .run();
  }
  return changed;
}

std::int64_t merge_tuning(OpenedFile& into, const std::vector<TuningRecord>& rows, const std::vector<Choice>& choices) {
  Rivals<TuningRecord> present(into.store().all_tuning());
  Rivals<Choice> chosen(into.store().all_choices());
  std::int64_t changed = 0;
  for (const TuningRecord& row : rows) {
    if (present.take(row) && write_row(into.database(), row)) ++changed;
  }
  for (const Choice& choice : choices) {
    if (chosen.take(choice) && write_row(into.database(), choice)) ++changed;
  }
  return changed;
}

Choice choice_of(const TuningRecord& r, std::int64_t chosen_unix_s) {
  return {.operator_name = r.operator_name,
          .problem = r.problem,
          .device = r.device,
          .deployment = r.deployment,
          .basis = r.basis,
          .tiles = r.tiles,
          .chosen_unix_s = chosen_unix_s};
}

// Removes a half-written file unless it was moved to its place.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::filesystem::path& beside, const char* tag)
      : path_(fmt::format("{}.{}-{}", beside.string(), tag, ::getpid())) {
    ::unlink(path_.c_str());
  }
  ~TemporaryFile() {
    ::unlink(path_.c_str());
    ::unlink((path_.string() + "-journal").c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::filesystem::path& path() const { return path_; }
  void move_to(const std::filesystem::path& place) const {
    const int file = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    const bool synced = file >= 0 && ::fsync(file) == 0;
    if (file >= 0) ::close(file);
    if (!synced || ::rename(path_.c_str(), place.c_str()) != 0) {
      fail(ErrorCode::io, "cannot write '{}': {}", place.string(), std::strerror(errno));
    }
  }

 private:
  std::filesystem::path path_;
};

}  // namespace

std::int64_t merge(const std::filesystem::path& into, const std::vector<std::filesystem::path>& from) {
  OpenedFile target(into, For::writing_or_making);
  std::int64_t changed = 0;
  for (const std::filesystem::path& file : from) {
    std::error_code ignored;
    if (std::filesystem::equivalent(into, file, ignored)) continue;
    OpenedFile source(file, For::reading);
    Transaction transaction(target.database());
    changed += merge_binaries(target, source);
    changed += merge_tuning(target, source.store().all_tuning(), source.store().all_choices());
    source.check("reading");
    transaction.commit();
    target.check("merging into");
  }
  return changed;
}

void export_tuning(const std::filesystem::path& file, const std::filesystem::path& text) {
  OpenedFile source(file, For::reading);
  std::map<decltype(identity_of(Choice{})), std::int64_t> chosen;
  for (const Choice& choice : source.store().all_choices()) chosen[identity_of(choice)] = choice.chosen_unix_s;
  const std::vector<TuningRecord> rows = source.store().all_tuning();
  source.check("reading");

  const TemporaryFile temporary(text, "tmp");
  std::ofstream stream(temporary.path(), std::ios::binary);
  for (const TuningRecord& row : rows) stream << text_of(row, chosen[identity_of(choice_of(row, 0))]) << '\n';
  stream.close();
  if (!stream) fail(ErrorCode::io, "cannot write '{}': {}", text.string(), std::strerror(errno));
  temporary.move_to(text);
}

std::int64_t import_tuning(const std::filesystem::path& file, const std::filesystem::path& text) {
  std::ifstream stream(text, std::ios::binary);
  if (!stream) fail(ErrorCode::io, "cannot read '{}': {}", text.string(), std::strerror(errno));
  // All lines are understood before the first row is written.
  std::vector<TuningRecord> rows;
  std::vector<Choice> choices;
  std::string line;
  for (int number = 1; std::getline(stream, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos || line[0] == '#') continue;
    try {
      const ParsedTuning parsed = parse_tuning(line);
      rows.push_back(parsed.record);
      if (parsed.record.chosen) choices.push_back(choice_of(parsed.record, parsed.chosen_unix_s));
    } catch (const Error& error) {
      fail(ErrorCode::io, "{}:{}: {}", text.string(), number, error.what());
    }
  }
  if (stream.bad()) fail(ErrorCode::io, "cannot read '{}': {}", text.string(), std::strerror(errno));

  OpenedFile target(file, For::writing_or_making);
  Transaction transaction(target.database());
  const std::int64_t changed = merge_tuning(target, rows, choices);
  transaction.commit();
  target.check("importing into");
  return changed;
}

std::string export_layer(const std::filesystem::path& file, const std::filesystem::path& shipped) {
  OpenedFile source(file, For::reading);
  const TemporaryFile ordered(shipped, "rows"), compact(shipped, "tmp");
  {
    OpenedFile target(ordered.path(), For::writing_or_making);
    Transaction transaction(target.database());
    source.store().each_binary([&](const BinaryRecord& record) { write_row(target.database(), record); });
    for (const TuningRecord& row : source.store().all_tuning()) write_row(target.database(), row);
    for (const Choice& choice : source.store().all_choices()) write_row(target.database(), choice);
    source.check("reading");
    transaction.commit();
    target.check("writing");
    // The rows lie in order now; this also lays the pages of tables and indices in order.
    const std::string name = compact.path().string();
    Query(target.database(), "VACUUM INTO ?").bind(std::string_view(name)).run();
    target.check("writing");
  }
  if (::chmod(compact.path().c_str(), 0644) != 0) {
    fail(ErrorCode::io, "cannot write '{}': {}", shipped.string(), std::strerror(errno));
  }
  compact.move_to(shipped);
  return sha256_of_file(shipped);
}

}  // namespace gdnjit::cache

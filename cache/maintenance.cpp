#include "cache/maintenance.h"

#include <fmt/format.h>
#include <gdnjit/error.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <map>
#include <set>

#include "cache/opened_file.h"
#include "cache/permissions.h"
#include "cache/row.h"
#include "cache/schema.h"

namespace gdnjit::cache {
namespace {

using For = OpenedFile::For;

// What `prune` needs to know of a row.
struct Candidate {
  Digest key;
  bool failed = false;
  bool other_toolchain = false;
  std::int64_t last_used_unix_s = 0;
  std::int64_t bytes = 0;
};

// The least recently used first.
std::vector<Candidate> candidates(Database& database, const std::string& toolchain) {
  std::vector<Candidate> rows;
  Query query(database,
              "SELECT b.key, b.status, b.toolchain<>?, coalesce(u.last_used_unix_s, b.created_unix_s),"
              " length(b.cubin)+length(CAST(b.ptx AS BLOB))+length(CAST(b.source AS BLOB))+length(CAST(b.log AS BLOB))"
              " FROM binaries b LEFT JOIN uses u ON u.key=b.key ORDER BY 4, b.key");
  query.bind(std::string_view(toolchain));
  while (query.next()) {
    rows.push_back({.key = digest_from(query.bytes(0)),
                    .failed = query.integer(1) == static_cast<int>(BinaryStatus::compile_failed),
                    .other_toolchain = !toolchain.empty() && query.integer(2) != 0,
                    .last_used_unix_s = query.integer(3),
                    .bytes = query.integer(4)});
  }
  return rows;
}

std::string describe(const BinaryRecord& r) {
  if (r.status != BinaryStatus::ready) return fmt::format("failed: {}", r.log.substr(0, r.log.find('\n')));
  const std::array<std::string_view, 2> image{
      std::string_view(reinterpret_cast<const char*>(r.cubin.data()), r.cubin.size()), r.ptx};
  return fmt::format("{} registers, {} bytes spilled, image of {} bytes {}", r.registers,
                     r.spill_store_bytes + r.spill_load_bytes, r.cubin.size(),
                     digest_of_parts(image).hex().substr(0, 8));
}

std::string describe(const TuningRecord& r) {
  static constexpr std::array kStatus{"ok", "wrong", "crashed", "hung", "rejected"};
  const auto status = static_cast<std::size_t>(r.status);
  return fmt::format("{:.4g} us{}, {}{}", r.time_us, r.basis == TuningBasis::modelled ? " (modelled)" : "",
                     status < kStatus.size() ? kStatus[status] : "?", r.chosen ? ", chosen" : "");
}

using Descriptions = std::map<std::pair<std::string, std::string>, std::string>;  // what and key -> description

Descriptions descriptions(const std::filesystem::path& file) {
  Descriptions all;
  for (const BinaryRecord& r : list_binaries(file, true)) {
    all[{"binary", fmt::format("{} {} {}", r.signature, r.arch, r.toolchain)}] = describe(r);
  }
  for (const TuningRecord& r : list_tuning(file)) {
    const char* basis = r.basis == TuningBasis::modelled ? "modelled" : "measured";
    all[{"tuning", fmt::format("{} {} {} {} {} {}", r.operator_name, r.problem, r.device, r.deployment, basis,
                               r.tiles)}] = describe(r);
  }
  return all;
}

void verify_rows(OpenedFile& opened, std::vector<std::string>& problems) {
  Store& store = opened.store();
  {
    Query check(opened.database(), "PRAGMA integrity_check(20)");
    while (check.next()) {
      if (check.text(0) != "ok") problems.push_back(fmt::format("structure: {}", check.text(0)));
    }
  }
  std::int64_t reported = 0;
  const auto report = [&](const char* table, std::int64_t damaged) {
    if (damaged > 0) problems.push_back(fmt::format("damaged rows in table {}: {}", table, damaged));
    reported = store.damaged();
  };
  store.each_binary([](const BinaryRecord&) {});
  report("binaries", store.damaged() - reported);
  store.all_toolchains();
  report("toolchains", store.damaged() - reported);
  const std::vector<Choice> choices = store.all_choices();
  const std::int64_t damaged_choices = store.damaged() - reported;
  report("choices", damaged_choices);
  const std::vector<TuningRecord> rows = store.all_tuning();  // looks at the choices again, if there is any row
  report("tuning", store.damaged() - reported - (rows.empty() ? 0 : damaged_choices));
  const auto chosen = std::count_if(rows.begin(), rows.end(), [](const TuningRecord& row) { return row.chosen; });
  if (static_cast<std::size_t>(chosen) < choices.size()) {
    problems.push_back(
        fmt::format("choices of tiles without a result: {}", choices.size() - static_cast<std::size_t>(chosen)));
  }
}

}  // namespace

FileSummary summarize(const std::filesystem::path& file) {
  OpenedFile opened(file, For::reading);
  Database& database = opened.database();
  FileSummary s;
  std::error_code ignored;
  s.file = file;
  s.file_bytes = static_cast<std::int64_t>(std::filesystem::file_size(file, ignored));
  s.binaries = database.integer("SELECT count(*) FROM binaries WHERE status=0");
  s.failures = database.integer("SELECT count(*) FROM binaries WHERE status<>0");
  s.tuning_rows = database.integer("SELECT count(*) FROM tuning");
  s.binary_bytes = database.integer("SELECT coalesce(sum(length(cubin)),0) FROM binaries");
  s.oldest_unix_s = database.integer("SELECT coalesce(min(created_unix_s),0) FROM binaries");
  s.newest_unix_s = database.integer("SELECT coalesce(max(created_unix_s),0) FROM binaries");
  s.schema_version = static_cast<int>(database.integer("PRAGMA user_version"));
  opened.check("reading");
  return s;
}

std::vector<BinaryRecord> list_binaries(const std::filesystem::path& file, bool with_images) {
  OpenedFile opened(file, For::reading);
  std::vector<BinaryRecord> rows;
  opened.store().each_binary([&](const BinaryRecord& record) {
    BinaryRecord& row = rows.emplace_back(record);
    if (with_images) return;
    row.cubin = {};
    row.ptx = {};
    row.source = {};
  });
  opened.check("reading");
  return rows;
}

std::vector<TuningRecord> list_tuning(const std::filesystem::path& file) {
  OpenedFile opened(file, For::reading);
  std::vector<TuningRecord> rows = opened.store().all_tuning();
  opened.check("reading");
  return rows;
}

std::int64_t prune(const std::filesystem::path& file, const PruneRule& rule) {
  OpenedFile opened(file, rule.dry_run ? For::reading : For::writing);
  const std::int64_t now =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  const std::vector<Candidate> rows = candidates(opened.database(), rule.toolchain_not);
  opened.check("reading");

  std::vector<Digest> dropped;
  std::vector<Candidate> kept;
  for (const Candidate& row : rows) {
    const bool old = rule.older_than_s >= 0 && now - row.last_used_unix_s > rule.older_than_s;
    if (old || row.other_toolchain || (rule.failures && row.failed)) {
      dropped.push_back(row.key);
    } else {
      kept.push_back(row);
    }
  }
  std::int64_t bytes = 0;
  for (const Candidate& row : kept) bytes += row.bytes;
  for (const Candidate& row : kept) {
    if (rule.keep_bytes < 0 || bytes <= rule.keep_bytes) break;
    dropped.push_back(row.key);
    bytes -= row.bytes;
  }

  if (!rule.dry_run && !dropped.empty()) {
    opened.store().remove_binaries(dropped);
    opened.check("pruning");
    // Gives the space back. If it fails the rows are gone all the same, and their pages are used again.
    opened.database().run("VACUUM");
  }
  return static_cast<std::int64_t>(dropped.size());
}

std::vector<std::string> verify(const std::filesystem::path& file) {
  std::vector<std::string> problems;
  const Inspection found = inspect_file(file);
  if (found.error != 0) return {fmt::format("cannot open '{}': {}", file.string(), std::strerror(found.error))};
  if (!found.trouble.empty()) problems.push_back(found.trouble);
  const std::filesystem::path folder = file.parent_path();
  const Inspection around = inspect_directory(folder.empty() ? "." : folder);
  if (!around.trouble.empty()) problems.push_back(around.trouble);
  try {
    OpenedFile opened(file, For::reading);
    verify_rows(opened, problems);
    opened.check("reading");
  } catch (const Error& error) {
    problems.emplace_back(error.what());
  }
  return problems;
}

std::vector<Difference> diff(const std::filesystem::path& left, const std::filesystem::path& right) {
  const Descriptions a = descriptions(left), b = descriptions(right);
  std::set<std::pair<std::string, std::string>> keys;
  for (const auto& [key, text] : a) keys.insert(key);
  for (const auto& [key, text] : b) keys.insert(key);
  std::vector<Difference> differences;
  for (const auto& key : keys) {
    const auto in_a = a.find(key), in_b = b.find(key);
    const std::string text_a = in_a == a.end() ? "" : in_a->second, text_b = in_b == b.end() ? "" : in_b->second;
    if (text_a != text_b) differences.push_back({key.first, key.second, text_a, text_b});
  }
  return differences;
}

}  // namespace gdnjit::cache

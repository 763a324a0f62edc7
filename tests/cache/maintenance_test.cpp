#include "cache/maintenance.h"

#include <doctest/doctest.h>
#include <gdnjit/error.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <limits>

#include "cache/layer.h"
#include "cache/tuning_text.h"
#include "cache/user_file.h"
#include "tests/cache/fixture.h"

using namespace gdnjit;
using namespace gdnjit::cache;
using namespace gdnjit::cache::test;

namespace {

std::int64_t now() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// A cache of one machine's results. `salt` makes machines agree on keys and differ in content.
std::filesystem::path machine(const std::filesystem::path& directory, int salt) {
  std::int64_t clock = 1'000 * (salt % 3);
  CacheOptions options = options_for(directory);
  options.now_unix_s = [&] { return clock; };
  KernelCache cache(options);
  for (int i = 0; i < 6; ++i) {
    if (i == salt) continue;
    cache.find_or_compile(key_of(i), signature_of(i), [&] {
      BinaryRecord r = binary(i, 3'000);
      r.compile_ms = salt;
      r.created_unix_s = 100 + (i * salt) % 4;  // some newer here, some newer there, some equally old
      if (i == 4 && salt != 1) r.status = BinaryStatus::compile_failed;
      return r;
    });
  }
  for (int i = 0; i < 6; ++i) {
    TuningRecord row = tuning("B=" + std::to_string(i % 3), "block_v=" + std::to_string(8 << (i / 3)), salt + i);
    row.created_unix_s = 200 + (i * salt) % 4;
    cache.put_tuning(row);
    clock += (salt * 7 + i) % 3;
    if ((i + salt) % 2 == 0) cache.choose_tuning(row);
  }
  return cache.file();
}

std::string exported(const std::filesystem::path& file, const TempDir& dir) {
  export_tuning(file, dir / "out.jsonl");
  return read_bytes(dir / "out.jsonl");
}

template <typename Call>
std::string io_error(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::io);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("the same files merged in any order and grouping give the same bytes") {
  const TempDir dir;
  std::vector<std::filesystem::path> files;
  for (int salt = 1; salt <= 4; ++salt) files.push_back(machine(dir / ("m" + std::to_string(salt)), salt));
  std::sort(files.begin(), files.end());
  std::string layer, text;
  int round = 0;
  do {
    const std::filesystem::path into = dir / ("merged" + std::to_string(round)) / kFileName;
    if (round % 2 == 0) {
      merge(into, files);
    } else {
      // Two by two, then both halves, one of them twice.
      merge(dir / ("half" + std::to_string(round)), {files[0], files[1]});
      merge(into, {files[2], files[3]});
      merge(into, {dir / ("half" + std::to_string(round)), files[0]});
    }
    CHECK(verify(into).empty());
    const std::string digest = export_layer(into, dir / "layer");
    if (round == 0) {
      layer = digest;
      text = exported(into, dir);
      CHECK(list_binaries(into, false).size() == 6);
      CHECK(list_tuning(into).size() == 6);
    }
    CHECK(digest == layer);
    CHECK(exported(into, dir) == text);
    CHECK(merge(into, files) == 0);
    ++round;
  } while (std::next_permutation(files.begin(), files.end()));
  CHECK(round == 24);
}

TEST_CASE("merging prefers the newer row, the ready binary and the newer choice") {
  const TempDir dir;
  const auto make = [&](const std::string& name, std::int64_t created, double time_us, bool choose,
                        BinaryStatus status) {
    CacheOptions options = options_for(dir / name);
    options.now_unix_s = [&] { return created; };
    KernelCache cache(options);
    cache.find_or_compile(key_of(1), signature_of(1), [&] {
      BinaryRecord r = binary(1);
      r.created_unix_s = created;
      r.status = status;
      r.log = name;
      return r;
    });
    TuningRecord row = tuning("B=1", "block_v=8", time_us);
    row.created_unix_s = created;
    cache.put_tuning(row);
    row.tiles = "block_v=16 of " + name;
    if (choose) cache.choose_tuning(row);
    return cache.file();
  };
  const auto old_ready = make("old", 10, 1, true, BinaryStatus::ready);
  const auto new_failed = make("new", 20, 2, true, BinaryStatus::compile_failed);
  const auto last_unchosen = make("last", 30, 3, false, BinaryStatus::compile_failed);
  merge(dir / "all", {last_unchosen, new_failed, old_ready});
  CHECK(list_binaries(dir / "all", true).at(0).log == "old");
  const auto rows = list_tuning(dir / "all");
  REQUIRE(rows.size() == 3);
  for (const TuningRecord& row : rows) {
    if (row.tiles == "block_v=8") CHECK(row.time_us == 3);
    CHECK(row.chosen == (row.tiles == "block_v=16 of new"));
  }
}

TEST_CASE("an exported layer is small, private to nobody, works in a read-only folder, and can be pinned") {
  const TempDir dir;
  const auto file = machine(dir / "cache", 1);
  std::filesystem::create_directory(dir / "shipped");
  const std::string digest = export_layer(file, dir / "shipped/kernels.db");
  CHECK(digest == sha256_of_file(dir / "shipped/kernels.db"));
  CHECK(std::distance(std::filesystem::directory_iterator(dir / "shipped"), {}) == 1);
  ::chmod((dir / "shipped").c_str(), 0555);
  CacheOptions options;
  options.read_only = {(dir / "shipped/kernels.db#sha256=").string() + digest};
  KernelCache cache(options);
  CHECK(cache.find(key_of(0), signature_of(0)));
  CHECK(cache.find_tuning("", "", "").size() == 6);
  CHECK_FALSE(cache.last_toolchain());
  ::chmod((dir / "shipped").c_str(), 0755);
}

TEST_CASE("tuning records go out as text and come back the same") {
  const TempDir dir;
  const auto file = machine(dir / "cache", 2);
  {
    KernelCache cache(options_for(dir / "cache"));
    TuningRecord odd = tuning("B=9 \"quoted\" \n \\ \xc3\xbc", "block_v=8", std::numeric_limits<double>::infinity());
    odd.error = std::numeric_limits<double>::quiet_NaN();
    odd.spread_us = 0.1;
    odd.status = TuningStatus::hung;
    odd.basis = TuningBasis::modelled;
    odd.is_default = true;
    odd.key = key_of(77);
    odd.reason = "no answer in 60 s";
    cache.put_tuning(odd);
  }
  const std::string text = exported(file, dir);
  CHECK(std::count(text.begin(), text.end(), '\n') == 7);
  CHECK(text.find("\"status\":\"hung\"") != std::string::npos);
  CHECK(text.find("\"time_us\":\"inf\"") != std::string::npos);
  write_bytes(dir / "in.jsonl", "# reviewed\n\n" + text);
  CHECK(import_tuning(dir / "other.db", dir / "in.jsonl") > 0);
  CHECK(exported(dir / "other.db", dir) == text);
  CHECK(import_tuning(dir / "other.db", dir / "in.jsonl") == 0);
  CHECK(diff(file, dir / "other.db").size() == 5);  // the binaries
}

TEST_CASE("a text with a bad line imports nothing and names the line") {
  const TempDir dir;
  const std::string good = text_of(tuning("B=1", "block_v=8", 1), 0);
  const auto message_for = [&](std::string line) {
    write_bytes(dir / "in.jsonl", good + "\n" + line + "\n");
    std::string message = io_error([&] { import_tuning(dir / "cache.db", dir / "in.jsonl"); });
    CHECK_FALSE(std::filesystem::exists(dir / "cache.db"));
    CHECK(message.find("in.jsonl:2: ") != std::string::npos);
    return message;
  };
  const auto with = [&](std::string_view from, std::string_view to) {
    std::string line = good;
    line.replace(line.find(from), from.size(), to);
    return line;
  };
  CHECK(message_for("not json").find("not a JSON object") != std::string::npos);
  CHECK(message_for("[]").find("not a JSON object") != std::string::npos);
  CHECK(message_for(with("\"samples\":9,", "")).find("'samples' is missing") != std::string::npos);
  CHECK(message_for(with("\"samples\":9", "\"samples\":9.5")).find("whole number") != std::string::npos);
  CHECK(message_for(with("\"ok\"", "\"fine\"")).find("is not one of ok, wrong") != std::string::npos);
  CHECK(message_for(with("\"time_us\":1.0", "\"time_us\":\"fast\"")).find("must be a number") != std::string::npos);
  CHECK(message_for(with("\"is_default\":false", "\"is_default\":0")).find("true or false") != std::string::npos);
  CHECK(message_for(with("\"key\":\"", "\"key\":\"x")).find("32 hexadecimal") != std::string::npos);
  CHECK(message_for(with("{", "{\"chosen_unix\":1,")).find("did you mean 'chosen_unix_s'") != std::string::npos);
}

TEST_CASE("prune drops what its rules say, and tells beforehand with dry_run") {
  const TempDir dir;
  const std::int64_t day = 86'400;
  std::int64_t clock = now() - 10 * day;
  std::filesystem::path file;
  {
    CacheOptions options = options_for(dir.path());
    options.now_unix_s = [&] { return clock; };
    KernelCache cache(options);
    file = cache.file();
    for (int i = 0; i < 8; ++i, clock += day) {
      cache.find_or_compile(key_of(i), signature_of(i), [&] {
        BinaryRecord r = binary(i);
        if (i < 2) r.toolchain = "nvrtc 12.8.93";
        if (i == 5) r.status = BinaryStatus::compile_failed;
        return r;
      });
    }
    cache.put_tuning(tuning("B=1", "block_v=8", 1));
  }
  const auto left = [&] {
    std::vector<int> numbers;
    for (const BinaryRecord& r : list_binaries(file, false)) {
      for (int i = 0; i < 8; ++i) {
        if (r.key == key_of(i)) numbers.push_back(i);
      }
    }
    std::sort(numbers.begin(), numbers.end());
    return numbers;
  };
  const auto check = [&](PruneRule rule, std::int64_t count, const std::vector<int>& expected) {
    const std::vector<int> before = left();
    rule.dry_run = true;
    CHECK(prune(file, rule) == count);
    CHECK(left() == before);
    rule.dry_run = false;
    CHECK(prune(file, rule) == count);
    CHECK(left() == expected);
    CHECK(verify(file).empty());
  };
  check({}, 0, {0, 1, 2, 3, 4, 5, 6, 7});
  check({.toolchain_not = "nvrtc 13.0.88"}, 2, {2, 3, 4, 5, 6, 7});
  check({.failures = true}, 1, {2, 3, 4, 6, 7});
  check({.older_than_s = 7 * day + day / 2}, 1, {3, 4, 6, 7});
  const auto size_before = std::filesystem::file_size(file);
  check({.keep_bytes = 60'000}, 2, {6, 7});
  CHECK(std::filesystem::file_size(file) < size_before);
  check({.keep_bytes = 0}, 2, {});
  CHECK(list_tuning(file).size() == 1);
}

TEST_CASE("a summary counts what is there") {
  const TempDir dir;
  const auto file = machine(dir.path(), 2);  // without number 2; number 4 failed
  const FileSummary s = summarize(file);
  CHECK(s.binaries == 4);
  CHECK(s.failures == 1);
  CHECK(s.tuning_rows == 6);
  CHECK(s.binary_bytes == 5 * 3'000);
  CHECK(s.oldest_unix_s == 100);
  CHECK(s.newest_unix_s == 102);
  CHECK(s.schema_version == 1);
  CHECK(s.file_bytes == static_cast<std::int64_t>(std::filesystem::file_size(file)));
  CHECK(list_binaries(file, true)[0].cubin.size() == 3'000);
  CHECK(list_binaries(file, false)[0].cubin.empty());
}

TEST_CASE("diff tells what only one file has and what differs") {
  const TempDir dir;
  filled(dir / "a", 3);
  filled(dir / "b", 2);
  {
    KernelCache a(options_for(dir / "a")), b(options_for(dir / "b"));
    a.put_tuning(tuning("B=1", "block_v=8", 5));
    b.put_tuning(tuning("B=1", "block_v=8", 4));
    b.choose_tuning(tuning("B=1", "block_v=8", 4));
  }
  const auto found = diff(dir / "a/kernels.db", dir / "b/kernels.db");
  REQUIRE(found.size() == 2);
  CHECK(found[0].what == "binary");
  CHECK(found[0].key.starts_with(signature_of(2)));
  CHECK(found[0].right.empty());
  CHECK(found[1].what == "tuning");
  CHECK(found[1].left == "5 us, ok");
  CHECK(found[1].right == "4 us, ok, chosen");
  CHECK(diff(dir / "a/kernels.db", dir / "a/kernels.db").empty());
}

TEST_CASE("verify finds damaged rows, orphans, broken structure and loose permissions, and changes nothing") {
  const TempDir dir;
  const auto file = machine(dir.path(), 2);
  CHECK(verify(file).empty());
  const auto problem = [&](std::string_view word) {
    const std::string before = read_bytes(file);
    const std::vector<std::string> problems = verify(file);
    CHECK(read_bytes(file) == before);
    return std::any_of(problems.begin(), problems.end(),
                       [&](const std::string& text) { return text.find(word) != std::string::npos; });
  };
  REQUIRE(sql(file,
              "UPDATE binaries SET registers=0 WHERE id<3; UPDATE tuning SET samples=0 WHERE id IN "
              "(SELECT min(id) FROM tuning)") == SQLITE_OK);
  CHECK(problem("damaged rows in table binaries: 2"));
  CHECK(problem("damaged rows in table tuning: 1"));
  REQUIRE(sql(file, "UPDATE choices SET tiles='x'") == SQLITE_OK);
  CHECK(problem("damaged rows in table choices: "));
  REQUIRE(sql(file, "DELETE FROM choices; DELETE FROM tuning") == SQLITE_OK);
  {
    KernelCache cache(options_for(dir.path()));
    cache.choose_tuning(tuning("B=1", "block_v=8", 1));
  }
  CHECK_FALSE(problem("choices of tiles"));
  REQUIRE(sql(file, "DELETE FROM tuning") == SQLITE_OK);
  CHECK(problem("choices of tiles without a result: 1"));
  ::chmod(file.c_str(), 0666);
  CHECK(problem("chmod go-w"));
  write_bytes(file, std::string_view(read_bytes(file)).substr(0, 20'000));
  CHECK(problem("malformed"));
  CHECK(verify(dir / "missing").size() == 1);
}

TEST_CASE("what cannot be opened is named in an io error") {
  const TempDir dir;
  write_bytes(dir / "text", "hello, this is not a database at all");
  write_bytes(dir / "empty", "");
  sql(dir / "foreign", "CREATE TABLE t(x)");
  filled(dir / "newer", 1);
  sql(dir / "newer/kernels.db", "PRAGMA user_version=99");
  const auto says = [&](const std::filesystem::path& file, std::string_view word) {
    for (const std::string& message :
         {io_error([&] { summarize(file); }), io_error([&] { list_binaries(file, true); }),
          io_error([&] { list_tuning(file); }), io_error([&] { prune(file, {}); }), io_error([&] { diff(file, file); }),
          io_error([&] { export_tuning(file, dir / "out"); }), io_error([&] { export_layer(file, dir / "out"); }),
          io_error([&] { merge(dir / "target", {file}); })}) {
      CHECK_MESSAGE(message.find(word) != std::string::npos, message);
      CHECK(message.find(file.filename().string()) != std::string::npos);
    }
  };
  says(dir / "missing", "No such file");
  says(dir / "text", "not a database");
  says(dir / "foreign", "another program's");
  says(dir / "newer/kernels.db", "newer gdnjit");
  CHECK(io_error([&] { summarize(dir / "empty"); }).find("is empty") != std::string::npos);
  CHECK(io_error([&] { import_tuning(dir / "target", dir / "missing"); }).find("missing") != std::string::npos);
  CHECK(io_error([&] { export_tuning(dir / "newer/kernels.db", "/proc/no/out"); }) != "");
  CHECK_FALSE(std::filesystem::exists(dir / "out"));
}

TEST_CASE("damaged rows of either side do not stop a merge") {
  const TempDir dir;
  const auto a = filled(dir / "a", 3), b = filled(dir / "b", 3);
  REQUIRE(sql(a, "UPDATE binaries SET registers=1 WHERE id=1") == SQLITE_OK);
  REQUIRE(sql(b, "UPDATE binaries SET registers=1 WHERE id=2") == SQLITE_OK);
  CHECK(merge(a, {b}) == 1);
  CHECK(verify(a).empty());
  CHECK(list_binaries(a, false).size() == 3);
}

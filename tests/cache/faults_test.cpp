// The cache file damaged, replaced, locked, unreachable: a kernel comes back all the same.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cmath>
#include <random>

#include "cache/schema.h"
#include "cache/user_file.h"
#include "tests/cache/fixture.h"
#include "tests/cache/process.h"

using namespace gdnjit;
using namespace gdnjit::cache;
using namespace gdnjit::cache::test;

namespace {

// The cache works now, and after this a new one finds what was compiled.
void check_heals(const std::filesystem::path& directory) {
  {
    KernelCache cache(options_for(directory));
    for (int i = 0; i < 3; ++i) CHECK(same(*get(cache, i), binary(i)));
  }
  KernelCache cache(options_for(directory));
  int compiles = 0;
  for (int i = 0; i < 3; ++i) CHECK(same(*get(cache, i, &compiles), binary(i)));
  CHECK(compiles == 0);
  CHECK(cache.trouble() == "");
}

// Kernels come from memory, the user hears of it once, and the trouble can be told.
void check_memory_only(const CacheOptions& options, std::string_view said) {
  const Warnings warnings;
  KernelCache cache(options);
  int compiles = 0;
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 3; ++i) CHECK(same(*get(cache, i, &compiles), binary(i)));
  }
  CHECK(compiles == 3);
  cache.put_tuning(tuning("B=1", "block_v=8", 1));
  CHECK(cache.find_tuning("", "", "").size() == 1);
  cache.remember_toolchain({"libnvrtc.so", 1, 2}, "nvrtc 13");
  CHECK(cache.known_toolchain({"libnvrtc.so", 1, 2}) == "nvrtc 13");
  CHECK(warnings.texts().size() == 1);
  CHECK_MESSAGE(warnings.mention(said), cache.trouble());
  CHECK(cache.trouble().find(said) != std::string::npos);
}

unsigned mode_of(const std::filesystem::path& path) {
  struct stat status {};
  ::stat(path.c_str(), &status);
  return status.st_mode & 07777u;
}

}  // namespace

TEST_CASE("a file cut off at any page, or within one, still yields every kernel and is rebuilt") {
  const Warnings warnings;
  const TempDir original;
  const std::string bytes = read_bytes(filled(original.path(), 3));
  REQUIRE(bytes.size() > 20 * 4096);
  std::vector<std::size_t> lengths{1, 15, 16, 99, 100, 511, 512, 513, 1023};
  for (std::size_t page = 0; page < bytes.size(); page += 4096) {
    for (std::size_t odd : {0, 1, 2777, 4095}) {
      if (page + odd < bytes.size()) lengths.push_back(page + odd);
    }
  }
  for (const std::size_t length : lengths) {
    CAPTURE(length);
    const TempDir dir;
    write_bytes(dir / kFileName, std::string_view(bytes).substr(0, length));
    check_heals(dir.path());
    // SQLite takes one byte for an empty file, and fills up the last page with zeros: then the rows tell.
    const bool whole_file_is_bad = length > 1 && length <= bytes.size() - 4096;
    if (whole_file_is_bad) CHECK(set_aside_in(dir.path()).size() == 1);
    if (length <= 1) CHECK(set_aside_in(dir.path()).empty());
  }
}

TEST_CASE("a flipped bit in any column of a row is noticed, and the row is replaced") {
  const TempDir original;
  const std::filesystem::path pristine = filled(original.path(), 3);
  std::vector<std::string> columns;
  {
    sqlite3* handle = nullptr;
    sqlite3_open(pristine.c_str(), &handle);
    sqlite3_exec(
        handle, "SELECT name FROM pragma_table_info('binaries')",
        [](void* to, int, char** values, char**) {
          static_cast<std::vector<std::string>*>(to)->emplace_back(values[0]);
          return 0;
        },
        &columns, nullptr);
    sqlite3_close(handle);
  }
  REQUIRE(columns.size() == 22);
  for (const std::string& column : columns) {
    if (column == "id") continue;
    CAPTURE(column);
    const TempDir dir;
    const std::filesystem::path file = dir / kFileName;
    write_bytes(file, read_bytes(pristine));
    // Text and bytes: one bit of the last byte; numbers: the lowest bit.
    const std::string change = "UPDATE binaries SET " + column + "=CASE typeof(" + column +
                               ") WHEN 'text' THEN substr(" + column + ",1,length(" + column +
                               ")-1)||char(unicode(substr(" + column + ",-1))+1) WHEN 'blob' THEN CAST(substr(" +
                               column + ",1,length(" + column + ")-1)||CASE substr(" + column +
                               ",-1) WHEN x'00' THEN x'01' ELSE x'00' END AS BLOB)" + " WHEN 'real' THEN " + column +
                               "+0.25 ELSE " + column + "+1 END WHERE signature='" + signature_of(1) + "'";
    REQUIRE(sql(file, change) == SQLITE_OK);
    KernelCache cache(options_for(dir.path()));
    int compiles = 0;
    for (int i = 0; i < 3; ++i) CHECK(same(*get(cache, i, &compiles), binary(i)));
    CHECK(compiles == 1);
    // Under another key the row is merely not found.
    CHECK(cache.statistics().corrupt == (column == "key" ? 0 : 1));
    KernelCache again(options_for(dir.path()));
    CHECK(same(*again.find(key_of(1), signature_of(1)), binary(1)));
  }
}

TEST_CASE("damaged tuning rows, choices and toolchains are dropped") {
  const TempDir dir;
  std::filesystem::path file;
  {
    KernelCache cache(options_for(dir.path()));
    file = cache.file();
    cache.put_tuning(tuning("B=1", "block_v=8", 5));
    cache.choose_tuning(tuning("B=1", "block_v=16", 4));
    cache.choose_tuning(tuning("B=2", "block_v=16", 4));
    cache.remember_toolchain({"libnvrtc.so", 1, 2}, "nvrtc 13");
  }
  REQUIRE(sql(file,
              "UPDATE tuning SET time_us=1 WHERE tiles='block_v=8'; UPDATE choices SET tiles='x' WHERE problem='B=2';"
              "UPDATE toolchains SET toolchain='nvrtc 12'") == SQLITE_OK);
  KernelCache cache(options_for(dir.path()));
  const auto rows = cache.find_tuning("gdn.step", "", "");
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].chosen);
  CHECK_FALSE(rows[1].chosen);
  CHECK_FALSE(cache.known_toolchain({"libnvrtc.so", 1, 2}));
  CHECK(cache.statistics().corrupt == 3);
  cache.find_tuning("gdn.step", "", "");
  CHECK(cache.statistics().corrupt == 3);  // they are gone
}

TEST_CASE("a bit flipped anywhere in the file never yields a wrong record") {
  const Warnings warnings;
  const TempDir original;
  std::filesystem::path pristine;
  {
    KernelCache cache(options_for(original.path()));
    pristine = cache.file();
    for (int i = 0; i < 3; ++i) get(cache, i);
    for (int i = 0; i < 5; ++i) cache.put_tuning(tuning("B=1", "block_v=" + std::to_string(i), i));
    cache.choose_tuning(tuning("B=1", "block_v=3", 3));
  }
  const std::string bytes = read_bytes(pristine);
  std::mt19937 random(7);
  for (int round = 0; round < 250; ++round) {
    const TempDir dir;
    std::string damaged = bytes;
    // A third of the flips go to the first page and to page headers, where the structure is.
    std::size_t at = random() % bytes.size();
    if (round % 3 == 0) at = round % 2 == 0 ? random() % 4096 : at / 4096 * 4096 + random() % 16;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << random() % 8));
    CAPTURE(at);
    write_bytes(dir / kFileName, damaged);
    KernelCache cache(options_for(dir.path()));
    for (const TuningRecord& row : cache.find_tuning("", "", "")) {
      CHECK(row.tiles == "block_v=" + std::to_string(static_cast<int>(row.time_us)));
      CHECK((!row.chosen || row.time_us == 3));
    }
    for (int i = 0; i < 3; ++i) CHECK(same(*get(cache, i), binary(i)));
  }
}

TEST_CASE("a file that is something else is set aside with one warning") {
  const auto replaced_by = [](std::string_view what, const auto& make) {
    CAPTURE(what);
    const TempDir dir;
    const Warnings warnings;
    make(dir / kFileName);
    const std::string before = read_bytes(dir / kFileName);
    check_heals(dir.path());
    REQUIRE(set_aside_in(dir.path()).size() == 1);
    CHECK(read_bytes(set_aside_in(dir.path())[0]) == before);
    CHECK(warnings.texts().size() == 1);
    CHECK(warnings.mention("is rebuilt"));
  };
  replaced_by("another program's database", [](const std::filesystem::path& file) {
    sql(file, "PRAGMA application_id=42; CREATE TABLE t(x); INSERT INTO t VALUES (1)");
    ::chmod(file.c_str(), 0600);
  });
  replaced_by("a database in WAL mode without application id", [](const std::filesystem::path& file) {
    sql(file, "PRAGMA journal_mode=WAL; CREATE TABLE t(x)");
    ::chmod(file.c_str(), 0600);
  });
  replaced_by("our header over other tables", [](const std::filesystem::path& file) {
    sql(file, "PRAGMA application_id=1734635114; PRAGMA user_version=1; CREATE TABLE binaries(x)");
    ::chmod(file.c_str(), 0600);
  });
  replaced_by("a text", [](const std::filesystem::path& file) { write_bytes(file, std::string(10'000, 'x')); });
  replaced_by("a short text", [](const std::filesystem::path& file) { write_bytes(file, "hello"); });
}

TEST_CASE("an empty file is a new cache") {
  const TempDir dir;
  const Warnings warnings;
  write_bytes(dir / kFileName, "");
  check_heals(dir.path());
  CHECK(set_aside_in(dir.path()).empty());
  CHECK(warnings.texts().empty());
}

TEST_CASE("only a few files are kept aside") {
  const TempDir dir;
  const Warnings warnings;
  for (int i = 0; i < 7; ++i) {
    write_bytes(dir / kFileName, "broken again");
    KernelCache cache(options_for(dir.path()));
    CHECK(same(*get(cache, 1), binary(1)));
  }
  CHECK(set_aside_in(dir.path()).size() == 3);
}

TEST_CASE("a file that breaks while it is open is rebuilt") {
  const TempDir dir;
  const Warnings warnings;
  KernelCache cache(options_for(dir.path()));
  get(cache, 1);
  write_bytes(cache.file(), std::string(20'000, 'x'));
  CHECK(same(*get(cache, 2), binary(2)));
  CHECK(same(*get(cache, 1), binary(1)));
  CHECK(KernelCache(options_for(dir.path())).find(key_of(2), signature_of(2)));
}

TEST_CASE("a cache folder that is deleted while it is open comes back") {
  const TempDir dir;
  KernelCache cache(options_for(dir / "cache"));
  get(cache, 1);
  std::filesystem::remove_all(dir / "cache");
  CHECK(same(*get(cache, 2), binary(2)));
  CHECK(same(*get(cache, 3), binary(3)));
  KernelCache again(options_for(dir / "cache"));
  CHECK(again.find(key_of(3), signature_of(3)));
  CHECK(cache.trouble() == "");
}

TEST_CASE("a file of a newer version is left alone, byte for byte") {
  const TempDir dir;
  const std::filesystem::path file = filled(dir.path(), 3);
  REQUIRE(sql(file, "PRAGMA user_version=99") == SQLITE_OK);
  const std::string before = read_bytes(file);
  check_memory_only(options_for(dir.path()), "newer gdnjit");
  CHECK(read_bytes(file) == before);
}

TEST_CASE("a file that a newer version migrates while it is open is left alone from then on") {
  for (const char* migration : {"PRAGMA user_version=2; ALTER TABLE binaries ADD COLUMN extra",
                                "PRAGMA user_version=2; ALTER TABLE binaries RENAME COLUMN signature TO text",
                                // To this version the rows look damaged; it must not delete them.
                                "PRAGMA user_version=2; UPDATE binaries SET checksum=x'00'"}) {
    CAPTURE(migration);
    const TempDir dir;
    const Warnings warnings;
    filled(dir.path(), 3);
    KernelCache cache(options_for(dir.path()));
    CHECK(cache.find(key_of(0), signature_of(0)));
    REQUIRE(sql(cache.file(), migration) == SQLITE_OK);
    const std::string before = read_bytes(cache.file());
    for (int i = 0; i < 5; ++i) CHECK(same(*get(cache, i), binary(i)));
    cache.put_tuning(tuning("B=1", "block_v=8", 1));
    CHECK(cache.find_tuning("", "", "").size() == 1);
    CHECK(read_bytes(cache.file()) == before);
    CHECK(set_aside_in(dir.path()).empty());
    CHECK(cache.trouble().find("newer gdnjit") != std::string::npos);
  }
}

TEST_CASE("migrations take an older file forward, once, and keep its rows") {
  const TempDir dir;
  const std::filesystem::path file = filled(dir.path(), 3);
  const std::vector<Migration> steps{migrations()[0],
                                     {1, "ALTER TABLE binaries ADD COLUMN extra INTEGER NOT NULL DEFAULT 5"},
                                     {2, "CREATE TABLE more (x)"}};
  {
    Database database(file, OpenMode::read_only, 0);
    CHECK(prepare_schema(database, false, steps) == SchemaState::older);
  }
  Database database(file, OpenMode::read_write, 1'000);
  CHECK(prepare_schema(database, true, steps) == SchemaState::ready);
  CHECK(database.integer("PRAGMA user_version") == 3);
  CHECK(database.integer("SELECT sum(extra) FROM binaries") == 15);
  CHECK(database.integer("SELECT count(*) FROM more") == 0);
  CHECK(prepare_schema(database, true, steps) == SchemaState::ready);
  CHECK(prepare_schema(database, true) == SchemaState::newer);
  // A step that fails leaves the file as it was.
  const std::vector<Migration> broken{
      steps[0], steps[1], steps[2], {3, "CREATE TABLE good (x); CREATE TABLE more (x)"}};
  CHECK(prepare_schema(database, true, broken) == SchemaState::failed);
  database.clear();
  CHECK(database.integer("PRAGMA user_version") == 3);
  CHECK(database.integer("SELECT count(*) FROM sqlite_master WHERE name='good'") == 0);
}

TEST_CASE("a folder that cannot be made or written means memory only") {
  const TempDir dir;
  write_bytes(dir / "plain", "a file");
  check_memory_only(options_for(dir / "plain/below/it"), "cannot make the folder");
  check_memory_only(options_for(dir / "plain"), "is not a folder");
  check_memory_only(options_for("/proc/gdnjit"), "cannot make the folder");
  std::filesystem::create_directory(dir / "taken");
  ::chmod((dir / "taken").c_str(), 0700);
  std::filesystem::create_directory(dir / "taken" / kFileName);
  check_memory_only(options_for(dir / "taken"), "is not a file");
  std::filesystem::create_directory(dir / "fifo");
  ::chmod((dir / "fifo").c_str(), 0700);
  REQUIRE(::mkfifo((dir / "fifo" / kFileName).c_str(), 0600) == 0);
  check_memory_only(options_for(dir / "fifo"), "is not a file");
}

TEST_CASE("a folder where nothing can be locked costs only the single flight") {
  const TempDir dir;
  write_bytes(dir / "locks", "in the way");
  check_heals(dir.path());
}

TEST_CASE("a locked file costs one wait, not one for each kernel") {
  const TempDir dir;
  const Warnings warnings;
  const std::filesystem::path file = filled(dir.path(), 3);
  sqlite3* handle = nullptr;
  sqlite3_open(file.c_str(), &handle);
  REQUIRE(sqlite3_exec(handle, "BEGIN EXCLUSIVE", nullptr, nullptr, nullptr) == SQLITE_OK);
  CacheOptions options = options_for(dir.path());
  options.busy_timeout_ms = 200;
  KernelCache cache(options);
  const Stopwatch watch;
  for (int i = 0; i < 20; ++i) CHECK(same(*get(cache, i), binary(i)));
  CHECK(watch.seconds() < 2);
  CHECK(warnings.texts().size() == 1);
  CHECK(cache.trouble().find("locked") != std::string::npos);
  sqlite3_close(handle);
  KernelCache after(options);
  CHECK(after.find(key_of(1), signature_of(1)));
}

TEST_CASE("a stale journal does no harm") {
  for (const std::size_t size : {0, 7, 512, 5'000}) {
    const TempDir dir;
    const std::filesystem::path file = filled(dir.path(), 3);
    write_bytes(file.string() + "-journal", std::string(size, 'j'));
    check_heals(dir.path());
    CHECK(set_aside_in(dir.path()).empty());
  }
}

TEST_CASE("what is made is private, and what others could write to is not loaded") {
  const TempDir dir;
  const mode_t old_mask = ::umask(0);
  const std::filesystem::path file = filled(dir / "a/b/cache", 3);
  ::umask(old_mask);
  CHECK(mode_of(dir / "a") == 0700);
  CHECK(mode_of(dir / "a/b/cache") == 0700);
  CHECK(mode_of(dir / "a/b/cache/locks") == 0700);
  CHECK(mode_of(file) == 0600);
  CHECK(mode_of(file.string() + "-journal") == 0600);

  SUBCASE("a folder that the group may write to") {
    ::chmod((dir / "a/b/cache").c_str(), 0770);
    check_memory_only(options_for(dir / "a/b/cache"), "chmod go-w");
  }
  SUBCASE("a file that everybody may write to") {
    ::chmod(file.c_str(), 0602);
    check_memory_only(options_for(dir / "a/b/cache"), "chmod go-w");
  }
  SUBCASE("a file of another user") {
    if (::geteuid() != 0) return;  // only root can give files away
    REQUIRE(::chown(file.c_str(), 12345, 12345) == 0);
    check_memory_only(options_for(dir / "a/b/cache"), "belongs to user 12345");
  }
  SUBCASE("a folder of another user") {
    if (::geteuid() != 0) return;
    REQUIRE(::chown((dir / "a/b/cache").c_str(), 12345, 12345) == 0);
    check_memory_only(options_for(dir / "a/b/cache"), "belongs to user 12345");
  }
  SUBCASE("a file that others may read") {
    ::chmod(file.c_str(), 0644);
    check_heals(dir / "a/b/cache");
  }
}

TEST_CASE("the trouble can be asked for before anything else is done") {
  const TempDir dir;
  const Warnings warnings;
  CHECK(KernelCache(options_for(dir / "good")).trouble() == "");
  CHECK(KernelCache(options_for("/proc/gdnjit")).trouble().find("cannot make the folder") != std::string::npos);
  CHECK(KernelCache(CacheOptions{}).trouble() == "");
}

TEST_CASE("the cache stays where it is when the process changes its folder") {
  const TempDir dir;
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(dir.path());
  KernelCache cache(options_for("relative"));
  std::filesystem::current_path(before);
  get(cache, 1);
  CHECK(cache.file() == dir / "relative/kernels.db");
  CHECK(std::filesystem::exists(dir / "relative/kernels.db"));
}

TEST_CASE("any name of a folder works") {
  const TempDir dir;
  for (const std::string name : {"it's", "a \"quoted\" name", "100%41?mode=ro#x", "\xc3\xbc \xe6\xbc\xa2",
                                 "a;DROP TABLE", "new\nline", "file:x"}) {
    CAPTURE(name);
    check_heals(dir / name);
    CHECK(std::filesystem::exists(dir / name / kFileName));
    // And as a layer.
    CacheOptions options;
    options.read_only = {dir / name / kFileName};
    KernelCache cache(options);
    CHECK(cache.find(key_of(1), signature_of(1)));
  }
}

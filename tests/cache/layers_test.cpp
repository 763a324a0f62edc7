// Read-only layers below the user's file.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include "cache/layer.h"
#include "tests/cache/fixture.h"

using namespace gdnjit;
using namespace gdnjit::cache;
using namespace gdnjit::cache::test;

namespace {

// A file that holds one record under the key of `number`, made by `maker`, and one tuning row.
std::filesystem::path layer_with(const std::filesystem::path& directory, int number, const std::string& maker,
                                 BinaryStatus status = BinaryStatus::ready) {
  KernelCache cache(options_for(directory));
  cache.find_or_compile(key_of(number), signature_of(number), [&] {
    BinaryRecord r = binary(number);
    r.toolchain = maker;
    r.status = status;
    return r;
  });
  TuningRecord row = tuning("B=1", "block_v=8", 1);
  row.toolchain = maker;
  cache.put_tuning(row);
  return cache.file();
}

std::string maker_of(KernelCache& cache, int number) {
  const auto found = cache.find(key_of(number), signature_of(number));
  return found ? found->toolchain : "";
}

}  // namespace

TEST_CASE("the user's file is searched first, then the layers in their order, and no layer is written to") {
  const TempDir dir;
  const auto site = layer_with(dir / "site", 2, "site");
  layer_with(dir / "shipped", 2, "shipped");
  const auto shipped = layer_with(dir / "shipped", 3, "shipped");
  layer_with(dir / "user", 1, "user");
  const std::string site_bytes = read_bytes(site), shipped_bytes = read_bytes(shipped);
  ::chmod(site.c_str(), 0444);
  ::chmod((dir / "site").c_str(), 0555);

  CacheOptions options = options_for(dir / "user");
  options.read_only = {site, dir / "shipped"};  // a file, or the folder it lies in
  KernelCache cache(options);
  CHECK(maker_of(cache, 1) == "user");
  CHECK(maker_of(cache, 2) == "site");
  CHECK(maker_of(cache, 3) == "shipped");
  CHECK(maker_of(cache, 4) == "");
  CHECK(cache.find_any_toolchain(request_of(3), signature_of(3))->toolchain == "shipped");
  const auto rows = cache.find_tuning("gdn.step", "", "");
  REQUIRE(rows.size() == 3);
  CHECK(rows[0].toolchain == "user");
  CHECK(rows[1].toolchain == "site");
  CHECK(rows[2].toolchain == "shipped");
  int compiles = 0;
  get(cache, 4, &compiles);
  get(cache, 3, &compiles);
  CHECK(compiles == 1);
  CHECK(cache.statistics().corrupt == 0);

  ::chmod((dir / "site").c_str(), 0755);
  CHECK(read_bytes(site) == site_bytes);
  CHECK(read_bytes(shipped) == shipped_bytes);
  CHECK_FALSE(std::filesystem::exists(shipped.string() + "-wal"));
}

TEST_CASE("a ready record of a layer beats a failure above it") {
  const TempDir dir;
  layer_with(dir / "user", 1, "user", BinaryStatus::compile_failed);
  CacheOptions options = options_for(dir / "user");
  options.read_only = {layer_with(dir / "site", 1, "site", BinaryStatus::compile_failed),
                       layer_with(dir / "shipped", 1, "shipped")};
  CHECK(maker_of(*std::make_unique<KernelCache>(options), 1) == "shipped");
  options.read_only.pop_back();
  CHECK(maker_of(*std::make_unique<KernelCache>(options), 1) == "user");
}

TEST_CASE("a layer in WAL mode in a folder that cannot be written works") {
  const TempDir dir;
  const auto file = layer_with(dir / "site", 1, "site");
  REQUIRE(sql(file, "PRAGMA journal_mode=WAL") == SQLITE_OK);
  ::chmod((dir / "site").c_str(), 0555);
  CacheOptions options;
  options.read_only = {file};
  KernelCache cache(options);
  CHECK(maker_of(cache, 1) == "site");
  ::chmod((dir / "site").c_str(), 0755);
  CHECK_FALSE(std::filesystem::exists(file.string() + "-shm"));
}

TEST_CASE("a pinned layer is used only if its digest is right") {
  const TempDir dir;
  const auto file = layer_with(dir / "a #sha256 name", 1, "shipped");
  const std::string digest = sha256_of_file(file);
  CHECK(digest.size() == 64);
  const auto with_pin = [&](const std::string& pin) {
    CacheOptions options;
    options.read_only = {file.string() + "#sha256=" + pin};
    return std::make_unique<KernelCache>(options);
  };
  CHECK(maker_of(*with_pin(digest), 1) == "shipped");
  const Warnings warnings;
  CHECK(maker_of(*with_pin(std::string(64, '0')), 1) == "");
  CHECK(warnings.mention("should be 000"));
  CHECK(with_pin("")->find(key_of(1), signature_of(1)));  // an empty pin is none
  // The digest of SHA-256's own example.
  write_bytes(dir / "abc", "abc");
  CHECK(sha256_of_file(dir / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_CASE("layers that cannot be used are said once each and skipped") {
  const TempDir dir;
  const auto good = layer_with(dir / "good", 1, "good");
  const auto open_to_all = layer_with(dir / "open", 1, "open");
  ::chmod(open_to_all.c_str(), 0666);
  const auto newer = layer_with(dir / "newer", 1, "newer");
  REQUIRE(sql(newer, "PRAGMA user_version=99") == SQLITE_OK);
  const auto cut = layer_with(dir / "cut", 1, "cut");
  write_bytes(cut, std::string_view(read_bytes(cut)).substr(0, 20'000));
  write_bytes(dir / "text", "not a database");
  write_bytes(dir / "empty", "");
  const auto damaged = layer_with(dir / "damaged", 1, "damaged");
  REQUIRE(sql(damaged, "UPDATE binaries SET registers=1") == SQLITE_OK);
  const std::string damaged_bytes = read_bytes(damaged);

  const Warnings warnings;
  CacheOptions options = options_for(dir / "user");
  options.read_only = {dir / "missing", open_to_all, newer, cut, dir / "text", dir / "empty", damaged, good};
  KernelCache cache(options);
  CHECK(maker_of(cache, 1) == "good");
  CHECK(maker_of(cache, 2) == "");
  CHECK(warnings.texts().size() == 6);  // the damaged row is no reason to drop its layer
  CHECK(warnings.mention("chmod go-w"));
  CHECK(warnings.mention("another version"));
  CHECK(cache.statistics().corrupt == 7);
  CHECK(read_bytes(damaged) == damaged_bytes);
}

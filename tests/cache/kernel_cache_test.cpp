#include "cache/kernel_cache.h"

#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <thread>

#include "tests/cache/fixture.h"

using namespace gdnjit;
using namespace gdnjit::cache;
using namespace gdnjit::cache::test;

TEST_CASE("a record comes back whole from memory and, in another cache, from the file") {
  const TempDir dir;
  int compiles = 0;
  {
    KernelCache cache(options_for(dir.path()));
    CHECK(cache.find(key_of(1), signature_of(1)) == nullptr);
    CHECK(same(*get(cache, 1, &compiles), binary(1)));
    CHECK(same(*get(cache, 1, &compiles), binary(1)));
    CHECK(cache.statistics().memory_hits == 1);
    CHECK(cache.trouble() == "");
  }
  KernelCache cache(options_for(dir.path()));
  const auto found = cache.find(key_of(1), signature_of(1));
  REQUIRE(found);
  CHECK(same(*found, binary(1)));
  CHECK(same(*get(cache, 1, &compiles), binary(1)));
  CHECK(compiles == 1);
  CHECK(cache.statistics().file_hits == 1);
  CHECK(cache.statistics().compiles == 0);
}

TEST_CASE("without a folder everything works from memory and nothing is said") {
  const Warnings warnings;
  KernelCache cache(CacheOptions{});
  int compiles = 0;
  get(cache, 1, &compiles);
  get(cache, 1, &compiles);
  CHECK(compiles == 1);
  cache.put_tuning(tuning("B=1", "block_v=8", 3));
  cache.choose_tuning(tuning("B=1", "block_v=8", 3));
  REQUIRE(cache.find_tuning("gdn.step", "B=1", "").size() == 1);
  CHECK(cache.find_tuning("gdn.step", "B=1", "")[0].chosen);
  CHECK(cache.statistics().write_failures == 0);
  CHECK(warnings.texts().empty());
  CHECK(cache.file().empty());
}

TEST_CASE("an equal key with another signature is a miss in memory and in the file") {
  const TempDir dir;
  KernelCache cache(options_for(dir.path()));
  get(cache, 1);
  CHECK(cache.find(key_of(1), "another signature") == nullptr);
  CHECK(KernelCache(options_for(dir.path())).find(key_of(1), "another signature") == nullptr);
  int compiles = 0;
  const auto other = cache.find_or_compile(key_of(1), "another signature", [&] {
    ++compiles;
    return binary(7);
  });
  CHECK(compiles == 1);
  CHECK(other->signature == "another signature");
  CHECK(other->cubin == binary(7).cubin);
}

TEST_CASE("a failed compile is stored with its log, served as such, and belongs to its toolchain's key") {
  const TempDir dir;
  const auto failing = [](int& compiles) {
    return [&compiles] {
      ++compiles;
      BinaryRecord r = binary(1);
      r.status = BinaryStatus::compile_failed;
      r.cubin.clear();
      r.log = "step.cuh(12): error: too many lanes";
      return r;
    };
  };
  int compiles = 0;
  KernelCache(options_for(dir.path())).find_or_compile(key_of(1), signature_of(1), failing(compiles));
  KernelCache cache(options_for(dir.path()));
  const auto found = cache.find_or_compile(key_of(1), signature_of(1), failing(compiles));
  CHECK(compiles == 1);
  CHECK(found->status == BinaryStatus::compile_failed);
  CHECK(found->log == "step.cuh(12): error: too many lanes");
  CHECK(cache.find_any_toolchain(request_of(1), signature_of(1)) == nullptr);
  // The same request under another toolchain has another key.
  CHECK(cache.find(digest_of("key of the next toolchain"), signature_of(1)) == nullptr);
}

TEST_CASE("the newest ready binary of a request is found whatever toolchain made it") {
  const TempDir dir;
  {
    KernelCache cache(options_for(dir.path()));
    for (int version : {12, 14, 13}) {
      cache.find_or_compile(digest_of("toolchain " + std::to_string(version)), signature_of(1), [&] {
        BinaryRecord r = binary(1);
        r.toolchain = "nvrtc " + std::to_string(version);
        r.created_unix_s = 1'000 + version;
        if (version == 14) r.status = BinaryStatus::compile_failed;
        return r;
      });
    }
    CHECK(cache.find_any_toolchain(request_of(1), signature_of(1))->toolchain == "nvrtc 13");
  }
  KernelCache cache(options_for(dir.path()));
  const auto found = cache.find_any_toolchain(request_of(1), signature_of(1));
  REQUIRE(found);
  CHECK(found->toolchain == "nvrtc 13");
  CHECK(cache.find_any_toolchain(request_of(1), "another signature") == nullptr);
}

TEST_CASE("sixteen threads that ask for one key cause one compile, and keys do not wait for each other") {
  const TempDir dir;
  KernelCache cache(options_for(dir.path()));
  std::atomic<int> compiles{0};
  std::vector<std::thread> threads;
  std::vector<KernelCache::BinaryPtr> results(16);
  for (int t = 0; t < 16; ++t) {
    threads.emplace_back([&, t] {
      results[static_cast<std::size_t>(t)] = cache.find_or_compile(key_of(1), signature_of(1), [&] {
        ++compiles;
        // Asking for another key while compiling this one must not deadlock.
        get(cache, 2);
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        return binary(1);
      });
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(compiles == 1);
  for (const auto& result : results) CHECK(result == results[0]);
}

TEST_CASE("a compile that throws reaches every waiting thread, and the next call compiles again") {
  const TempDir dir;
  KernelCache cache(options_for(dir.path()));
  std::atomic<int> compiles{0}, thrown{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      try {
        cache.find_or_compile(key_of(1), signature_of(1), [&]() -> BinaryRecord {
          ++compiles;
          std::this_thread::sleep_for(std::chrono::milliseconds(200));
          throw std::runtime_error("no NVRTC");
        });
      } catch (const std::runtime_error& error) {
        if (std::string(error.what()) == "no NVRTC") ++thrown;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(thrown == 8);
  CHECK(compiles < 8);
  CHECK(cache.find(key_of(1), signature_of(1)) == nullptr);
  int again = 0;
  CHECK(get(cache, 1, &again)->status == BinaryStatus::ready);
  CHECK(again == 1);
}

TEST_CASE("memory is bounded, and what fell out of it comes from the file") {
  const TempDir dir;
  CacheOptions options = options_for(dir.path());
  options.memory_limit_bytes = 100'000;
  KernelCache cache(options);
  int compiles = 0;
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 20; ++i) CHECK(same(*get(cache, i, &compiles), binary(i)));
  }
  CHECK(compiles == 20);
  CHECK(cache.statistics().file_hits >= 15);
}

TEST_CASE("the size limit drops the least recently used binaries") {
  const TempDir dir;
  std::int64_t now = 1'000'000;
  CacheOptions options = options_for(dir.path());
  options.size_limit_bytes = 400'000;
  options.now_unix_s = [&] { return now; };
  {
    KernelCache cache(options);
    for (int i = 0; i < 8; ++i, now += 10'000) get(cache, i);
  }
  {
    KernelCache cache(options);  // uses number 0, which was written first
    CHECK(cache.find(key_of(0), signature_of(0)));
  }
  {
    KernelCache cache(options);
    for (int i = 8; i < 14; ++i, now += 10'000) get(cache, i);
  }
  KernelCache cache(options);
  CHECK(cache.find(key_of(0), signature_of(0)));
  CHECK_FALSE(cache.find(key_of(1), signature_of(1)));
  CHECK_FALSE(cache.find(key_of(2), signature_of(2)));
  CHECK(cache.find(key_of(13), signature_of(13)));
  CHECK(std::filesystem::file_size(cache.file()) <= 450'000);

  // A record that cannot fit costs no other its place.
  cache.find_or_compile(key_of(99), signature_of(99), [] { return binary(99, 500'000); });
  KernelCache after(options);
  CHECK(after.find(key_of(0), signature_of(0)));
  CHECK_FALSE(after.find(key_of(99), signature_of(99)));
}

TEST_CASE("a clock that goes backwards breaks nothing") {
  const TempDir dir;
  std::int64_t now = 2'000'000'000;
  CacheOptions options = options_for(dir.path());
  options.now_unix_s = [&] { return now; };
  {
    KernelCache cache(options);
    get(cache, 1);
  }
  now = 1'000;
  {
    KernelCache cache(options);
    CHECK(cache.find(key_of(1), signature_of(1)));
    get(cache, 2);
    cache.put_tuning(tuning("B=1", "block_v=8", 3));
    cache.remember_toolchain({dir.path() / "a", 1, 2}, "nvrtc 1");
  }
  now = -5;
  KernelCache cache(options);
  CHECK(cache.find(key_of(1), signature_of(1)));
  CHECK(cache.find(key_of(2), signature_of(2)));
}

TEST_CASE("tuning results replace their like, and one group has one winner") {
  const TempDir dir;
  {
    KernelCache cache(options_for(dir.path()));
    cache.put_tuning(tuning("B=1", "block_v=8", 5));
    cache.put_tuning(tuning("B=1", "block_v=8", 4));
    cache.put_tuning(tuning("B=1", "block_v=16", 3));
    cache.put_tuning(tuning("B=8", "block_v=16", 9));
    TuningRecord modelled = tuning("B=1", "block_v=32", 1);
    modelled.basis = TuningBasis::modelled;
    cache.put_tuning(modelled);
    cache.choose_tuning(modelled);
    cache.choose_tuning(tuning("B=8", "block_v=16", 9));
    cache.choose_tuning(tuning("B=1", "block_v=8", 4));
    TuningRecord winner = tuning("B=1", "block_v=16", 3);
    winner.reason = "tie of 2, fixed order";
    cache.choose_tuning(winner);
  }
  KernelCache cache(options_for(dir.path()));
  const auto rows = cache.find_tuning("gdn.step", "B=1", "H200 132 SM");
  REQUIRE(rows.size() == 3);
  for (const TuningRecord& row : rows) {
    if (row.basis == TuningBasis::modelled) {
      CHECK(row.chosen);  // another group
    } else if (row.tiles == "block_v=16") {
      CHECK(row.chosen);
      CHECK(row.reason == "tie of 2, fixed order");
    } else {
      CHECK_FALSE(row.chosen);
      CHECK(row.time_us == 4);
    }
  }
  CHECK(cache.find_tuning("", "", "").size() == 4);
  CHECK(cache.find_tuning("", "B=8", "").size() == 1);
  CHECK(cache.find_tuning("moe", "", "").empty());
  CHECK(cache.find_tuning("", "", "H100").empty());
}

TEST_CASE("every number a tuner can produce survives the file") {
  const TempDir dir;
  const double infinity = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  int i = 0;
  for (double value : {0.0, -0.0, 1e-300, 3.0, 1e300, infinity, -infinity, nan, 0.1}) {
    KernelCache cache(options_for(dir.path()));
    const std::string tiles = "i=" + std::to_string(i++);
    TuningRecord record = tuning("B=1", tiles, value);
    record.error = value;
    record.status = TuningStatus::wrong;
    record.reason = std::string("a\0b", 3) + "\xff";
    cache.put_tuning(record);
    bool seen = false;
    for (const TuningRecord& row : cache.find_tuning("gdn.step", "B=1", "")) {
      if (row.tiles != tiles) continue;
      seen = true;
      CHECK((row.error == value || (std::isnan(value) && std::isnan(row.error))));
      CHECK(row.reason == record.reason);
      CHECK(row.status == TuningStatus::wrong);
    }
    CHECK(seen);
  }
}

TEST_CASE("a library is known until its file changes, and the last one remembered is told") {
  const TempDir dir;
  const std::string first = dir / "libnvrtc.so.12", second = dir / "libnvrtc.so.13";
  write_bytes(first, "twelve");
  write_bytes(second, "thirteen");
  {
    KernelCache cache(options_for(dir / "cache"));
    CHECK_FALSE(cache.last_toolchain());
    cache.remember_toolchain(*identify_file(first), "nvrtc 12.8.93");
    cache.remember_toolchain(*identify_file(second), "nvrtc 13.0.88");
    CHECK_FALSE(identify_file(dir / "missing"));
  }
  KernelCache cache(options_for(dir / "cache"));
  CHECK(cache.known_toolchain(*identify_file(first)) == "nvrtc 12.8.93");
  REQUIRE(cache.last_toolchain());
  CHECK(cache.last_toolchain()->second == "nvrtc 13.0.88");
  CHECK(cache.last_toolchain()->first.path == second);
  cache.remember_toolchain(*identify_file(first), "nvrtc 12.8.93");
  CHECK(cache.last_toolchain()->second == "nvrtc 12.8.93");
  write_bytes(first, "another twelve");
  CHECK_FALSE(cache.known_toolchain(*identify_file(first)));
  CHECK_FALSE(cache.last_toolchain());
}

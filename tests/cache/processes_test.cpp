// Several processes on one cache, some of which die.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <stdexcept>
#include <thread>

#include "cache/key_lock.h"
#include "tests/cache/fixture.h"
#include "tests/cache/process.h"

using namespace gdnjit;
using namespace gdnjit::cache;
using namespace gdnjit::cache::test;

namespace {

// How often each record was compiled, from the log of the helpers.
std::map<int, int> compiles_in(const std::filesystem::path& log) {
  std::map<int, int> count;
  std::ifstream stream(log);
  for (int number = 0; stream >> number;) ++count[number];
  return count;
}

Process start_compiling(const TempDir& dir, int first, int count, int sleep_ms) {
  return Process(
      {"compile", dir / "cache", dir / "log", std::to_string(first), std::to_string(count), std::to_string(sleep_ms)});
}

}  // namespace

TEST_CASE("32 processes that start cold on the same 20 kernels make exactly 20 compiles") {
  const TempDir dir;
  const Stopwatch watch;
  std::vector<Process> processes;
  for (int i = 0; i < 32; ++i) processes.push_back(start_compiling(dir, 0, 20, 30));
  for (Process& process : processes) CHECK(process.wait() == 0);
  const std::map<int, int> compiles = compiles_in(dir / "log");
  CHECK(compiles.size() == 20);
  for (const auto& [number, count] : compiles) CHECK_MESSAGE(count == 1, "record ", number);
  MESSAGE("took ", watch.seconds(), " s; the compiles alone are 0.6 s");
  // Nothing is left behind.
  CHECK(std::filesystem::is_empty(dir / "cache/locks"));
}

TEST_CASE("when the process that compiles is killed, exactly one of those who wait takes over") {
  const TempDir dir;
  Process victim = start_compiling(dir, 0, 1, 60'000);
  REQUIRE(eventually([&] { return !compiles_in(dir / "log").empty(); }));
  std::vector<Process> others;
  for (int i = 0; i < 8; ++i) others.push_back(start_compiling(dir, 0, 20, 10));
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const Stopwatch watch;
  victim.kill();
  for (Process& process : others) CHECK(process.wait() == 0);
  CHECK(watch.seconds() < 10);
  std::map<int, int> compiles = compiles_in(dir / "log");
  CHECK(compiles[0] == 2);
  compiles.erase(0);
  CHECK(compiles.size() == 19);
  for (const auto& [number, count] : compiles) CHECK_MESSAGE(count == 1, "record ", number);
}

TEST_CASE("a lock that a dead owner's child keeps is taken over, once") {
  const TempDir dir;
  filled(dir / "cache", 1);  // makes the folders
  // The name of a process that is gone, with everything else as it should be.
  Process gone({"nothing"});
  const std::string owner = owner_text();
  const std::string dead = std::to_string(gone.pid()) + owner.substr(owner.find(' '));
  gone.wait();
  CHECK(owner_is_dead(dead));
  Process holder({"hold", dir / "cache/locks" / (key_of(5).hex() + ".lock"), dead, dir / "ready"});
  REQUIRE(eventually([&] { return std::filesystem::exists(dir / "ready"); }));
  const Stopwatch watch;
  std::vector<Process> others;
  for (int i = 0; i < 8; ++i) others.push_back(start_compiling(dir, 5, 1, 100));
  for (Process& process : others) CHECK(process.wait() == 0);
  CHECK(watch.seconds() < 10);
  CHECK(compiles_in(dir / "log")[5] == 1);
}

TEST_CASE("only an owner of this host, boot and pid namespace can be declared dead") {
  const std::string owner = owner_text();
  CHECK_FALSE(owner_is_dead(owner));
  CHECK_FALSE(owner_is_dead(""));
  CHECK_FALSE(owner_is_dead("garbage"));
  CHECK_FALSE(owner_is_dead("999999999"));
  const std::string rest = owner.substr(owner.find(' '));
  CHECK(owner_is_dead("999999999" + rest));
  CHECK_FALSE(owner_is_dead("999999999" + rest + "-of-another-host"));
  // Our pid, but a process that started at another time.
  const std::string after_start = rest.substr(rest.find(' ', 1));
  CHECK(owner_is_dead(std::to_string(::getpid()) + " 1" + after_start));
}

TEST_CASE("the wait for a living owner is bounded, and then the kernel is compiled anyway") {
  const TempDir dir;
  filled(dir / "cache", 1);
  const std::string lock_file = dir / "cache/locks" / (key_of(5).hex() + ".lock");
  Process holder({"hold", lock_file, owner_text(), dir / "ready"});
  REQUIRE(eventually([&] { return std::filesystem::exists(dir / "ready"); }));
  CacheOptions options = options_for(dir / "cache");
  options.lock_timeout_ms = 300;
  KernelCache cache(options);
  const Stopwatch watch;
  int compiles = 0;
  CHECK(same(*get(cache, 5, &compiles), binary(5)));
  CHECK(compiles == 1);
  CHECK(watch.seconds() >= 0.3);
  CHECK(watch.seconds() < 5);
}

TEST_CASE("two caches of one process share compiles like two processes") {
  const TempDir dir;
  KernelCache first(options_for(dir.path())), second(options_for(dir.path()));
  std::atomic<int> compiles{0};
  const auto ask = [&](KernelCache& cache) {
    for (int i = 0; i < 10; ++i) {
      cache.find_or_compile(key_of(i), signature_of(i), [&, i] {
        ++compiles;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        return binary(i);
      });
    }
  };
  std::thread other([&] { ask(second); });
  ask(first);
  other.join();
  CHECK(compiles == 10);
  CHECK(first.statistics().compiles + second.statistics().compiles == 10);
  CHECK(first.statistics().waited + second.statistics().waited > 0);
}

TEST_CASE("a compile that throws lets the next process in line try") {
  const TempDir dir;
  KernelCache first(options_for(dir.path())), second(options_for(dir.path()));
  std::atomic<bool> started{false};
  std::thread failing([&] {
    CHECK_THROWS_AS(first.find_or_compile(key_of(1), signature_of(1),
                                          [&]() -> BinaryRecord {
                                            started = true;
                                            std::this_thread::sleep_for(std::chrono::milliseconds(100));
                                            throw std::runtime_error("no NVRTC");
                                          }),
                    std::runtime_error);
  });
  while (!started) std::this_thread::yield();
  const Stopwatch watch;
  int compiles = 0;
  CHECK(same(*get(second, 1, &compiles), binary(1)));
  CHECK(compiles == 1);
  CHECK(watch.seconds() < 5);
  failing.join();
  CHECK(std::filesystem::is_empty(dir / "locks"));
}

TEST_CASE("a writer that is killed again and again leaves a usable file") {
  const TempDir dir;
  int stored = 0;
  for (int round = 0; round < 15; ++round) {
    Process writer({"write", dir.path(), std::to_string(round * 1000)});
    // From the midst of making the file to the midst of the hundredth row.
    std::this_thread::sleep_for(std::chrono::milliseconds(3 + 7 * round));
    writer.kill();
    writer.wait();
    KernelCache cache(options_for(dir.path()));
    int compiles = 0;
    CHECK(same(*get(cache, round * 1000, &compiles), binary(round * 1000)));
    stored += 1 - compiles;
    CHECK(cache.find_tuning("", "", "").size() < 100'000);
    CHECK(cache.trouble() == "");
    CHECK(cache.statistics().corrupt == 0);
  }
  CHECK(stored > 5);
  CHECK(set_aside_in(dir.path()).empty());
}

TEST_CASE("a disk that is full at any point costs only the storing") {
  for (int kilobytes : {0, 1, 4, 12, 40, 64, 100, 200}) {
    const TempDir dir;
    Process process({"limited", dir.path(), std::to_string(kilobytes * 1024)});
    CHECK_MESSAGE(process.wait() == 0, kilobytes, " KiB");
    KernelCache cache(options_for(dir.path()));
    for (int i = 0; i < 20; ++i) CHECK(same(*get(cache, i), binary(i)));
    CHECK(cache.trouble() == "");
    CHECK(set_aside_in(dir.path()).empty());
  }
}

TEST_CASE("parent and child go on using the cache after a fork, with threads at work on it") {
  const TempDir dir;
  KernelCache cache(options_for(dir.path()));
  get(cache, 1);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; !stop; ++i) {
        get(cache, 1'000'000 * (t + 1) + i % 50);
        cache.put_tuning(tuning("B=" + std::to_string(i % 10), "block_v=8", t));
        cache.find(key_of(2'000 + i), signature_of(2'000 + i));
        std::this_thread::sleep_for(std::chrono::microseconds(200));
      }
    });
  }
  for (int round = 0; round < 20; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(20);  // a deadlock ends here
      int compiles = 0;
      const bool right = same(*get(cache, 1, &compiles), binary(1)) && compiles == 0 &&
                         same(*get(cache, 100 + round, &compiles), binary(100 + round)) && compiles == 1 &&
                         !cache.find(key_of(-1), signature_of(-1)) && cache.find_tuning("moe", "", "").empty();
      ::_exit(right ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK(status == 0);
    int compiles = 0;
    // The child stored it, so the parent need not compile it.
    CHECK(same(*get(cache, 100 + round, &compiles), binary(100 + round)));
    CHECK(compiles == 0);
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(cache.trouble() == "");
}

TEST_CASE("a child forked in the midst of a compile does not keep or release the parent's lock") {
  const TempDir dir;
  KernelCache cache(options_for(dir.path()));
  pid_t child = 0;
  cache.find_or_compile(key_of(1), signature_of(1), [&] {
    child = ::fork();
    if (child == 0) {
      ::pause();
      ::_exit(0);
    }
    return binary(1);
  });
  // Another process can lock the key at once though the child lives on.
  const Stopwatch watch;
  const KeyLock lock(dir / "locks", key_of(1), 5'000);
  CHECK(lock.held());
  CHECK(watch.seconds() < 1);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

TEST_CASE("processes that make the file at the same time agree on it") {
  for (int round = 0; round < 20; ++round) {
    const TempDir dir;
    std::vector<Process> processes;
    for (int i = 0; i < 12; ++i) processes.push_back(start_compiling(dir, 0, 1, 0));
    for (Process& process : processes) CHECK(process.wait() == 0);
    CHECK(compiles_in(dir / "log")[0] == 1);
    CHECK(set_aside_in(dir / "cache").empty());
  }
}

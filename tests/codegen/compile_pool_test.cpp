#include "codegen/compile_pool.h"

#include <doctest/doctest.h>

#include <atomic>
#include <future>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/error_of.h"

namespace gdnjit {
namespace {

TEST_CASE("results come back through their futures") {
  CompilePool pool(3);
  CHECK(pool.threads() == 3);
  std::vector<std::future<int>> futures;
  for (int index = 0; index < 100; ++index) futures.push_back(pool.submit([index] { return index * index; }));
  for (int index = 0; index < 100; ++index) CHECK(futures[static_cast<std::size_t>(index)].get() == index * index);
}

TEST_CASE("zero threads means one per core, and fewer than zero is refused") {
  CHECK(CompilePool(0).threads() >= 1);
  CHECK(error_of([] { CompilePool pool(-1); }).code() == ErrorCode::invalid_argument);
}

TEST_CASE("an exception goes to its future and the pool works on") {
  CompilePool pool(1);
  std::future<int> failing = pool.submit([]() -> int { throw std::runtime_error("refused"); });
  std::future<std::string> next = pool.submit([] { return std::string("fine"); });
  CHECK_THROWS_WITH_AS(failing.get(), "refused", std::runtime_error);
  CHECK(next.get() == "fine");
}

TEST_CASE("a task may be something that can only be moved") {
  CompilePool pool(1);
  auto value = std::make_unique<int>(7);
  CHECK(pool.submit([value = std::move(value)] { return *value; }).get() == 7);
}

TEST_CASE("no more tasks run at once than there are threads") {
  CompilePool pool(2);
  std::atomic<int> running = 0;
  std::atomic<int> most = 0;
  std::vector<std::future<void>> futures;
  for (int index = 0; index < 40; ++index) {
    futures.push_back(pool.submit([&] {
      const int now = ++running;
      int seen = most;
      while (now > seen && !most.compare_exchange_weak(seen, now)) {
      }
      std::this_thread::yield();
      --running;
    }));
  }
  for (std::future<void>& future : futures) future.get();
  CHECK(most <= 2);
  CHECK(running == 0);
}

TEST_CASE("destroying the pool finishes what runs and drops what waits") {
  std::promise<void> started;
  std::promise<void> go_on;
  std::atomic<int> ran = 0;
  std::future<void> running;
  std::future<void> waiting;
  {
    CompilePool pool(1);
    running = pool.submit([&] {
      started.set_value();
      go_on.get_future().wait();
      ++ran;
    });
    waiting = pool.submit([&] { ++ran; });
    started.get_future().wait();
    CHECK(pool.cancel() == 1);
    CHECK(pool.cancel() == 0);
    go_on.set_value();
  }
  running.get();
  CHECK(ran == 1);
  CHECK_THROWS_AS(waiting.get(), std::future_error);
}

TEST_CASE("a pool that is destroyed at once breaks the promises of tasks it did not start") {
  std::vector<std::future<int>> futures;
  {
    CompilePool pool(2);
    for (int index = 0; index < 200; ++index) futures.push_back(pool.submit([index] { return index; }));
  }
  int done = 0;
  int dropped = 0;
  for (std::future<int>& future : futures) {
    try {
      future.get();
      ++done;
    } catch (const std::future_error&) {
      ++dropped;
    }
  }
  CHECK(done + dropped == 200);
}

TEST_CASE("many threads may submit at once") {
  CompilePool pool(2);
  std::atomic<int> sum = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] {
      std::vector<std::future<void>> futures;
      for (int index = 0; index < 50; ++index) futures.push_back(pool.submit([&] { ++sum; }));
      for (std::future<void>& future : futures) future.get();
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(sum == 200);
}

}  // namespace
}  // namespace gdnjit

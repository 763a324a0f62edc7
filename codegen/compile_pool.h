// Threads that compile. Bounded: at most `threads` compiles run at once, however many are asked for.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace gdnjit {

// Thread-safe. Destroying the pool waits for the running tasks and drops the waiting ones: their futures then throw
// std::future_error (broken_promise).
class CompilePool {
 public:
  // 0 threads: one per core.
  explicit CompilePool(int threads);
  ~CompilePool();
  CompilePool(const CompilePool&) = delete;
  CompilePool& operator=(const CompilePool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()); }

  // Runs `task` on a pool thread, first come first served. An exception goes to the future.
  template <typename Task>
  auto submit(Task&& task) -> std::future<std::invoke_result_t<std::decay_t<Task>&>> {
    using Result = std::invoke_result_t<std::decay_t<Task>&>;
    auto packaged = std::make_shared<std::packaged_task<Result()>>(std::forward<Task>(task));
    std::future<Result> future = packaged->get_future();
    enqueue([packaged] { (*packaged)(); });
    return future;
  }

  // Drops the tasks that have not started; returns how many.
  std::size_t cancel();

 private:
  void enqueue(std::function<void()> work);
  void serve();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> waiting_;
  bool stopping_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace gdnjit

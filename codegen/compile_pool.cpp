#include "codegen/compile_pool.h"

#include <algorithm>
#include <system_error>

#include "runtime/support/check.h"

namespace gdnjit {

CompilePool::CompilePool(int threads) {
  require(threads >= 0, "compile_threads={}: must not be negative", threads);
  const unsigned count =
      threads > 0 ? static_cast<unsigned>(threads) : std::max(1U, std::thread::hardware_concurrency());
  workers_.reserve(count);
  for (unsigned index = 0; index < count; ++index) {
    try {
      workers_.emplace_back([this] { serve(); });
    } catch (const std::system_error&) {
      if (workers_.empty()) throw;
      return;  // the system grants no more threads: fewer will do
    }
  }
}

CompilePool::~CompilePool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  cancel();
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

std::size_t CompilePool::cancel() {
  std::deque<std::function<void()>> dropped;
  {
    const std::lock_guard lock(mutex_);
    dropped.swap(waiting_);
  }
  return dropped.size();  // their promises break outside the lock
}

void CompilePool::enqueue(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    GDNJIT_CHECK(!stopping_, "a task was given to a compile pool that is being destroyed");
    waiting_.push_back(std::move(work));
  }
  wake_.notify_one();
}

void CompilePool::serve() {
  for (;;) {
    std::function<void()> work;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      work = std::move(waiting_.front());
      waiting_.pop_front();
    }
    work();
  }
}

}  // namespace gdnjit

#include "runtime/emulator/thread_pool.h"

#include <algorithm>

namespace gdnjit::emulator {

ThreadPool::ThreadPool(unsigned threads) {
  for (unsigned number = 1; number < std::max(1U, threads); ++number) {
    threads_.emplace_back([this, number] { serve(number); });
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  start_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::run(unsigned count, const std::function<void(unsigned)>& work) {
  count = std::min(count, size());
  if (count > 1) {
    const std::lock_guard lock(mutex_);
    work_ = &work;
    wanted_ = count;
    running_ = count - 1;
    ++round_;
  }
  if (count > 1) start_.notify_all();
  work(0);
  if (count > 1) {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return running_ == 0; });
    work_ = nullptr;
  }
}

void ThreadPool::serve(unsigned number) {
  std::uint64_t seen = 0;
  std::unique_lock lock(mutex_);
  while (true) {
    start_.wait(lock, [&] { return stop_ || round_ != seen; });
    if (stop_) return;
    seen = round_;
    if (number >= wanted_ || work_ == nullptr) continue;
    const auto* work = work_;
    lock.unlock();
    (*work)(number);
    lock.lock();
    if (--running_ == 0) done_.notify_one();
  }
}

}  // namespace gdnjit::emulator

#include "tools/gdn-tune/jobs.h"

#include <atomic>
#include <exception>
#include <future>
#include <memory>

#include "codegen/compile_pool.h"
#include "tools/gdn-tune/interrupt.h"

namespace gdnjit::tool {

std::vector<bool> run_jobs(Console& console, const Jobs& jobs) {
  const auto progress = console.progress(jobs.title);
  std::vector<char> ran(jobs.count, 0);  // not vector<bool>: neighbours are written by different threads
  std::atomic<std::size_t> done = 0;
  std::atomic<bool> failed = false;
  std::vector<std::future<void>> futures;
  futures.reserve(jobs.count);
  CompilePool pool(jobs.threads);
  for (std::size_t index = 0; index < jobs.count; ++index) {
    futures.push_back(pool.submit([&, index] {
      if (failed || interrupted()) return;
      progress->update(done, jobs.count, jobs.name(index));
      try {
        jobs.work(index);
      } catch (...) {
        failed = true;
        throw;
      }
      ran[index] = 1;
      progress->update(++done, jobs.count, jobs.name(index));
    }));
  }
  std::exception_ptr first;
  for (std::future<void>& future : futures) {
    try {
      future.get();
    } catch (...) {
      if (!first) first = std::current_exception();
    }
  }
  progress->clear();
  if (first) std::rethrow_exception(first);
  return {ran.begin(), ran.end()};
}

}  // namespace gdnjit::tool

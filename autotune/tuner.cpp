#include "autotune/tuner.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <map>
#include <set>
#include <utility>

#include "autotune/evaluator.h"
#include "autotune/search.h"
#include "autotune/worker_client.h"
#include "codegen/compile_pool.h"
#include "runtime/build.h"
#include "runtime/support/check.h"

namespace gdnjit::autotune {
namespace {

void check_options(const TunerOptions& options) {
  require(options.deployment == "graph" || options.deployment == "stream", "deployment={}: must be graph or stream",
          options.deployment);
  require(options.margin >= 0 && options.margin < 1, "margin={}: must be at least 0 and below 1", options.margin);
  require(options.rounds >= 3, "rounds={}: must be at least 3, for a median", options.rounds);
  require(options.worker_timeout_ms > 0, "worker_timeout_ms={}: must be positive", options.worker_timeout_ms);
}

// Compiles ahead of the device. What goes wrong here goes wrong again, and is recorded, when the candidate's turn
// comes; so the tasks keep it to themselves.
class CompileAhead {
 public:
  CompileAhead(Runtime::Impl& runtime, int threads) : runtime_(runtime), pool_(threads) {}

  void submit(const Search& search, std::size_t index) {
    const auto& instance = search.candidate(index).instance;
    if (instance == nullptr) return;
    for (const KernelSpec& spec : instance->kernels()) {
      done_[{&search, index}].push_back(pool_.submit([this, &search, instance, &spec] {
        try {
          build_kernel(runtime_, search.op(), search.problem(), spec);
        } catch (const Error&) {
        }
      }));
    }
  }

  void wait_for(const Search& search, std::size_t index) {
    const auto tasks = done_.find({&search, index});
    if (tasks == done_.end()) return;
    for (const std::future<void>& task : tasks->second) task.wait();
  }

 private:
  Runtime::Impl& runtime_;
  std::map<std::pair<const Search*, std::size_t>, std::vector<std::future<void>>> done_;
  CompilePool pool_;  // last: its threads end before what they use
};

class Progress {
 public:
  Progress(std::size_t total, const std::function<void(const TuneProgress&)>& report)
      : total_(total), report_(report), start_(std::chrono::steady_clock::now()) {}

  void now(const std::string& current) const {
    if (!report_) return;
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
    const double each = done_ == 0 ? 0 : elapsed.count() / static_cast<double>(done_);
    report_({.done = done_, .total = total_, .eta_s = each * static_cast<double>(total_ - done_), .current = current});
  }

  void candidate_done() { ++done_; }

 private:
  std::size_t total_;
  std::size_t done_ = 0;
  const std::function<void(const TuneProgress&)>& report_;
  std::chrono::steady_clock::time_point start_;
};

// False if stopped before the end.
bool run(Search& search, Evaluator& evaluator, CompileAhead& compiling, Progress& progress,
         const std::function<bool()>& stopped) {
  for (std::size_t index : search.open_candidates()) {
    if (stopped()) return false;
    progress.now(fmt::format("{}: {}", search.text(), search.candidate(index).text));
    compiling.wait_for(search, index);
    search.check(index, evaluator);
    progress.candidate_done();
  }
  if (stopped()) return false;
  progress.now(fmt::format("{}: choosing", search.text()));
  search.time_and_choose(evaluator);
  return true;
}

Options worker_options(const Runtime::Impl& runtime) {
  Options options = runtime.options();
  const DeviceInfo& device = runtime.device().info();
  options.device = device.kind == DeviceKind::cuda ? fmt::format("cuda:{}", runtime.device_ordinal())
                                                   : fmt::format("emulator:{}", device.traits.arch);
  options.policy = Policy::cached;  // a worker builds what it is told to
  return options;
}

}  // namespace

std::vector<TuneRequest> shard_of(const std::vector<TuneRequest>& requests, int index, int count) {
  require(count >= 1, "shard count {}: must be at least 1", count);
  require(index >= 0 && index < count, "shard index {}: must be 0 to {}", index, count - 1);
  std::vector<TuneRequest> own;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (i % static_cast<std::size_t>(count) == static_cast<std::size_t>(index)) own.push_back(requests[i]);
  }
  return own;
}

std::vector<TuneOutcome> tune(Runtime::Impl& runtime, const std::vector<TuneRequest>& requests,
                              const TunerOptions& options, const std::function<void(const TuneProgress&)>& progress,
                              const std::function<bool()>& stop) {
  if (options.worker_command.empty()) {
    LocalEvaluator evaluator(runtime);
    return tune_with(evaluator, runtime, requests, options, progress, stop);
  }
  WorkerClient evaluator(options.worker_command, worker_options(runtime), options.worker_timeout_ms);
  return tune_with(evaluator, runtime, requests, options, progress, stop);
}

std::vector<TuneOutcome> tune_with(Evaluator& evaluator, Runtime::Impl& runtime,
                                   const std::vector<TuneRequest>& requests, const TunerOptions& options,
                                   const std::function<void(const TuneProgress&)>& report,
                                   const std::function<bool()>& stop) {
  check_options(options);
  std::vector<std::unique_ptr<Search>> searches;
  std::vector<const Search*> wanted;  // one per request; requests of one bucket share a search
  std::size_t total = 0;
  for (const TuneRequest& request : shard_of(requests, options.shard_index, options.shard_count)) {
    GDNJIT_CHECK(request.op != nullptr, "a request without an operator");
    auto search = std::make_unique<Search>(runtime, *request.op, request.problem, options);
    const auto same = [&](const auto& other) { return other->text() == search->text(); };
    const auto known = std::find_if(searches.begin(), searches.end(), same);
    wanted.push_back(known != searches.end() ? known->get() : search.get());
    if (known != searches.end()) continue;
    if (!search->complete()) total += search->open_candidates().size();
    searches.push_back(std::move(search));
  }

  CompileAhead compiling(runtime,
                         options.compile_threads > 0 ? options.compile_threads : runtime.options().compile_threads);
  for (const auto& search : searches) {
    if (search->complete()) continue;
    for (std::size_t index : search->open_candidates()) compiling.submit(*search, index);
  }

  Progress progress(total, report);
  std::set<const Search*> finished;
  const auto stopped = [&] { return stop && stop(); };
  for (const auto& search : searches) {
    if (!search->complete() && !run(*search, evaluator, compiling, progress, stopped)) break;
    finished.insert(search.get());
  }
  std::vector<TuneOutcome> outcomes;
  for (const Search* search : wanted) {
    if (finished.contains(search)) outcomes.push_back(search->outcome());
  }
  return outcomes;
}

}  // namespace gdnjit::autotune

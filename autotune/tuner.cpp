#include "autotune/tuner.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <map>
#include <set>
#include <utility>

#include "autotune/crossover_search.h"
#include "autotune/evaluator.h"
#include "autotune/search.h"
#include "autotune/task.h"
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

  void submit(const Task& task, std::size_t step) {
    const std::shared_ptr<const Instance> instance = task.instance_of(step);
    if (instance == nullptr) return;
    for (const KernelSpec& spec : instance->kernels()) {
      done_[{&task, step}].push_back(pool_.submit([this, &task, instance, &spec] {
        try {
          build_kernel(runtime_, task.op(), task.problem(), spec);
        } catch (const Error&) {
        }
      }));
    }
  }

  void wait_for(const Task& task, std::size_t step) {
    const auto compiles = done_.find({&task, step});
    if (compiles == done_.end()) return;
    for (const std::future<void>& compile : compiles->second) compile.wait();
  }

 private:
  Runtime::Impl& runtime_;
  std::map<std::pair<const Task*, std::size_t>, std::vector<std::future<void>>> done_;
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

  void step_done() { ++done_; }

 private:
  std::size_t total_;
  std::size_t done_ = 0;
  const std::function<void(const TuneProgress&)>& report_;
  std::chrono::steady_clock::time_point start_;
};

// False if stopped before the end.
bool run(Task& task, Evaluator& evaluator, CompileAhead& compiling, Progress& progress,
         const std::function<bool()>& stopped) {
  for (std::size_t step = 0; step < task.steps(); ++step) {
    if (stopped()) return false;
    progress.now(fmt::format("{}: {}", task.text(), task.step_text(step)));
    compiling.wait_for(task, step);
    task.run(step, evaluator);
    progress.step_done();
  }
  if (stopped()) return false;
  progress.now(fmt::format("{}: choosing", task.text()));
  task.finish(evaluator);
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

// Requests for the parts of operators that run all of them.
std::vector<TuneRequest> parts_of(const std::vector<TuneRequest>& requests) {
  std::vector<TuneRequest> parts;
  for (const TuneRequest& request : requests) {
    if (!request.op->runs_all_parts()) continue;
    for (const OperatorPart& part : request.op->parts(request.op->complete(request.problem))) {
      parts.push_back({.op = part.op, .problem = part.problem});
    }
  }
  return parts;
}

}  // namespace

std::unique_ptr<Task> make_task(Runtime::Impl& runtime, const Operator& op, const FieldMap& problem,
                                const TunerOptions& options) {
  if (op.runs_all_parts() || op.parts(op.complete(problem)).empty()) {
    return std::make_unique<Search>(runtime, op, problem, options);
  }
  return std::make_unique<CrossoverSearch>(runtime, op, problem, options);
}

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
  const auto all = [&](Evaluator& evaluator) {
    // What runs its parts one after another is looked at when they have their tiles.
    const std::vector<TuneRequest> parts = parts_of(shard_of(requests, options.shard_index, options.shard_count));
    TunerOptions whole = options;
    whole.shard_index = 0;
    whole.shard_count = 1;
    if (!parts.empty()) tune_with(evaluator, runtime, parts, whole, progress, stop);
    return tune_with(evaluator, runtime, requests, options, progress, stop);
  };
  if (options.worker_command.empty()) {
    LocalEvaluator evaluator(runtime);
    return all(evaluator);
  }
  WorkerClient evaluator(options.worker_command, worker_options(runtime), options.worker_timeout_ms);
  return all(evaluator);
}

std::vector<TuneOutcome> tune_with(Evaluator& evaluator, Runtime::Impl& runtime,
                                   const std::vector<TuneRequest>& requests, const TunerOptions& options,
                                   const std::function<void(const TuneProgress&)>& report,
                                   const std::function<bool()>& stop) {
  check_options(options);
  std::vector<std::unique_ptr<Task>> tasks;
  std::vector<const Task*> wanted;  // one per request; requests of one bucket share a task
  std::size_t total = 0;
  for (const TuneRequest& request : shard_of(requests, options.shard_index, options.shard_count)) {
    GDNJIT_CHECK(request.op != nullptr, "a request without an operator");
    auto task = make_task(runtime, *request.op, request.problem, options);
    const auto same = [&](const auto& other) { return other->text() == task->text(); };
    const auto known = std::find_if(tasks.begin(), tasks.end(), same);
    wanted.push_back(known != tasks.end() ? known->get() : task.get());
    if (known != tasks.end()) continue;
    if (!task->complete()) total += task->steps();
    tasks.push_back(std::move(task));
  }

  CompileAhead compiling(runtime,
                         options.compile_threads > 0 ? options.compile_threads : runtime.options().compile_threads);
  for (const auto& task : tasks) {
    for (std::size_t step = 0; !task->complete() && step < task->steps(); ++step) compiling.submit(*task, step);
  }

  Progress progress(total, report);
  std::set<const Task*> finished;
  const auto stopped = [&] { return stop && stop(); };
  for (const auto& task : tasks) {
    if (!task->complete() && !run(*task, evaluator, compiling, progress, stopped)) break;
    finished.insert(task.get());
  }
  std::vector<TuneOutcome> outcomes;
  for (const Task* task : wanted) {
    if (finished.contains(task)) outcomes.push_back(task->outcome());
  }
  return outcomes;
}

}  // namespace gdnjit::autotune

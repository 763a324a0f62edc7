// Evaluates candidates on a device: is it right, and how long does it take. In this process (LocalEvaluator) or in
// a worker (autotune/worker_client.h), so that a crash or a hang costs one candidate.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "autotune/checker.h"
#include "autotune/timer.h"
#include "cache/record.h"
#include "codegen/operator.h"
#include "runtime/counters.h"
#include "runtime/runtime_impl.h"

namespace gdnjit::autotune {

// The B of a problem; 1 if it has none.
std::int64_t batch_of(const FieldMap& problem);

// What is known of one candidate after its check.
struct Checked {
  cache::TuningStatus status = cache::TuningStatus::ok;
  std::string reason = {};   // of a status other than ok
  double error = 0;          // rms ratio, the worst output
  double modelled_us = 0;    // on a device that counts instead of timing
  bool device_lost = false;  // the device takes no more work from this process (a sticky CUDA error)
};

// What is known of one candidate after timing.
struct Timed {
  cache::TuningStatus status = cache::TuningStatus::ok;
  std::string reason = {};
  std::vector<double> samples_us = {};
};

// Not thread-safe. A candidate's own failure is a value. Throws Error for what is nobody's fault: no NVRTC, no
// memory, a device that is gone.
class Evaluator {
 public:
  virtual ~Evaluator() = default;
  // `problem` is complete.
  virtual Checked check(const Operator& op, const FieldMap& problem, const FieldMap& tiles) = 0;
  // One entry per candidate, timed against each other. REQUIRES: they passed check().
  virtual std::vector<Timed> time(const Operator& op, const FieldMap& problem, const std::vector<FieldMap>& tiles,
                                  const TimingOptions& options) = 0;
};

// The problem that the check runs: smaller in B where the kernel is the same for every B, since a hundred equal
// sequences prove no more than a few and cost a hundred times as much. `full` otherwise.
FieldMap check_problem(const Operator& op, const FieldMap& full, const FieldMap& tiles, const DeviceInfo& device);

class LocalEvaluator : public Evaluator {
 public:
  using WorkloadFactory = std::function<std::unique_ptr<reference::Workload>(
      std::string_view op, const FieldMap& problem, reference::Inputs inputs, std::uint64_t seed)>;

  explicit LocalEvaluator(Runtime::Impl& runtime, WorkloadFactory make_workload = reference::make_workload)
      : runtime_(runtime), make_workload_(std::move(make_workload)) {}

  Checked check(const Operator& op, const FieldMap& problem, const FieldMap& tiles) override;
  std::vector<Timed> time(const Operator& op, const FieldMap& problem, const std::vector<FieldMap>& tiles,
                          const TimingOptions& options) override;

  // Called with the index of the candidate about to run in time(); the worker tells its parent.
  void on_running(std::function<void(std::size_t)> running) { running_ = std::move(running); }

 private:
  Checked judge(const Operator& op, const FieldMap& problem, const FieldMap& tiles);
  // How the plan's kernels did on one check problem; problems that differ only in a large B share it.
  const CheckResult& observe(const Operator& op, const FieldMap& problem, const OperatorPlan& plan);
  const reference::Workload& workload(const Operator& op, const FieldMap& problem);
  bool device_works() const;

  Runtime::Impl& runtime_;
  WorkloadFactory make_workload_;
  std::unordered_map<std::string, CheckResult> observations_;  // by check problem and signatures
  std::string workload_of_;
  std::unique_ptr<reference::Workload> workload_;  // the last one: candidates of a problem come one after another
  std::function<void(std::size_t)> running_;
};

}  // namespace gdnjit::autotune

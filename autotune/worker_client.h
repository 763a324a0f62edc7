// The tuner's side: an Evaluator whose candidates run in a worker process with a watchdog.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "autotune/child_process.h"
#include "autotune/evaluator.h"
#include "autotune/worker_protocol.h"

namespace gdnjit::autotune {

// A candidate that crashes or hangs its worker gets that status, and the next one a fresh worker.
class WorkerClient : public Evaluator {
 public:
  // `options` are the runtime's; `command` starts a process that serves (`gdn-tune worker`). `timeout_ms` is the
  // longest silence of a worker that has something to do.
  WorkerClient(std::vector<std::string> command, Options options, int timeout_ms);

  Checked check(const Operator& op, const FieldMap& problem, const FieldMap& tiles) override;
  std::vector<Timed> time(const Operator& op, const FieldMap& problem, const std::vector<FieldMap>& tiles,
                          const TimingOptions& options) override;

  int workers_started() const { return workers_started_; }

 private:
  struct Answer {
    Json message;                                               // null if there is none
    cache::TuningStatus status = cache::TuningStatus::crashed;  // then: crashed or hung
    std::string reason;
  };

  void start();
  Answer ask(const Json& request);
  Answer next_answer();
  std::vector<Timed> time_alive(const TimeRequest& request, std::size_t& culprit, Answer& failure);

  std::vector<std::string> command_;
  Options options_;
  int timeout_ms_;
  std::unique_ptr<ChildProcess> worker_;
  int workers_started_ = 0;
};

}  // namespace gdnjit::autotune

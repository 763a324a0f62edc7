// The worker's side: evaluates candidates for a tuner that talks to it in lines (autotune/worker_protocol.h).
#pragma once

#include <functional>
#include <memory>

#include "autotune/evaluator.h"

namespace gdnjit::autotune {

// An evaluator, and the device's name for the greeting. `running` must be called before each candidate is timed.
struct WorkerBench {
  std::unique_ptr<Evaluator> evaluator;
  std::string device_name;
};
using WorkerFactory = std::function<WorkerBench(const Options& options, std::function<void(std::size_t)> running)>;

// Serves until the input ends (returns 0), the device is lost (1), or a message cannot be read (2).
int serve(int in_fd, int out_fd, const WorkerFactory& factory);

// The body of `gdn-tune worker`: serve() on a Runtime made from the tuner's options. If `out_fd` is standard output,
// stray prints of libraries go to standard error instead. The process dies with its parent and ignores what ends
// programs politely (SIGINT, SIGTERM, SIGHUP): its parent decides.
int worker_main(int in_fd, int out_fd);

}  // namespace gdnjit::autotune

// gdn-tune worker: evaluates candidates for a tuner, so that a hang or a sticky error costs a process and not the run.
#include "autotune/worker.h"

#include <unistd.h>

#include "tools/gdn-tune/command.h"

namespace gdnjit::tool {
namespace {

class WorkerCommand : public Command {
 public:
  void declare(Arguments&) override {}

  Result run(Console&) override { return {.exit_code = autotune::worker_main(STDIN_FILENO, STDOUT_FILENO)}; }
};

}  // namespace

std::unique_ptr<Command> make_worker_command() { return std::make_unique<WorkerCommand>(); }

}  // namespace gdnjit::tool

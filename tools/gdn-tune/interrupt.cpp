#include "tools/gdn-tune/interrupt.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <string_view>
#include <thread>

namespace gdnjit::tool {
namespace {

std::atomic<bool> stop_asked = false;

void wait_for_signals(const sigset_t& signals) {
  while (true) {
    int signal = 0;
    if (sigwait(&signals, &signal) != 0) continue;
    if (stop_asked.exchange(true)) _exit(kInterruptedExitCode);
    constexpr std::string_view kNote = "\nstopping after the work that is running; Ctrl-C again stops at once\n";
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kNote.data(), kNote.size());
  }
}

}  // namespace

// A handler would not do: while NVRTC compiles, its front end puts its own in place, which ends the process. So the
// signals are blocked in every thread but one, and that one waits for them, which no handler can come between.
void catch_interrupts() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread(wait_for_signals, signals).detach();
}

void leave_interrupts_to_parent() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_SETMASK, &signals, nullptr);
}

bool interrupted() { return stop_asked.load(); }

}  // namespace gdnjit::tool

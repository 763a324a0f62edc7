// Ctrl-C. The first one asks the running command to stop where nothing is lost; the second ends the process at once.
#pragma once

namespace gdnjit::tool {

// The exit code of a command that was stopped, as shells expect it: 128 + SIGINT.
inline constexpr int kInterruptedExitCode = 130;

// Takes over SIGINT and SIGTERM. REQUIRES: no other thread runs yet.
void catch_interrupts();

// For a worker: Ctrl-C reaches the whole process group, but the tuner decides when its worker ends. SIGTERM, which
// the parent had blocked, ends it. REQUIRES: no other thread runs yet.
void leave_interrupts_to_parent();

bool interrupted();

}  // namespace gdnjit::tool

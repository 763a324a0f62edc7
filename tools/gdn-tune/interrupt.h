// Ctrl-C. The first one asks the running command to stop where nothing is lost; the second ends the process at once.
#pragma once

namespace gdnjit::tool {

// The exit code of a command that was stopped, as shells expect it: 128 + SIGINT.
inline constexpr int kInterruptedExitCode = 130;

// Handles SIGINT and SIGTERM from here on.
void catch_interrupts();

bool interrupted();

}  // namespace gdnjit::tool

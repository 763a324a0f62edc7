// Runs any text as if it were PTX. Whatever it says, the outcome is a launch or an Error, never a crash.
#pragma once

#include <string_view>

namespace gdnjit::fuzz {

enum class Outcome { refused, faulted, ran };

// Loads each kernel that the text names and launches it on the emulator: one block of 64 threads, 4 KiB of dynamic
// shared memory, parameters that point to one small buffer, and a limit of instructions. Returns the best outcome.
// Anything but an Error of the emulator escapes.
Outcome run_ptx(std::string_view text);

}  // namespace gdnjit::fuzz

// Functions that the CUDA runtime provides to device code: assertions and printf.
#pragma once

#include "runtime/emulator/exec/warp.h"

namespace gdnjit::emulator {

// Executes the call for the lanes of the warp's mask. vprintf prints to stderr, one lane after the other, and returns
// how many arguments it printed; a format that needs more arguments than its buffer holds is a fault. A failed
// assertion is a fault. REQUIRES: the call's target is a builtin with parameters of the right sizes.
void call_builtin(Warp& warp, const Instruction& in, const CallSite& site);

}  // namespace gdnjit::emulator

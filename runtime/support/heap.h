// The heap of a program that compiles many kernels.
#pragma once

namespace gdnjit {

// Keeps what is freed for what comes next, where the C library is glibc: NVRTC takes and gives back some tens of
// megabytes a compile, and fetching their pages anew costs 2 to 3 ms of 60. It changes the whole process, so programs
// call it and libraries do not.
void keep_heap();

}  // namespace gdnjit

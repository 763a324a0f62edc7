// Errors. An ordinary outcome (a cache miss, a failed candidate) is a value; this exception means that the
// call could not do what was asked. The C interface turns it into its code and a per-thread message.
#pragma once

#include <stdexcept>
#include <string>

namespace gdnjit {

// DO NOT RENUMBER: the values are the return codes of the C interface and the exit codes of gdn-tune.
enum class ErrorCode : int {
  ok = 0,
  invalid_argument = 2,    // the caller's value breaks a rule; the message names argument, value and rule
  unsupported = 3,         // a valid request that this build or device cannot serve
  nvrtc_missing = 4,       // something must be compiled and no NVRTC was found
  compile_failed = 5,      // NVRTC refused the source; the message holds its first error
  device_unavailable = 6,  // the device asked for is not there
  device_failed = 7,       // a launch, copy or load failed, or the emulator found a fault
  out_of_memory = 8,
  strict_miss = 9,  // policy `strict` and the kernel is not in the cache
  io = 10,          // a file that the user named could not be read or written
  mismatch = 11,    // outputs differ from the reference by more than the tolerance
  internal = 70,    // our own invariant failed: a bug to report
};

// Every exception thrown by gdnjit. what() says what was being done, what failed, and what to try.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace gdnjit

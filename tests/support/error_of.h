// The gdnjit::Error that a call throws, for checks of its code and message.
#pragma once

#include <gdnjit/error.h>

#include <string>

namespace gdnjit {

// Error(ok, "nothing was thrown") if the call succeeds. Other exceptions pass through and fail the test.
template <typename Call>
Error error_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  return Error(ErrorCode::ok, "nothing was thrown");
}

inline bool says(const Error& error, const std::string& text) {
  return std::string(error.what()).find(text) != std::string::npos;
}

}  // namespace gdnjit

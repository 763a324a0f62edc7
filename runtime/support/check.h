// The two ways to fail: `fail` when the world or the caller broke a rule, GDNJIT_CHECK when we did.
#pragma once

#include <fmt/format.h>
#include <gdnjit/error.h>

#include <string>
#include <utility>

namespace gdnjit {

template <typename... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

// The caller's value breaks a rule. Message form: "HV=20: must be a multiple of H=16".
template <typename... Args>
void require(bool holds, fmt::format_string<Args...> format, Args&&... args) {
  if (!holds) throw Error(ErrorCode::invalid_argument, fmt::format(format, std::forward<Args>(args)...));
}

namespace detail {
[[noreturn]] inline void check_failed(const char* file, int line, const char* condition, const std::string& message) {
  throw Error(ErrorCode::internal,
              fmt::format("internal error at {}:{}: {} ({}); please report it", file, line, message, condition));
}
}  // namespace detail

}  // namespace gdnjit

// An invariant of ours. Throws Error(internal) with the place.
#define GDNJIT_CHECK(condition, ...)                                                                            \
  do {                                                                                                          \
    if (!(condition)) ::gdnjit::detail::check_failed(__FILE__, __LINE__, #condition, fmt::format(__VA_ARGS__)); \
  } while (false)

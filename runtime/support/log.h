// Warnings for people. Libraries stay silent otherwise; a program may take the messages over.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace gdnjit {

// Receives every warning. The default writes "gdnjit: <message>\n" to standard error. Thread-safe.
using WarningSink = std::function<void(std::string_view)>;
void set_warning_sink(WarningSink sink);

void warn(std::string_view message);

// Warns at most once per process for each `topic`.
void warn_once(std::string_view topic, std::string_view message);

}  // namespace gdnjit

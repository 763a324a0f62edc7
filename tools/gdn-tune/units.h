// Numbers as people read them.
#pragma once

#include <cstdint>
#include <string>

namespace gdnjit::tool {

std::string duration_text(double seconds);                         // "0.4 s", "12 s", "3 m 05 s", "2 h 10 m"
std::string microseconds_text(double microseconds);                // "3.42 us", "1.25 ms"
std::string bytes_text(std::int64_t bytes);                        // "812 B", "13.4 KB", "2.1 MB" (powers of 1024)
std::string count_text(std::uint64_t count);                       // "1,234,567"
std::string ratio_text(double ratio);                              // "1.24x"
std::string error_text(double error);                              // "2.1e-03", "0"
std::string age_text(std::int64_t seconds);                        // "just now", "5 minutes ago", "3 days ago"
std::string plural(std::uint64_t count, const std::string& noun);  // "1 problem", "2 problems"

}  // namespace gdnjit::tool

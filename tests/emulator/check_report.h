// Checks of a fault's report.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace gdnjit::tests {

// Every part must be in the report.
inline void check_parts(const std::string& text, const std::vector<std::string>& parts) {
  CAPTURE(text);
  for (const std::string& part : parts) {
    CAPTURE(part);
    CHECK(text.find(part) != std::string::npos);
  }
}

}  // namespace gdnjit::tests

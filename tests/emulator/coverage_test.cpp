// The list of instructions that readers see is the decoder's.
#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "runtime/emulator/decode/decoder.h"

namespace gdnjit::tests {
namespace {

TEST_CASE("runtime/emulator/instructions.txt names what the decoder knows, in alphabetical order") {
  std::ifstream file("runtime/emulator/instructions.txt");
  REQUIRE(file.good());
  std::vector<std::string> written;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line.front() != '#') written.push_back(line);
  }
  const std::vector<std::string_view> known = emulator::known_instructions();
  for (const std::string_view name : known) {
    CAPTURE(std::string(name));
    CHECK(std::find(written.begin(), written.end(), name) != written.end());
  }
  for (const std::string& name : written) {
    CAPTURE(name);
    CHECK(std::find(known.begin(), known.end(), name) != known.end());
  }
  CHECK(std::is_sorted(written.begin(), written.end()));
}

}  // namespace
}  // namespace gdnjit::tests

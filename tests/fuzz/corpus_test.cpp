// The fuzzer's corpus, as it is and damaged in ways that repeat: a short run of what the fuzzer does for long.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <vector>

#include "tests/fuzz/ptx_input.h"

namespace gdnjit::fuzz {
namespace {

struct Seed {
  std::string name;
  std::string text;
};

std::vector<Seed> corpus() {
  std::vector<Seed> seeds;
  for (const auto& entry : std::filesystem::directory_iterator(GDNJIT_CORPUS)) {
    std::ostringstream text;
    text << std::ifstream(entry.path(), std::ios::binary).rdbuf();
    seeds.push_back({entry.path().filename().string(), text.str()});
  }
  std::sort(seeds.begin(), seeds.end(), [](const Seed& a, const Seed& b) { return a.name < b.name; });
  return seeds;
}

class Damage {
 public:
  Damage(const std::vector<Seed>& seeds, std::uint32_t number) : seeds_(seeds), random_(number) {}

  std::string apply(std::string text) {
    for (std::uint32_t rounds = 1 + pick(3); rounds > 0 && !text.empty(); --rounds) {
      switch (pick(6)) {
        case 0: text[pick(text.size())] = static_cast<char>(pick(256)); break;
        case 1: text.erase(pick(text.size()), 1 + pick(40)); break;
        case 2: text.insert(pick(text.size()), kWords[pick(kWords.size())]); break;
        case 3: swap_lines(text); break;
        case 4: text.insert(line_start(text), line_of(seeds_[pick(seeds_.size())].text)); break;
        default: change_digit(text); break;
      }
    }
    return text;
  }

 private:
  static constexpr std::array<const char*, 14> kWords{
      "0x7fffffffffffffff", "-1",     "{",          "}",    ";", ".v8", "%r999999", "[", "]",
      ".shared::cluster",   "@!%p1 ", "4294967296", ".f32", "\n"};

  std::size_t pick(std::size_t count) { return count == 0 ? 0 : random_() % count; }
  std::size_t line_start(const std::string& text) {
    const std::size_t end = text.find('\n', pick(text.size()));
    return end == std::string::npos ? 0 : end + 1;
  }
  std::string line_of(const std::string& text) {
    const std::size_t begin = line_start(text);
    return text.substr(begin, text.find('\n', begin) - begin) + "\n";
  }
  void swap_lines(std::string& text) {
    const std::size_t begin = line_start(text);
    const std::string line = line_of(text.substr(begin));
    text.insert(line_start(text), line);
  }
  void change_digit(std::string& text) {
    const std::size_t at = text.find_first_of("0123456789", pick(text.size()));
    if (at != std::string::npos) text[at] = static_cast<char>('0' + pick(10));
  }

  const std::vector<Seed>& seeds_;
  std::mt19937 random_;
};

TEST_CASE("every text of the corpus runs as it is") {
  const std::vector<Seed> seeds = corpus();
  REQUIRE(seeds.size() >= 10);
  for (const Seed& seed : seeds) {
    CAPTURE(seed.name);
    CHECK(run_ptx(seed.text) != Outcome::refused);
  }
}

TEST_CASE("damaged texts are refused or run, and never crash") {
  const std::vector<Seed> seeds = corpus();
  int outcomes[3] = {};
  for (std::uint32_t number = 0; number < 20000; ++number) {
    const Seed& seed = seeds[number % seeds.size()];
    CAPTURE(seed.name);
    CAPTURE(number);
    ++outcomes[static_cast<int>(run_ptx(Damage(seeds, number).apply(seed.text)))];
  }
  // The damage is such that all outcomes occur.
  CHECK(outcomes[static_cast<int>(Outcome::refused)] > 100);
  CHECK(outcomes[static_cast<int>(Outcome::ran)] + outcomes[static_cast<int>(Outcome::faulted)] > 100);
}

TEST_CASE("texts that are nothing at all are refused") {
  CHECK(run_ptx("") == Outcome::refused);
  CHECK(run_ptx(std::string(100000, '{')) == Outcome::refused);
  CHECK(run_ptx(std::string("\0\xff.entry", 8)) == Outcome::refused);
  CHECK(run_ptx(".version 9.0\n.target sm_90\n.entry a()\n{") == Outcome::refused);
}

}  // namespace
}  // namespace gdnjit::fuzz

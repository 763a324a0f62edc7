#include "tests/fuzz/ptx_input.h"

#include <gdnjit/error.h>

#include <algorithm>
#include <string>
#include <vector>

#include "runtime/emulator/emulator_device.h"

namespace gdnjit::fuzz {
namespace {

constexpr std::size_t kBufferBytes = 64 << 10;
constexpr std::size_t kParameterBytes = 1024;
constexpr std::uint64_t kInstructionLimit = 1 << 17;

// The names behind ".entry", without a parser's help: the text may be anything.
std::vector<std::string> entries_of(std::string_view text) {
  constexpr std::string_view kEntry = ".entry";
  constexpr std::string_view kNameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$%";
  std::vector<std::string> names;
  for (std::size_t at = text.find(kEntry); at != std::string_view::npos && names.size() < 4;
       at = text.find(kEntry, at + 1)) {
    const std::size_t begin = text.find_first_of(kNameCharacters, at + kEntry.size());
    if (begin == std::string_view::npos) break;
    names.emplace_back(text.substr(begin, text.find_first_not_of(kNameCharacters, begin) - begin));
  }
  if (names.empty()) names.emplace_back("vectors");
  return names;
}

class Bench {
 public:
  Bench()
      : device_(make_emulator("sm_90a", EmulatorChecks::races, kInstructionLimit)),
        buffer_(*device_, kBufferBytes, "buffer") {
    device_->fill(buffer_.data(), 0, kBufferBytes, nullptr);
    const auto address = reinterpret_cast<std::uint64_t>(buffer_.data());
    for (std::size_t at = 0; at + sizeof(address) <= kParameterBytes; at += sizeof(address)) {
      const auto* bytes = reinterpret_cast<const std::byte*>(&address);
      parameters_.insert(parameters_.end(), bytes, bytes + sizeof(address));
    }
  }

  Outcome run(std::string_view text, const std::string& entry) {
    Outcome outcome = Outcome::refused;
    try {
      const auto kernel = device_->load({entry, text, {}});
      outcome = Outcome::faulted;
      device_->launch(*kernel, {.block = {64, 1, 1}, .shared_bytes = 4096}, parameters_, nullptr, {});
      outcome = Outcome::ran;
    } catch (const Error&) {
    }
    return outcome;
  }

 private:
  std::unique_ptr<Device> device_;
  DeviceBuffer buffer_;
  std::vector<std::byte> parameters_;
};

}  // namespace

Outcome run_ptx(std::string_view text) {
  static Bench bench;
  Outcome best = Outcome::refused;
  for (const std::string& entry : entries_of(text)) best = std::max(best, bench.run(text, entry));
  return best;
}

}  // namespace gdnjit::fuzz

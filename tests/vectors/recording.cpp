#include "tests/vectors/recording.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "runtime/support/check.h"

namespace gdnjit::vectors {
namespace {

constexpr int kFormat = 1;

std::string hex_of(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

std::vector<std::byte> bytes_of(const std::string& hex) {
  require(hex.size() % 2 == 0, "an odd number of digits");
  std::vector<std::byte> bytes;
  for (std::size_t at = 0; at < hex.size(); at += 2)
    bytes.push_back(static_cast<std::byte>(std::stoul(hex.substr(at, 2), nullptr, 16)));
  return bytes;
}

}  // namespace

const RecordedCase* Recording::find(const VectorCase& vector_case) const {
  for (const RecordedCase& recorded : cases) {
    if (recorded.family == vector_case.family && recorded.name == vector_case.name) return &recorded;
  }
  return nullptr;
}

Recording read_recording(const std::filesystem::path& file) {
  try {
    std::ifstream stream(file);
    const nlohmann::json json = nlohmann::json::parse(stream);
    require(json.at("format") == kFormat, "format {}; expected {}", json.at("format").dump(), kFormat);
    Recording recording{.device = json.at("device"),
                        .arch = json.at("arch"),
                        .driver = json.at("driver"),
                        .toolchain = json.at("toolchain"),
                        .date = json.at("date"),
                        .cases = {}};
    for (const auto& item : json.at("cases"))
      recording.cases.push_back({item.at("family"), item.at("name"), item.at("digest"), bytes_of(item.at("output"))});
    return recording;
  } catch (const std::exception& error) {
    fail(ErrorCode::invalid_argument, "reading the recording {}: {}", file.string(), error.what());
  }
}

void write_recording(const std::filesystem::path& file, const Recording& recording) {
  std::ostringstream text;
  const auto quoted = [](const std::string& value) { return nlohmann::json(value).dump(); };
  text << "{\n  \"format\": " << kFormat << ",\n  \"device\": " << quoted(recording.device)
       << ",\n  \"arch\": " << quoted(recording.arch) << ",\n  \"driver\": " << quoted(recording.driver)
       << ",\n  \"toolchain\": " << quoted(recording.toolchain) << ",\n  \"date\": " << quoted(recording.date)
       << ",\n  \"cases\": [";
  const char* separator = "\n";
  for (const RecordedCase& recorded : recording.cases) {
    text << separator << "    {\"family\": " << quoted(recorded.family) << ", \"name\": " << quoted(recorded.name)
         << ", \"digest\": " << quoted(recorded.digest) << ", \"output\": " << quoted(hex_of(recorded.output)) << "}";
    separator = ",\n";
  }
  text << "\n  ]\n}\n";
  std::ofstream stream(file);
  stream << text.str();
  stream.close();
  if (!stream) fail(ErrorCode::internal, "writing the recording {}: is the folder there and writable?", file.string());
}

}  // namespace gdnjit::vectors

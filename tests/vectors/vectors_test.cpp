// The emulator against outputs recorded on GPUs, and the comparison itself.
#include <doctest/doctest.h>

#include <bit>
#include <cstring>
#include <filesystem>
#include <set>

#include "runtime/emulator/emulator_device.h"
#include "runtime/runtime_impl.h"
#include "tests/vectors/recording.h"
#include "tests/vectors/vectors.h"

namespace gdnjit::vectors {
namespace {

std::vector<std::filesystem::path> recordings() {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(GDNJIT_RECORDINGS)) {
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  }
  return files;
}

template <typename T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

TEST_CASE("every recorded instruction does on the emulator what it did on the GPU") {
  Options options = Options::from_environment();
  options.device = "emulator";
  const Runtime runtime(options);
  Compiler& compiler = runtime.impl().compiler();
  const std::vector<VectorCase> cases = all_cases();
  REQUIRE_FALSE(recordings().empty());
  for (const auto& file : recordings()) {
    const Recording recording = read_recording(file);
    const auto device = make_emulator(recording.arch, EmulatorChecks::memory);
    std::size_t replayed = 0;
    for (const VectorCase& vector_case : cases) {
      if (!runs_on(vector_case, recording.arch)) continue;
      CAPTURE(recording.device);
      CAPTURE(vector_case.family);
      CAPTURE(vector_case.name);
      const RecordedCase* recorded = recording.find(vector_case);
      if (recorded == nullptr) {
        FAIL_CHECK("not in the recording: record again (tools/record-vectors)");
        continue;
      }
      CHECK_MESSAGE(recorded->digest == digest_of(vector_case), "the case has changed since: record again");
      std::string failure;
      try {
        failure = difference(vector_case, run_case(*device, compiler, vector_case), recorded->output);
      } catch (const std::exception& error) {
        failure = error.what();
      }
      CHECK(failure == "");
      ++replayed;
    }
    CHECK(replayed == recording.cases.size());
  }
}

TEST_CASE("cases have names of their own") {
  std::set<std::pair<std::string, std::string>> names;
  for (const VectorCase& vector_case : all_cases()) CHECK(names.emplace(vector_case.family, vector_case.name).second);
}

TEST_CASE("the comparison accepts what it should and nothing else") {
  VectorCase vector_case;
  const auto one = bytes_of(std::vector<float>{1.0F, 2.0F});
  const auto next = bytes_of(std::vector<float>{1.0F, std::bit_cast<float>(std::bit_cast<std::uint32_t>(2.0F) + 2)});
  CHECK(difference(vector_case, one, one) == "");
  CHECK(difference(vector_case, next, one).find("1 of 2 elements differ; the first is element 1") == 0);
  vector_case.comparison = ulps(DType::f32, 2);
  CHECK(difference(vector_case, next, one) == "");
  vector_case.comparison = ulps(DType::f32, 1);
  CHECK(difference(vector_case, next, one) != "");
  const auto nan = bytes_of(std::vector<float>{std::bit_cast<float>(0x7fffffffU), 2.0F});
  const auto other_nan = bytes_of(std::vector<float>{std::bit_cast<float>(0xffc00000U), 2.0F});
  CHECK(difference(vector_case, nan, other_nan) == "");
  CHECK(difference(vector_case, nan, one) != "");
  vector_case.comparison = ratio(DType::f16, 0.01);
  CHECK(difference(vector_case, bytes_of(std::vector<std::uint16_t>{0x3c00, 0x0001}),
                   bytes_of(std::vector<std::uint16_t>{0x3c00, 0x8001})) == "");
  CHECK(difference(vector_case, bytes_of(std::vector<std::uint16_t>{0x3c20}),
                   bytes_of(std::vector<std::uint16_t>{0x3c00})) != "");
  CHECK(difference(vector_case, one, nan) != "");
}

TEST_CASE("a recording survives being written and read, and what is none is refused") {
  const std::filesystem::path file = std::filesystem::temp_directory_path() / "gdnjit-recording.json";
  const Recording written{"a \"GPU\"", "sm_90a",     "driver",
                          "nvrtc",     "2026-11-20", {{"prmt", "x", "d1", {std::byte{1}, std::byte{0xfe}}}}};
  write_recording(file, written);
  const Recording read = read_recording(file);
  CHECK(read.device == written.device);
  REQUIRE(read.cases.size() == 1);
  CHECK(read.cases[0].output == written.cases[0].output);
  std::filesystem::remove(file);
  CHECK_THROWS_WITH_AS(read_recording(file), doctest::Contains("reading the recording"), Error);
}

}  // namespace
}  // namespace gdnjit::vectors

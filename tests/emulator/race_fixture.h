// Small CUDA kernels whose reports are of interest: one block of threads, a buffer of integers in and one out.
#pragma once

#include <doctest/doctest.h>

#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "tests/emulator/fixture.h"

namespace gdnjit::tests {

struct Trial {
  std::uint32_t threads = 64;
  std::uint32_t blocks = 1;
  std::uint32_t shared_bytes = 0;
  std::uint32_t cluster = 1;
  std::string arch = "sm_90a";
  TensorRole out_role = TensorRole::in_out;
};

// A kernel `test(const int* in, int* out)`; `in` holds 0, 1, 2, ..., `out` zeros, 4096 each.
inline std::string kernel_source(const std::string& body, const std::string& before = "") {
  return before + "\nextern \"C\" __global__ void test(const int* in, int* out) {\n" + body + "\n}\n";
}

// With all checks, one per architecture and process.
inline Device& checking_emulator(const std::string& arch) {
  static std::map<std::string, std::unique_ptr<Device>> devices;
  std::unique_ptr<Device>& device = devices[arch];
  if (device == nullptr) device = make_emulator(arch, EmulatorChecks::races);
  return *device;
}

// The report of a launch, "" if there is none; `result` receives what was written.
inline std::string report_of(const std::string& source, const Trial& trial = {}, std::vector<int>* result = nullptr) {
  Device& device = checking_emulator(trial.arch);
  std::vector<int> numbers(4096);
  for (int i = 0; i < 4096; ++i) numbers[static_cast<std::size_t>(i)] = i;
  const DeviceBuffer in = upload(device, numbers, "numbers");
  const DeviceBuffer out = upload(device, std::vector<int>(4096, 0), "result");
  const std::string text = error_text([&] {
    run(device, compile_ptx(source, "test", trial.arch, true), "test", parameter_block(in.data(), out.data()),
        {.blocks = trial.blocks,
         .threads = trial.threads,
         .shared_bytes = trial.shared_bytes,
         .buffers = {{in.data(), in.bytes(), "numbers", TensorRole::input},
                     {out.data(), out.bytes(), "result", trial.out_role}},
         .cluster = trial.cluster});
  });
  if (result != nullptr) *result = download<int>(device, out);
  return text;
}

// The line of the source that holds `marker`, counted from 1.
inline int line_of(const std::string& source, const std::string& marker) {
  std::istringstream lines(source);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (line.find(marker) != std::string::npos) return number;
  }
  return 0;
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Every part must be in the report.
inline void check_report(const std::string& text, const std::vector<std::string>& parts) {
  CAPTURE(text);
  for (const std::string& part : parts) {
    CAPTURE(part);
    CHECK(contains(text, part));
  }
}

}  // namespace gdnjit::tests

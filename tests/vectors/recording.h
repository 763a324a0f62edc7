// A file of recorded outputs, as JSON with one case a line:
//   { "format": 1, "device": "NVIDIA H200", "arch": "sm_90a", "driver": "...", "toolchain": "...", "date":
//   "2026-11-20",
//     "cases": [ {"family": "prmt", "name": "...", "digest": "...", "output": "<hex>"}, ... ] }
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tests/vectors/vectors.h"

namespace gdnjit::vectors {

struct RecordedCase {
  std::string family;
  std::string name;
  std::string digest;
  std::vector<std::byte> output;
};

struct Recording {
  std::string device;
  std::string arch;
  std::string driver;
  std::string toolchain;
  std::string date;  // ISO
  std::vector<RecordedCase> cases;

  // nullptr if this recording does not have it.
  const RecordedCase* find(const VectorCase& vector_case) const;
};

// Throws Error(invalid_argument) naming the file for what is no recording.
Recording read_recording(const std::filesystem::path& file);
void write_recording(const std::filesystem::path& file, const Recording& recording);

}  // namespace gdnjit::vectors

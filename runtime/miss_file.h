// The miss file: what a `strict` runtime wanted and did not find, one JSON object a line, for `gdn-tune tune`.
//
//   {"operator":"gdn.step","problem":"B=1 H=16 ...","signature":"gdn.step head_dim_k=128 ...","arch":"sm_90a"}
#pragma once

#include <filesystem>
#include <string>

namespace gdnjit {

struct Miss {
  std::string operator_name;
  std::string problem;
  std::string signature;
  std::string arch;
};

// Appends one line unless the file has it already. Safe among threads and processes. Returns "" or what went wrong:
// the caller has a better error to throw.
std::string append_miss(const std::filesystem::path& file, const Miss& miss) noexcept;

}  // namespace gdnjit

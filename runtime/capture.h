// Calls written to files, one safetensors file each, for `gdn-tune replay`. docs/capture.md has the form.
#pragma once

#include <gdnjit/options.h>
#include <gdnjit/runtime.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/operator.h"
#include "runtime/device.h"
#include "runtime/safetensors.h"

namespace gdnjit {

// Metadata of a file. DO NOT RENAME: other programs write them.
//   format    "gdnjit.capture 1"; the number is raised when an older reader would misunderstand
//   operator  "gdn.step"
//   problem   "B=1 .."; what is left out is the operator's default, B and T are read from the tensors
//   tiles     "block_v=16 ..", device, gdnjit (the version): how it ran; optional
//   failed    the message, if the call failed; the file then has no outputs
//   strides.NAME  "512 128 1", elements, of a tensor that was not dense; rows.NAME "0 7 9", the slots that were kept of
//   a
//             pool: for people, the tensors are dense and their slots renumbered
// Tensors: an input or an in_out before the call is NAME, an in_out after it is after/NAME, an output after it is NAME.
namespace capture_format {
inline constexpr std::string_view kName = "gdnjit.capture";
inline constexpr int kVersion = 1;
inline constexpr std::string_view kAfter = "after/";
}  // namespace capture_format

// A call on its way into a file.
struct CapturedCall {
  struct Tensor {
    TensorSpec spec;                 // shape as stored: a pool's rows are those that were kept
    TensorView view;                 // as the call had it
    std::vector<std::int64_t> rows;  // of a pool: those that its slots name, in order; else empty
    std::vector<std::byte> before;   // unless it is an output
    std::vector<std::byte> after;    // unless it is an input
  };
  Device* device = nullptr;
  Stream stream = nullptr;
  std::string operator_name;
  SafetensorsMetadata metadata;
  std::vector<Tensor> tensors;
};

// Thread-safe. Nothing in here throws: what cannot be captured costs one warning, and never the call.
class Capture {
 public:
  explicit Capture(const Options& options);

  // What the call reads, copied to the host: waits for `stream`. nullptr if it is not captured: while `stream` is
  // captured itself, which waiting would break, and beyond the limits.
  std::unique_ptr<CapturedCall> begin(Device& device, const Operator& op, const PlanInfo& info,
                                      std::span<const TensorSpec> specs, std::span<const TensorView> tensors,
                                      Stream stream) noexcept;
  // Copies what the call wrote when `stream` is done, and writes the file. nullptr does nothing.
  void finish(std::unique_ptr<CapturedCall> call) noexcept;
  // The call threw: the file holds what it read, and the message.
  void finish_failed(std::unique_ptr<CapturedCall> call, std::string_view message) noexcept;

 private:
  bool reserve(const CapturedCall& call);
  void end(const std::string& why) noexcept;
  void write(const CapturedCall& call);
  std::filesystem::path next_name(const CapturedCall& call);

  std::filesystem::path directory_;
  std::int64_t limit_bytes_;
  std::int64_t limit_files_;
  std::string stamp_;                 // of this runtime, in the files' names
  std::atomic<bool> closed_ = false;  // a limit is reached, or a file could not be written
  std::mutex mutex_;                  // of the counts
  std::int64_t bytes_ = 0;
  std::int64_t files_ = 0;
  std::int64_t names_ = 0;
};

}  // namespace gdnjit

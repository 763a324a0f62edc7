// Reading and writing safetensors files, the exchange format of tensors that most frameworks know.
//
//   file   := length header data              length: 8 bytes, little-endian, of the header
//   header := JSON object, may end in blanks   {"__metadata__": {"name": "text", ..},
//                                               "tensor": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}
//   data   := the tensors' bytes, dense, row-major and little-endian, without holes; offsets count from its begin
//
// Source: the format's description at huggingface/safetensors. Files may come from anywhere, so reading trusts nothing.
#pragma once

#include <gdnjit/dtype.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gdnjit {

// The format allows headers of 100 MB. A call has a few dozen tensors, and parsed JSON takes many times its text.
inline constexpr std::size_t kMaxSafetensorsHeader = 4U << 20;

using SafetensorsMetadata = std::map<std::string, std::string>;

struct SafetensorsTensor {
  std::string name;
  std::string dtype;  // "BF16"
  std::vector<std::int64_t> shape{};
  std::span<const std::byte> bytes{};
};

struct Safetensors {
  SafetensorsMetadata metadata;
  std::vector<SafetensorsTensor> tensors;  // in the order of their bytes

  const SafetensorsTensor* find(std::string_view name) const;
};

// The tensors of a file's content, which must outlive the result. `origin` names it in messages. Throws Error(io) for
// anything that breaks the format: lengths and offsets that reach outside, holes and overlaps, shapes that do not fit
// the bytes, names that occur twice.
Safetensors parse_safetensors(std::span<const std::byte> content, std::string_view origin);

// A file's whole content. Throws Error(io).
std::vector<std::byte> read_file(const std::filesystem::path& file);

// What stands before the tensors' bytes: the header's length and the header, padded so that the data begin at a
// multiple of 8. The bytes follow in the order of `tensors`.
std::string safetensors_header(const SafetensorsMetadata& metadata, std::span<const SafetensorsTensor> tensors);

// Writes `file` whole or not at all: under a temporary name beside it, renamed when it is complete. An existing file is
// never replaced; the result then is false. Throws Error(io), and leaves nothing behind.
bool write_safetensors(const std::filesystem::path& file, const SafetensorsMetadata& metadata,
                       std::span<const SafetensorsTensor> tensors);

// "F32", "BF16", "F16", "I32", "I64"; nothing for a dtype that gdnjit's tensors do not have.
std::string_view safetensors_dtype(DType dtype);
std::optional<DType> dtype_of_safetensors(std::string_view name);

}  // namespace gdnjit

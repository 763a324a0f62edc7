// Bulk tensor copies as index arithmetic: the emulator's form of a tensor map, which rows of a box lie in the tensor,
// and where an element of the box is in shared memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "codegen/tensor_map.h"

namespace gdnjit::emulator {

// An encoded map: a magic number, the description, a checksum. A GPU's map, or bytes that are none, do not decode.
TensorMap encode_tensor_map(const TensorMapSpec& spec);  // REQUIRES: check_tensor_map passes
std::optional<TensorMapSpec> decode_tensor_map(const std::byte* encoded);

// The part of one innermost row of a box that lies inside the tensor.
struct BoxRow {
  std::uint64_t address = 0;     // of its first byte, in global memory
  std::uint64_t box_offset = 0;  // of its first byte in the box, before the swizzle
  std::uint32_t bytes = 0;
};

// Chunks of 16 bytes are what copies move: swizzles leave them together, and the border of a store runs between them.
inline constexpr std::uint64_t kTensorChunk = 16;

// Element 0 of the box is the tensor's element `corner`, which may lie outside.
class TensorBox {
 public:
  using Corner = std::array<std::int32_t, kMaxTensorMapRank>;
  // What happens at the end of an innermost row that is no multiple of 16 bytes. A load fills the rest element by
  // element; a store writes the last chunk whole, past the row's end (an H200 does).
  enum class Border : std::uint8_t { elements, chunks };

  TensorBox(const TensorMapSpec& map, const Corner& corner, Border border = Border::elements);

  const TensorMapSpec& map() const { return map_; }
  std::uint64_t bytes() const { return bytes_; }
  std::uint64_t rows() const { return rows_; }
  // Rows lie one behind the other in shared memory, but a row shorter than the swizzle's span takes the whole span.
  bool dense() const { return pitch_ == row_bytes_; }
  // From the first to the last byte in shared memory, gaps included.
  std::uint64_t shared_bytes() const { return rows_ * pitch_; }
  // The row's part inside the tensor; nothing if there is none. Rows count through dimension 1 first.
  std::optional<BoxRow> row(std::uint64_t number) const;

  // Where byte `box_offset` of a box at `shared_address` is, as an offset from that address (a multiple of 128). The
  // 16-byte chunk it belongs to stays together.
  std::uint64_t place(std::uint64_t shared_address, std::uint64_t box_offset) const;

  // Fills a box with what a load puts outside the tensor.
  void fill(std::byte* box) const;

 private:
  TensorMapSpec map_;
  Corner corner_;
  std::array<std::uint32_t, kMaxTensorMapRank> count_{};  // elements of the box
  Border border_;
  std::uint64_t bytes_ = 0;
  std::uint64_t rows_ = 1;
  std::uint64_t row_bytes_ = 0;
  std::uint64_t pitch_ = 0;
};

}  // namespace gdnjit::emulator

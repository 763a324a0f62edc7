#include "runtime/emulator/semantics/tensor_box.h"

#include <gdnjit/error.h>

#include <algorithm>
#include <cstring>

namespace gdnjit::emulator {
namespace {

constexpr std::uint64_t kMagic = 0x70616d2d6e65740aULL;

// What an H200 puts outside a tensor whose map asks for NaN, whatever the type: this, again and again.
constexpr std::uint16_t kNanFill = 0x7ff7;

// What the 128 opaque bytes hold. dims and box as their value less one, so that 2^32 and 256 fit.
struct Encoded {
  std::uint64_t magic = kMagic;
  std::uint64_t address = 0;
  std::uint64_t strides[kMaxTensorMapRank - 1] = {};
  std::uint32_t dims[kMaxTensorMapRank] = {};
  std::uint8_t box[kMaxTensorMapRank] = {};
  std::uint8_t element_strides[kMaxTensorMapRank] = {};
  std::uint8_t type = 0;
  std::uint8_t rank = 0;
  std::uint8_t swizzle = 0;
  std::uint8_t fill = 0;
  std::uint8_t unused[6] = {};
  std::uint64_t checksum = 0;
};
static_assert(sizeof(Encoded) == 96 && offsetof(Encoded, checksum) == 88);

// FNV-1a.
std::uint64_t checksum_of(const Encoded& encoded) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(&encoded);
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (std::size_t i = 0; i < offsetof(Encoded, checksum); ++i) hash = (hash ^ bytes[i]) * 0x100000001b3ULL;
  return hash;
}

}  // namespace

TensorMap encode_tensor_map(const TensorMapSpec& spec) {
  Encoded encoded;
  encoded.address = reinterpret_cast<std::uint64_t>(spec.address);
  encoded.type = static_cast<std::uint8_t>(spec.type);
  encoded.rank = static_cast<std::uint8_t>(spec.rank);
  encoded.swizzle = static_cast<std::uint8_t>(spec.swizzle);
  encoded.fill = static_cast<std::uint8_t>(spec.fill);
  for (std::size_t i = 0; i < encoded.rank; ++i) {
    encoded.dims[i] = static_cast<std::uint32_t>(spec.dims[i] - 1);
    encoded.box[i] = static_cast<std::uint8_t>(spec.box[i] - 1);
    encoded.element_strides[i] = static_cast<std::uint8_t>(spec.element_strides[i]);
    if (i != 0) encoded.strides[i - 1] = spec.strides[i - 1];
  }
  encoded.checksum = checksum_of(encoded);
  TensorMap map;
  std::memcpy(map.opaque.data(), &encoded, sizeof(encoded));
  return map;
}

std::optional<TensorMapSpec> decode_tensor_map(const std::byte* bytes) {
  Encoded encoded;
  std::memcpy(&encoded, bytes, sizeof(encoded));
  if (encoded.magic != kMagic || encoded.checksum != checksum_of(encoded)) return std::nullopt;
  TensorMapSpec spec;
  spec.address = reinterpret_cast<const void*>(encoded.address);
  spec.type = static_cast<TensorMapType>(encoded.type);
  spec.rank = encoded.rank;
  spec.swizzle = static_cast<TensorMapSwizzle>(encoded.swizzle);
  spec.fill = static_cast<TensorMapFill>(encoded.fill);
  for (std::size_t i = 0; i < kMaxTensorMapRank; ++i) {
    spec.dims[i] = encoded.dims[i] + 1ULL;
    spec.box[i] = encoded.box[i] + 1U;
    spec.element_strides[i] = encoded.element_strides[i];
    if (i != 0) spec.strides[i - 1] = encoded.strides[i - 1];
  }
  try {
    check_tensor_map(spec);  // whoever forges the checksum still gets a sound box
  } catch (const Error&) {
    return std::nullopt;
  }
  return spec;
}

TensorBox::TensorBox(const TensorMapSpec& map, const Corner& corner, Border border)
    : map_(map), corner_(corner), border_(border), bytes_(tensor_map_box_bytes(map)) {
  for (std::size_t i = 0; i < static_cast<std::size_t>(map.rank); ++i) {
    count_[i] = (map.box[i] + map.element_strides[i] - 1) / map.element_strides[i];
    if (i != 0) rows_ *= count_[i];
  }
  row_bytes_ = bytes_ / rows_;
  pitch_ = std::max(row_bytes_, static_cast<std::uint64_t>(swizzle_span_bytes(map.swizzle)));
}

std::optional<BoxRow> TensorBox::row(std::uint64_t number) const {
  const auto element = static_cast<std::uint64_t>(tensor_map_type_bytes(map_.type));
  std::uint64_t address = reinterpret_cast<std::uint64_t>(map_.address);
  std::uint64_t rest = number;
  for (std::size_t i = 1; i < static_cast<std::size_t>(map_.rank); ++i) {
    const auto step = static_cast<std::int64_t>(rest % count_[i]) * map_.element_strides[i];
    rest /= count_[i];
    const std::int64_t index = corner_[i] + step;
    if (index < 0 || static_cast<std::uint64_t>(index) >= map_.dims[i]) return std::nullopt;
    address += static_cast<std::uint64_t>(index) * map_.strides[i - 1];
  }
  const std::int64_t corner = corner_[0];
  const std::int64_t first = std::max<std::int64_t>(0, -corner);
  std::uint64_t length = map_.dims[0];
  if (border_ == Border::chunks) {
    const std::uint64_t chunk = std::max<std::uint64_t>(kTensorChunk / element, 1);
    length = (length + chunk - 1) / chunk * chunk;
  }
  const std::int64_t end = std::min<std::int64_t>(count_[0], static_cast<std::int64_t>(length) - corner);
  if (first >= end) return std::nullopt;
  return BoxRow{address + static_cast<std::uint64_t>(corner + first) * element,
                (number * count_[0] + static_cast<std::uint64_t>(first)) * element,
                static_cast<std::uint32_t>(static_cast<std::uint64_t>(end - first) * element)};
}

std::uint64_t TensorBox::place(std::uint64_t shared_address, std::uint64_t box_offset) const {
  const std::uint64_t at = shared_address + box_offset / row_bytes_ * pitch_ + box_offset % row_bytes_;
  const std::uint64_t chunks = (1ULL << static_cast<int>(map_.swizzle)) - 1;  // 0, 1, 3, 7
  return (at ^ ((at >> 7 & chunks) << 4)) - shared_address;
}

void TensorBox::fill(std::byte* box) const {
  std::memset(box, 0, bytes_);
  if (map_.fill == TensorMapFill::zeros) return;
  for (std::size_t at = 0; at < bytes_; at += sizeof(kNanFill)) std::memcpy(box + at, &kNanFill, sizeof(kNanFill));
}

}  // namespace gdnjit::emulator

// Tensor maps: how a kernel's bulk tensor copies (TMA) see one tensor in global memory. The host describes the tensor
// and the box that one copy moves; a TensorMapEncoder (every Device is one) makes the opaque object that the kernel
// takes in its `const __grid_constant__` parameter. Tile mode without interleaving; im2col is not offered.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace gdnjit {

// Element types, with the numbers of CUtensorMapDataType. fp8 travels as u8.
enum class TensorMapType : std::uint8_t {
  u8 = 0,
  u16 = 1,
  u32 = 2,
  s32 = 3,
  u64 = 4,
  s64 = 5,
  f16 = 6,
  f32 = 7,
  f64 = 8,
  bf16 = 9,
};
int tensor_map_type_bytes(TensorMapType type);
std::string_view tensor_map_type_name(TensorMapType type);

// How 16-byte chunks are exchanged within a span of shared memory, so that rows and columns of a box are free of bank
// conflicts. The numbers are CUtensorMapSwizzle's. With s the shared address of a chunk: b32 exchanges bit 4 of s with
// bit 7 (by exclusive or), b64 bits 4-5 with 7-8, b128 bits 4-6 with 7-9; the pattern repeats every 256, 512, 1024
// bytes.
enum class TensorMapSwizzle : std::uint8_t { none = 0, b32 = 1, b64 = 2, b128 = 3 };
int swizzle_span_bytes(TensorMapSwizzle swizzle);  // 32, 64, 128; 0 for none

// What a load puts where the box lies outside the tensor. nan: a quiet NaN, floating-point types only.
enum class TensorMapFill : std::uint8_t { zeros = 0, nan = 1 };

// How much the L2 cache fetches at once, as CUtensorMapL2promotion; the emulator has no cache.
enum class TensorMapPromotion : std::uint8_t { none = 0, b64 = 1, b128 = 2, b256 = 3 };

inline constexpr int kMaxTensorMapRank = 5;

// Dimension 0 is the innermost: its elements are neighbours in memory. Only the first `rank` entries count.
struct TensorMapSpec {
  TensorMapType type = TensorMapType::bf16;
  int rank = 1;                                                // 1 to 5
  const void* address = nullptr;                               // of element 0, device memory, 16-byte aligned
  std::array<std::uint64_t, kMaxTensorMapRank> dims{};         // elements, 1 to 2^32
  std::array<std::uint64_t, kMaxTensorMapRank - 1> strides{};  // bytes from one index of dimension i + 1 to the next: a
                                                               // multiple of 16 below 2^40
  std::array<std::uint32_t, kMaxTensorMapRank> box{};          // elements a copy moves, 1 to 256
  // Every n-th element of a dimension is taken, 1 to 8; a box then holds ceil(box / n) of them. Dimension 0 has 1.
  std::array<std::uint32_t, kMaxTensorMapRank> element_strides{1, 1, 1, 1, 1};
  TensorMapSwizzle swizzle = TensorMapSwizzle::none;
  TensorMapFill fill = TensorMapFill::zeros;
  TensorMapPromotion promotion = TensorMapPromotion::none;
};

// Bytes of one box in shared memory; what a load of it adds to the transaction count of its mbarrier.
std::uint64_t tensor_map_box_bytes(const TensorMapSpec& spec);

// The rules of cuTensorMapEncodeTiled. Throws Error(invalid_argument) with argument, value and rule.
void check_tensor_map(const TensorMapSpec& spec);

// The encoded map. Belongs to the device that made it: an emulator's means nothing to a GPU. Passed by value in the
// parameter block; the kernel declares it with the same alignment.
struct alignas(128) TensorMap {
  std::array<std::byte, 128> opaque{};
};

class TensorMapEncoder {
 public:
  virtual ~TensorMapEncoder() = default;
  // The map of a tensor in the encoder's memory. Throws Error(invalid_argument) for a description that breaks a rule,
  // unsupported on a device without tensor maps.
  virtual TensorMap encode_tensor_map(const TensorMapSpec& spec) = 0;
};

}  // namespace gdnjit

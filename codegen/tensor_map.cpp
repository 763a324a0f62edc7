#include "codegen/tensor_map.h"

#include <array>

#include "runtime/support/check.h"

namespace gdnjit {
namespace {

struct TypeFacts {
  std::string_view name;
  int bytes;
  bool floating;
};

// In the order of TensorMapType.
constexpr std::array<TypeFacts, 10> kTypes{{{"u8", 1, false},
                                            {"u16", 2, false},
                                            {"u32", 4, false},
                                            {"s32", 4, false},
                                            {"u64", 8, false},
                                            {"s64", 8, false},
                                            {"f16", 2, true},
                                            {"f32", 4, true},
                                            {"f64", 8, true},
                                            {"bf16", 2, true}}};

constexpr std::uint64_t kMaxDim = 1ULL << 32;
constexpr std::uint64_t kMaxStride = 1ULL << 40;
constexpr std::uint32_t kMaxBox = 256;
constexpr std::uint32_t kMaxElementStride = 8;
constexpr std::uint64_t kAlignment = 16;

const TypeFacts& facts(TensorMapType type) {
  const auto index = static_cast<std::size_t>(type);
  require(index < kTypes.size(), "tensor map: type={}: no such element type", index);
  return kTypes[index];
}

void check_dimension(const TensorMapSpec& spec, std::size_t i) {
  require(spec.dims[i] >= 1 && spec.dims[i] <= kMaxDim, "tensor map: dims[{}]={}: must be 1 to 2^32", i, spec.dims[i]);
  require(spec.box[i] >= 1 && spec.box[i] <= kMaxBox, "tensor map: box[{}]={}: must be 1 to {}", i, spec.box[i],
          kMaxBox);
  const std::uint32_t step = spec.element_strides[i];
  require(step >= 1 && step <= kMaxElementStride, "tensor map: element_strides[{}]={}: must be 1 to {}", i, step,
          kMaxElementStride);
  if (i == 0) {
    require(step == 1, "tensor map: element_strides[0]={}: dimension 0 has no stride", step);
    return;
  }
  const std::uint64_t stride = spec.strides[i - 1];
  require(stride % kAlignment == 0, "tensor map: strides[{}]={}: must be a multiple of {} bytes", i - 1, stride,
          kAlignment);
  require(stride < kMaxStride, "tensor map: strides[{}]={}: must be less than 2^40", i - 1, stride);
}

}  // namespace

int tensor_map_type_bytes(TensorMapType type) { return facts(type).bytes; }
std::string_view tensor_map_type_name(TensorMapType type) { return facts(type).name; }

int swizzle_span_bytes(TensorMapSwizzle swizzle) {
  return swizzle == TensorMapSwizzle::none ? 0 : 16 << static_cast<int>(swizzle);
}

std::uint64_t tensor_map_box_bytes(const TensorMapSpec& spec) {
  auto bytes = static_cast<std::uint64_t>(tensor_map_type_bytes(spec.type));
  for (std::size_t i = 0; i < static_cast<std::size_t>(spec.rank); ++i)
    bytes *= (spec.box[i] + spec.element_strides[i] - 1) / spec.element_strides[i];
  return bytes;
}

void check_tensor_map(const TensorMapSpec& spec) {
  const TypeFacts& type = facts(spec.type);
  require(spec.rank >= 1 && spec.rank <= kMaxTensorMapRank, "tensor map: rank={}: must be 1 to {}", spec.rank,
          kMaxTensorMapRank);
  const auto address = reinterpret_cast<std::uintptr_t>(spec.address);
  require(address != 0, "tensor map: address=null: must point to device memory");
  require(address % kAlignment == 0, "tensor map: address=0x{:x}: must be a multiple of {}", address, kAlignment);
  for (std::size_t i = 0; i < static_cast<std::size_t>(spec.rank); ++i) check_dimension(spec, i);
  const auto swizzle = static_cast<int>(spec.swizzle);
  require(swizzle <= static_cast<int>(TensorMapSwizzle::b128), "tensor map: swizzle={}: no such swizzle", swizzle);
  require(spec.promotion <= TensorMapPromotion::b256, "tensor map: promotion={}: no such L2 promotion",
          static_cast<int>(spec.promotion));
  const std::uint64_t row = static_cast<std::uint64_t>(spec.box[0]) * static_cast<std::uint64_t>(type.bytes);
  require(row % kAlignment == 0, "tensor map: box[0]={}: {} bytes of {}; must be a multiple of {} bytes", spec.box[0],
          row, type.name, kAlignment);
  const auto span = static_cast<std::uint64_t>(swizzle_span_bytes(spec.swizzle));
  require(span == 0 || row <= span, "tensor map: box[0]={}: {} bytes of {}; a swizzle of {} bytes takes up to {} bytes",
          spec.box[0], row, type.name, span, span);
  require(spec.fill == TensorMapFill::zeros || (spec.fill == TensorMapFill::nan && type.floating),
          "tensor map: fill=nan: {} has no NaN", type.name);
}

}  // namespace gdnjit

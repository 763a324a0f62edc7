#include "codegen/moe/grouped_sm90.h"

#include <cstdint>
#include <cstring>

#include "runtime/support/check.h"

namespace gdnjit::moe {
namespace {

// One matrix of `experts` as [E][gate, up][outputs][K]: whatever the order of gate and up, a box holds the rows of one
// of them, and rows behind its last are zeros.
device::TensorMap weight_map(const GroupedConfig& config, const ExpertMatrix& matrix, bool shared,
                             TensorMapEncoder& encoder) {
  constexpr std::int64_t kUnit = 16;  // bytes that addresses and strides are multiples of
  const int element_bytes = config.bits() / 8;
  const std::int64_t row_bytes = 1LL * element_bytes * config.in_features(shared),
                     outputs = config.out_features(shared);
  const std::int64_t experts = shared ? 1 : config.experts;
  const bool interleaved = config.gated() && config.gate_order == GateOrder::interleaved;
  require(
      reinterpret_cast<std::uintptr_t>(matrix.data) % kUnit == 0 && (experts == 1 || matrix.data_stride % kUnit == 0),
      "{}: experts must lie at multiples of {} bytes", config.down ? "w2" : "w1", kUnit);
  TensorMapSpec spec;
  spec.type = config.weights == WeightFormat::bf16  ? TensorMapType::bf16
              : config.weights == WeightFormat::f16 ? TensorMapType::f16
                                                    : TensorMapType::u8;
  spec.swizzle = TensorMapSwizzle::b128;
  spec.promotion = TensorMapPromotion::b256;
  spec.address = matrix.data;
  spec.rank = 4;
  const auto as_extent = [](std::int64_t value) { return static_cast<std::uint64_t>(value); };
  spec.dims = {as_extent(config.in_features(shared)), as_extent(outputs), as_extent(config.gates()),
               as_extent(experts)};
  // The stride of a single index is not used, but must be one.
  spec.strides = {as_extent(interleaved ? 2 * row_bytes : row_bytes),
                  as_extent(config.gates() == 1 ? kUnit
                            : interleaved       ? row_bytes
                                                : outputs * row_bytes),
                  as_extent(experts == 1 ? kUnit : matrix.data_stride)};
  spec.box = {static_cast<std::uint32_t>(config.block_k), static_cast<std::uint32_t>(sm90_box_rows(config)), 1, 1};
  const TensorMap map = encoder.encode_tensor_map(spec);
  static_assert(sizeof(map) == sizeof(device::TensorMap));
  device::TensorMap result;
  std::memcpy(&result, &map, sizeof(result));
  return result;
}

}  // namespace

void set_weight_maps(const GroupedConfig& config, TensorMapEncoder& encoder, GroupedSm90Params& params) {
  const MatvecParams& call = params.grouped.call;
  params.routed = weight_map(config, call.routed, false, encoder);
  if (config.shared_size > 0) params.shared = weight_map(config, call.shared, true, encoder);
}

}  // namespace gdnjit::moe

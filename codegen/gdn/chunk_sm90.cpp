#include "codegen/gdn/chunk_sm90.h"

#include <cstring>
#include <initializer_list>
#include <string_view>

#include "runtime/support/check.h"

namespace gdnjit::gdn {
namespace {

constexpr std::int64_t kElementBytes = 2;  // of everything that is copied in boxes
constexpr std::int64_t kUnitBytes = 16;    // what strides and addresses are multiples of

struct Dimension {
  std::int64_t extent;
  std::int64_t stride;  // elements; of the innermost 1
  std::uint32_t box;
};

TensorMapType map_type(DType dtype) { return dtype == DType::f16 ? TensorMapType::f16 : TensorMapType::bf16; }

TensorMapSwizzle swizzle_of(int row_bytes) {
  return row_bytes == 128 ? TensorMapSwizzle::b128 : row_bytes == 64 ? TensorMapSwizzle::b64 : TensorMapSwizzle::b32;
}

device::TensorMap encode(TensorMapEncoder& encoder, std::string_view name, const void* address, DType dtype,
                         int row_bytes, std::initializer_list<Dimension> dimensions) {
  TensorMapSpec spec;
  spec.rank = 0;
  spec.type = map_type(dtype);
  spec.swizzle = swizzle_of(row_bytes);
  spec.promotion = TensorMapPromotion::b256;
  spec.address = address;
  require(reinterpret_cast<std::uintptr_t>(address) % kUnitBytes == 0,
          "{}: must begin at a multiple of {} bytes to be copied in boxes; io_alignment=8 or less takes another path",
          name, kUnitBytes);
  for (const Dimension& dimension : dimensions) {
    const auto index = static_cast<std::size_t>(spec.rank++);
    spec.dims[index] = static_cast<std::uint64_t>(dimension.extent);
    spec.box[index] = dimension.box;
    if (index == 0) continue;
    // The stride of a single index is not used, but must be one.
    const std::int64_t bytes = dimension.extent == 1 ? kUnitBytes : dimension.stride * kElementBytes;
    require(bytes > 0 && bytes % kUnitBytes == 0,
            "{}: has a stride of {} elements, must be a multiple of {} bytes to be copied in boxes; io_alignment=8 or "
            "less takes another path",
            name, dimension.stride, kUnitBytes);
    spec.strides[index - 1] = static_cast<std::uint64_t>(bytes);
  }
  const TensorMap map = encoder.encode_tensor_map(spec);
  static_assert(sizeof(map) == sizeof(device::TensorMap));
  device::TensorMap result;
  std::memcpy(&result, &map, sizeof(result));
  return result;
}

}  // namespace

void set_chunk_maps(const ChunkConfig& config, std::int64_t slots, TensorMapEncoder& encoder, ChunkSm90Params& params) {
  const ChunkParams& call = params.call;
  if (call.tokens == 0) return;  // states are passed on, nothing is copied
  const ChunkSm90Plan plan(config);
  const std::int64_t T = call.tokens, B = config.ragged ? 1 : call.sequences;
  const std::int64_t H = config.heads_k, HV = config.heads_v;
  const auto columns = static_cast<std::uint32_t>(plan.box_columns);
  if (config.tiles == ChunkTiles::input) {
    const auto keys = [&](std::string_view name, const void* address, const HeadStrides& strides) {
      return encode(encoder, name, address, config.io_dtype, plan.row_bytes,
                    {{config.head_dim_k, 1, columns},
                     {H, strides.key_head, 1},
                     {T, strides.token, kChunk},
                     {B, strides.batch, 1}});
    };
    params.k = keys("k", call.k, call.k_strides);
    if (config.write_output) params.q = keys("q", call.q, call.q_strides);
  } else {
    const std::int64_t heads = config.tiles == ChunkTiles::key_head ? H : HV;
    const std::int64_t rows = slots * heads * chunk_tile_count(config.tiles) * kChunk;
    params.k = encode(encoder, "workspace", call.workspace + call.tiles_offset, config.operand_dtype(), plan.row_bytes,
                      {{config.padded_k(), 1, columns}, {rows, config.padded_k(), kChunk}});
  }
  constexpr std::uint32_t kValues = 64;  // columns of V of a warpgroup
  constexpr int kValueRowBytes = kValues * kElementBytes;
  params.v = encode(encoder, "v", call.v, config.io_dtype, kValueRowBytes,
                    {{config.head_dim_v, 1, kValues},
                     {HV / H, call.v_strides.group, 1},
                     {H, call.v_strides.key_head, 1},
                     {T, call.v_strides.token, kChunk},
                     {B, call.v_strides.batch, 1}});
  if (config.write_output) {
    params.o = encode(encoder, "o", call.o, config.output_dtype, kValueRowBytes,
                      {{config.head_dim_v, 1, kValues},
                       {HV, call.o_strides.key_head, 1},
                       {T, call.o_strides.token, kChunk},
                       {B, call.o_strides.batch, 1}});
  }
}

}  // namespace gdnjit::gdn

// Boxes of tensors for the tests of bulk tensor copies: tensors with their memory, where elements must end up, and
// kernels that move one box.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "codegen/tensor_map.h"
#include "tests/emulator/fixture.h"

namespace gdnjit::tests {

inline const std::string kTensorHead = R"(#include "device/cluster.cuh"
#include "device/fence.cuh"
#include "device/tma.cuh"
using namespace gdnjit::device;
)";

inline std::vector<std::uint8_t> random_bytes(std::size_t count, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::uint8_t> bytes(count);
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
  return bytes;
}

// Where byte `offset` of a box lies in shared memory, as rows and 16-byte columns: rows of the span's length, of which
// 8, 4 and 2 make a pattern with the columns' numbers, every row taking another, neighbours (2 or 4 of them) that share
// 128 bytes the same one. `shift`: 128-byte lines between the pattern's start and the box.
// Rows of `row` bytes, if that is less than the span, begin where the span's rows do.
inline std::size_t swizzled_place(std::size_t offset, TensorMapSwizzle swizzle, std::size_t shift = 0,
                                  std::size_t row = 0) {
  const auto span = static_cast<std::size_t>(swizzle_span_bytes(swizzle));
  if (row != 0 && row < span) offset = offset / row * span + offset % row;
  const std::size_t line = offset / 128 + shift;
  switch (swizzle) {
    case TensorMapSwizzle::none: return offset;
    case TensorMapSwizzle::b128: return offset / 128 * 128 + ((offset % 128 / 16) ^ (line % 8)) * 16 + offset % 16;
    case TensorMapSwizzle::b64: return offset / 64 * 64 + ((offset % 64 / 16) ^ (line % 4)) * 16 + offset % 16;
    case TensorMapSwizzle::b32: return offset / 32 * 32 + ((offset % 32 / 16) ^ (line % 2)) * 16 + offset % 16;
  }
  return offset;
}

// A tensor with its own memory: dimension 0 dense, rows padded to 16 bytes and one gap more.
struct Tensor {
  TensorMapSpec spec;
  std::vector<std::uint8_t> bytes;
  std::size_t element = 1;

  Tensor(TensorMapType type, const std::vector<std::uint64_t>& dims, const std::vector<std::uint32_t>& box,
         std::uint32_t seed) {
    element = static_cast<std::size_t>(tensor_map_type_bytes(type));
    spec.type = type;
    spec.rank = static_cast<int>(dims.size());
    std::uint64_t stride = (dims[0] * element + 15) / 16 * 16 + 16;
    for (std::size_t i = 0; i < dims.size(); ++i) {
      spec.dims[i] = dims[i];
      spec.box[i] = box[i];
      if (i != 0) {
        spec.strides[i - 1] = stride;
        stride = stride * dims[i] + 32;
      }
    }
    bytes = random_bytes(stride, seed);
  }

  // The nearest corner before it whose innermost coordinate is a multiple of 16 bytes, as copies want it.
  std::vector<int> aligned(std::vector<int> corner) const {
    const int chunk = 16 / static_cast<int>(element);
    corner[0] = (corner[0] + 1024 * chunk) / chunk * chunk - 1024 * chunk;
    return corner;
  }

  // Calls visit(offset in the box, offset in memory or -1 outside) for every element of the box at `corner`. A row is
  // as long as dimension 0, or whole chunks of 16 bytes.
  template <typename Visit>
  void visit_box(const std::vector<int>& corner, Visit visit, bool whole_chunks = false) const {
    const std::uint64_t chunk = whole_chunks ? 16 / element : 1;
    const auto length = static_cast<std::int64_t>((spec.dims[0] + chunk - 1) / chunk * chunk);
    std::vector<std::uint32_t> index(static_cast<std::size_t>(spec.rank), 0);
    for (std::size_t at = 0;; at += element) {
      bool inside = true;
      std::size_t place = 0;
      for (std::size_t i = 0; i < index.size(); ++i) {
        const std::int64_t x = corner[i] + static_cast<std::int64_t>(index[i]);
        inside = inside && x >= 0 && x < (i == 0 ? length : static_cast<std::int64_t>(spec.dims[i]));
        place += static_cast<std::size_t>(x) * (i == 0 ? element : spec.strides[i - 1]);
      }
      visit(at, inside ? static_cast<std::ptrdiff_t>(place) : -1);
      std::size_t i = 0;
      while (i < index.size() && (index[i] += spec.element_strides[i]) >= spec.box[i]) index[i++] = 0;
      if (i == index.size()) return;
    }
  }
};

inline std::string coordinates(int rank) {
  std::string text;
  for (int i = 0; i < rank; ++i) text += fmt::format("{}%{}", i == 0 ? "" : ", ", 2 + i);
  return text;
}
inline std::string coordinate_values(int rank) {
  std::string text;
  for (int i = 0; i < rank; ++i) text += fmt::format(", \"r\"(at.x[{}])", i);
  return text;
}

// Loads the box at `at` to `shift` bytes into shared memory and writes out `bytes` of what is there. With gaps the box
// is `moved` bytes, less than `bytes`, and the memory holds 0x5a before.
inline std::string load_kernel(int rank, bool gaps = false) {
  return kTensorHead +
         fmt::format(R"(
struct At {{ int x[5]; }};
extern "C" __global__ void test(const __grid_constant__ TensorMap map, unsigned char* out, At at, int bytes, int shift{}) {{
  extern __shared__ __align__(1024) unsigned char box[];
  __shared__ unsigned long long barrier;
  const unsigned bar = shared_address(&barrier), to = shared_address(box + shift);
{}
  if (threadIdx.x == 0) {{
    prefetch_map(map);
    mbarrier_init(bar, 1);
    fence_mbarrier_init();
    mbarrier_arrive_expect(bar, {});
    asm volatile("cp.async.bulk.tensor.{}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {{{}}}], [%{}];"
                 :: "r"(to), "l"(&map){}, "r"(bar) : "memory");
  }}
  __syncthreads();
  mbarrier_wait(bar, 0);
  for (int i = threadIdx.x; i < bytes; i += blockDim.x) out[i] = box[shift + i];
}})",
                     gaps ? ", int moved" : "",
                     gaps ? "  for (int i = threadIdx.x; i < bytes; i += blockDim.x) box[shift + i] = 0x5a;\n"
                            "  fence_async_shared();\n  __syncthreads();"
                          : "",
                     gaps ? "moved" : "bytes", rank, coordinates(rank), 2 + rank, coordinate_values(rank));
}

struct At {
  int x[5];
};
inline At at_of(const std::vector<int>& corner) {
  At at{};
  std::copy(corner.begin(), corner.end(), at.x);
  return at;
}

// Reads a box from `in`, puts it into shared memory as it is, and stores (or adds) it at `at`.
inline std::string store_kernel(int rank, const std::string& operation) {
  return kTensorHead + fmt::format(R"(
struct At {{ int x[5]; }};
extern "C" __global__ void test(const __grid_constant__ TensorMap map, const unsigned char* in, At at, int bytes) {{
  extern __shared__ __align__(1024) unsigned char box[];
  for (int i = threadIdx.x; i < bytes; i += blockDim.x) box[i] = in[i];
  fence_async_shared();
  __syncthreads();
  if (threadIdx.x == 0) {{
    asm volatile("{} [%1, {{{}}}], [%0];" :: "r"(shared_address(box)), "l"(&map){} : "memory");
    bulk_commit();
    bulk_wait<0>();
  }}
}})",
                                   operation, coordinates(rank), coordinate_values(rank));
}

inline std::string store_operation(int rank) {
  return fmt::format("cp.async.bulk.tensor.{}d.global.shared::cta.tile.bulk_group", rank);
}

}  // namespace gdnjit::tests

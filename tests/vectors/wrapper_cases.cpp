// The wrappers of templates/device as kernels use them: pipelines of copies in front of products. Values are small
// integers, so sums are exact in any order.
#include "codegen/tensor_map.h"
#include "runtime/support/check.h"
#include "tests/vectors/lane_cases.h"
#include "tests/vectors/operand_bytes.h"

namespace gdnjit::vectors {
namespace {

constexpr int kDepth = 256;  // k of the products

// out = A B^T, A 64 x 256, B 32 x 256, bf16: a producer warp fills two stages of swizzled boxes, a warpgroup
// multiplies.
const char* const kTmaProduct = R"(
#include "device/fence.cuh"
#include "device/tma.cuh"
#include "device/wgmma_bf16.cuh"
using namespace gdnjit::device;
extern "C" __global__ void __launch_bounds__(160) vectors(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
                                                          const uint4*, const uint4*, float* out) {
  constexpr int kStage = (64 + 32) * 128;
  extern __shared__ __align__(1024) unsigned char ring[];
  __shared__ unsigned long long barriers[4];
  const unsigned full = shared_address(barriers), empty = full + 16, base = shared_address(ring);
  if (threadIdx.x == 0) {
    for (int s = 0; s < 2; ++s) { mbarrier_init(full + 8 * s, 1); mbarrier_init(empty + 8 * s, 128); }
    fence_mbarrier_init();
  }
  __syncthreads();
  if (threadIdx.x >= 128) {
    if (threadIdx.x == 128) {
      prefetch_map(a);
      for (int tile = 0; tile < 4; ++tile) {
        const int s = tile % 2;
        mbarrier_wait(empty + 8 * s, (tile / 2 & 1) ^ 1);
        mbarrier_arrive_expect(full + 8 * s, kStage);
        tensor_load(base + kStage * s, a, Corner2{tile * 64, 0}, full + 8 * s);
        tensor_load(base + kStage * s + 64 * 128, b, Corner2{tile * 64, 0}, full + 8 * s);
      }
    }
    return;
  }
  float d[16] = {};
  for (int tile = 0; tile < 4; ++tile) {
    const int s = tile % 2;
    mbarrier_wait(full + 8 * s, tile / 2 & 1);
    const unsigned tile_a = base + kStage * s, tile_b = tile_a + 64 * 128;
    wgmma_fence(d);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      wgmma_bf16<32>(d, advance(k_major_descriptor<Swizzle::bytes128>(tile_a), 32 * k),
                     advance(k_major_descriptor<Swizzle::bytes128>(tile_b), 32 * k), true);
    }
    wgmma_commit();
    wgmma_wait<0>(d);
    mbarrier_arrive(empty + 8 * s);
  }
  for (int i = 0; i < 16; ++i) {
    const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + 8 * (i / 2 % 2);
    out[row * 32 + 8 * (i / 4) + 2 * (threadIdx.x % 4) + i % 2] = d[i];
  }
})";

// out = A B^T, A 16 x 256, B 8 x 256, bf16: cp.async through two stages, ldmatrix, mma of one warp.
const char* const kCpAsyncProduct = R"(
#include "device/cp_async.cuh"
#include "device/ldmatrix.cuh"
#include "device/mma.cuh"
using namespace gdnjit::device;
extern "C" __global__ void vectors(const unsigned char* a, const unsigned char* b, float* out) {
  __shared__ __align__(128) unsigned char stage[2][24 * 48];  // rows of 16 elements, 48 bytes apart: no bank conflicts
  const int lane = threadIdx.x;
  const auto load = [&](int tile) {
    for (int i = lane; i < 48; i += 32) {
      const int row = i / 2, half = i % 2;
      const unsigned char* from = row < 16 ? a + row * 512 : b + (row - 16) * 512;
      cp_async<16>(shared_address(stage[tile % 2]) + row * 48 + half * 16, from + tile * 32 + half * 16);
    }
    cp_async_commit();
  };
  float d[4] = {};
  load(0);
  for (int tile = 0; tile < 16; ++tile) {
    if (tile + 1 < 16) load(tile + 1); else cp_async_commit();
    cp_async_wait<1>();
    __syncwarp();
    const unsigned at = shared_address(stage[tile % 2]);
    unsigned fa[4], fb[2];
    ldmatrix(fa, at + (lane % 16) * 48 + lane / 16 * 16);
    ldmatrix(fb, at + 16 * 48 + (lane % 8) * 48 + lane / 8 % 2 * 16);
    mma_m16n8k16<Element::bf16>(d, fa, fb);
    __syncwarp();
  }
  for (int i = 0; i < 4; ++i) out[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = d[i];
})";

// Two blocks of a cluster: block 0 loads for both, each sends its sums to the other and says so.
const char* const kClusterExchange = R"(
#include "device/cluster.cuh"
#include "device/fence.cuh"
#include "device/tma.cuh"
using namespace gdnjit::device;
extern "C" __global__ void vectors(const float* in, float* out) {
  __shared__ __align__(128) float box[128];
  __shared__ float sums[32];
  __shared__ unsigned long long barriers[2];
  const unsigned loaded = shared_address(barriers), told = loaded + 8, rank = cluster_rank();
  if (threadIdx.x == 0) { mbarrier_init(loaded, 1); mbarrier_init(told, 32); fence_mbarrier_init(); mbarrier_arrive_expect(loaded, 512); }
  cluster_sync();
  if (rank == 0 && threadIdx.x == 0) bulk_load_multicast(shared_address(box), in, 512, loaded, 3);
  mbarrier_wait(loaded, 0);
  float sum = 0;
  for (int i = 0; i < 4; ++i) sum += box[threadIdx.x * 4 + i];
  store_cluster(in_cluster(shared_address(sums + threadIdx.x), 1 - rank), sum + rank);
  mbarrier_arrive_cluster(in_cluster(told, 1 - rank));
  mbarrier_wait_cluster(told, 0);
  out[rank * 32 + threadIdx.x] = sums[threadIdx.x];
  cluster_sync();
})";

// A box is stored, then added to; a line of 64 floats is added by a bulk reduction.
const char* const kStores = R"(
#include "device/fence.cuh"
#include "device/tma.cuh"
using namespace gdnjit::device;
extern "C" __global__ void vectors(const __grid_constant__ TensorMap map, const float* in, float* out) {
  __shared__ __align__(128) float box[256];
  for (int i = threadIdx.x; i < 256; i += 32) box[i] = in[i];
  for (int i = threadIdx.x; i < 512; i += 32) out[i] = i;
  fence_async_global();
  fence_async_shared();
  __syncthreads();
  if (threadIdx.x == 0) {
    tensor_store(map, Corner2{8, 1}, shared_address(box));
    bulk_commit();
    bulk_wait<0>();
    tensor_add(map, Corner2{12, 4}, shared_address(box));
    bulk_add_f32(out + 448, shared_address(box), 256);
    bulk_commit();
    bulk_wait<0>();
  }
})";

TensorMapSpec matrix_map(TensorMapType type, std::uint64_t columns, std::uint64_t rows, std::uint32_t box_columns,
                         std::uint32_t box_rows, TensorMapSwizzle swizzle) {
  TensorMapSpec spec;
  spec.type = type;
  spec.rank = 2;
  spec.dims = {columns, rows};
  spec.strides = {columns * static_cast<std::uint64_t>(tensor_map_type_bytes(type))};
  spec.box = {box_columns, box_rows};
  spec.swizzle = swizzle;
  return spec;
}

void append_map(std::vector<std::byte>& parameters, Device& device, TensorMapSpec spec, const void* address) {
  spec.address = address;
  const TensorMap map = device.encode_tensor_map(spec);
  parameters.insert(parameters.end(), map.opaque.begin(), map.opaque.end());
}

VectorCase wrapper_case(std::string name, const char* source, int first_arch) {
  VectorCase added;
  added.family = "wrappers of templates/device";
  added.name = std::move(name);
  added.source = source;
  added.first_arch = first_arch;
  return added;
}

}  // namespace

void add_wrapper_cases(std::vector<VectorCase>& cases) {
  VectorCase tma = wrapper_case("tma, mbarrier, wgmma: a pipeline with a producer warp", kTmaProduct, 90);
  tma.hopper_only = true;
  tma.threads = 160;
  tma.shared_bytes = 2 * 96 * 128;
  tma.inputs = {matrix_bytes(Element::bf16, 64 * kDepth, true, 61), matrix_bytes(Element::bf16, 32 * kDepth, true, 62)};
  tma.output_bytes = 64 * 32 * 4;
  tma.leading_parameters = [](Device& device, std::span<const DeviceBuffer> inputs, const DeviceBuffer&) {
    std::vector<std::byte> parameters;
    const auto map = [](std::uint64_t rows) {
      return matrix_map(TensorMapType::bf16, kDepth, rows, 64, static_cast<std::uint32_t>(rows),
                        TensorMapSwizzle::b128);
    };
    append_map(parameters, device, map(64), inputs[0].data());
    append_map(parameters, device, map(32), inputs[1].data());
    return parameters;
  };
  cases.push_back(std::move(tma));

  VectorCase portable = wrapper_case("cp_async, ldmatrix, mma: a pipeline of one warp", kCpAsyncProduct, 80);
  portable.inputs = {matrix_bytes(Element::bf16, 16 * kDepth, true, 63),
                     matrix_bytes(Element::bf16, 8 * kDepth, true, 64)};
  portable.output_bytes = 16 * 8 * 4;
  cases.push_back(std::move(portable));

  VectorCase exchange = wrapper_case("cluster, multicast, mbarriers of another block", kClusterExchange, 90);
  exchange.blocks = exchange.cluster = 2;
  exchange.inputs = {matrix_bytes(Element::tf32, 128, true, 65)};
  exchange.output_bytes = 64 * 4;
  cases.push_back(std::move(exchange));

  VectorCase stores = wrapper_case("tensor_store, tensor_add, bulk_add_f32", kStores, 90);
  stores.inputs = {matrix_bytes(Element::tf32, 256, true, 66)};
  stores.output_bytes = 512 * 4;
  stores.leading_parameters = [](Device& device, std::span<const DeviceBuffer>, const DeviceBuffer& output) {
    std::vector<std::byte> parameters;
    append_map(parameters, device, matrix_map(TensorMapType::f32, 32, 14, 16, 16, TensorMapSwizzle::none),
               output.data());
    return parameters;
  };
  cases.push_back(std::move(stores));
}

}  // namespace gdnjit::vectors

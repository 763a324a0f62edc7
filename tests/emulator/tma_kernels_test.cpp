// Kernels built on bulk tensor copies: pipelines with a producer warp, multicast; and what is found when one goes
// wrong.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>

#include "tests/emulator/check_report.h"
#include "tests/emulator/tensor_boxes.h"

namespace gdnjit::tests {
namespace {

// C[m, n] = sum over k of A[m, k] * w[k % 8], A in bf16 through `kStages` stages of 64 x 64 boxes: one producer warp,
// one consumer warpgroup of 64 threads, a row each; the result goes out by a bulk tensor store.
std::string pipeline_kernel(int stages, const std::string& consumer_wait = "mbarrier_wait(full + 8 * s, phase);",
                            const std::string& expect = "8192") {
  return kTensorHead + fmt::format(R"(
extern "C" __global__ void __launch_bounds__(96) test(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap c, int tiles) {{
  extern __shared__ __align__(1024) unsigned char ring[];
  __shared__ alignas(128) float result[64];
  __shared__ unsigned long long barriers[2 * {0}];
  const unsigned full = shared_address(barriers), empty = full + 8 * {0};
  if (threadIdx.x == 0) {{
    for (int s = 0; s < {0}; ++s) {{ mbarrier_init(full + 8 * s, 1); mbarrier_init(empty + 8 * s, 64); }}
    fence_mbarrier_init();
  }}
  __syncthreads();
  if (threadIdx.x >= 64) {{
    if (threadIdx.x == 64) {{
      prefetch_map(a);
      for (int tile = 0; tile < tiles; ++tile) {{
        const int s = tile % {0};
        mbarrier_wait(empty + 8 * s, (tile / {0} & 1) ^ 1);
        mbarrier_arrive_expect(full + 8 * s, {2});
        tensor_load(shared_address(ring) + 8192 * s, a, Corner2{{tile * 64, (int)blockIdx.x * 64}}, full + 8 * s);
      }}
    }}
    return;
  }}
  float sum = 0;
  for (int tile = 0; tile < tiles; ++tile) {{
    const int s = tile % {0};
    const unsigned phase = tile / {0} & 1;
    {1}
    for (int k = 0; k < 64; ++k) {{
      const unsigned at = threadIdx.x * 128 + k * 2;
      const unsigned place = at ^ ((at >> 7 & 7) << 4);
      const unsigned short bits = *(const unsigned short*)(ring + 8192 * s + place);
      sum += __uint_as_float(bits << 16) * (k % 8 + 1);
    }}
    mbarrier_arrive(empty + 8 * s);
  }}
  result[threadIdx.x] = sum;
  fence_async_shared();
  asm volatile("bar.sync 1, 64;" ::: "memory");
  if (threadIdx.x == 0) {{
    tensor_store(c, Corner1{{(int)blockIdx.x * 64}}, shared_address(result));
    bulk_commit();
    bulk_wait_read<0>();
  }}
}})",
                                   stages, consumer_wait, expect);
}

struct Pipeline {
  static constexpr int kRows = 150, kColumns = 600, kBlocks = 3, kTiles = 10;  // borders in both directions
  Device& device = emulator();
  std::vector<std::uint16_t> a;
  DeviceBuffer in, out{device, kRows * 4 + 8, "result"};

  Pipeline() {
    std::mt19937 random(7);
    for (int i = 0; i < kRows * kColumns; ++i) a.push_back(static_cast<std::uint16_t>(0x3f80 + random() % 64));
    in = upload(device, a, "weights");
  }
  std::vector<std::byte> parameters() const {
    const TensorMapSpec map_a{.type = TensorMapType::bf16,
                              .rank = 2,
                              .address = in.data(),
                              .dims = {kColumns, kRows},
                              .strides = {kColumns * 2},
                              .box = {64, 64},
                              .swizzle = TensorMapSwizzle::b128};
    const TensorMapSpec map_c{
        .type = TensorMapType::f32, .rank = 1, .address = out.data(), .dims = {kRows}, .box = {64}};
    return parameter_block(device.encode_tensor_map(map_a), device.encode_tensor_map(map_c), int{kTiles});
  }
  LaunchCounters launch(const std::string& source, int stages) {
    return run(device, compile_ptx(source, "test"), "test", parameters(),
               {.blocks = kBlocks,
                .threads = 96,
                .shared_bytes = static_cast<std::uint32_t>(8192 * stages),
                .buffers = {{in.data(), in.bytes(), "weights", TensorRole::input},
                            {out.data(), out.bytes(), "result", TensorRole::output}}});
  }
  std::string report(const std::string& source, int stages) {
    return error_text([&] { launch(source, stages); });
  }
};

TEST_CASE("a warp-specialised pipeline of loads with a bulk store computes every row") {
  Pipeline test;
  for (const int stages : {1, 2, 3, 4}) {
    const LaunchCounters counters = test.launch(pipeline_kernel(stages), stages);
    std::vector<float> seen(Pipeline::kRows);
    test.device.copy_out(seen.data(), test.out.data(), seen.size() * 4, nullptr);
    for (int row = 0; row < Pipeline::kRows; ++row) {
      double want = 0;
      for (int k = 0; k < Pipeline::kColumns; ++k) {
        const auto bits_of = static_cast<std::uint32_t>(test.a[static_cast<std::size_t>(row * Pipeline::kColumns + k)]);
        want += static_cast<double>(from_bits(bits_of << 16)) * (k % 64 % 8 + 1);
      }
      REQUIRE(seen[static_cast<std::size_t>(row)] == doctest::Approx(want).epsilon(1e-5));
    }
    // Each row of 1200 bytes is read in pieces of 128; where a piece begins in the middle of a sector, twice.
    CHECK(counters.bytes_requested_read == Pipeline::kRows * Pipeline::kColumns * 2);
    CHECK(counters.bytes_requested_written == (Pipeline::kRows * 4 + 15) / 16 * 16);  // the last chunk is whole
    CHECK(counters.sectors_read >= Pipeline::kRows * Pipeline::kColumns * 2 / 32);
    CHECK(counters.sectors_read <= Pipeline::kRows * (38 + 9));
  }
}

TEST_CASE("a consumer that does not wait reads bytes that are still on their way") {
  Pipeline test;
  check_parts(test.report(pipeline_kernel(2, "if (tile != 1) mbarrier_wait(full + 8 * s, phase);"), 2),
              {"reads shared memory that nobody has written", "a bulk copy into it is pending",
               "cp.async.bulk.tensor.2d.shared::cluster.global", "of 'ring'"});
}

TEST_CASE("a wrong announcement is a deadlock that names the mbarrier and its bytes") {
  Pipeline test;
  check_parts(
      test.report(pipeline_kernel(2, "mbarrier_wait(full + 8 * s, phase);", "8208"), 2),
      {"deadlock",
       "warp 0 waits for phase 0 of the mbarrier at offset 0 of 'barriers' (1 of 1 arrivals, 16 bytes "
       "pending)",
       "warp 2 waits for phase 0 of the mbarrier at offset 16 of 'barriers' (0 of 64 arrivals, 0 bytes pending)"});
}

TEST_CASE("a multicast of boxes shares one read among two and four blocks") {
  const std::string source = kTensorHead + R"(
extern "C" __global__ void test(const __grid_constant__ TensorMap map, unsigned* out) {
  __shared__ alignas(1024) unsigned box[1024];
  __shared__ unsigned long long barrier;
  const unsigned bar = shared_address(&barrier), rank = cluster_rank(), size = cluster_size();
  if (threadIdx.x == 0) { mbarrier_init(bar, 1); fence_mbarrier_init(); mbarrier_arrive_expect(bar, 4096); }
  cluster_sync();
  if (threadIdx.x == 0)
    tensor_load_multicast(shared_address(box) + rank * 4096 / size, map, Corner2{0, (int)(32 / size * rank + 32 * (blockIdx.x / size))},
                          bar, (unsigned short)((1 << size) - 1));
  mbarrier_wait_cluster(bar, 0);
  for (int i = threadIdx.x; i < 1024; i += 32) out[blockIdx.x * 1024 + i] = box[i];
  cluster_sync();
})";
  Device& device = emulator();
  const auto in = sample_integers<std::uint32_t>(2048, 12);
  const DeviceBuffer memory = upload(device, in), out(device, 8 * 4096, "out");
  for (const std::uint32_t size : {2U, 4U}) {
    CAPTURE(size);
    const TensorMapSpec spec{.type = TensorMapType::u32,
                             .rank = 2,
                             .address = memory.data(),
                             .dims = {32, 64},
                             .strides = {128},
                             .box = {32, 32 / size},
                             .swizzle = TensorMapSwizzle::b128};
    Launch how{.blocks = 2 * size};
    how.cluster = size;
    const LaunchCounters counters = run(device, compile_ptx(source, "test"), "test",
                                        parameter_block(device.encode_tensor_map(spec), out.data()), how);
    CHECK(counters.sectors_read == 256);
    const auto seen = download<std::uint32_t>(device, out);
    for (std::size_t block = 0; block < 2 * size; ++block) {
      for (std::size_t i = 0; i < 1024; ++i)
        REQUIRE(seen[1024 * block + swizzled_place(4 * i, TensorMapSwizzle::b128) / 4] == in[block / size * 1024 + i]);
    }
  }
}

TEST_CASE("boxes that do not fit, maps beyond their buffer, and inputs are found at the copy") {
  Device& device = emulator();
  Tensor tensor(TensorMapType::bf16, {64, 16}, {64, 8}, 130);
  const DeviceBuffer memory = upload(device, tensor.bytes, "weights"), out(device, 4096, "out");
  tensor.spec.address = memory.data();
  const auto load = [&](const TensorMapSpec& spec, int y, int shift, std::uint32_t shared) {
    return error_text([&] {
      run(device, compile_ptx(load_kernel(2), "test"), "test",
          parameter_block(device.encode_tensor_map(spec), out.data(), At{{0, y}}, 1024, shift),
          {.threads = 32,
           .shared_bytes = shared,
           .buffers = {{memory.data(), 16 * 144, "weights", TensorRole::input},
                       {out.data(), out.bytes(), "out", TensorRole::output}}});
    });
  };
  CHECK(load(tensor.spec, 8, 0, 1024) == "");
  check_parts(load(tensor.spec, 0, 64, 2048), {"copies a box at offset 64 of 'box', which 128 does not divide"});
  check_parts(load(tensor.spec, 0, 0, 1000), {"writes 1024 bytes of shared memory from offset"});
  TensorMapSpec tall = tensor.spec;
  tall.dims[1] = 17;
  check_parts(load(tall, 12, 0, 1024), {"reads out of bounds: 128 bytes",
                                        "0 bytes past the end of 'weights' (2304 bytes", "cp.async.bulk.tensor.2d"});
  const std::string store = error_text([&] {
    run(device, compile_ptx(store_kernel(2, store_operation(2)), "test"), "test",
        parameter_block(device.encode_tensor_map(tensor.spec), memory.data(), At{}, 1024),
        {.threads = 32,
         .shared_bytes = 1024,
         .buffers = {{memory.data(), memory.bytes(), "weights", TensorRole::input}}});
  });
  check_parts(store,
              {"writes memory that is only an input", "'weights'", "cp.async.bulk.tensor.2d.global.shared::cta"});
}

TEST_CASE("forms that the emulator does not have are refused with their line") {
  const auto refusal = [](const std::string& line) {
    return error_text([&] { emulator().load({"test", ptx_module(line + "\nret;"), {}}); });
  };
  const std::string load = "cp.async.bulk.tensor.2d.shared::cluster.global", end = ".mbarrier::complete_tx::bytes ";
  check_parts(refusal("cp.async.bulk.tensor.4d.shared::cluster.global.im2col" + end +
                      "[%r1], [%rd1, {%r1, %r2, %r3, %r4}], [%r5], {%rs1, %rs2};"),
              {"tile mode only, not with .im2col", "line 14"});
  check_parts(refusal(load + ".tile::gather4" + end + "[%r1], [%rd1, {%r1, %r2}], [%r5];"), {"tile::gather4"});
  check_parts(refusal(load + end + "[%r1], [%rd1, {%r1, %r2, %r3}], [%r5];"), {"3 coordinates for a tensor of 2"});
  check_parts(refusal(load + end + "[%r1], [%rd1], [%r5];"), {"a tensor is [map, {coordinates}]"});
  check_parts(refusal("cp.async.bulk.tensor.6d.shared::cluster.global" + end + "[%r1], [%rd1, {%r1}], [%r5];"),
              {"needs .1d to .5d"});
  check_parts(refusal(load + ".cta_group::1" + end + "[%r1], [%rd1, {%r1, %r2}], [%r5];"),
              {"does not know '.cta_group::1'"});
  check_parts(refusal("ld.shared.u32 %r1, [%r2, {%r3}];"), {"coordinates belong to tensor copies"});
  check_parts(refusal("ld.shared.u32 %r1, [%r2, %r3];"), {"expected coordinates"});
}

}  // namespace
}  // namespace gdnjit::tests

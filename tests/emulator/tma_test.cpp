// Bulk tensor copies: every rank, element size, swizzle and border against formulas written here; pipelines, multicast,
// and what is found when one goes wrong.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>

#include "runtime/tensor_map.h"
#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

const std::string kHead = R"(#include "device/cluster.cuh"
#include "device/fence.cuh"
#include "device/tma.cuh"
using namespace gdnjit::device;
)";

void check_report(const std::string& text, const std::vector<std::string>& parts) {
  CAPTURE(text);
  for (const std::string& part : parts) {
    CAPTURE(part);
    CHECK(text.find(part) != std::string::npos);
  }
}

std::vector<std::uint8_t> random_bytes(std::size_t count, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::uint8_t> bytes(count);
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
  return bytes;
}

// Where byte `offset` of a box lies in shared memory, as rows and 16-byte columns: rows of the span's length, of which
// 8, 4 and 2 make a pattern with the columns' numbers, every row taking another, neighbours (2 or 4 of them) that share
// 128 bytes the same one. `shift`: 128-byte lines between the pattern's start and the box.
std::size_t swizzled_place(std::size_t offset, TensorMapSwizzle swizzle, std::size_t shift = 0) {
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

  // Calls visit(offset in the box, offset in memory or -1 outside) for every element of the box at `corner`.
  template <typename Visit>
  void visit_box(const std::vector<int>& corner, Visit visit) const {
    std::vector<std::uint32_t> index(static_cast<std::size_t>(spec.rank), 0);
    for (std::size_t at = 0;; at += element) {
      bool inside = true;
      std::size_t place = 0;
      for (std::size_t i = 0; i < index.size(); ++i) {
        const std::int64_t x = corner[i] + static_cast<std::int64_t>(index[i]);
        inside = inside && x >= 0 && x < static_cast<std::int64_t>(spec.dims[i]);
        place += static_cast<std::size_t>(x) * (i == 0 ? element : spec.strides[i - 1]);
      }
      visit(at, inside ? static_cast<std::ptrdiff_t>(place) : -1);
      std::size_t i = 0;
      while (i < index.size() && (index[i] += spec.element_strides[i]) >= spec.box[i]) index[i++] = 0;
      if (i == index.size()) return;
    }
  }
};

std::string coordinates(int rank) {
  std::string text;
  for (int i = 0; i < rank; ++i) text += fmt::format("{}%{}", i == 0 ? "" : ", ", 2 + i);
  return text;
}
std::string coordinate_values(int rank) {
  std::string text;
  for (int i = 0; i < rank; ++i) text += fmt::format(", \"r\"(at.x[{}])", i);
  return text;
}

// Loads the box at `at` to `shift` bytes into shared memory and writes out what is there.
std::string load_kernel(int rank) {
  return kHead + fmt::format(R"(
struct At {{ int x[5]; }};
extern "C" __global__ void test(const __grid_constant__ TensorMap map, unsigned char* out, At at, int bytes, int shift) {{
  extern __shared__ __align__(1024) unsigned char box[];
  __shared__ unsigned long long barrier;
  const unsigned bar = shared_address(&barrier), to = shared_address(box + shift);
  if (threadIdx.x == 0) {{
    prefetch_map(map);
    mbarrier_init(bar, 1);
    fence_mbarrier_init();
    mbarrier_arrive_expect(bar, bytes);
    asm volatile("cp.async.bulk.tensor.{}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {{{}}}], [%{}];"
                 :: "r"(to), "l"(&map){}, "r"(bar) : "memory");
  }}
  __syncthreads();
  mbarrier_wait(bar, 0);
  for (int i = threadIdx.x; i < bytes; i += blockDim.x) out[i] = box[shift + i];
}})",
                             rank, coordinates(rank), 2 + rank, coordinate_values(rank));
}

struct At {
  int x[5];
};
At at_of(const std::vector<int>& corner) {
  At at{};
  std::copy(corner.begin(), corner.end(), at.x);
  return at;
}

void check_load(const Tensor& tensor, const std::vector<int>& corner, std::size_t shift = 0,
                const std::string& arch = "sm_90a") {
  CAPTURE(tensor.spec.rank);
  CAPTURE(tensor.element);
  CAPTURE(static_cast<int>(tensor.spec.swizzle));
  CAPTURE(corner);
  Device& device = emulator(arch);
  const DeviceBuffer memory = upload(device, tensor.bytes, "tensor");
  const std::size_t bytes = tensor_map_box_bytes(tensor.spec);
  const DeviceBuffer out(device, bytes, "out");
  TensorMapSpec spec = tensor.spec;
  spec.address = memory.data();
  run(device, compile_ptx(load_kernel(spec.rank), "test", arch), "test",
      parameter_block(device.encode_tensor_map(spec), out.data(), at_of(corner), static_cast<int>(bytes),
                      static_cast<int>(shift)),
      {.threads = 128, .shared_bytes = static_cast<std::uint32_t>(bytes + shift)});
  const auto seen = download<std::uint8_t>(device, out);
  tensor.visit_box(corner, [&](std::size_t in_box, std::ptrdiff_t place) {
    for (std::size_t byte = 0; byte < tensor.element; ++byte) {
      std::uint8_t want = 0;
      if (place >= 0) {
        want = tensor.bytes[static_cast<std::size_t>(place) + byte];
      } else if (spec.fill == TensorMapFill::nan) {
        want = byte + 1 == tensor.element ? 0x7f : 0xff;
      }
      if (seen[swizzled_place(in_box + byte, spec.swizzle, shift / 128)] != want) {
        FAIL("byte ", in_box + byte, " of the box is ", int{seen[swizzled_place(in_box + byte, spec.swizzle)]}, " not ",
             int{want});
      }
    }
  });
}

constexpr TensorMapSwizzle kSwizzles[] = {TensorMapSwizzle::none, TensorMapSwizzle::b32, TensorMapSwizzle::b64,
                                          TensorMapSwizzle::b128};

// A row of the box fills the swizzle's span; without a swizzle it has 48 bytes.
std::uint32_t row_elements(TensorMapSwizzle swizzle, TensorMapType type) {
  const int bytes = swizzle == TensorMapSwizzle::none ? 48 : swizzle_span_bytes(swizzle);
  return static_cast<std::uint32_t>(bytes / tensor_map_type_bytes(type));
}

TEST_CASE("loads of one to three dimensions, of every element size and swizzle, at every border") {
  constexpr TensorMapType kTypes[] = {TensorMapType::u8, TensorMapType::bf16, TensorMapType::f32, TensorMapType::s64};
  std::uint32_t seed = 50;
  for (const TensorMapType type : kTypes) {
    for (const TensorMapSwizzle swizzle : kSwizzles) {
      const std::uint32_t row = row_elements(swizzle, type);
      for (const int rank : {1, 2, 3}) {
        std::vector<std::uint64_t> dims{row * 2 + 1, 19, 5};
        std::vector<std::uint32_t> box{row, 11, 3};
        dims.resize(static_cast<std::size_t>(rank));
        box.resize(static_cast<std::size_t>(rank));
        Tensor tensor(type, dims, box, ++seed);
        tensor.spec.swizzle = swizzle;
        const int wide = static_cast<int>(row);
        const std::vector<std::vector<int>> corners{{0, 0, 0},         {1, 3, 2},         {-1, -2, -1},
                                                    {wide + 3, 12, 3}, {-wide, 0, 0},     {0, 19, 1},
                                                    {0, 0, -3},        {2 * wide, 18, 4}, {-wide + 1, -10, -2}};
        for (std::vector<int> corner : corners) {
          corner.resize(static_cast<std::size_t>(rank));
          check_load(tensor, corner);
        }
      }
    }
  }
}

TEST_CASE("loads of four and five dimensions") {
  for (const int rank : {4, 5}) {
    std::vector<std::uint64_t> dims{20, 6, 4, 3, 3};
    std::vector<std::uint32_t> box{8, 4, 2, 2, 2};
    dims.resize(static_cast<std::size_t>(rank));
    box.resize(static_cast<std::size_t>(rank));
    const Tensor tensor(TensorMapType::f16, dims, box, 70);
    for (std::vector<int> corner : {std::vector<int>{0, 0, 0, 0, 0}, {13, 3, -1, 2, 1}, {-3, 1, 3, -1, 2}}) {
      corner.resize(static_cast<std::size_t>(rank));
      check_load(tensor, corner);
    }
  }
}

TEST_CASE("outside the tensor a load puts NaN if the map asks for it") {
  for (const TensorMapType type : {TensorMapType::f16, TensorMapType::bf16, TensorMapType::f32, TensorMapType::f64}) {
    Tensor tensor(type, {40, 9}, {row_elements(TensorMapSwizzle::b64, type), 8}, 80);
    tensor.spec.swizzle = TensorMapSwizzle::b64;
    tensor.spec.fill = TensorMapFill::nan;
    check_load(tensor, {35, 5});
    check_load(tensor, {-2, -3});
  }
}

TEST_CASE("element strides take every n-th row") {
  Tensor tensor(TensorMapType::bf16, {64, 23, 7}, {64, 9, 4}, 90);
  tensor.spec.element_strides = {1, 2, 3, 1, 1};
  tensor.spec.swizzle = TensorMapSwizzle::b128;
  check_load(tensor, {0, 0, 0});
  check_load(tensor, {0, 15, 4});
  check_load(tensor, {-5, -3, -1});
}

TEST_CASE("a swizzle follows the shared address, wherever the box begins") {
  for (const TensorMapSwizzle swizzle : kSwizzles) {
    Tensor tensor(TensorMapType::bf16, {64, 32}, {row_elements(swizzle, TensorMapType::bf16), 20}, 95);
    tensor.spec.swizzle = swizzle;
    for (const std::size_t shift : {128, 256, 384, 896, 1024}) check_load(tensor, {0, 5}, shift);
  }
}

TEST_CASE("loads on the other architectures that have them") {
  Tensor tensor(TensorMapType::bf16, {100, 30}, {64, 16}, 96);
  tensor.spec.swizzle = TensorMapSwizzle::b128;
  check_load(tensor, {40, 20}, 0, "sm_100");
  check_load(tensor, {40, 20}, 0, "sm_120");
}

// ---- stores and reductions

// Reads a box from `in`, puts it into shared memory as it is, and stores (or adds) it at `at`.
std::string store_kernel(int rank, const std::string& operation) {
  return kHead + fmt::format(R"(
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

// Runs the kernel; `combine(old element, box element, result)` makes the expected bytes.
template <typename Combine>
void check_store(const Tensor& tensor, const std::vector<int>& corner, const std::string& operation,
                 const std::vector<std::uint8_t>& contents, Combine combine) {
  CAPTURE(operation);
  CAPTURE(corner);
  CAPTURE(static_cast<int>(tensor.spec.swizzle));
  Device& device = emulator();
  const DeviceBuffer memory = upload(device, tensor.bytes, "tensor"), in = upload(device, contents, "in");
  TensorMapSpec spec = tensor.spec;
  spec.address = memory.data();
  const std::size_t bytes = tensor_map_box_bytes(spec);
  run(device, compile_ptx(store_kernel(spec.rank, operation), "test"), "test",
      parameter_block(device.encode_tensor_map(spec), in.data(), at_of(corner), static_cast<int>(bytes)),
      {.threads = 128, .shared_bytes = static_cast<std::uint32_t>(bytes)});
  std::vector<std::uint8_t> want = tensor.bytes;
  tensor.visit_box(corner, [&](std::size_t in_box, std::ptrdiff_t place) {
    if (place < 0) return;
    combine(&want[static_cast<std::size_t>(place)], &contents[swizzled_place(in_box, spec.swizzle)]);
  });
  const auto seen = download<std::uint8_t>(device, memory);
  const auto difference = std::mismatch(seen.begin(), seen.end(), want.begin());
  CHECK(difference.first - seen.begin() == static_cast<std::ptrdiff_t>(seen.size()));
}

std::string store_operation(int rank) {
  return fmt::format("cp.async.bulk.tensor.{}d.global.shared::cta.tile.bulk_group", rank);
}

TEST_CASE("stores of one to five dimensions write what is inside the tensor and nothing else") {
  std::uint32_t seed = 100;
  for (const TensorMapType type : {TensorMapType::u8, TensorMapType::f16, TensorMapType::f32, TensorMapType::f64}) {
    for (const TensorMapSwizzle swizzle : kSwizzles) {
      const std::uint32_t row = row_elements(swizzle, type);
      for (const int rank : {1, 2, 3, 5}) {
        std::vector<std::uint64_t> dims{row + 5, 9, 4, 3, 2};
        std::vector<std::uint32_t> box{row, 7, 2, 2, 1};
        dims.resize(static_cast<std::size_t>(rank));
        box.resize(static_cast<std::size_t>(rank));
        Tensor tensor(type, dims, box, ++seed);
        tensor.spec.swizzle = swizzle;
        const auto contents = random_bytes(tensor_map_box_bytes(tensor.spec), ++seed);
        for (std::vector<int> corner : {std::vector<int>{0, 0, 0, 0, 0}, {3, -2, 3, 2, 1}, {-1, 5, -1, -1, 0}}) {
          corner.resize(static_cast<std::size_t>(rank));
          check_store(tensor, corner, store_operation(rank), contents,
                      [&](std::uint8_t* old, const std::uint8_t* by) { std::memcpy(old, by, tensor.element); });
        }
      }
    }
  }
}

template <typename T, typename F>
void check_tensor_reduction(TensorMapType type, const std::string& op, F formula, std::uint32_t seed) {
  Tensor tensor(type, {40, 6}, {static_cast<std::uint32_t>(64 / sizeof(T)), 4}, seed);
  tensor.spec.swizzle = TensorMapSwizzle::b64;
  const auto contents = random_bytes(tensor_map_box_bytes(tensor.spec), seed + 1);
  check_store(tensor, {static_cast<int>(40 - 32 / sizeof(T)), 3},
              fmt::format("cp.reduce.async.bulk.tensor.2d.global.shared::cta.{}.tile.bulk_group", op), contents,
              [&](std::uint8_t* old, const std::uint8_t* by) {
                T a, b;
                std::memcpy(&a, old, sizeof(T));
                std::memcpy(&b, by, sizeof(T));
                const T result = formula(a, b);
                std::memcpy(old, &result, sizeof(T));
              });
}

TEST_CASE("reductions into a tensor") {
  using U = std::uint32_t;
  check_tensor_reduction<U>(
      TensorMapType::u32, "add", [](U a, U b) { return a + b; }, 200);
  check_tensor_reduction<U>(
      TensorMapType::u32, "inc", [](U a, U b) { return a >= b ? 0 : a + 1; }, 202);
  check_tensor_reduction<U>(
      TensorMapType::u32, "dec", [](U a, U b) { return a == 0 || a > b ? b : a - 1; }, 204);
  check_tensor_reduction<U>(
      TensorMapType::u32, "xor", [](U a, U b) { return a ^ b; }, 206);
  check_tensor_reduction<std::int32_t>(
      TensorMapType::s32, "max", [](int a, int b) { return std::max(a, b); }, 208);
  check_tensor_reduction<std::int64_t>(
      TensorMapType::s64, "min", [](std::int64_t a, std::int64_t b) { return std::min(a, b); }, 210);
  check_tensor_reduction<std::uint64_t>(
      TensorMapType::u64, "or", [](std::uint64_t a, std::uint64_t b) { return a | b; }, 212);
}

// ---- kernels as they are written

// C[m, n] = sum over k of A[m, k] * w[k % 8], A in bf16 through `kStages` stages of 64 x 64 boxes: one producer warp,
// one consumer warpgroup of 64 threads, a row each; the result goes out by a bulk tensor store.
std::string pipeline_kernel(int stages, const std::string& consumer_wait = "mbarrier_wait(full + 8 * s, phase);",
                            const std::string& expect = "8192") {
  return kHead + fmt::format(R"(
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
    CHECK(counters.bytes_requested_written == Pipeline::kRows * 4);
    CHECK(counters.sectors_read >= Pipeline::kRows * Pipeline::kColumns * 2 / 32);
    CHECK(counters.sectors_read <= Pipeline::kRows * (38 + 9));
  }
}

TEST_CASE("a consumer that does not wait reads bytes that are still on their way") {
  Pipeline test;
  check_report(test.report(pipeline_kernel(2, "if (tile != 1) mbarrier_wait(full + 8 * s, phase);"), 2),
               {"reads shared memory that nobody has written", "a bulk copy into it is pending",
                "cp.async.bulk.tensor.2d.shared::cluster.global", "of 'ring'"});
}

TEST_CASE("a wrong announcement is a deadlock that names the mbarrier and its bytes") {
  Pipeline test;
  check_report(
      test.report(pipeline_kernel(2, "mbarrier_wait(full + 8 * s, phase);", "8208"), 2),
      {"deadlock",
       "warp 0 waits for phase 0 of the mbarrier at offset 0 of 'barriers' (1 of 1 arrivals, 16 bytes "
       "pending)",
       "warp 2 waits for phase 0 of the mbarrier at offset 16 of 'barriers' (0 of 64 arrivals, 0 bytes pending)"});
}

TEST_CASE("a multicast of boxes shares one read among two and four blocks") {
  const std::string source = kHead + R"(
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
  check_report(load(tensor.spec, 0, 64, 2048), {"copies a box at offset 64 of 'box', which 128 does not divide"});
  check_report(load(tensor.spec, 0, 0, 1000), {"writes 1024 bytes of shared memory from offset"});
  TensorMapSpec tall = tensor.spec;
  tall.dims[1] = 17;
  check_report(load(tall, 12, 0, 1024), {"reads out of bounds: 128 bytes",
                                         "0 bytes past the end of 'weights' (2304 bytes", "cp.async.bulk.tensor.2d"});
  const std::string store = error_text([&] {
    run(device, compile_ptx(store_kernel(2, store_operation(2)), "test"), "test",
        parameter_block(device.encode_tensor_map(tensor.spec), memory.data(), At{}, 1024),
        {.threads = 32,
         .shared_bytes = 1024,
         .buffers = {{memory.data(), memory.bytes(), "weights", TensorRole::input}}});
  });
  check_report(store,
               {"writes memory that is only an input", "'weights'", "cp.async.bulk.tensor.2d.global.shared::cta"});
}

TEST_CASE("forms that the emulator does not have are refused with their line") {
  const auto refusal = [](const std::string& line) {
    return error_text([&] { emulator().load({"test", ptx_module(line + "\nret;"), {}}); });
  };
  const std::string load = "cp.async.bulk.tensor.2d.shared::cluster.global", end = ".mbarrier::complete_tx::bytes ";
  check_report(refusal("cp.async.bulk.tensor.4d.shared::cluster.global.im2col" + end +
                       "[%r1], [%rd1, {%r1, %r2, %r3, %r4}], [%r5], {%rs1, %rs2};"),
               {"tile mode only, not with .im2col", "line 14"});
  check_report(refusal(load + ".tile::gather4" + end + "[%r1], [%rd1, {%r1, %r2}], [%r5];"), {"tile::gather4"});
  check_report(refusal(load + end + "[%r1], [%rd1, {%r1, %r2, %r3}], [%r5];"), {"3 coordinates for a tensor of 2"});
  check_report(refusal(load + end + "[%r1], [%rd1], [%r5];"), {"a tensor is [map, {coordinates}]"});
  check_report(refusal("cp.async.bulk.tensor.6d.shared::cluster.global" + end + "[%r1], [%rd1, {%r1}], [%r5];"),
               {"needs .1d to .5d"});
  check_report(refusal(load + ".cta_group::1" + end + "[%r1], [%rd1, {%r1, %r2}], [%r5];"),
               {"does not know '.cta_group::1'"});
  check_report(refusal("ld.shared.u32 %r1, [%r2, {%r3}];"), {"coordinates belong to tensor copies"});
  check_report(refusal("ld.shared.u32 %r1, [%r2, %r3];"), {"expected coordinates"});
}

}  // namespace
}  // namespace gdnjit::tests

// Bulk tensor copies: every rank, element size, swizzle and border against formulas written here.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>

#include "tests/emulator/tensor_boxes.h"

namespace gdnjit::tests {
namespace {

void check_load(const Tensor& tensor, const std::vector<int>& any_corner, std::size_t shift = 0,
                const std::string& arch = "sm_90a") {
  const std::vector<int> corner = tensor.aligned(any_corner);
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
        want = byte % 2 == 0 ? 0xf7 : 0x7f;
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

TEST_CASE("rows shorter than the swizzle's span lie a span apart, and what is between them stays as it is") {
  for (const TensorMapSwizzle swizzle : {TensorMapSwizzle::b32, TensorMapSwizzle::b64, TensorMapSwizzle::b128}) {
    CAPTURE(static_cast<int>(swizzle));
    Tensor tensor(TensorMapType::u8, {200, 40}, {16, 24}, 85);
    tensor.spec.swizzle = swizzle;
    Device& device = emulator();
    const DeviceBuffer memory = upload(device, tensor.bytes, "tensor");
    const auto extent = static_cast<std::size_t>(24 * swizzle_span_bytes(swizzle));
    const DeviceBuffer out(device, extent, "out");
    TensorMapSpec spec = tensor.spec;
    spec.address = memory.data();
    run(device, compile_ptx(load_kernel(2, true), "test"), "test",
        parameter_block(device.encode_tensor_map(spec), out.data(), at_of({32, 5}), static_cast<int>(extent), 0,
                        16 * 24),
        {.threads = 128, .shared_bytes = static_cast<std::uint32_t>(extent)});
    std::vector<std::uint8_t> want(extent, 0x5a);
    tensor.visit_box({32, 5}, [&](std::size_t in_box, std::ptrdiff_t place) {
      want[swizzled_place(in_box, swizzle, 0, 16)] = tensor.bytes[static_cast<std::size_t>(place)];
    });
    CHECK(download<std::uint8_t>(device, out) == want);
  }
}

TEST_CASE(
    "an innermost coordinate that is no multiple of 16 bytes is a fault, as it is an illegal instruction on a GPU") {
  Tensor tensor(TensorMapType::bf16, {100, 30}, {64, 16}, 86);
  Device& device = emulator();
  const DeviceBuffer memory = upload(device, tensor.bytes, "tensor"), out(device, 2048, "out");
  TensorMapSpec spec = tensor.spec;
  spec.address = memory.data();
  for (const int x : {4, -3, 97}) {
    const std::string text = error_text([&] {
      run(device, compile_ptx(load_kernel(2), "test"), "test",
          parameter_block(device.encode_tensor_map(spec), out.data(), at_of({x, 0}), 2048, 0),
          {.threads = 128, .shared_bytes = 2048});
    });
    CHECK(text.find(fmt::format("innermost coordinate is {}, {} bytes: must be a multiple of 16", x, 2 * x)) !=
          std::string::npos);
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

// Runs the kernel; `combine(old element, box element, result)` makes the expected bytes.
template <typename Combine>
void check_store(const Tensor& tensor, const std::vector<int>& any_corner, const std::string& operation,
                 const std::vector<std::uint8_t>& contents, Combine combine) {
  const std::vector<int> corner = tensor.aligned(any_corner);
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
  const auto store = [&](std::size_t in_box, std::ptrdiff_t place) {
    if (place < 0) return;
    combine(&want[static_cast<std::size_t>(place)], &contents[swizzled_place(in_box, spec.swizzle)]);
  };
  tensor.visit_box(corner, store, true);
  const auto seen = download<std::uint8_t>(device, memory);
  const auto difference = std::mismatch(seen.begin(), seen.end(), want.begin());
  CHECK(difference.first - seen.begin() == static_cast<std::ptrdiff_t>(seen.size()));
}

TEST_CASE(
    "stores of one to five dimensions write what is inside the tensor, to the end of its last chunk of 16 bytes") {
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

}  // namespace
}  // namespace gdnjit::tests

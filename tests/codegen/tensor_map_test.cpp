// The rules of a tensor map's description, each broken by itself.
#include "codegen/tensor_map.h"

#include <doctest/doctest.h>

#include <functional>
#include <string>

#include "tests/support/error_of.h"

namespace gdnjit {
namespace {

alignas(256) std::byte memory[64];

TensorMapSpec sound() {
  return {.type = TensorMapType::bf16,
          .rank = 3,
          .address = memory,
          .dims = {100, 7, 1ULL << 32},
          .strides = {208, 0},
          .box = {64, 256, 1},
          .element_strides = {1, 8, 1},
          .swizzle = TensorMapSwizzle::b128,
          .fill = TensorMapFill::nan};
}

// What the check says when `change` breaks the sound description.
std::string complaint(const std::function<void(TensorMapSpec&)>& change) {
  TensorMapSpec spec = sound();
  change(spec);
  const Error error = error_of([&] { check_tensor_map(spec); });
  CHECK(error.code() == ErrorCode::invalid_argument);
  return error.what();
}

TEST_CASE("a description within the rules passes, at their limits too") {
  CHECK_NOTHROW(check_tensor_map(sound()));
  TensorMapSpec line{.type = TensorMapType::u8, .rank = 1, .address = memory, .dims = {1}, .box = {256}};
  CHECK_NOTHROW(check_tensor_map(line));
  line.box[0] = 16;
  CHECK_NOTHROW(check_tensor_map(line));
  TensorMapSpec deep{.type = TensorMapType::f64,
                     .rank = 5,
                     .address = memory,
                     .dims = {2, 2, 2, 2, 2},
                     .strides = {16, 32, (1ULL << 40) - 16, 48},
                     .box = {4, 1, 1, 1, 1},
                     .swizzle = TensorMapSwizzle::b32};
  CHECK_NOTHROW(check_tensor_map(deep));
}

TEST_CASE("each rule that is broken is named with its argument and value") {
  const auto starts = [](const std::string& text, const std::string& part) {
    CAPTURE(text);
    CHECK(text.find("tensor map: " + part) != std::string::npos);
  };
  starts(complaint([](TensorMapSpec& s) { s.rank = 0; }), "rank=0: must be 1 to 5");
  starts(complaint([](TensorMapSpec& s) { s.rank = 6; }), "rank=6");
  starts(complaint([](TensorMapSpec& s) { s.type = static_cast<TensorMapType>(10); }), "type=10");
  starts(complaint([](TensorMapSpec& s) { s.address = nullptr; }), "address=null");
  starts(complaint([](TensorMapSpec& s) { s.address = memory + 8; }), "address=0x");
  starts(complaint([](TensorMapSpec& s) { s.dims[1] = 0; }), "dims[1]=0: must be 1 to 2^32");
  starts(complaint([](TensorMapSpec& s) { s.dims[2] = (1ULL << 32) + 1; }), "dims[2]=4294967297");
  starts(complaint([](TensorMapSpec& s) { s.strides[0] = 200; }), "strides[0]=200: must be a multiple of 16");
  starts(complaint([](TensorMapSpec& s) { s.strides[1] = 1ULL << 40; }), "strides[1]=1099511627776: must be less");
  starts(complaint([](TensorMapSpec& s) { s.box[1] = 257; }), "box[1]=257: must be 1 to 256");
  starts(complaint([](TensorMapSpec& s) { s.box[2] = 0; }), "box[2]=0");
  starts(complaint([](TensorMapSpec& s) { s.box[0] = 4; }), "box[0]=4: 8 bytes of bf16; must be a multiple of 16");
  starts(complaint([](TensorMapSpec& s) { s.box[0] = 72; }), "box[0]=72: 144 bytes of bf16; a swizzle of 128 bytes");
  starts(complaint([](TensorMapSpec& s) { s.swizzle = TensorMapSwizzle::b64; }), "box[0]=64: 128 bytes of bf16; a sw");
  starts(complaint([](TensorMapSpec& s) { s.swizzle = static_cast<TensorMapSwizzle>(4); }), "swizzle=4");
  starts(complaint([](TensorMapSpec& s) { s.element_strides[1] = 9; }), "element_strides[1]=9: must be 1 to 8");
  starts(complaint([](TensorMapSpec& s) { s.element_strides[2] = 0; }), "element_strides[2]=0");
  starts(complaint([](TensorMapSpec& s) { s.element_strides[0] = 2; }), "element_strides[0]=2");
  starts(complaint([](TensorMapSpec& s) { s.promotion = static_cast<TensorMapPromotion>(4); }), "promotion=4");
  starts(complaint([](TensorMapSpec& s) { s.type = TensorMapType::u16; }), "fill=nan: u16 has no NaN");
}

TEST_CASE("a box's bytes count the elements that strides leave") {
  CHECK(tensor_map_box_bytes(sound()) == 64 * 2 * 32);
  TensorMapSpec spec = sound();
  spec.box = {32, 5, 3};
  spec.element_strides = {1, 2, 2};
  CHECK(tensor_map_box_bytes(spec) == 32 * 2 * 3 * 2);
}

}  // namespace
}  // namespace gdnjit

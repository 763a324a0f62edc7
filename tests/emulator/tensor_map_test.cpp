// Tensor maps as a kernel gets them: the emulator's own encoding, and what is not one.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "codegen/tensor_map.h"
#include "runtime/emulator/semantics/tensor_box.h"
#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

const std::string kHead = "#include \"device/tma.cuh\"\nusing namespace gdnjit::device;\n";

TensorMapSpec sound(const void* address) {
  return {.type = TensorMapType::f32,
          .rank = 3,
          .address = address,
          .dims = {48, 1ULL << 32, 2},
          .strides = {192, 1ULL << 39},
          .box = {16, 256, 1},
          .element_strides = {1, 8, 1},
          .swizzle = TensorMapSwizzle::b64,
          .fill = TensorMapFill::nan};
}

std::string prefetch_report(const TensorMap& map, const std::string& body = "prefetch_map(map);") {
  const std::string source =
      kHead + "extern \"C\" __global__ void test(const __grid_constant__ TensorMap map, const char* more) {" + body +
      "}";
  Device& device = emulator();
  const DeviceBuffer more = upload(device, std::vector<TensorMap>(2, map), "maps");
  return error_text(
      [&] { run(device, compile_ptx(source, "test"), "test", parameter_block(map, more.data()), {.threads = 1}); });
}

TEST_CASE("an encoded map decodes to what was described, at the limits too") {
  alignas(16) static const char memory[16] = {};
  const TensorMapSpec spec = sound(memory);
  const auto seen = emulator::decode_tensor_map(emulator().encode_tensor_map(spec).opaque.data());
  REQUIRE(seen);
  CHECK(seen->type == spec.type);
  CHECK(seen->rank == spec.rank);
  CHECK(seen->address == spec.address);
  CHECK(seen->swizzle == spec.swizzle);
  CHECK(seen->fill == spec.fill);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(seen->dims[i] == spec.dims[i]);
    CHECK(seen->box[i] == spec.box[i]);
    CHECK(seen->element_strides[i] == spec.element_strides[i]);
    if (i != 0) CHECK(seen->strides[i - 1] == spec.strides[i - 1]);
  }
}

TEST_CASE("every changed bit of an encoded map is noticed") {
  alignas(16) static const char memory[16] = {};
  const TensorMap map = emulator().encode_tensor_map(sound(memory));
  int accepted = 0;
  for (std::size_t bit = 0; bit < 96 * 8; ++bit) {
    TensorMap changed = map;
    changed.opaque[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    accepted += emulator::decode_tensor_map(changed.opaque.data()).has_value() ? 1 : 0;
  }
  CHECK(accepted == 0);
}

TEST_CASE("the device refuses descriptions that break a rule") {
  alignas(16) static const char memory[16] = {};
  TensorMapSpec spec = sound(memory);
  spec.box[1] = 300;
  CHECK(error_text([&] { emulator().encode_tensor_map(spec); }).find("box[1]=300") != std::string::npos);
  CHECK(error_text([&] { emulator("sm_80").encode_tensor_map(sound(memory)); }).find("needs sm_90 or later") !=
        std::string::npos);
}

TEST_CASE("maps are found in parameters and in global memory; anything else is a fault") {
  alignas(16) static const char memory[16] = {};
  const TensorMap map = emulator().encode_tensor_map(sound(memory));
  CHECK(prefetch_report(map) == "");
  CHECK(prefetch_report(map, "prefetch_map(*(const TensorMap*)(more + 128));") == "");
  const auto says = [](const std::string& text, const std::string& part) {
    CAPTURE(text);
    CHECK(text.find(part) != std::string::npos);
  };
  says(prefetch_report(TensorMap{}), "where there is none that this device encoded");
  TensorMap garbage = map;
  garbage.opaque[20] ^= std::byte{1};
  says(prefetch_report(garbage), "prefetch.tensormap");
  says(prefetch_report(map, "prefetch_map(*(const TensorMap*)(more + 64));"), "where there is none");
  says(prefetch_report(map, "asm volatile(\"prefetch.tensormap [%0];\" :: \"l\"(more + 32));"),
       "which 64 does not divide");
  says(prefetch_report(map, "prefetch_map(*(const TensorMap*)(more + 256));"), "reads out of bounds");
  says(prefetch_report(map,
                       "asm volatile(\"cp.async.bulk.prefetch.tensor.2d.L2.global [%0, {%1, %2}];\" :: \"l\"(&map), "
                       "\"r\"(1), \"r\"(2));"),
       "copies a box of 2 dimensions through a tensor map of 3");
  CHECK(prefetch_report(map,
                        "asm volatile(\"cp.async.bulk.prefetch.tensor.3d.L2.global.tile [%0, {%1, %2, %2}];\" :: "
                        "\"l\"(&map), \"r\"(-4), \"r\"(2));") == "");
}

}  // namespace
}  // namespace gdnjit::tests

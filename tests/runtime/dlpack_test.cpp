#include "runtime/dlpack.h"

#include <doctest/doctest.h>

#include <array>

#include "runtime/support/check.h"
#include "tests/runtime/fakes.h"

using namespace gdnjit;

namespace {

struct Sample {
  std::array<float, 64> memory{};
  std::array<std::int64_t, 3> shape{2, 3, 4};
  std::array<std::int64_t, 3> strides{20, 5, 1};
  DLTensor tensor{memory.data(), {kDLCPU, 0}, 3, {kDLFloat, 32, 1}, shape.data(), strides.data(), 0};
};

constexpr DLDevice kCpu{kDLCPU, 0};
constexpr DLDevice kGpu{kDLCUDA, 1};

std::string message_of(const DLTensor& tensor, DLDevice device) {
  try {
    view_of(&tensor, "q", device);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_argument);
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("a DLTensor becomes a view: strides, byte offset, dense when strides are NULL") {
  Sample sample;
  sample.tensor.byte_offset = 8;
  TensorView view = view_of(&sample.tensor, "q", kCpu);
  CHECK(view.data == sample.memory.data() + 2);
  CHECK(view.rank == 3);
  CHECK(view.dtype == DType::f32);
  CHECK(view.shape[2] == 4);
  CHECK(view.strides[0] == 20);
  sample.tensor.strides = nullptr;
  view = view_of(&sample.tensor, "q", kCpu);
  CHECK(view.strides[0] == 12);
  CHECK(view.strides[1] == 4);
  CHECK(view.strides[2] == 1);
  CHECK_FALSE(view_of(nullptr, "q", kCpu));
}

TEST_CASE("element types map, and others are named") {
  Sample sample;
  const auto dtype = [&](DLDataType type) {
    sample.tensor.dtype = type;
    return view_of(&sample.tensor, "q", kCpu).dtype;
  };
  CHECK(dtype({kDLFloat, 16, 1}) == DType::f16);
  CHECK(dtype({kDLBfloat, 16, 1}) == DType::bf16);
  CHECK(dtype({kDLInt, 32, 1}) == DType::i32);
  CHECK(dtype({kDLInt, 64, 1}) == DType::i64);
  CHECK(dtype({kDLUInt, 8, 1}) == DType::u8);
  CHECK(dtype({kDLInt, 8, 1}) == DType::u8);
  sample.tensor.dtype = {kDLFloat, 64, 1};
  CHECK(message_of(sample.tensor, kCpu) ==
        "q: element type (DLPack code 2, 64 bits, 1 lanes) must be f32, bf16, f16, i32, i64 or a byte");
  sample.tensor.dtype = {kDLFloat, 32, 4};
  CHECK(message_of(sample.tensor, kCpu).find("4 lanes") != std::string::npos);
}

TEST_CASE("memory of another device, too many axes and missing or negative shapes are refused") {
  Sample sample;
  CHECK(message_of(sample.tensor, kGpu) ==
        "q: lies in CPU memory (DLPack device type 1); this runtime needs CUDA (type 2)");
  sample.tensor.device = {kDLCUDA, 0};
  CHECK(message_of(sample.tensor, kCpu).find("needs CPU") != std::string::npos);
  CHECK(message_of(sample.tensor, kGpu) == "q: lies on device 0; this runtime runs on device 1");
  sample.tensor.device = {kDLCUDAManaged, 0};
  CHECK(message_of(sample.tensor, kGpu) == "no error");
  sample.tensor.device = kCpu;
  sample.tensor.ndim = 9;
  CHECK(message_of(sample.tensor, kCpu) == "q: rank 9 must be from 0 to 5");
  sample.tensor.ndim = 3;
  sample.shape[1] = -3;
  CHECK(message_of(sample.tensor, kCpu) == "q: shape[1]=-3 is negative");
  sample.tensor.shape = nullptr;
  CHECK(message_of(sample.tensor, kCpu) == "q: shape is null");
}

TEST_CASE("tensors of a device lie where DLPack says") {
  CHECK(dlpack_device(fakes::emulator_info(), 0).device_type == kDLCPU);
  CHECK(dlpack_device(fakes::gpu_info(), 3).device_type == kDLCUDA);
  CHECK(dlpack_device(fakes::gpu_info(), 3).device_id == 3);
}

#include "runtime/cuda/cuda_device.h"

#include <doctest/doctest.h>

#include <thread>
#include <vector>

#include "runtime/cuda/device_properties.h"
#include "runtime/cuda/driver_error.h"
#include "tests/runtime/cuda/fake_driver.h"
#include "tests/runtime/cuda/scenario.h"
#include "tests/support/error_of.h"

namespace gdnjit::cuda {
namespace {

struct Healthy {
  FakeDriver& fake = [&]() -> FakeDriver& {
    FakeDriver::instance().reset();
    return FakeDriver::instance();
  }();
  std::unique_ptr<Device> device = make_cuda_device(fake.table(), 0);
};

struct Other final : Kernel {};

TEST_CASE_FIXTURE(Healthy, "the device knows its name, traits and memory") {
  const DeviceInfo& info = device->info();
  CHECK(info.kind == DeviceKind::cuda);
  CHECK(info.name == "NVIDIA H200");
  CHECK(info.driver == "CUDA driver 13.0");
  CHECK(info.memory_bytes == 150'000'000'000);
  CHECK(info.traits.arch == "sm_90a");
  CHECK(info.traits.sm_count == 132);
  CHECK(info.traits.shared_bytes_per_block == 232448);
  CHECK(info.traits.l2_bytes == 62914560);
  CHECK(info.traits.memory_bytes_per_us == doctest::Approx(4.42e6).epsilon(0.01));
}

TEST_CASE("what a GPU does not tell falls back, what is needed is an error") {
  FakeDriver& fake = FakeDriver::instance();
  fake.reset();
  fake.attributes.erase(kMemoryClockRate);
  fake.attributes.erase(kL2CacheSize);
  fake.attributes.erase(kMaxBlocksPerMultiprocessor);
  const DeviceTraits traits = make_cuda_device(fake.table(), 0)->info().traits;
  CHECK(traits.memory_bytes_per_us == DeviceTraits{}.memory_bytes_per_us);
  CHECK(traits.l2_bytes == DeviceTraits{}.l2_bytes);
  CHECK(traits.blocks_per_sm == DeviceTraits{}.blocks_per_sm);
  fake.attributes.erase(kMultiprocessorCount);
  CHECK(error_of([&] { make_cuda_device(fake.table(), 0); }).code() == ErrorCode::device_failed);
  CHECK(fake.live_objects() == "");
}

TEST_CASE("a compute capability gets the newest architecture whose binaries it runs") {
  CHECK(architecture_for(8, 0) == "sm_80");
  CHECK(architecture_for(8, 6) == "sm_86");
  CHECK(architecture_for(8, 7) == "sm_86");
  CHECK(architecture_for(8, 9) == "sm_89");
  CHECK(architecture_for(9, 0) == "sm_90a");
  CHECK(architecture_for(10, 0) == "sm_100");
  CHECK(architecture_for(10, 3) == "sm_103");
  CHECK(architecture_for(12, 0) == "sm_120");
  CHECK(architecture_for(12, 1) == "sm_120");
  CHECK(architecture_for(7, 5) == "");
  CHECK(architecture_for(11, 0) == "");
  FakeDriver& fake = FakeDriver::instance();
  fake.reset();
  fake.device_name = "Tesla T4";
  fake.attributes[kComputeCapabilityMajor] = 7;
  fake.attributes[kComputeCapabilityMinor] = 5;
  const Error error = error_of([&] { make_cuda_device(fake.table(), 0); });
  CHECK(error.code() == ErrorCode::unsupported);
  CHECK(says(error, "using Tesla T4: compute capability 7.5"));
}

TEST_CASE("an ordinal that is not there is refused with the number of GPUs") {
  FakeDriver& fake = FakeDriver::instance();
  for (const int ordinal : {-1, 1, 7}) {
    fake.reset();
    const Error error = error_of([&] { make_cuda_device(fake.table(), ordinal); });
    CHECK(error.code() == ErrorCode::device_unavailable);
    CHECK(says(error, "cuda:" + std::to_string(ordinal) + ": this machine shows 1 GPU;"));
  }
}

TEST_CASE_FIXTURE(Healthy, "a launch is two driver calls and hands over the parameter bytes") {
  const auto kernel = device->load(fake_image());
  const std::vector<std::byte> parameters(40, std::byte{9});
  const int before = fake.call_count();
  device->launch(*kernel, small_geometry(), parameters, nullptr, {});
  CHECK(fake.call_count() - before == 2);
  REQUIRE(fake.launches().size() == 1);
  const FakeLaunch launch = fake.launches().front();
  CHECK(launch.grid[0] == 2);
  CHECK(launch.grid[1] == 3);
  CHECK(launch.grid[2] == 1);
  CHECK(launch.block[0] == 128);
  CHECK(launch.shared_bytes == 65536);
  CHECK(launch.parameters == parameters);
  CHECK(launch.attributes.empty());
}

TEST_CASE_FIXTURE(Healthy, "parameters are handed over where the kernel's first one lies") {
  std::vector<std::byte> parameters(144);
  for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i] = static_cast<std::byte>(i);
  for (const std::size_t start : {0, 112}) {
    fake.parameter_start = start;
    const auto kernel = device->load(fake_image());
    device->launch(*kernel, small_geometry(), parameters, nullptr, {});
    std::vector<std::byte> expected(start, std::byte{0});
    expected.insert(expected.end(), parameters.begin(), parameters.end());
    CHECK(fake.launches().back().parameters == expected);
  }
  fake.parameter_start = 4096;
  CHECK(error_of([&] { device->load(fake_image()); }).code() == ErrorCode::invalid_argument);
}

TEST_CASE_FIXTURE(Healthy, "clusters, cooperative and programmatic launches reach the driver as attributes") {
  const auto kernel = device->load(fake_image());
  LaunchGeometry geometry = small_geometry();
  geometry.cluster[0] = 2;
  geometry.cooperative = true;
  geometry.programmatic = true;
  device->launch(*kernel, geometry, {}, nullptr, {});
  const std::vector<LaunchAttribute> attributes = fake.launches().front().attributes;
  REQUIRE(attributes.size() == 3);
  CHECK(attributes[0].id == LaunchAttributeId::cluster_dimension);
  CHECK(attributes[0].value[0] == 2);
  CHECK(attributes[0].value[1] == 1);
  CHECK(attributes[0].value[2] == 1);
  CHECK(attributes[1].id == LaunchAttributeId::cooperative);
  CHECK(attributes[1].value[0] == 1);
  CHECK(attributes[2].id == LaunchAttributeId::programmatic_stream_serialization);
  CHECK(attributes[2].value[0] == 1);
  fake.fail("cuLaunchKernelEx", 1, kInvalidValue);
  const Error error = error_of([&] { device->launch(*kernel, geometry, {}, nullptr, {}); });
  CHECK(says(error, "clusters of 2x1x1, all blocks at once, overlapping its predecessor"));
}

TEST_CASE_FIXTURE(Healthy, "a tensor map reaches the driver as described, and a wrong one does not") {
  const DeviceBuffer buffer(*device, 4096, "weights");
  TensorMapSpec spec{.type = TensorMapType::bf16,
                     .rank = 2,
                     .address = buffer.data(),
                     .dims = {128, 8},
                     .strides = {512},
                     .box = {64, 4},
                     .element_strides = {1, 2},
                     .swizzle = TensorMapSwizzle::b128,
                     .fill = TensorMapFill::nan,
                     .promotion = TensorMapPromotion::b256};
  const TensorMap map = device->encode_tensor_map(spec);
  CHECK(map.opaque.front() == std::byte{1});
  CHECK(map.opaque.back() == std::byte{1});
  REQUIRE(fake.tensor_maps().size() == 1);
  const FakeTensorMap seen = fake.tensor_maps().front();
  CHECK(seen.type == 9);
  CHECK(seen.rank == 2);
  CHECK(seen.address == buffer.data());
  CHECK(seen.dims == std::vector<std::uint64_t>{128, 8});
  CHECK(seen.strides == std::vector<std::uint64_t>{512});
  CHECK(seen.box == std::vector<std::uint32_t>{64, 4});
  CHECK(seen.element_strides == std::vector<std::uint32_t>{1, 2});
  CHECK(seen.interleave == 0);
  CHECK(seen.swizzle == 3);
  CHECK(seen.promotion == 3);
  CHECK(seen.fill == 1);
  spec.box[0] = 128;
  CHECK(says(error_of([&] { device->encode_tensor_map(spec); }), "box[0]=128"));
  CHECK(fake.tensor_maps().size() == 1);
  spec.box[0] = 64;
  fake.fail("cuTensorMapEncodeTiled", 1, kNotSupported);
  CHECK(says(error_of([&] { device->encode_tensor_map(spec); }), "encoding a tensor map on NVIDIA H200"));
}

TEST_CASE_FIXTURE(Healthy, "a grid without blocks is not launched") {
  const auto kernel = device->load(fake_image());
  for (int axis = 0; axis < 3; ++axis) {
    LaunchGeometry geometry = small_geometry();
    geometry.grid[axis] = 0;
    device->launch(*kernel, geometry, {}, nullptr, {});
  }
  CHECK(fake.launches().empty());
}

TEST_CASE_FIXTURE(Healthy, "a refused launch names kernel, geometry and shared memory") {
  const auto kernel = device->load(fake_image());
  fake.fail("cuLaunchKernelEx", 1, kLaunchOutOfResources);
  const Error error = error_of([&] { device->launch(*kernel, small_geometry(), {}, nullptr, {}); });
  CHECK(says(error, "launching kernel 'fake_kernel' on NVIDIA H200 with grid 2x3x1, block 128x1x1, 65536 bytes"));
  CHECK(says(error, "smaller tiles"));
}

TEST_CASE_FIXTURE(Healthy, "loading allows the kernel all shared memory that its static part leaves") {
  const auto kernel = device->load(fake_image());
  CHECK(fake.max_dynamic_shared_bytes == 232448 - 1024);
}

TEST_CASE_FIXTURE(Healthy, "a kernel of another device is our own bug") {
  CHECK(error_of([&] { device->launch(Other{}, small_geometry(), {}, nullptr, {}); }).code() == ErrorCode::internal);
  const auto second = make_cuda_device(fake.table(), 0);
  const auto kernel = second->load(fake_image());
  CHECK(error_of([&] { device->launch(*kernel, small_geometry(), {}, nullptr, {}); }).code() == ErrorCode::internal);
}

TEST_CASE_FIXTURE(Healthy,
                  "the caller's context is current again after every call, and ours stays where there was none") {
  const Stream stream = device->create_stream();
  CHECK(FakeDriver::current() != nullptr);
  const Context ours = FakeDriver::current();
  FakeDriver::set_current(FakeDriver::foreign_context());
  {
    const DeviceBuffer buffer(*device, 64, "data");
    CHECK(FakeDriver::current() == FakeDriver::foreign_context());
    device->fill(buffer.data(), 1, 64, stream);
    const auto kernel = device->load(fake_image());
    const auto event = device->create_event();
    event->record(stream);
    device->launch(*kernel, small_geometry(), {}, stream, {});
    device->synchronize(stream);
    CHECK(FakeDriver::current() == FakeDriver::foreign_context());
  }
  CHECK(FakeDriver::current() == FakeDriver::foreign_context());
  CHECK(fake.misuses().empty());
  FakeDriver::set_current(nullptr);
  device->destroy_stream(stream);
  CHECK(FakeDriver::current() == ours);
  CHECK(fake.live_objects() == "1 context");
}

TEST_CASE_FIXTURE(Healthy, "a stream tells whether it is being captured, and so does the default stream") {
  const Stream stream = device->create_stream();
  CHECK(!device->capturing(stream));
  CHECK(!device->capturing(nullptr));
  device->capture(stream, [&](Stream captured) {
    CHECK(device->capturing(captured));
    CHECK(device->capturing(nullptr));
  });
  CHECK(!device->capturing(stream));
  CHECK(!device->capturing(nullptr));
  device->destroy_stream(stream);
}

TEST_CASE_FIXTURE(Healthy, "host memory is free when a copy returns, on every stream") {
  const Stream own = device->create_stream();
  for (const Stream stream : {Stream{nullptr}, own}) {
    const DeviceBuffer buffer(*device, 4, "data");
    std::array<char, 4> host{1, 2, 3, 4};
    device->copy_in(buffer.data(), host.data(), 4, stream);
    host.fill(0);
    device->copy_out(host.data(), buffer.data(), 4, stream);
    CHECK(host == std::array<char, 4>{1, 2, 3, 4});
  }
  device->destroy_stream(own);
}

TEST_CASE_FIXTURE(Healthy, "an empty buffer is allocated, and empty copies do nothing") {
  const DeviceBuffer buffer(*device, 0, "empty");
  CHECK(buffer.data() != nullptr);
  const int before = fake.call_count();
  device->copy_in(buffer.data(), nullptr, 0, nullptr);
  device->copy_out(nullptr, buffer.data(), 0, nullptr);
  device->fill(buffer.data(), 0, 0, nullptr);
  device->release(nullptr);
  device->destroy_stream(nullptr);
  CHECK(fake.call_count() == before);
}

TEST_CASE("threads use the driver at once") {
  FakeDriver& fake = FakeDriver::instance();
  fake.reset();
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) run_scenario(fake.table());
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(fake.live_objects() == "");
  CHECK(fake.misuses().empty());
  CHECK(fake.launches().size() == 80);
}

}  // namespace
}  // namespace gdnjit::cuda

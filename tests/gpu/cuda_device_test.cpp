// The CUDA device on a real GPU, with kernels that NVRTC compiles for it.
#include "runtime/cuda/cuda_device.h"

#include <doctest/doctest.h>

#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "codegen/nvrtc_compiler.h"
#include "tests/codegen/nvrtc_fixture.h"
#include "tests/support/error_of.h"

namespace gdnjit::cuda {
namespace {

// The parameter block of the small kernels.
struct Parameters {
  float* x;
  int n;
};

// Empty, with the reason printed, where the test cannot run.
struct Gpu {
  std::unique_ptr<Device> device;
  CompiledKernel compiled_kernel;

  explicit Gpu(const std::string& body) {
    if (const auto reason = cuda_unavailable_reason()) {
      std::printf("SKIPPED: %s\n", reason->c_str());
      return;
    }
    device = make_cuda_device(0);
    NvrtcCompiler compiler(machine_nvrtc(), TemplateSet::embedded());
    compiled_kernel = compiled(compiler, small_kernel(body, device->info().traits.arch));
  }
  explicit operator bool() const { return device != nullptr; }
  KernelImage image() const { return {"test_small", compiled_kernel.ptx, compiled_kernel.cubin}; }
};

std::span<const std::byte> bytes_of(const Parameters& parameters) { return std::as_bytes(std::span(&parameters, 1)); }

std::vector<float> read(Device& device, const DeviceBuffer& buffer, Stream stream = nullptr) {
  std::vector<float> values(buffer.bytes() / sizeof(float));
  device.copy_out(values.data(), buffer.data(), buffer.bytes(), stream);
  return values;
}

constexpr const char* kAddOne = "int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < p.n) p.x[i] += 1.0f;";
constexpr LaunchGeometry kGeometry{.grid = {8, 1, 1}, .block = {128, 1, 1}, .shared_bytes = 0};
constexpr int kCount = 1000;

TEST_CASE("bytes survive the way to the GPU and back, and fill sets every byte") {
  const Gpu gpu("");
  if (!gpu) return;
  const DeviceBuffer buffer(*gpu.device, kCount * sizeof(float), "x");
  CHECK(reinterpret_cast<std::uintptr_t>(buffer.data()) % 256 == 0);
  std::vector<float> values(kCount);
  for (int index = 0; index < kCount; ++index) values[static_cast<std::size_t>(index)] = static_cast<float>(index) / 3;
  gpu.device->copy_in(buffer.data(), values.data(), buffer.bytes(), nullptr);
  CHECK(read(*gpu.device, buffer) == values);
  gpu.device->fill(buffer.data(), 0, buffer.bytes(), nullptr);
  CHECK(read(*gpu.device, buffer) == std::vector<float>(kCount, 0.0F));
}

TEST_CASE("a kernel runs on the default stream and on another one") {
  const Gpu gpu(kAddOne);
  if (!gpu) return;
  const auto kernel = gpu.device->load(gpu.image());
  const DeviceBuffer buffer(*gpu.device, kCount * sizeof(float), "x");
  const Parameters parameters{static_cast<float*>(buffer.data()), kCount - 1};
  const Stream stream = gpu.device->create_stream();
  for (const Stream used : {Stream{nullptr}, stream}) {
    gpu.device->fill(buffer.data(), 0, buffer.bytes(), used);
    gpu.device->launch(*kernel, kGeometry, bytes_of(parameters), used, {});
    gpu.device->launch(*kernel, kGeometry, bytes_of(parameters), used, {});
    std::vector<float> expected(kCount, 2.0F);
    expected.back() = 0.0F;
    CHECK(read(*gpu.device, buffer, used) == expected);
  }
  gpu.device->destroy_stream(stream);
}

TEST_CASE("a kernel may use all the shared memory that the device promises") {
  const Gpu gpu(R"(
    extern __shared__ float tile[];
    tile[threadIdx.x] = p.x[threadIdx.x];
    tile[p.n - 1 - threadIdx.x] = 2.0f * tile[threadIdx.x];
    __syncthreads();
    p.x[threadIdx.x] = tile[p.n - 1 - threadIdx.x];)");
  if (!gpu) return;
  const auto kernel = gpu.device->load(gpu.image());
  const int shared_bytes = gpu.device->info().traits.shared_bytes_per_block;
  const DeviceBuffer buffer(*gpu.device, 128 * sizeof(float), "x");
  std::vector<float> values(128, 3.0F);
  gpu.device->copy_in(buffer.data(), values.data(), buffer.bytes(), nullptr);
  LaunchGeometry geometry{
      .grid = {1, 1, 1}, .block = {128, 1, 1}, .shared_bytes = static_cast<std::uint32_t>(shared_bytes)};
  const Parameters parameters{static_cast<float*>(buffer.data()), shared_bytes / 4};
  gpu.device->launch(*kernel, geometry, bytes_of(parameters), nullptr, {});
  CHECK(read(*gpu.device, buffer) == std::vector<float>(128, 6.0F));
  geometry.shared_bytes += 1024;
  CHECK(error_of([&] { gpu.device->launch(*kernel, geometry, bytes_of(parameters), nullptr, {}); }).code() ==
        ErrorCode::device_failed);
}

TEST_CASE("a captured graph does its launches at every replay, and events time them") {
  const Gpu gpu(kAddOne);
  if (!gpu) return;
  const auto kernel = gpu.device->load(gpu.image());
  const DeviceBuffer buffer(*gpu.device, kCount * sizeof(float), "x");
  const Stream stream = gpu.device->create_stream();
  gpu.device->fill(buffer.data(), 0, buffer.bytes(), stream);
  const auto graph = gpu.device->capture(stream, [&](Stream captured) {
    const Parameters parameters{static_cast<float*>(buffer.data()), kCount};  // copied at the launch
    CHECK(gpu.device->capturing(captured));
    for (int launch = 0; launch < 3; ++launch)
      gpu.device->launch(*kernel, kGeometry, bytes_of(parameters), captured, {});
  });
  CHECK(read(*gpu.device, buffer, stream) == std::vector<float>(kCount, 0.0F));  // capture runs nothing
  CHECK(!gpu.device->capturing(stream));
  const auto begin = gpu.device->create_event();
  const auto end = gpu.device->create_event();
  begin->record(stream);
  for (int replay = 0; replay < 4; ++replay) graph->launch(stream);
  end->record(stream);
  const double microseconds = end->microseconds_since(*begin);
  CHECK(microseconds > 0);
  CHECK(microseconds < 1e6);
  CHECK(read(*gpu.device, buffer, stream) == std::vector<float>(kCount, 12.0F));
  gpu.device->destroy_stream(stream);
}

TEST_CASE("threads launch at once, each on its stream") {
  const Gpu gpu(kAddOne);
  if (!gpu) return;
  const auto kernel = gpu.device->load(gpu.image());
  std::vector<std::vector<float>> results(4);
  std::vector<std::thread> threads;
  for (std::vector<float>& result : results) {
    threads.emplace_back([&] {
      const Stream stream = gpu.device->create_stream();
      {
        const DeviceBuffer buffer(*gpu.device, kCount * sizeof(float), "x");
        gpu.device->fill(buffer.data(), 0, buffer.bytes(), stream);
        const Parameters parameters{static_cast<float*>(buffer.data()), kCount};
        for (int launch = 0; launch < 50; ++launch)
          gpu.device->launch(*kernel, kGeometry, bytes_of(parameters), stream, {});
        result = read(*gpu.device, buffer, stream);
      }
      gpu.device->destroy_stream(stream);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::vector<float>& result : results) CHECK(result == std::vector<float>(kCount, 50.0F));
}

TEST_CASE("a binary that is none is refused with its kernel's name, and the device works on") {
  const Gpu gpu(kAddOne);
  if (!gpu) return;
  const std::vector<std::byte> rubbish(256, std::byte{7});
  const Error error = error_of([&] { gpu.device->load({"test_small", "", rubbish}); });
  CHECK(error.code() == ErrorCode::device_failed);
  // Some drivers look into the binary only when its kernel is asked for.
  CHECK((says(error, "loading kernel 'test_small'") || says(error, "finding kernel 'test_small'")));
  CHECK(says(error_of([&] {
               gpu.device->load({"absent", "", gpu.compiled_kernel.cubin});
             }),
             "finding kernel 'absent'"));
  CHECK(gpu.device->load(gpu.image()) != nullptr);
}

TEST_CASE("asking for more memory than there is leaves the device usable") {
  const Gpu gpu("");
  if (!gpu) return;
  const auto more = static_cast<std::size_t>(gpu.device->info().memory_bytes) * 2;
  CHECK(error_of([&] { gpu.device->allocate(more, "huge"); }).code() == ErrorCode::out_of_memory);
  CHECK(DeviceBuffer(*gpu.device, 1024, "small").data() != nullptr);
}

TEST_CASE("the device's traits are those of a GPU") {
  const Gpu gpu("");
  if (!gpu) return;
  const DeviceInfo& info = gpu.device->info();
  CHECK(!info.name.empty());
  CHECK(info.traits.sm_count > 0);
  CHECK(info.traits.shared_bytes_per_block >= 48 << 10);
  CHECK(info.traits.memory_bytes_per_us > 1e4);
  CHECK(info.memory_bytes > 1LL << 30);
}

}  // namespace
}  // namespace gdnjit::cuda

// Kernels as NVRTC emits them, on every architecture.
#include <doctest/doctest.h>

#include <cmath>

#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

const std::vector<std::string> kArchs{"sm_80", "sm_90a", "sm_100", "sm_120"};

TEST_CASE("a saxpy with a tail computes every element and nothing else") {
  const std::string source = R"(
extern "C" __global__ void saxpy(const float* x, float* y, float a, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = a * x[i] + y[i];
})";
  for (const std::string& arch : kArchs) {
    CAPTURE(arch);
    Device& device = emulator(arch);
    std::vector<float> x(1000), y(1000);
    for (int i = 0; i < 1000; ++i) x[i] = static_cast<float>(i), y[i] = 0.5F;
    const DeviceBuffer dx = upload(device, x), dy = upload(device, y);
    run(device, compile_ptx(source, "saxpy", arch), "saxpy", parameter_block(dx.data(), dy.data(), 2.0F, 1000),
        {.blocks = 8, .threads = 128});
    const auto result = download<float>(device, dy);
    for (int i = 0; i < 1000; ++i) CHECK(result[i] == 2.0F * static_cast<float>(i) + 0.5F);
  }
}

TEST_CASE("a block sum over shared memory, shuffles and atomics is exact") {
  const std::string source = R"(
extern "C" __global__ void __launch_bounds__(256) block_sum(const int* x, int* out) {
  __shared__ int part[8];
  int v = x[blockIdx.x * 256 + threadIdx.x];
  for (int m = 16; m; m /= 2) v += __shfl_xor_sync(~0u, v, m);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x < 8) {
    v = part[threadIdx.x];
    for (int m = 4; m; m /= 2) v += __shfl_down_sync(0xff, v, m);
    if (threadIdx.x == 0) { out[blockIdx.x] = v; atomicAdd(out + 16, v); }
  }
})";
  for (const std::string& arch : kArchs) {
    CAPTURE(arch);
    Device& device = emulator(arch);
    const std::vector<int> x = sample_integers<int>(16 * 256, 3);
    const DeviceBuffer dx = upload(device, x), out(device, 17 * sizeof(int), "sums");
    device.fill(out.data(), 0, out.bytes(), nullptr);
    const LaunchCounters counters = run(device, compile_ptx(source, "block_sum", arch), "block_sum",
                                        parameter_block(dx.data(), out.data()), {.blocks = 16, .threads = 256});
    const auto sums = download<int>(device, out);
    std::uint32_t total = 0;
    for (int block = 0; block < 16; ++block) {
      std::uint32_t expected = 0;
      for (int i = 0; i < 256; ++i) expected += static_cast<std::uint32_t>(x[block * 256 + i]);
      CHECK(static_cast<std::uint32_t>(sums[block]) == expected);
      total += expected;
    }
    CHECK(static_cast<std::uint32_t>(sums[16]) == total);
    CHECK(counters.blocks == 16);
    CHECK(counters.warps == 128);
    CHECK(counters.block_barriers == 128);
    CHECK(counters.bytes_requested_read == 16 * 1024);
    CHECK(counters.sectors_read == 16 * 32);
  }
}

TEST_CASE("library functions agree with double precision") {
  const std::string source = R"(
extern "C" __global__ void functions(const float* x, float* y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float v = x[i];
  y[i] = expf(v); y[n + i] = log1pf(expf(v)); y[2 * n + i] = 1.0f / (1.0f + expf(-v)); y[3 * n + i] = rsqrtf(v * v + 1e-6f);
  y[4 * n + i] = tanhf(v); y[5 * n + i] = logf(fabsf(v)); y[6 * n + i] = sqrtf(fabsf(v)); y[7 * n + i] = v / 3.0f;
})";
  using Function = double (*)(double);
  const Function functions[] = {[](double v) { return std::exp(v); },
                                [](double v) { return std::log1p(std::exp(v)); },
                                [](double v) { return 1 / (1 + std::exp(-v)); },
                                [](double v) { return 1 / std::sqrt(v * v + 1e-6); },
                                [](double v) { return std::tanh(v); },
                                [](double v) { return std::log(std::fabs(v)); },
                                [](double v) { return std::sqrt(std::fabs(v)); },
                                [](double v) { return v / 3; }};
  constexpr int kCount = 2000;
  std::vector<float> x(kCount);
  std::mt19937 random(11);
  for (float& v : x) v = std::uniform_real_distribution<float>(-20, 20)(random);
  for (const std::string& arch : kArchs) {
    CAPTURE(arch);
    Device& device = emulator(arch);
    const DeviceBuffer dx = upload(device, x), dy(device, 8 * kCount * sizeof(float), "y");
    run(device, compile_ptx(source, "functions", arch), "functions", parameter_block(dx.data(), dy.data(), kCount),
        {.blocks = 16, .threads = 128});
    const auto y = download<float>(device, dy);
    for (int f = 0; f < 8; ++f) {
      for (int i = 0; i < kCount; ++i) {
        const double expected = functions[f](x[i]);
        const double error = std::fabs(y[f * kCount + i] - expected) / std::fmax(std::fabs(expected), 1e-3);
        if (!(error < 2e-6)) {
          CAPTURE(f);
          CAPTURE(x[i]);
          CHECK(y[f * kCount + i] == doctest::Approx(expected).epsilon(2e-6));
        }
      }
    }
  }
}

TEST_CASE("divergent loops, switches and local arrays give each thread its own result") {
  const std::string source = R"(
__device__ const int weights[5] = {1, 10, 100, 1000, 10000};
extern "C" __global__ void paths(const int* x, long long* y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int v = x[i];
  int digits[8];
  for (int j = 0; j < 8; ++j) digits[j] = (v >> (4 * j)) & 15;
  long long sum = 0;
  for (int j = 0; j < (v & 31); ++j) sum += digits[(j * v) & 7] * (long long)weights[j % 5];
  switch (v & 7) {
    case 0: sum = -sum; break;
    case 1: sum /= 7; break;
    case 2: sum %= 1009; break;
    case 3: sum <<= 3; break;
    case 4: sum ^= 0x55; break;
    case 5: while (sum > 100) sum /= 2; break;
    default: sum += i;
  }
  y[i] = sum;
})";
  const std::vector<int> x = sample_integers<int>(3000, 17);
  const int weights[5] = {1, 10, 100, 1000, 10000};
  for (const std::string& arch : kArchs) {
    CAPTURE(arch);
    Device& device = emulator(arch);
    const DeviceBuffer dx = upload(device, x), dy(device, x.size() * 8, "y");
    const auto counters =
        run(device, compile_ptx(source, "paths", arch), "paths",
            parameter_block(dx.data(), dy.data(), static_cast<int>(x.size())), {.blocks = 24, .threads = 128});
    CHECK(counters.divergent_branches > 0);
    const auto y = download<long long>(device, dy);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const int v = x[i];
      long long sum = 0;
      for (int j = 0; j < (v & 31); ++j) {
        const unsigned index = (static_cast<unsigned>(j) * static_cast<unsigned>(v)) & 7U;
        sum += ((v >> (4 * index)) & 15) * static_cast<long long>(weights[j % 5]);
      }
      switch (v & 7) {
        case 0: sum = -sum; break;
        case 1: sum /= 7; break;
        case 2: sum %= 1009; break;
        case 3: sum <<= 3; break;
        case 4: sum ^= 0x55; break;
        case 5:
          while (sum > 100) sum /= 2;
          break;
        default: sum += static_cast<long long>(i);
      }
      REQUIRE(y[i] == sum);
    }
  }
}

TEST_CASE("a struct parameter can be indexed at run time") {
  const std::string source = R"(
struct Parameters { int* out; long long strides[6]; unsigned char flags[5]; };
extern "C" __global__ void fields(const __grid_constant__ Parameters p) {
  p.out[threadIdx.x] = (int)p.strides[threadIdx.x % 6] + p.flags[threadIdx.x % 5];
})";
  struct {
    void* out;
    long long strides[6] = {5, 6, 7, 8, 9, 10};
    unsigned char flags[5] = {100, 101, 102, 103, 104};
  } parameters;
  for (const std::string& arch : kArchs) {
    Device& device = emulator(arch);
    const DeviceBuffer out(device, 128, "out");
    parameters.out = out.data();
    run(device, compile_ptx(source, "fields", arch), "fields", parameter_block(parameters));
    const auto values = download<int>(device, out);
    for (int i = 0; i < 32; ++i) CHECK(values[i] == 5 + i % 6 + 100 + i % 5);
  }
}

}  // namespace
}  // namespace gdnjit::tests

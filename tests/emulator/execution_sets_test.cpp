// The handlers are compiled for several instruction sets of the host; they must agree bit for bit.
#include <doctest/doctest.h>

#include "runtime/emulator/decode/decoder.h"
#include "runtime/emulator/launch.h"
#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

using namespace gdnjit::emulator;

struct Outcome {
  std::vector<std::uint32_t> values;
  LaunchCounters counters;
};

Outcome run_on(const ExecutionSet& set, const std::string& ptx, const std::vector<float>& input,
               std::uint32_t outputs) {
  const auto program = load_program(ptx, "mixed", set);
  // Device buffers for their alignment: sectors depend on it.
  Device& device = gdnjit::tests::emulator();
  const DeviceBuffer in = upload(device, input);
  const DeviceBuffer out(device, outputs * sizeof(std::uint32_t), "out");
  const auto source = [](const DeviceBuffer& buffer, const char* name) {
    const auto begin = reinterpret_cast<std::uint64_t>(buffer.data());
    return BufferSource{.begin = begin, .end = begin + buffer.bytes(), .name = name};
  };
  RangeTable ranges({source(in, "in"), source(out, "out")}, {});
  const auto parameters = parameter_block(in.data(), out.data());
  alignas(16) std::byte aligned[64] = {};
  std::copy(parameters.begin(), parameters.end(), aligned);
  LaunchState launch;
  launch.program = program.get();
  launch.grid[0] = static_cast<std::uint32_t>(input.size() / 128);
  launch.block[0] = 128;
  launch.block_threads = 128;
  launch.warps = 4;
  launch.shared_bytes = program->static_shared_bytes;
  launch.parameters = aligned;
  launch.ranges = &ranges;
  ThreadPool pool(3);
  Outcome outcome;
  outcome.counters = run_grid(launch, set, pool).counters;
  outcome.values = download<std::uint32_t>(device, out);
  return outcome;
}

TEST_CASE("every execution set gives the same bits and the same counts") {
  const std::string source = R"(
extern "C" __global__ void mixed(const float* x, unsigned* y) {
  int i = blockIdx.x * blockDim.x + threadIdx.x, n = gridDim.x * blockDim.x;
  float v = x[i];
  __shared__ float part[128];
  part[threadIdx.x] = v;
  __syncthreads();
  float w = part[(threadIdx.x * 5 + 1) & 127], s = v;
  for (int m = 16; m; m /= 2) s += __shfl_xor_sync(~0u, s, m);
  unsigned bits = __float_as_uint(v);
  y[i] = __float_as_uint(__fmaf_rn(v, w, 1.0f)); y[n + i] = __float_as_uint(__fmaf_rd(v, w, s)); y[2 * n + i] = __float_as_uint(expf(w) / (1.0f + v * v));
  y[3 * n + i] = __float_as_uint(s); y[4 * n + i] = bits % 1009u + __popc(bits) * __clz(bits | 1); y[5 * n + i] = (unsigned)(long long)v + __float2int_rn(w);
  unsigned packed; asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(v), "f"(w)); y[6 * n + i] = packed;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(v), "f"(w)); y[7 * n + i] = __byte_perm(packed, bits, 0x3715);
  if (v > 0) for (int j = 0; j < (i & 7); ++j) s = sqrtf(fabsf(s)) + j;
  y[8 * n + i] = __float_as_uint(fminf(s, w)) ^ (v < w ? 1u : 2u);
})";
  const std::string& ptx = compile_ptx(source, "mixed");
  const auto input = sample_floats(4096, 77);
  const Outcome portable = run_on(portable_execution_set(), ptx, input, 9 * 4096);
  const Outcome fastest = run_on(execution_set(), ptx, input, 9 * 4096);
  CHECK(portable.values == fastest.values);
  CHECK(std::memcmp(&portable.counters, &fastest.counters, sizeof(LaunchCounters)) == 0);
  if (execution_set().name == portable_execution_set().name) MESSAGE("this CPU has only the portable set");
}

TEST_CASE("every execution set gives the same products, to the bit") {
  const std::string source = R"(
#include "device/ldmatrix.cuh"
#include "device/mma.cuh"
#include "device/wgmma_bf16.cuh"
using namespace gdnjit::device;
extern "C" __global__ void mixed(const float* x, unsigned* y) {
  __shared__ __align__(1024) unsigned tile[2048];
  const int i = blockIdx.x * 128 + threadIdx.x, n = gridDim.x * 128;
  for (int j = threadIdx.x; j < 2048; j += 128) tile[j] = __float_as_uint(x[(blockIdx.x * 128 + j) % n]);
  fence_async_shared();
  __syncthreads();
  unsigned a[4], b[2] = {__float_as_uint(x[i]), __float_as_uint(x[n - 1 - i])};
  ldmatrix(a, shared_address(tile) + threadIdx.x * 16);
  float f[4] = {x[i], 1.0f, -2.0f, 0.0f}, g[4] = {}, h[4] = {};
  int s[4] = {i, 1, 2, 3};
  unsigned half[2] = {0x3c003c00u, 0u};
  mma_m16n8k16<Element::bf16>(f, a, b);
  mma_m16n8k8_tf32(g, a, b);
  mma_m16n8k32<Element::e4m3, Element::e5m2>(h, a, b);
  mma_m16n8k32<Element::u8, Element::s8>(s, a, b);
  mma_m16n8k16_f16(half, a, b);
  float d[8] = {};
  wgmma_fence(d);
  wgmma_bf16<16>(d, k_major_descriptor<Swizzle::bytes64>(shared_address(tile)), k_major_descriptor<Swizzle::bytes64>(shared_address(tile) + 4096), true);
  wgmma_commit();
  wgmma_wait<0>(d);
  for (int e = 0; e < 4; ++e) {
    y[e * n + i] = __float_as_uint(f[e]); y[(4 + e) * n + i] = __float_as_uint(g[e]);
    y[(8 + e) * n + i] = __float_as_uint(h[e]); y[(12 + e) * n + i] = s[e];
    y[(16 + e) * n + i] = __float_as_uint(d[e]); y[(20 + e) * n + i] = __float_as_uint(d[4 + e]);
  }
  y[24 * n + i] = half[0]; y[25 * n + i] = half[1];
})";
  const std::string& ptx = compile_ptx(source, "mixed");
  const auto input = sample_floats(2048, 78);
  const Outcome portable = run_on(portable_execution_set(), ptx, input, 26 * 2048);
  const Outcome fastest = run_on(execution_set(), ptx, input, 26 * 2048);
  CHECK(portable.values == fastest.values);
  CHECK(std::memcmp(&portable.counters, &fastest.counters, sizeof(LaunchCounters)) == 0);
}

}  // namespace
}  // namespace gdnjit::tests

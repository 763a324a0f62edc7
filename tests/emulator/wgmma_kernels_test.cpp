// Kernels written with device/wgmma.cuh as kernel authors write them, compiled by NVRTC: loops over k with the
// accumulators in an array, pipelines with groups in flight, A from registers.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <ctime>

#include "runtime/emulator/decode/decoder.h"
#include "tests/emulator/matrices.h"

namespace gdnjit::tests {
namespace {

constexpr int kM = 64;

// out = A B of 64 x n x (64 steps), A by rows, B by columns (k contiguous), bf16; `body` is the loop.
const std::string kPrologue = R"(#include "device/wgmma_bf16.cuh"
using namespace gdnjit::device;
// 64 k of a matrix with `rows` rows of `k` elements: into a K-major tile of 128-byte rows, swizzled.
__device__ __forceinline__ void load_tile(unsigned tile, const uint4* from, int rows, int k, int step) {
  for (int i = threadIdx.x; i < rows * 8; i += 128) {
    const int row = i / 8, unit = i % 8;
    const uint4 v = from[(row * k + step * 64) / 8 + unit];
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(tile + swizzled<Swizzle::bytes128>(row * 128 + unit * 16)),
                 "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
  }
}
template <int kN>
__device__ __forceinline__ void store(float* out, const float (&d)[kN / 2]) {
  for (int i = 0; i < kN / 2; ++i) {
    const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + 8 * (i / 2 % 2);
    out[row * kN + 8 * (i / 4) + 2 * (threadIdx.x % 4) + i % 2] = d[i];
  }
}
)";

// One stage after the other.
const std::string kSimple = kPrologue + R"(
template <int kN>
__device__ __forceinline__ void gemm(const uint4* a, const uint4* b, float* out, int steps) {
  __shared__ __align__(1024) unsigned char tiles[(64 + kN) * 128];
  const unsigned tile_a = shared_address(tiles), tile_b = tile_a + 64 * 128;
  float d[kN / 2] = {};
  for (int step = 0; step < steps; ++step) {
    load_tile(tile_a, a, 64, steps * 64, step);
    load_tile(tile_b, b, kN, steps * 64, step);
    fence_async_shared();
    __syncthreads();
    wgmma_fence(d);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      wgmma_bf16<kN>(d, advance(k_major_descriptor<Swizzle::bytes128>(tile_a), 32 * k),
                     advance(k_major_descriptor<Swizzle::bytes128>(tile_b), 32 * k), true);
    }
    wgmma_commit();
    wgmma_wait<0>(d);
    __syncthreads();
  }
  store<kN>(out, d);
}
extern "C" __global__ void __launch_bounds__(128) gemm16(const uint4* a, const uint4* b, float* out, int steps) { gemm<16>(a, b, out, steps); }
extern "C" __global__ void __launch_bounds__(128) gemm128(const uint4* a, const uint4* b, float* out, int steps) { gemm<128>(a, b, out, steps); }
)";

// Two stages; one group stays in flight while the next stage is loaded.
const std::string kPipelined = kPrologue + R"(
extern "C" __global__ void __launch_bounds__(128) gemm64(const uint4* a, const uint4* b, float* out, int steps) {
  constexpr int kN = 64, kStage = (64 + kN) * 128;
  __shared__ __align__(1024) unsigned char tiles[2 * kStage];
  const unsigned base = shared_address(tiles);
  float d[kN / 2];
  for (int step = 0; step < steps; ++step) {
    const unsigned tile_a = base + step % 2 * kStage, tile_b = tile_a + 64 * 128;
    load_tile(tile_a, a, 64, steps * 64, step);
    load_tile(tile_b, b, kN, steps * 64, step);
    fence_async_shared();
    __syncthreads();
    if (step == 0) wgmma_fence(d); else wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      wgmma_bf16<kN>(d, advance(k_major_descriptor<Swizzle::bytes128>(tile_a), 32 * k),
                     advance(k_major_descriptor<Swizzle::bytes128>(tile_b), 32 * k), step > 0 || k > 0);
    }
    wgmma_commit();
    wgmma_wait<1>();
    __syncthreads();
  }
  wgmma_wait<0>(d);
  store<kN>(out, d);
}
)";

// A from registers, B stored with n contiguous: B[k][n], 64 n = 128 bytes a row.
const std::string kRegisters = kPrologue + R"(
extern "C" __global__ void __launch_bounds__(128) gemm_registers(const unsigned* a, const uint4* b, float* out, int steps) {
  constexpr int kN = 64;
  __shared__ __align__(1024) unsigned char tile[64 * 128];
  const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
  float d[kN / 2];
  for (int step = 0; step < steps; ++step) {
    for (int i = threadIdx.x; i < 64 * 8; i += 128) {
      const uint4 v = b[(step * 64 + i / 8) * 8 + i % 8];
      asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(tile) + swizzled<Swizzle::bytes128>(i * 16)),
                   "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
    }
    fence_async_shared();
    __syncthreads();
    unsigned r[4][4];
    for (int k = 0; k < 4; ++k) {
      for (int i = 0; i < 4; ++i)
        r[k][i] = a[((row + i % 2 * 8) * steps * 64 + step * 64 + k * 16 + i / 2 * 8) / 2 + threadIdx.x % 4];
    }
    wgmma_fence(d, r[0], r[1], r[2], r[3]);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      wgmma_bf16<kN, Major::mn>(d, r[k], matrix_descriptor<Swizzle::bytes128>(shared_address(tile) + k * 16 * 128, 8192, 1024), step > 0 || k > 0);
    }
    wgmma_commit();
    wgmma_wait<0>(d);
    __syncthreads();
  }
  store<kN>(out, d);
}
)";

struct Problem {
  Matrix a, b;
  int n, steps;

  Problem(int columns, int k_steps, std::uint32_t seed) : n(columns), steps(k_steps) {
    std::mt19937 random(seed);
    a = sample_matrix("bf16", kM, 64 * steps, random, false);
    b = sample_matrix("bf16", 64 * steps, n, random, false);
  }
  std::vector<std::uint16_t> rows_of(const Matrix& matrix, bool transposed) const {
    std::vector<std::uint16_t> elements;
    for (int i = 0; i < (transposed ? matrix.columns : matrix.rows); ++i) {
      for (int j = 0; j < (transposed ? matrix.rows : matrix.columns); ++j)
        elements.push_back(static_cast<std::uint16_t>(transposed ? matrix.at(j, i) : matrix.at(i, j)));
    }
    return elements;
  }
  // Sums are rounded to fp32 once an instruction.
  void check(const std::vector<float>& out) const {
    for (int row = 0; row < kM; ++row) {
      for (int column = 0; column < n; ++column) {
        const Expected expected = product_element(a, b, 0, row, column);
        const double error =
            std::fabs(static_cast<double>(expected.value) - out[static_cast<std::size_t>(row * n + column)]);
        if (error <= static_cast<double>(expected.magnitude) * 4 * steps * 0x1p-24) continue;
        CAPTURE(row);
        CAPTURE(column);
        CHECK(out[static_cast<std::size_t>(row * n + column)] == static_cast<double>(expected.value));
        return;
      }
    }
  }
};

LaunchCounters check_kernel(const std::string& source, const std::string& entry, int n, int steps,
                            bool b_by_rows = false) {
  CAPTURE(entry);
  CAPTURE(steps);
  const Problem problem(n, steps, static_cast<std::uint32_t>(n + steps));
  Device& device = emulator();
  const DeviceBuffer a = upload(device, problem.rows_of(problem.a, false), "a");
  const DeviceBuffer b = upload(device, problem.rows_of(problem.b, !b_by_rows), "b");
  const DeviceBuffer out(device, static_cast<std::size_t>(kM * n) * 4, "out");
  const LaunchCounters counters = run(device, compile_ptx(source, entry), entry,
                                      parameter_block(a.data(), b.data(), out.data(), steps), {.threads = 128});
  problem.check(download<float>(device, out));
  CHECK(counters.tensor_core_macs == static_cast<std::uint64_t>(kM * n * steps * 64));
  return counters;
}

TEST_CASE("a loop over k with the accumulators in an array gives the product") {
  for (const int steps : {1, 2, 5}) {
    check_kernel(kSimple, "gemm16", 16, steps);
    const LaunchCounters counters = check_kernel(kSimple, "gemm128", 128, steps);
    // The swizzle keeps the stores of a row of threads in different banks.
    CHECK(counters.shared_wavefronts == counters.shared_wavefronts_ideal);
  }
}

TEST_CASE("a pipeline that keeps one group in flight gives the product") {
  for (const int steps : {1, 2, 5}) check_kernel(kPipelined, "gemm64", 64, steps);
}

TEST_CASE("A from registers and B with n contiguous give the product") {
  for (const int steps : {1, 3}) check_kernel(kRegisters, "gemm_registers", 64, steps, true);
}

TEST_CASE("every width and type of the wrappers is an instruction that the emulator loads") {
  const std::vector<std::pair<std::string, std::string>> kinds{
      {"bf16", "float"}, {"f16", "float"}, {"tf32", "float"}, {"e4m3", "float"}, {"s8", "int"}};
  for (const auto& [kind, sum] : kinds) {
    std::string source = fmt::format("#include \"device/wgmma_{}.cuh\"\nusing namespace gdnjit::device;\n", kind);
    std::string calls;
    for (int n = 8; n <= 256; n += 8) {
      if (kind == "s8" && n > 32 && n % 16 != 0) continue;
      calls += fmt::format("  one<{}>(a, b);\n", n);
    }
    source += fmt::format(R"(
template <int kN>
__device__ __forceinline__ void one(MatrixDescriptor a, MatrixDescriptor b) {{
  {0} d[kN / 2];
  const unsigned r[4] = {{1, 2, 3, 4}};
  wgmma_{1}<kN>(d, a, b, false);
  wgmma_{1}<kN>(d, r, b, true);
}}
extern "C" __global__ void all(MatrixDescriptor a, MatrixDescriptor b) {{
  wgmma_fence();
{2}
  wgmma_commit();
  wgmma_wait<0>();
}})",
                          sum, kind, calls);
    CAPTURE(kind);
    const auto program = emulator::load_program(compile_ptx(source, "all"), "all", emulator::execution_set());
    CHECK(program->tensor_ops.size() == (kind == "s8" ? 36 : 64));
    for (const emulator::TensorOp& op : program->tensor_ops) CHECK(op.k == 256 / emulator::element_bits(op.a));
  }
}

TEST_CASE("combinations that do not exist fail to compile, saying so") {
  const auto log = [](const std::string& call) {
    return error_text([&] {
      compile_ptx(
          "#include \"device/wgmma_tf32.cuh\"\n#include \"device/wgmma_s8.cuh\"\nusing namespace gdnjit::device;\n"
          "extern \"C\" __global__ void k() { float d[64]; int i[20]; " +
              call + " }",
          "k");
    });
  };
  CHECK(log("wgmma_tf32<128>(d, 0, 0, true);") == "");
  CHECK(log("wgmma_tf32<128, Major::mn>(d, 0, 0, true);").find("wgmma_exists") != std::string::npos);
  CHECK(log("wgmma_s8<40>(i, 0, 0, true);").find("wgmma_exists") != std::string::npos);
}

// Rates of this machine; nothing is asserted, since it is shared.
TEST_CASE("speed of products, bf16") {
  const auto rate = [](const std::string& source, const std::string& entry, int n) {
    const Problem problem(n, 32, 1);
    Device& device = emulator();
    const DeviceBuffer a = upload(device, problem.rows_of(problem.a, false)),
                       b = upload(device, problem.rows_of(problem.b, true));
    const DeviceBuffer out(device, static_cast<std::size_t>(kM * n) * 4, "out");
    const auto parameters = parameter_block(a.data(), b.data(), out.data(), 32);
    const std::string& ptx = compile_ptx(source, entry);
    const std::clock_t begin = std::clock();
    const LaunchCounters counters = run(device, ptx, entry, parameters, {.threads = 128});
    const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
    MESSAGE(entry << ": " << static_cast<double>(counters.tensor_core_macs) / seconds * 1e-9
                  << "e9 multiply-accumulates per second of one core");
  };
  rate(kSimple, "gemm16", 16);
  rate(kSimple, "gemm128", 128);
}

}  // namespace
}  // namespace gdnjit::tests

// Bulk copies and reductions of contiguous bytes, in every direction; when they happen, what they count, and what is
// found when a wait is missing or an argument is wrong.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>

#include "tests/emulator/check_report.h"
#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

const std::string kHead = R"(#include "device/cluster.cuh"
#include "device/fence.cuh"
#include "device/tma.cuh"
using namespace gdnjit::device;
)";

// Loads `in` (1024 words) in two halves through one mbarrier, reverses it by threads, stores it in bulk.
std::string reverse_kernel(const std::string& before_read = "mbarrier_wait(bar, 0);",
                           const std::string& expect = "4096", const std::string& address = "in") {
  return kHead + fmt::format(R"(
extern "C" __global__ void __launch_bounds__(128) test(const unsigned* in, unsigned* out) {{
  __shared__ alignas(128) unsigned from[1024];
  __shared__ alignas(128) unsigned to[1024];
  __shared__ unsigned long long barrier;
  const unsigned bar = shared_address(&barrier);
  if (threadIdx.x == 0) {{ mbarrier_init(bar, 1); fence_mbarrier_init(); }}
  __syncthreads();
  if (threadIdx.x == 0) {{
    mbarrier_arrive_expect(bar, {});
    bulk_load(shared_address(from), {}, 2048, bar);
    bulk_load(shared_address(from + 512), in + 512, 2048, bar);
  }}
  {}
  for (int i = threadIdx.x; i < 1024; i += 128) to[i] = from[1023 - i];
  fence_async_shared();
  __syncthreads();
  if (threadIdx.x == 0) {{
    bulk_store(out, shared_address(to), 4096);
    bulk_commit();
    bulk_wait<0>();
  }}
}})",
                             expect, address, before_read);
}

struct Words {
  Device& device = emulator();
  std::vector<std::uint32_t> in = sample_integers<std::uint32_t>(1024, 11);
  DeviceBuffer from = upload(device, in, "weights");
  DeviceBuffer to{device, 4096, "result"};

  LaunchCounters launch(const std::string& source, Launch how = {.threads = 128}) {
    if (how.buffers.empty())
      how.buffers = {{from.data(), from.bytes(), "weights", TensorRole::input},
                     {to.data(), to.bytes(), "result", TensorRole::output}};
    return run(device, compile_ptx(source, "test"), "test", parameter_block(from.data(), to.data()), how);
  }
  std::string report(const std::string& source, Launch how = {.threads = 128}) {
    return error_text([&] { launch(source, how); });
  }
};

TEST_CASE("loads signal an mbarrier, stores a group; each counts its sectors once") {
  for (const std::string arch : {"sm_90a", "sm_100", "sm_120"}) {
    CAPTURE(arch);
    Device& device = emulator(arch);
    const auto in = sample_integers<std::uint32_t>(1024, 11);
    const DeviceBuffer from = upload(device, in), to(device, 4096, "out");
    const LaunchCounters counters = run(device, compile_ptx(reverse_kernel(), "test", arch), "test",
                                        parameter_block(from.data(), to.data()), {.threads = 128});
    const auto out = download<std::uint32_t>(device, to);
    for (std::size_t i = 0; i < 1024; ++i) REQUIRE(out[i] == in[1023 - i]);
    CHECK(counters.sectors_read == 128);
    CHECK(counters.bytes_requested_read == 4096);
    CHECK(counters.sectors_written == 128);
    CHECK(counters.bytes_requested_written == 4096);
    CHECK(counters.global_load_instructions == 2);
    CHECK(counters.global_store_instructions == 1);
  }
}

TEST_CASE("a read without the wait is found, and says which copy is pending") {
  Words words;
  check_parts(words.report(reverse_kernel("__syncthreads();")),
              {"reads shared memory that nobody has written", "'", "a bulk copy into it is pending",
               "issued by thread 0 at PTX line", "cp.async.bulk.shared::cluster.global"});
}

TEST_CASE("bytes that nobody brings are a deadlock that names the mbarrier and what is pending") {
  Words words;
  check_parts(
      words.report(reverse_kernel("mbarrier_wait(bar, 0);", "4112")),
      {"deadlock", "waits for phase 0 of the mbarrier at offset 0 of '", "(1 of 1 arrivals, 16 bytes pending)"});
}

TEST_CASE("bytes that nobody announced leave the phase early") {
  Words words;
  check_parts(words.report(reverse_kernel("mbarrier_wait(bar, 0);", "2048")),
              {"reads shared memory that nobody has written", "a bulk copy into it is pending"});
}

TEST_CASE("misaligned and out of bounds copies are found at the copy") {
  Words words;
  const auto copy = [&](const std::string& line) {
    return words.report(kHead + R"(
extern "C" __global__ void test(const char* in, char* out) {
  __shared__ alignas(128) char box[1024];
  __shared__ unsigned long long barriers[2];
  const unsigned bar = shared_address(barriers), to = shared_address(box);
  if (threadIdx.x != 0) return;
  for (int i = 0; i < 1024; ++i) box[i] = 1;
  mbarrier_init(bar, 1);
)" + line + "\nbulk_commit(); bulk_wait<0>(); }");
  };
  CHECK(copy("bulk_load(to, in + 3072, 1024, bar);") == "");
  check_parts(copy("bulk_load(to, in + 3088, 1024, bar);"),
              {"thread (0,0,0)", "reads out of bounds", "0 bytes past the end of 'weights' (4096 bytes"});
  check_parts(copy("bulk_load(to, in + 8, 1024, bar);"), {"copies in bulk at 0x", "16 does not divide"});
  check_parts(copy("bulk_load(to + 8, in, 1008, bar);"), {"copies in bulk at 0x", "16 does not divide"});
  check_parts(copy("bulk_load(to, in, 1000, bar);"), {"a number of bytes, 0x3e8, which 16 does not divide"});
  check_parts(copy("bulk_load(to + 65536, in, 1024, bar);"), {"writes 1024 bytes of shared memory from offset"});
  check_parts(copy("bulk_load(to, in, 1024, bar + 8);"), {"where none has been initialised"});
  check_parts(copy("bulk_store(out, to + 65536, 1024);"), {"reads 1024 bytes of shared memory from offset"});
  check_parts(copy("bulk_store(out + 4096, to, 16);"), {"writes out of bounds", "past the end of 'result'"});
  check_parts(copy("bulk_store((void*)in, to, 16);"), {"writes memory that is only an input", "'weights'"});
  check_parts(copy("bulk_add_f32(out, to, 16);"), {"reads global memory that is an output and has not been written"});
  check_parts(
      copy("asm volatile(\"cp.async.bulk.prefetch.L2.global [%0], %1;\" :: \"l\"(in), \"r\"(24 + threadIdx.x));"),
      {"prefetches in bulk"});
  CHECK(copy("asm volatile(\"cp.async.bulk.prefetch.L2.global [%0], 32;\" :: \"l\"(in));") == "");
}

TEST_CASE("a store of shared memory that nobody wrote is found") {
  Words words;
  check_parts(words.report(kHead + R"(
extern "C" __global__ void test(const unsigned* in, unsigned* out) {
  __shared__ alignas(128) unsigned box[32];
  if (threadIdx.x < 31) box[threadIdx.x] = 1;
  fence_async_shared();
  __syncthreads();
  if (threadIdx.x == 0) { bulk_store(out, shared_address(box), 128); bulk_commit(); bulk_wait<0>(); }
})"),
              {"reads shared memory that nobody has written: offset 124 of '", "cp.async.bulk.global.shared::cta"});
}

// Stores `rounds` times from one buffer of 32 words that is written anew after `wait`.
std::string reuse_kernel(const std::string& wait) {
  return kHead + R"(
extern "C" __global__ void test(const unsigned* in, unsigned* out) {
  __shared__ alignas(128) unsigned box[2][32];
  for (int round = 0; round < 6; ++round) {
    if (threadIdx.x == 0) { )" +
         wait + R"( }
    __syncthreads();
    box[round % 2][threadIdx.x] = round * 100 + threadIdx.x;
    fence_async_shared();
    __syncthreads();
    if (threadIdx.x == 0) { bulk_store(out + round * 32, shared_address(box[round % 2]), 128); bulk_commit(); }
  }
  if (threadIdx.x == 0) bulk_wait<0>();
})";
}

TEST_CASE("a store reads its source at the wait for it: one group may stay behind, not two") {
  // Without the race detector, which finds the last case before it happens.
  const std::unique_ptr<Device> owner = make_emulator("sm_90a", EmulatorChecks::memory);
  Device& device = *owner;
  const DeviceBuffer to(device, 6 * 128, "result");
  const auto stores = [&](const std::string& wait) {
    run(device, compile_ptx(reuse_kernel(wait), "test"), "test", parameter_block(to.data(), to.data()));
    return download<std::uint32_t>(device, to);
  };
  std::vector<std::uint32_t> want;
  for (std::uint32_t i = 0; i < 192; ++i) want.push_back(i / 32 * 100 + i % 32);
  CHECK(stores("bulk_wait_read<1>();") == want);
  CHECK(stores("bulk_wait<1>();") == want);
  CHECK(stores("bulk_wait_read<0>();") == want);
  const auto late = stores("bulk_wait_read<2>();");
  CHECK(late != want);
  CHECK(late[0] == 200);  // the first round's buffer as the third round left it
}

// ---- reductions

template <typename T>
void check_reduction(const std::string& op, const std::string& type, const std::vector<T>& old,
                     const std::vector<T>& by, T (*formula)(T, T)) {
  CAPTURE(op);
  CAPTURE(type);
  Device& device = emulator();
  const DeviceBuffer from = upload(device, by), to = upload(device, old);
  const std::string source = kHead + fmt::format(R"(
extern "C" __global__ void test(const char* in, char* out) {{
  __shared__ alignas(128) char box[1024];
  for (int i = threadIdx.x; i < 1024; i += 32) box[i] = in[i];
  fence_async_shared();
  __syncwarp();
  if (threadIdx.x == 0) {{
    asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.{}.{} [%0], [%1], %2;"
                 :: "l"(out), "r"(shared_address(box)), "r"(1024) : "memory");
    bulk_commit();
    bulk_wait<0>();
  }}
}})",
                                                 op, type);
  const LaunchCounters counters =
      run(device, compile_ptx(source, "test"), "test", parameter_block(from.data(), to.data()));
  CHECK(counters.sectors_written == 32);
  const auto seen = download<T>(device, to);
  for (std::size_t i = 0; i < old.size(); ++i) {
    CAPTURE(i);
    REQUIRE(seen[i] == formula(old[i], by[i]));
  }
}

template <typename T>
void check_integers(const std::string& type, std::uint32_t seed, const std::vector<std::string>& ops) {
  const auto old = sample_integers<T>(1024 / sizeof(T), seed), by = sample_integers<T>(1024 / sizeof(T), seed + 1);
  using Unsigned = std::make_unsigned_t<T>;
  for (const std::string& op : ops) {
    T (*formula)(T, T) = nullptr;
    if (op == "add")
      formula = [](T a, T b) { return static_cast<T>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b)); };
    if (op == "min") formula = [](T a, T b) { return a < b ? a : b; };
    if (op == "max") formula = [](T a, T b) { return a < b ? b : a; };
    if (op == "inc") formula = [](T a, T b) { return a >= b ? T(0) : static_cast<T>(a + 1); };
    if (op == "dec") formula = [](T a, T b) { return a == 0 || a > b ? b : static_cast<T>(a - 1); };
    if (op == "and") formula = [](T a, T b) { return static_cast<T>(a & b); };
    if (op == "or") formula = [](T a, T b) { return static_cast<T>(a | b); };
    if (op == "xor") formula = [](T a, T b) { return static_cast<T>(a ^ b); };
    check_reduction<T>(op, type, old, by, formula);
  }
}

TEST_CASE("integer reductions do to every element what their names say") {
  check_integers<std::uint32_t>("u32", 21, {"add", "min", "max", "inc", "dec"});
  check_integers<std::int32_t>("s32", 23, {"add", "min", "max"});
  check_integers<std::uint64_t>("u64", 25, {"add", "min", "max"});
  check_integers<std::int64_t>("s64", 27, {"min", "max"});
  check_integers<std::uint32_t>("b32", 29, {"and", "or", "xor"});
  check_integers<std::uint64_t>("b64", 31, {"and", "or", "xor"});
}

// Values of a 16-bit format with `fraction` bits and this exponent range, exact in double.
double value_of(std::uint16_t bits, int fraction, int bias) {
  const int exponent = (bits & 0x7fff) >> fraction;
  const double mantissa = bits & ((1 << fraction) - 1);
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, 1 - bias - fraction)
                                         : std::ldexp(mantissa + (1 << fraction), exponent - bias - fraction);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

// The nearest neighbour by search: of all finite values, the closest, the even one of two.
std::uint16_t nearest(double value, int fraction, int bias) {
  std::uint16_t low = 0;
  auto high = static_cast<std::uint16_t>(((1 << (15 - fraction)) - 1) << fraction);  // infinity
  const double magnitude = std::fabs(value);
  while (high - low > 1) {
    const auto middle = static_cast<std::uint16_t>((low + high) / 2);
    (value_of(middle, fraction, bias) <= magnitude ? low : high) = middle;
  }
  const double below = magnitude - value_of(low, fraction, bias), above = value_of(high, fraction, bias) - magnitude;
  const std::uint16_t picked = below < above || (below == above && low % 2 == 0) ? low : high;
  return static_cast<std::uint16_t>(picked | (std::signbit(value) ? 0x8000 : 0));
}

TEST_CASE("floating-point reductions round once, 16-bit ones to their format") {
  std::mt19937 random(41);
  std::uniform_real_distribution<float> ordinary(-4.0F, 4.0F);
  std::vector<float> old(256), by(256);
  std::vector<double> wide_old(128), wide_by(128);
  std::vector<std::uint16_t> half_old(512), half_by(512);
  for (float& value : old) value = ordinary(random);
  for (float& value : by) value = ordinary(random) * 1e-3F;
  for (double& value : wide_old) value = ordinary(random);
  for (double& value : wide_by) value = ordinary(random) / 3.0;
  // Exponents around 1 and signs at random; sums stay finite.
  const auto half = [&](int fraction, int bias) {
    const int exponent = bias - 4 + static_cast<int>(random() % 8);
    return static_cast<std::uint16_t>(exponent << fraction | (random() % (1U << fraction)) | (random() % 2) << 15);
  };
  check_reduction<float>("add", "f32", old, by, [](float a, float b) { return static_cast<float>(double(a) + b); });
  check_reduction<double>("add", "f64", wide_old, wide_by, [](double a, double b) { return a + b; });
  for (std::uint16_t& value : half_old) value = half(10, 15);
  for (std::uint16_t& value : half_by) value = half(10, 15);
  using Half = std::uint16_t;
  check_reduction<Half>("add.noftz", "f16", half_old, half_by, [](Half a, Half b) {
    const double sum = value_of(a, 10, 15) + value_of(b, 10, 15);
    return nearest(sum, 10, 15);
  });
  check_reduction<Half>("min", "f16", half_old, half_by,
                        [](Half a, Half b) { return value_of(a, 10, 15) < value_of(b, 10, 15) ? a : b; });
  for (std::uint16_t& value : half_old) value = half(7, 127);
  for (std::uint16_t& value : half_by) value = half(7, 127);
  check_reduction<Half>("add.noftz", "bf16", half_old, half_by, [](Half a, Half b) {
    const double sum = value_of(a, 7, 127) + value_of(b, 7, 127);
    return nearest(sum, 7, 127);
  });
  check_reduction<Half>("max", "bf16", half_old, half_by,
                        [](Half a, Half b) { return value_of(a, 7, 127) > value_of(b, 7, 127) ? a : b; });
}

TEST_CASE("reductions of several blocks into the same elements lose nothing") {
  Device& device = emulator();
  const DeviceBuffer to = upload(device, std::vector<float>(256, 0.0F));
  run(device,
      compile_ptx(kHead + R"(
extern "C" __global__ void test(float* out) {
  __shared__ alignas(128) float box[256];
  for (int i = threadIdx.x; i < 256; i += 32) box[i] = i + blockIdx.x;
  fence_async_shared();
  __syncwarp();
  if (threadIdx.x == 0) { bulk_add_f32(out, shared_address(box), 1024); bulk_commit(); bulk_wait<0>(); }
})",
                  "test"),
      "test", parameter_block(to.data()), {.blocks = 40});
  const auto seen = download<float>(device, to);
  for (int i = 0; i < 256; ++i) REQUIRE(seen[static_cast<std::size_t>(i)] == static_cast<float>(40 * i + 780));
}

// ---- clusters

std::string cluster_kernel(const std::string& body, const std::string& wait = "mbarrier_wait_cluster(bar, 0);") {
  return kHead + R"(
extern "C" __global__ void test(const unsigned* in, unsigned* out) {
  __shared__ alignas(128) unsigned box[256];
  __shared__ alignas(128) unsigned own[64];
  __shared__ unsigned long long barrier;
  const unsigned bar = shared_address(&barrier), rank = cluster_rank(), size = cluster_size();
  if (threadIdx.x == 0) { mbarrier_init(bar, 1); fence_mbarrier_init(); mbarrier_arrive_expect(bar, 256 * size); }
  for (int i = threadIdx.x; i < 64; i += 32) own[i] = rank * 1000 + i;
  fence_async_shared();
  cluster_sync();
  if (threadIdx.x == 0) {
)" + body +
         "\n}\n" + wait + R"(
  for (int i = threadIdx.x; i < 64 * size; i += 32) out[blockIdx.x * 64 * size + i] = box[i];
  cluster_sync();
})";
}

TEST_CASE("a multicast brings one read of memory to every block of the cluster") {
  Words words;
  for (const std::uint32_t size : {1U, 2U, 4U}) {
    CAPTURE(size);
    Launch how{.blocks = size};
    how.cluster = size;
    const std::string each =
        "bulk_load_multicast(shared_address(box + 64 * rank), in + 64 * rank, 256, bar, (unsigned short)((1 << size) - "
        "1));";
    const LaunchCounters counters = words.launch(cluster_kernel(each), how);
    const auto out = download<std::uint32_t>(words.device, words.to);
    for (std::size_t i = 0; i < 64 * size * size; ++i) REQUIRE(out[i] == words.in[i % (64 * size)]);
    CHECK(counters.sectors_read == 8 * size);
  }
}

TEST_CASE("a block copies from its shared memory to its neighbour's") {
  Words words;
  for (const std::uint32_t size : {2U, 4U}) {
    CAPTURE(size);
    Launch how{.blocks = size};
    how.cluster = size;
    words.launch(cluster_kernel(R"(
    for (unsigned other = 0; other < size; ++other)
      asm volatile("cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], 256, [%2];" ::
                   "r"(in_cluster(shared_address(box + 64 * rank), other)), "r"(shared_address(own)), "r"(in_cluster(bar, other)) : "memory");
)"),
                 how);
    const auto out = download<std::uint32_t>(words.device, words.to);
    for (std::uint32_t i = 0; i < 64 * size * size; ++i) REQUIRE(out[i] == i % (64 * size) / 64 * 1000 + i % 64);
  }
}

TEST_CASE("a reduction into another block's shared memory") {
  Words words;
  Launch how{.blocks = 2};
  how.cluster = 2;
  words.launch(kHead + R"(
extern "C" __global__ void test(const unsigned* in, unsigned* out) {
  __shared__ alignas(128) unsigned box[64], own[64];
  __shared__ unsigned long long barrier;
  const unsigned bar = shared_address(&barrier), rank = cluster_rank();
  if (threadIdx.x == 0) { mbarrier_init(bar, 1); fence_mbarrier_init(); mbarrier_arrive_expect(bar, 256); }
  for (int i = threadIdx.x; i < 64; i += 32) { box[i] = 5 * i; own[i] = rank * 1000 + i; }
  fence_async_shared();
  cluster_sync();
  if (threadIdx.x == 0)
    asm volatile("cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.u32 [%0], [%1], 256, [%2];" ::
                 "r"(in_cluster(shared_address(box), rank ^ 1)), "r"(shared_address(own)), "r"(in_cluster(bar, rank ^ 1)) : "memory");
  mbarrier_wait_cluster(bar, 0);
  for (int i = threadIdx.x; i < 64; i += 32) out[rank * 64 + i] = box[i];
  cluster_sync();
})",
               how);
  const auto out = download<std::uint32_t>(words.device, words.to);
  for (std::uint32_t i = 0; i < 128; ++i) CHECK(out[i] == 5 * (i % 64) + (i / 64 ^ 1) * 1000 + i % 64);
}

TEST_CASE("wrong multicasts, foreign mbarriers and early exits are found") {
  Words words;
  Launch how{.blocks = 2};
  how.cluster = 2;
  const auto report = [&](const std::string& body) { return words.report(cluster_kernel(body), how); };
  const std::string load = "bulk_load_multicast(shared_address(box), in, 256, bar, (unsigned short)";
  check_parts(report(load + "0);"), {"to the blocks 0x0 of a cluster of 2"});
  check_parts(report(load + "4);"), {"to the blocks 0x4 of a cluster of 2"});
  check_parts(report("bulk_load(in_cluster(shared_address(box), rank ^ 1), in, 256, bar);"),
              {"of the cluster and signals an mbarrier of block"});
  check_parts(report("bulk_load(in_cluster(shared_address(box), 2), in, 256, bar);"),
              {"names block 2 of a cluster of 2"});
  const std::string all =
      "bulk_load_multicast(shared_address(box + 64 * rank), in + 64 * rank, 256, bar, (unsigned short)3);";
  const std::string leaves = "cluster_sync(); if (rank == 1) return; mbarrier_wait_cluster(bar, 0);";
  check_parts(words.report(cluster_kernel(all, leaves), how),
              {"copies into the shared memory of block 1 of its cluster, which exits without waiting for it"});
}

TEST_CASE("forms that do not exist are refused with their line") {
  const auto refusal = [](const std::string& line) {
    return error_text([&] { emulator().load({"test", ptx_module(line + "\nret;"), {}}); });
  };
  const std::string signals = "mbarrier::complete_tx::bytes";
  const std::string old = ptx_kernel("cp.async.bulk.commit_group;", 4, 4, 4, 4, "sm_80");
  check_parts(error_text([&] {
                emulator("sm_80").load({"test", old, {}});
              }),
              {"bulk copies need sm_90 or later; this is sm_80"});
  check_parts(refusal("cp.async.bulk.shared::cluster.global.bulk_group [%r1], [%rd1], 16;"),
              {"no bulk copy", "line 14"});
  check_parts(refusal("cp.async.bulk.global.shared::cta." + signals + " [%rd1], [%r1], 16, [%r2];"), {"no bulk copy"});
  check_parts(
      refusal("cp.async.bulk.shared::cta.global." + signals + ".multicast::cluster [%r1], [%rd1], 16, [%r2], %rs1;"),
      {"a multicast goes to .shared::cluster"});
  check_parts(refusal("cp.async.bulk.shared::cluster.global." + signals + " [%r1], [%rd1], 16;"), {"operands"});
  check_parts(refusal("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f16 [%rd1], [%r1], 16;"), {".noftz"});
  check_parts(refusal("cp.reduce.async.bulk.global.shared::cta.bulk_group.and.f32 [%rd1], [%r1], 16;"),
              {"this reduction"});
  check_parts(refusal("cp.reduce.async.bulk.global.shared::cta.bulk_group.mul.u32 [%rd1], [%r1], 16;"),
              {"needs its operation"});
  check_parts(refusal("cp.async.bulk.global.shared::cta.bulk_group.cp_mask [%rd1], [%r1], 16;"),
              {"does not know '.cp_mask'"});
}

}  // namespace
}  // namespace gdnjit::tests

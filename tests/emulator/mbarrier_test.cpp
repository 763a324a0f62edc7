// mbarriers: phases, counts, states, remote arrivals, and the misuse that the ISA leaves undefined.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "tests/emulator/check_report.h"
#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

const std::string kHead = R"(#include "device/cluster.cuh"
#include "device/fence.cuh"
#include "device/mbarrier.cuh"
using namespace gdnjit::device;
)";

// A kernel whose thread 0 runs `body` on the mbarrier `bar`; out[i] are its results.
std::string lone_kernel(const std::string& body) {
  return kHead + R"(
__device__ unsigned long long arrive(unsigned bar) {
  unsigned long long state;
  asm volatile("mbarrier.arrive.shared::cta.b64 %0, [%1];" : "=l"(state) : "r"(bar) : "memory");
  return state;
}
__device__ unsigned test(unsigned bar, unsigned long long state) {
  unsigned done;
  asm volatile("{ .reg .pred p; mbarrier.test_wait.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
               : "=r"(done) : "r"(bar), "l"(state) : "memory");
  return done;
}
extern "C" __global__ void test(unsigned* out) {
  __shared__ unsigned long long barriers[2];
  const unsigned bar = shared_address(barriers);
  if (threadIdx.x != 0) return;
)" + body +
         "}";
}

std::string lone_report(const std::string& body) {
  Device& device = emulator();
  const DeviceBuffer out(device, 256, "out");
  return error_text(
      [&] { run(device, compile_ptx(lone_kernel(body), "test"), "test", parameter_block(out.data(), out.data())); });
}

std::vector<std::uint32_t> lone_results(const std::string& body, std::size_t count) {
  Device& device = emulator();
  const DeviceBuffer out(device, 4 * count, "out");
  run(device, compile_ptx(lone_kernel(body), "test"), "test", parameter_block(out.data(), out.data()));
  return download<std::uint32_t>(device, out);
}

TEST_CASE("a phase ends with its last arrival, for states and parities alike") {
  const auto seen = lone_results(R"(
  mbarrier_init(bar, 3);
  int n = 0;
  for (unsigned phase = 0; phase < 4; ++phase) {
    const unsigned long long state = arrive(bar);
    out[n++] = mbarrier_test(bar, phase & 1); out[n++] = test(bar, state);
    arrive(bar);
    out[n++] = mbarrier_test(bar, phase & 1); out[n++] = mbarrier_test(bar, ~phase & 1);
    const unsigned long long last = arrive(bar);
    out[n++] = mbarrier_test(bar, phase & 1); out[n++] = test(bar, state); out[n++] = test(bar, last);
  })",
                                 28);
  for (std::size_t phase = 0; phase < 4; ++phase) {
    const std::vector<std::uint32_t> want{0, 0, 0, 1, 1, 1, 1};
    CHECK(std::vector<std::uint32_t>(seen.begin() + static_cast<std::ptrdiff_t>(7 * phase),
                                     seen.begin() + static_cast<std::ptrdiff_t>(7 * phase + 7)) == want);
  }
}

TEST_CASE("counts, .noComplete, drops and pending_count") {
  const auto seen = lone_results(R"(
  mbarrier_init(bar, 5);
  unsigned long long state; unsigned count;
  asm volatile("mbarrier.arrive.noComplete.release.cta.shared::cta.b64 %0, [%1], 2;" : "=l"(state) : "r"(bar) : "memory");
  asm volatile("mbarrier.pending_count.b64 %0, %1;" : "=r"(count) : "l"(state));
  out[0] = count;
  asm volatile("mbarrier.arrive_drop.noComplete.release.cta.shared::cta.b64 %0, [%1], 2;" : "=l"(state) : "r"(bar) : "memory");
  asm volatile("mbarrier.pending_count.b64 %0, %1;" : "=r"(count) : "l"(state));
  out[1] = count;
  out[2] = mbarrier_test(bar, 0);
  mbarrier_arrive(bar);
  out[3] = mbarrier_test(bar, 0);
  asm volatile("mbarrier.arrive.shared::cta.b64 %0, [%1], 2;" : "=l"(state) : "r"(bar) : "memory");
  out[4] = mbarrier_test(bar, 1);
  asm volatile("mbarrier.arrive_drop.shared::cta.b64 _, [%0];" :: "r"(bar) : "memory");
  out[5] = mbarrier_test(bar, 1);
  asm volatile("mbarrier.arrive.shared.b64 _, [%0], 2;" :: "r"(bar) : "memory");
  out[6] = mbarrier_test(bar, 0);)",
                                 7);
  CHECK(seen == std::vector<std::uint32_t>{5, 3, 0, 1, 0, 1, 1});
}

TEST_CASE("transaction bytes hold a phase up, whichever comes first") {
  const auto seen = lone_results(R"(
  mbarrier_init(bar, 1);
  mbarrier_arrive_expect(bar, 4096);
  out[0] = mbarrier_test(bar, 0);
  asm volatile("mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%0], 4000;" :: "r"(bar) : "memory");
  out[1] = mbarrier_test(bar, 0);
  asm volatile("mbarrier.complete_tx.relaxed.cluster.shared::cluster.b64 [%0], 96;" :: "r"(bar) : "memory");
  out[2] = mbarrier_test(bar, 0);
  asm volatile("mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%0], 64;" :: "r"(bar) : "memory");
  asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], 64;" :: "r"(bar) : "memory");
  out[3] = mbarrier_test(bar, 1);
  mbarrier_arrive(bar);
  out[4] = mbarrier_test(bar, 1);
  asm volatile("mbarrier.arrive_drop.expect_tx.release.cta.shared::cta.b64 _, [%0], 16;" :: "r"(bar) : "memory");
  out[5] = mbarrier_test(bar, 0);
  mbarrier_invalidate(bar);
  mbarrier_init(bar, 2);
  out[6] = mbarrier_test(bar, 0);)",
                                 7);
  CHECK(seen == std::vector<std::uint32_t>{0, 0, 1, 0, 1, 0, 0});
}

// Warp 0 produces 32 words a round, the other warps consume them, through one full and one empty barrier a stage.
std::string ring_kernel(int stages, const std::string& wait_full, const std::string& wait_empty, int arrivals = 64) {
  return kHead + fmt::format(R"(
extern "C" __global__ void test(unsigned* out) {{
  __shared__ unsigned ring[{0}][32];
  __shared__ unsigned long long full[{0}], empty[{0}];
  if (threadIdx.x == 0) {{
    for (int s = 0; s < {0}; ++s) {{ mbarrier_init(shared_address(full + s), 32); mbarrier_init(shared_address(empty + s), {3}); }}
    fence_mbarrier_init();
  }}
  __syncthreads();
  const int lane = threadIdx.x % 32;
  unsigned sum = 0;
  for (int tile = 0; tile < 20; ++tile) {{
    const int s = tile % {0};
    const unsigned phase = tile / {0} & 1;
    if (threadIdx.x < 32) {{
      {2}
      ring[s][lane] = tile * 1000 + lane;
      mbarrier_arrive(shared_address(full + s));
    }} else {{
      {1}
      sum = sum * 7 + ring[s][31 - lane];
      mbarrier_arrive(shared_address(empty + s));
    }}
  }}
  if (threadIdx.x >= 32) out[threadIdx.x - 32] = sum;
}})",
                             stages, wait_full, wait_empty, arrivals);
}

const std::string kWaitFull = "mbarrier_wait(shared_address(full + s), phase);";
const std::string kWaitEmpty = "mbarrier_wait(shared_address(empty + s), phase ^ 1);";

TEST_CASE("a producer and two consumers take turns through full and empty barriers") {
  Device& device = emulator();
  const DeviceBuffer out(device, 256, "out");
  const std::string spin = "while (!mbarrier_test(shared_address(full + s), phase)) {}";
  for (const int stages : {1, 2, 3, 4}) {
    for (const std::string& wait : {kWaitFull, spin}) {
      run(device, compile_ptx(ring_kernel(stages, wait, kWaitEmpty), "test"), "test",
          parameter_block(out.data(), out.data()), {.threads = 96});
      const auto sums = download<std::uint32_t>(device, out);
      for (std::uint32_t t = 0; t < 64; ++t) {
        std::uint32_t sum = 0;
        for (std::uint32_t tile = 0; tile < 20; ++tile) sum = sum * 7 + tile * 1000 + 31 - t % 32;
        REQUIRE(sums[t] == sum);
      }
    }
  }
}

TEST_CASE("lanes of one warp wait for each other, whichever path comes first") {
  Device& device = emulator();
  const DeviceBuffer out(device, 128, "out");
  for (const std::string paths : {"if (threadIdx.x == 0) produce(s); else sum = consume(s);",
                                  "if (threadIdx.x != 0) sum = consume(s); else produce(s);"}) {
    for (const std::string inlining : {"__noinline__", "__forceinline__"}) {
      const std::string source = kHead + "#define INLINING " + inlining + R"(
struct Shared { unsigned word; unsigned long long full, empty; };
__device__ INLINING void produce(Shared& s) {
  for (unsigned tile = 0; tile < 5; ++tile) {
    mbarrier_wait(shared_address(&s.empty), (tile & 1) ^ 1);
    s.word = 100 * tile;
    mbarrier_arrive(shared_address(&s.full));
  }
}
__device__ INLINING unsigned consume(Shared& s) {
  unsigned sum = threadIdx.x;
  for (unsigned tile = 0; tile < 5; ++tile) {
    mbarrier_wait(shared_address(&s.full), tile & 1);
    sum += s.word;
    mbarrier_arrive(shared_address(&s.empty));
  }
  return sum;
}
extern "C" __global__ void test(unsigned* out) {
  __shared__ Shared s;
  if (threadIdx.x == 0) { mbarrier_init(shared_address(&s.full), 1); mbarrier_init(shared_address(&s.empty), 31); }
  __syncwarp();
  unsigned sum = 0;
)" + paths + "\nout[threadIdx.x] = sum;\n}";
      run(device, compile_ptx(source, "test"), "test", parameter_block(out.data(), out.data()));
      const auto sums = download<std::uint32_t>(device, out);
      for (std::uint32_t lane = 1; lane < 32; ++lane) CHECK(sums[lane] == 1000 + lane);
    }
  }
}

TEST_CASE("a deadlock names the mbarrier, its phase and what it lacks") {
  Device& device = emulator();
  const DeviceBuffer out(device, 256, "out");
  const std::string text = error_text([&] {
    run(device, compile_ptx(ring_kernel(1, kWaitFull, kWaitEmpty, 65), "test"), "test",
        parameter_block(out.data(), out.data()), {.threads = 96});
  });
  check_parts(text, {"deadlock", "waits for phase 0 of the mbarrier at offset 0 of '",
                     "(64 of 65 arrivals, 0 bytes pending)", "mbarrier.try_wait.parity"});
}

TEST_CASE("blocks of a cluster arrive at each other's mbarriers") {
  const std::string source = kHead + R"(
extern "C" __global__ void test(unsigned* out) {
  __shared__ unsigned long long barrier;
  __shared__ unsigned box[4];
  const unsigned bar = shared_address(&barrier);
  if (threadIdx.x == 0) { mbarrier_init(bar, 4); fence_mbarrier_init(); }
  cluster_sync();
  if (threadIdx.x < 4) {
    const unsigned place = in_cluster(shared_address(box + cluster_rank()), threadIdx.x);
    asm volatile("st.shared::cluster.u32 [%0], %1;" :: "r"(place), "r"(cluster_rank() + 10 * blockIdx.x) : "memory");
    mbarrier_arrive_cluster(in_cluster(bar, threadIdx.x));
  }
  mbarrier_wait_cluster(bar, 0);
  if (threadIdx.x < 4) out[4 * blockIdx.x + threadIdx.x] = box[threadIdx.x];
  cluster_sync();
})";
  Device& device = emulator();
  const DeviceBuffer out(device, 8 * 16, "out");
  Launch launch{.blocks = 8};
  launch.cluster = 4;
  run(device, compile_ptx(source, "test"), "test", parameter_block(out.data(), out.data()), launch);
  const auto seen = download<std::uint32_t>(device, out);
  for (std::uint32_t block = 0; block < 8; ++block) {
    for (std::uint32_t rank = 0; rank < 4; ++rank) CHECK(seen[4 * block + rank] == rank + 10 * (block / 4 * 4 + rank));
  }
}

TEST_CASE("what the ISA leaves undefined is a fault") {
  check_parts(lone_report("mbarrier_arrive(bar);"),
              {"at offset", "where none has been initialised", "mbarrier.arrive"});
  check_parts(lone_report("mbarrier_init(bar, 1); mbarrier_invalidate(bar); mbarrier_arrive(bar);"),
              {"where none has been initialised"});
  check_parts(lone_report("mbarrier_init(bar + 4, 1);"), {"which 8 does not divide"});
  check_parts(lone_report("mbarrier_init(bar, blockIdx.x);"), {"for 0 arrivals; 1 to 1048575 are possible"});
  check_parts(lone_report("mbarrier_init(bar, (1 << 20) + blockIdx.x);"), {"for 1048576 arrivals"});
  check_parts(lone_report("mbarrier_init(bar, 1); mbarrier_init(bar, 1);"),
              {"again without mbarrier.inval", "first at"});
  check_parts(
      lone_report("mbarrier_init(bar, 2); asm volatile(\"mbarrier.arrive.shared.b64 _, [%0], %1;\" :: \"r\"(bar), "
                  "\"r\"(3 + blockIdx.x));"),
      {"arrives 3 times, more than is expected: phase 0 of the mbarrier at offset 0 of '", "(0 of 2 arrivals"});
  check_parts(lone_report("mbarrier_init(bar, 2); asm volatile(\"mbarrier.arrive.shared.b64 _, [%0], %1;\" :: "
                          "\"r\"(bar), \"r\"(blockIdx.x));"),
              {"arrives 0 times"});
  check_parts(lone_report("mbarrier_init(bar, 1); mbarrier_arrive_expect(bar, 16); mbarrier_arrive(bar);"),
              {"more than is expected", "(1 of 1 arrivals, 16 bytes pending)"});
  check_parts(
      lone_report("mbarrier_init(bar, 2); unsigned long long s; asm volatile(\"mbarrier.arrive.noComplete.release.cta."
                  "shared::cta.b64 %0, [%1], 2;\" : \"=l\"(s) : \"r\"(bar));"),
      {"with .noComplete and completes"});
  check_parts(
      lone_report("mbarrier_init(bar, 2); asm volatile(\"mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;\" "
                  ":: \"r\"(bar), \"r\"((1 << 20) + blockIdx.x));"),
      {"transaction count", "to 1048576; it holds -1048575 to 1048575"});
  check_parts(lone_report("mbarrier_init(bar, 1); out[0] = mbarrier_test(bar, 2 + blockIdx.x);"),
              {"parity 2: 0 or 1 exist"});
  check_parts(lone_report("mbarrier_init(bar, 1); out[0] = test(bar, 77);"), {"0x4d, which is no state"});
  check_parts(lone_report("mbarrier_init(bar, 1); auto s = arrive(bar); arrive(bar); out[0] = test(bar, s);"),
              {"asks about phase 0 of the mbarrier", "which is in phase 2"});
  check_parts(lone_report("mbarrier_init(bar, 1); arrive(0x7000000);"), {"shared memory from offset 117440512"});
}

TEST_CASE("an mbarrier is opaque: loads of it and stores over it are found") {
  check_parts(lone_report("mbarrier_init(bar, 1); out[0] = ((volatile unsigned*)barriers)[1];"),
              {"reads shared memory that nobody has written: offset 4 of '", "part of an mbarrier, which is opaque"});
  check_parts(lone_report("mbarrier_init(bar, 1); ((volatile unsigned char*)barriers)[7] = 1; arrive(bar);"),
              {"uses the mbarrier at offset 0 of '", "over which something was written"});
  CHECK(lone_report("mbarrier_init(bar, 1); mbarrier_invalidate(bar); barriers[0] = 1; out[0] = barriers[0];") == "");
}

TEST_CASE("forms that do not exist are refused with their line") {
  const auto refusal = [](const std::string& line) {
    return error_text([&] { emulator().load({"test", ptx_module(line + "\nret;"), {}}); });
  };
  check_parts(refusal("mbarrier.init.global.b64 [%rd1], 1;"), {"in shared memory of the block", "line 14"});
  check_parts(refusal("mbarrier.init.shared.b32 [%r1], 1;"), {"an mbarrier is .b64"});
  check_parts(refusal("mbarrier.arrive.shared::cluster.b64 %rd3, [%r1];"), {"in shared memory of the block"});
  check_parts(refusal("mbarrier.arrive.noComplete.shared.b64 %rd3, [%r1];"), {"operands"});
  check_parts(refusal("mbarrier.swing.shared.b64 [%r1];"), {"mbarrier without an operation"});
  check_parts(refusal("mbarrier.test_wait.shared.b64 %p1, [%r1], %rd3, %r2;"), {"4 operands; expected 3"});
  check_parts(refusal("mbarrier.try_wait.parity.weird.shared.b64 %p1, [%r1], %r2;"), {"does not know '.weird'"});
  check_parts(refusal("fence.proxy.texture;"), {"between these proxies"});
  check_parts(refusal("fence.proxy.tensormap::generic.acquire.gpu [%rd1], 64;"), {"has 128 bytes"});
  CHECK(refusal("fence.proxy.tensormap::generic.acquire.gpu [%rd1], 128;\nfence.proxy.tensormap::generic.release.gpu;\n"
                "fence.proxy.async;\nfence.proxy.async.global;\nfence.proxy.async.shared::cta;\nfence.proxy.alias;\n"
                "fence.acq_rel.cluster;\nfence.sc.sys;\nfence.acquire.sync_restrict::shared::cluster.cluster;\n"
                "fence.mbarrier_init.release.cluster;\nmembar.gl;\nmembar.cta;") == "");
}

}  // namespace
}  // namespace gdnjit::tests

// cp.async: sizes, zero fill, groups, arrival at an mbarrier, what is counted; and what a missing wait looks like.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>

#include "tests/emulator/check_report.h"
#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

const std::string kHead =
    "#include \"device/cp_async.cuh\"\n#include \"device/mbarrier.cuh\"\nusing namespace gdnjit::device;\n";

std::vector<std::uint8_t> random_bytes(std::size_t count, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::uint8_t> bytes(count);
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
  return bytes;
}

// Every thread copies `size` bytes from thread (31 - t), of which `source` are read, and writes them to the output.
std::string copy_kernel(int size, const std::string& copy) {
  return kHead + fmt::format(R"(
extern "C" __global__ void test(const char* in, char* out) {{
  __shared__ alignas(16) char box[32 * 16];
  const unsigned to = shared_address(box) + threadIdx.x * {0};
  const char* from = in + (31 - threadIdx.x) * {0};
  const int bytes = threadIdx.x % ({0} + 1);
  {1}
  cp_async_wait_all();
  for (int i = 0; i < {0}; ++i) out[threadIdx.x * {0} + i] = box[threadIdx.x * {0} + i];
}})",
                             size, copy);
}

TEST_CASE("every size copies its bytes, with zeros behind a shorter source, on every architecture") {
  for (const std::string arch : {"sm_80", "sm_90a", "sm_120"}) {
    Device& device = emulator(arch);
    for (const int size : {4, 8, 16}) {
      for (const bool fills : {false, true}) {
        CAPTURE(arch);
        CAPTURE(size);
        CAPTURE(fills);
        const auto in = random_bytes(32 * 16, 5);
        const DeviceBuffer from = upload(device, in), to(device, 32 * 16, "out");
        const std::string copy = fills ? fmt::format("cp_async_or_zeros<{}>(to, from, bytes);", size)
                                       : fmt::format("cp_async<{}>(to, from);", size);
        run(device, compile_ptx(copy_kernel(size, copy), "test", arch), "test",
            parameter_block(from.data(), to.data()));
        const auto out = download<std::uint8_t>(device, to);
        for (int thread = 0; thread < 32; ++thread) {
          for (int i = 0; i < size; ++i) {
            const int bytes = fills ? thread % (size + 1) : size;
            const int want = i < bytes ? in[static_cast<std::size_t>((31 - thread) * size + i)] : 0;
            REQUIRE(out[static_cast<std::size_t>(thread * size + i)] == want);
          }
        }
      }
    }
  }
}

TEST_CASE("a source that is ignored is not touched, and cache hints change nothing") {
  Device& device = emulator();
  const auto in = sample_integers<std::uint32_t>(128, 6);
  const DeviceBuffer from = upload(device, in), to(device, 512, "out");
  const std::string source = kHead + R"(
extern "C" __global__ void test(const char* in, unsigned* out) {
  __shared__ alignas(16) unsigned box[128];
  const unsigned to = shared_address(box) + threadIdx.x * 16;
  unsigned long long policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  const char* from = threadIdx.x % 2 ? in + threadIdx.x * 16 : (const char*)16;
  asm volatile("{ .reg .pred p; setp.eq.u32 p, %2, 0;\n cp.async.cg.shared.global.L2::cache_hint.L2::128B [%0], [%1], 16, p, %3; }"
               :: "r"(to), "l"(from), "r"(threadIdx.x % 2), "l"(policy) : "memory");
  cp_async_wait_all();
  for (int i = 0; i < 4; ++i) out[threadIdx.x * 4 + i] = box[threadIdx.x * 4 + i];
})";
  run(device, compile_ptx(source, "test"), "test", parameter_block(from.data(), to.data()));
  const auto out = download<std::uint32_t>(device, to);
  for (std::size_t i = 0; i < 128; ++i) CHECK(out[i] == (i / 4 % 2 == 1 ? in[i] : 0));
}

// A ring of `stages` buffers over 24 tiles of one word a thread.
std::string ring_kernel(int stages, int left) {
  return kHead + fmt::format(R"(
extern "C" __global__ void test(const unsigned* in, unsigned* out) {{
  __shared__ unsigned ring[{0}][128];
  const unsigned t = threadIdx.x;
  for (int s = 0; s < {0} - 1; ++s) {{
    cp_async<4>(shared_address(&ring[s][t]), in + s * 128 + t);
    cp_async_commit();
  }}
  unsigned sum = 0;
  for (int tile = 0; tile < 24; ++tile) {{
    cp_async_wait<{1}>();
    __syncthreads();
    sum = sum * 31 + ring[tile % {0}][t ^ 1];
    const int next = tile + {0} - 1;
    if (next < 24) cp_async<4>(shared_address(&ring[next % {0}][t]), in + next * 128 + t);
    cp_async_commit();
  }}
  out[t] = sum;
}})",
                             stages, left);
}

TEST_CASE("rings of two to five stages give every tile in its turn") {
  Device& device = emulator();
  const auto in = sample_integers<std::uint32_t>(24 * 128, 7);
  const DeviceBuffer from = upload(device, in), to(device, 512, "out");
  for (int stages = 2; stages <= 5; ++stages) {
    CAPTURE(stages);
    run(device, compile_ptx(ring_kernel(stages, stages - 2), "test"), "test", parameter_block(from.data(), to.data()),
        {.threads = 128});
    const auto out = download<std::uint32_t>(device, to);
    for (std::size_t t = 0; t < 128; ++t) {
      std::uint32_t sum = 0;
      for (std::size_t tile = 0; tile < 24; ++tile) sum = sum * 31 + in[tile * 128 + (t ^ 1)];
      REQUIRE(out[t] == sum);
    }
  }
}

TEST_CASE("a wait that leaves one group too many is found where its bytes are read") {
  Device& device = emulator();
  const auto in = sample_integers<std::uint32_t>(24 * 128, 7);
  const DeviceBuffer from = upload(device, in), to(device, 512, "out");
  const std::string text = error_text([&] {
    run(device, compile_ptx(ring_kernel(4, 3), "test"), "test", parameter_block(from.data(), to.data()),
        {.threads = 128});
  });
  check_parts(text, {"reads shared memory that nobody has written", "of '", "a cp.async into it is pending",
                     "issued by thread", "cp.async.ca.shared.global", "ld.shared"});
}

TEST_CASE("the source is read at the wait, and a copy without one is done when the block ends") {
  // Without the race detector, whose business it is that the source changes under the copy.
  const std::unique_ptr<Device> owner = make_emulator("sm_90a", EmulatorChecks::memory);
  Device& device = *owner;
  const DeviceBuffer from = upload(device, std::vector<std::uint32_t>(32, 1)), to(device, 128, "out");
  const std::string source = kHead + R"(
extern "C" __global__ void test(unsigned* in, unsigned* out) {
  __shared__ unsigned box[32];
  cp_async<4>(shared_address(box + threadIdx.x), in + threadIdx.x);
  in[threadIdx.x] = 2;
  cp_async_wait_all();
  out[threadIdx.x] = box[threadIdx.x];
  cp_async<4>(shared_address(box + threadIdx.x), in + threadIdx.x);
})";
  run(device, compile_ptx(source, "test"), "test", parameter_block(from.data(), to.data()));
  CHECK(download<std::uint32_t>(device, to) == std::vector<std::uint32_t>(32, 2));
}

TEST_CASE("an mbarrier tells when the copies of all threads are there") {
  for (const bool increments : {false, true}) {
    CAPTURE(increments);
    Device& device = emulator();
    const auto in = sample_integers<std::uint32_t>(256, 8);
    const DeviceBuffer from = upload(device, in), to(device, 1024, "out");
    const std::string source = kHead + fmt::format(R"(
extern "C" __global__ void test(const unsigned* in, unsigned* out) {{
  __shared__ unsigned box[256];
  __shared__ unsigned long long barrier;
  const unsigned bar = shared_address(&barrier);
  if (threadIdx.x == 0) mbarrier_init(bar, 128);
  __syncthreads();
  for (unsigned round = 0; round < 2; ++round) {{
    cp_async<4>(shared_address(box + round * 128 + threadIdx.x), in + round * 128 + threadIdx.x);
    {}
    mbarrier_wait(bar, round);
  }}
  for (int i = 0; i < 2; ++i) out[i * 128 + threadIdx.x] = box[255 - i * 128 - threadIdx.x];
}})",
                                                   increments ? "asm volatile(\"cp.async.mbarrier.arrive.shared.b64 "
                                                                "[%0];\" :: \"r\"(bar)); mbarrier_arrive(bar);"
                                                              : "cp_async_arrive(bar);");
    run(device, compile_ptx(source, "test"), "test", parameter_block(from.data(), to.data()), {.threads = 128});
    auto want = in;
    std::reverse(want.begin(), want.end());
    CHECK(download<std::uint32_t>(device, to) == want);
  }
}

TEST_CASE("a copy counts its sectors once and the wavefronts of its stores") {
  Device& device = emulator();
  const DeviceBuffer from = upload(device, std::vector<std::uint32_t>(32 * 32, 1)), to(device, 128, "out");
  const auto counters = [&](const std::string& body) {
    const std::string source = kHead +
                               "extern \"C\" __global__ void test(const char* in, char* out) {\n"
                               "__shared__ alignas(16) char box[4096]; const unsigned t = threadIdx.x;\n" +
                               body + "cp_async_commit(); cp_async_wait<0>(); }";
    return run(device, compile_ptx(source, "test"), "test", parameter_block(from.data(), to.data()));
  };
  const LaunchCounters dense = counters("cp_async<16>(shared_address(box) + t * 16, in + t * 16);");
  CHECK(dense.sectors_read == 16);
  CHECK(dense.bytes_requested_read == 512);
  CHECK(dense.shared_wavefronts == 4);
  CHECK(dense.shared_wavefronts_ideal == 4);
  CHECK(dense.global_load_instructions == 1);
  const LaunchCounters strided = counters("cp_async<16>(shared_address(box) + t * 128, in + t * 128);");
  CHECK(strided.sectors_read == 32);
  CHECK(strided.shared_wavefronts == 32);
  CHECK(strided.shared_wavefronts_ideal == 4);
  const LaunchCounters scattered = counters("cp_async<4>(shared_address(box) + t * 4, in + (31 - t) * 4);");
  CHECK(scattered.sectors_read == 4);
  CHECK(scattered.shared_wavefronts == 1);
  const LaunchCounters nothing = counters("cp_async_or_zeros<16>(shared_address(box) + t * 16, in, 0);");
  CHECK(nothing.sectors_read == 0);
}

TEST_CASE("wrong addresses and sizes are found at the copy") {
  Device& device = emulator();
  const DeviceBuffer from = upload(device, std::vector<std::uint32_t>(128, 1), "weights"), to(device, 512, "out");
  const DeviceBuffer fresh(device, 512, "fresh");
  const auto report = [&](const std::string& body, const DeviceBuffer& in) {
    const std::string source = kHead +
                               "extern \"C\" __global__ void test(const char* in, char* out) {\n"
                               "__shared__ alignas(16) char box[512]; const unsigned t = threadIdx.x;\n" +
                               body + "cp_async_commit(); cp_async_wait<0>(); }";
    return error_text([&] {
      run(device, compile_ptx(source, "test"), "test", parameter_block(in.data(), to.data()),
          {.buffers = {{in.data(), in.bytes(), "weights", TensorRole::input}}});
    });
  };
  const std::string to_own = "shared_address(box) + t * 16";
  CHECK(report("cp_async<16>(" + to_own + ", in + t * 16);", from) == "");
  check_parts(report("cp_async<16>(" + to_own + ", in + t * 16 + 16);", from),
              {"thread (31,0,0)", "reads out of bounds: 16 bytes", "0 bytes past the end of 'weights' (512 bytes"});
  check_parts(report("cp_async<16>(" + to_own + ", in + t * 16 + 8);", from), {"16 does not divide", "thread (0,0,0)"});
  check_parts(report("cp_async<16>(" + to_own + " + 4, in + t * 16);", from),
              {"copies 16 bytes to shared memory at 0x4", "16 does not divide"});
  check_parts(report("cp_async<16>(" + to_own + " + 16, in + t * 16);", from),
              {"writes 16 bytes of shared memory, 0 bytes past the end of 'box' (512 bytes)", "thread (31,0,0)"});
  check_parts(report("cp_async_or_zeros<16>(" + to_own + ", in + t * 16, 17);", from), {"reads 17 bytes to copy 16"});
  check_parts(report("cp_async<16>(" + to_own + ", in + t * 16);", fresh),
              {"reads global memory that nobody has written", "cp.async.cg.shared.global"});
}

TEST_CASE("forms that do not exist are refused with their line") {
  const auto refusal = [](const std::string& line) {
    return error_text([&] { emulator().load({"test", ptx_module(line + "\nret;"), {}}); });
  };
  check_parts(refusal("cp.async.cg.shared.global [%r1], [%rd1], 8;"), {"16 bytes, with .ca also 4 or 8", "line 14"});
  check_parts(refusal("cp.async.ca.shared.global [%r1], [%rd1], 12;"), {"16 bytes, with .ca also 4 or 8"});
  check_parts(refusal("cp.async.ca.global.shared [%rd1], [%r1], 4;"), {"from global to shared"});
  check_parts(refusal("cp.async.shared.global [%r1], [%rd1], 4;"), {".ca or .cg"});
  check_parts(refusal("cp.async.wait_group %r1;"), {"must be a number"});
  check_parts(refusal("cp.async.ca.shared.global.L3::hint [%r1], [%rd1], 4;"), {"L3::hint"});
  check_parts(refusal("cp.sync.ca.shared.global [%r1], [%rd1], 4;"), {"cp needs .async"});
}

}  // namespace
}  // namespace gdnjit::tests

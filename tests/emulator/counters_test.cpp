// Counts of kernels whose traffic is known.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

LaunchCounters count(const std::string& body, std::uint32_t threads = 32, std::uint32_t blocks = 1) {
  Device& device = emulator();
  const DeviceBuffer in = upload(device, std::vector<std::uint32_t>(16384, 1)), out(device, 65536, "out");
  return run(device, ptx_module(body), "test", parameter_block(in.data(), out.data()),
             {.blocks = blocks, .threads = threads});
}

// An address of %rd3 = a + tid * stride + offset.
std::string at(int stride, int offset = 0) {
  return fmt::format(
      "mov.u32 %r1, %tid.x; mul.wide.u32 %rd5, %r1, {}; add.u64 %rd3, %rd1, %rd5; add.u64 %rd3, %rd3, {}; add.u64 "
      "%rd4, %rd2, %rd5;\n",
      stride, offset);
}

TEST_CASE("sectors of a warp's access: contiguous, strided, broadcast, shifted, vector") {
  const auto sectors = [](const std::string& body) { return count(body + "\nret;").sectors_read; };
  CHECK(sectors(at(4) + "ld.global.u32 %r2, [%rd3];") == 4);
  CHECK(sectors(at(8) + "ld.global.u32 %r2, [%rd3];") == 8);
  CHECK(sectors(at(128) + "ld.global.u32 %r2, [%rd3];") == 32);
  CHECK(sectors(at(0) + "ld.global.u32 %r2, [%rd3];") == 1);
  CHECK(sectors(at(4, 4) + "ld.global.u32 %r2, [%rd3];") == 5);
  CHECK(sectors(at(16) + "ld.global.v4.u32 {%r2, %r3, %r4, %r5}, [%rd3];") == 16);
  CHECK(sectors(at(2) + "ld.global.u16 %rs1, [%rd3];") == 2);
  // Lanes in reverse order touch the same sectors.
  CHECK(sectors("mov.u32 %r1, %tid.x; sub.u32 %r1, 31, %r1; mul.wide.u32 %rd5, %r1, 4; add.u64 %rd3, %rd1, %rd5; "
                "ld.global.u32 %r2, [%rd3];") == 4);
}

TEST_CASE("requested bytes and instructions count active lanes and warps") {
  const auto counters = count(
      at(4) + "setp.lt.u32 %p1, %r1, 40; @%p1 ld.global.u32 %r2, [%rd3]; @%p1 st.global.u16 [%rd4], %r2; ret;", 64, 3);
  CHECK(counters.blocks == 3);
  CHECK(counters.warps == 6);
  CHECK(counters.global_load_instructions == 6);
  CHECK(counters.global_store_instructions == 6);
  CHECK(counters.bytes_requested_read == 3 * 40 * 4);
  CHECK(counters.bytes_requested_written == 3 * 40 * 2);
  CHECK(counters.sectors_read == 3 * 5);
  CHECK(counters.warp_instructions == 6 * 11);
  CHECK(counters.lane_instructions == 3 * (64 * 9 + 40 * 2));
}

TEST_CASE("bank conflicts: wavefronts against the ideal") {
  const auto shared = [](int stride, const std::string& access) {
    const auto counters =
        count(fmt::format(".shared .align 16 .b8 box[16384]; mov.u32 %r1, %tid.x; mul.lo.u32 %r2, %r1, {}; mov.u32 "
                          "%r3, box; add.u32 %r3, %r3, %r2; mov.u64 %rd3, 0;\n{}\nret;",
                          stride, access));
    return std::pair{counters.shared_wavefronts, counters.shared_wavefronts_ideal};
  };
  using Pair = std::pair<std::uint64_t, std::uint64_t>;
  CHECK(shared(4, "st.shared.u32 [%r3], %r1;") == Pair{1, 1});
  CHECK(shared(8, "st.shared.u32 [%r3], %r1;") == Pair{2, 1});
  CHECK(shared(128, "st.shared.u32 [%r3], %r1;") == Pair{32, 1});
  CHECK(shared(132, "st.shared.u32 [%r3], %r1;") == Pair{1, 1});
  CHECK(shared(0, "st.shared.u32 [%r3], %r1;") == Pair{1, 1});
  CHECK(shared(8, "st.shared.u64 [%r3], %rd3;") == Pair{2, 2});
  CHECK(shared(16, "st.shared.v4.u32 [%r3], {%r1, %r1, %r1, %r1};") == Pair{4, 4});
  CHECK(shared(64, "st.shared.v4.u32 [%r3], {%r1, %r1, %r1, %r1};") == Pair{16, 4});
}

TEST_CASE("classes of instructions") {
  const auto counters = count(
      R"(mov.u32 %r1, %tid.x; cvt.rn.f32.u32 %f1, %r1; fma.rn.f32 %f2, %f1, %f1, %f1; ex2.approx.f32 %f3, %f2; add.u32 %r2, %r1, 1;
    shfl.sync.bfly.b32 %r3, %r2, 1, 31, -1; setp.lt.u32 %p1, %r3, 9; bar.sync 0; @%p1 bra END; nanosleep.u32 1; END: ret;)");
  CHECK(counters.data_movement == 3);  // two ld.param, one mov
  CHECK(counters.conversion == 1);
  CHECK(counters.float_arithmetic == 1);
  CHECK(counters.special_function == 1);
  CHECK(counters.integer_arithmetic == 1);
  CHECK(counters.shuffle == 1);
  CHECK(counters.control == 4);
  CHECK(counters.block_barriers == 1);
  CHECK(counters.divergent_branches == 1);
  CHECK(counters.warp_instructions == 13);
}

TEST_CASE("a uniform branch is not divergent") {
  CHECK(count("mov.u32 %r1, %ctaid.x; setp.eq.u32 %p1, %r1, 0; @%p1 bra END; trap; END: ret;").divergent_branches == 0);
}

TEST_CASE("a profile splits a launch's counts by line, busiest first, and only when it is asked for") {
  const std::string source = R"(
extern "C" __global__ void work(float* x) {
  __shared__ float tile[64];
  tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  float sum = 0;
  for (int i = 0; i < 64; ++i) sum += tile[(threadIdx.x * 2 + i) % 64];
  x[threadIdx.x] = sum;
})";
  const auto device = make_emulator("sm_90a");
  const DeviceBuffer x = upload(*device, std::vector<float>(64, 1.0F));
  const auto counters = run(*device, compile_ptx(source, "work"), "work", parameter_block(x.data()), {.threads = 64});
  CHECK(device->last_profile().empty());
  device->set_profiling(true);
  const auto profiled = run(*device, compile_ptx(source, "work"), "work", parameter_block(x.data()), {.threads = 64});
  CHECK(std::memcmp(&counters, &profiled, sizeof(counters)) == 0);
  LineProfile sum;
  std::uint64_t last = ~0ULL;
  for (const LineProfile& line : device->last_profile()) {
    CHECK(line.warp_instructions <= last);
    last = line.warp_instructions;
    sum.warp_instructions += line.warp_instructions;
    sum.lane_instructions += line.lane_instructions;
    sum.sectors_read += line.sectors_read;
    sum.sectors_written += line.sectors_written;
    sum.shared_wavefronts += line.shared_wavefronts;
    sum.shared_wavefronts_ideal += line.shared_wavefronts_ideal;
  }
  CHECK(sum.warp_instructions == profiled.warp_instructions);
  CHECK(sum.lane_instructions == profiled.lane_instructions);
  CHECK(sum.sectors_read == profiled.sectors_read);
  CHECK(sum.sectors_written == profiled.sectors_written);
  CHECK(sum.shared_wavefronts == profiled.shared_wavefronts);
  CHECK(sum.shared_wavefronts_ideal < sum.shared_wavefronts);
}

}  // namespace
}  // namespace gdnjit::tests

// Exchange among lanes, against the definitions of the PTX ISA evaluated lane by lane.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <bit>

#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

std::vector<std::uint32_t> lane_values(std::uint32_t factor) {
  std::vector<std::uint32_t> values(32);
  for (std::uint32_t lane = 0; lane < 32; ++lane) values[lane] = 1000 + lane * factor;
  return values;
}

// The pseudocode of shfl in the PTX ISA. Returns the source lane and whether it is in range.
std::pair<std::uint32_t, bool> shuffle_source(const std::string& mode, int lane, int b, int c) {
  const int segment = c >> 8 & 31, clamp = c & 31;
  const int max_lane = (lane & segment) | (clamp & ~segment), min_lane = lane & segment;
  int j = lane;
  bool valid = false;
  if (mode == "up") j = lane - b, valid = j >= max_lane;
  if (mode == "down") j = lane + b, valid = j <= max_lane;
  if (mode == "bfly") j = lane ^ b, valid = j <= max_lane;
  if (mode == "idx") j = min_lane | (b & ~segment), valid = j <= max_lane;
  return {static_cast<std::uint32_t>(valid ? j : lane), valid};
}

TEST_CASE("shfl moves values in all modes, widths and distances") {
  const auto a = lane_values(7);
  for (const std::string mode : {"up", "down", "bfly", "idx"}) {
    for (const int width : {32, 16, 8, 2}) {
      for (const int b : {0, 1, 3, 5, 16, 31}) {
        const int c = (32 - width) << 8 | (mode == "up" ? 0 : 31);
        CAPTURE(mode);
        CAPTURE(width);
        CAPTURE(b);
        const auto result =
            map3<std::uint32_t>(fmt::format("ld.global.u32 %r1, [%rd1]; shfl.sync.{}.b32 %r2|%p1, %r1, {}, {}, -1; "
                                            "@%p1 add.u32 %r2, %r2, 0x10000; st.global.u32 [%rd4], %r2;",
                                            mode, b, c),
                                a, a, a);
        for (int lane = 0; lane < 32; ++lane) {
          const auto [source, valid] = shuffle_source(mode, lane, b, c);
          REQUIRE(result[lane] == a[source] + (valid ? 0x10000U : 0U));
        }
      }
    }
  }
}

TEST_CASE("a shuffle inside a branch works on the lanes that are there") {
  const auto a = lane_values(1);
  const auto result =
      map3<std::uint32_t>(R"(ld.global.u32 %r1, [%rd1]; mov.u32 %r2, %laneid; setp.ge.u32 %p1, %r2, 16; mov.u32 %r3, 5;
    @%p1 bra DONE;
    shfl.sync.bfly.b32 %r3, %r1, 15, 31, 0xffff;
    DONE: st.global.u32 [%rd4], %r3;)",
                          a, a, a);
  for (std::uint32_t lane = 0; lane < 32; ++lane) CHECK(result[lane] == (lane < 16 ? a[lane ^ 15] : 5));
}

TEST_CASE("votes, matches, reductions and elections") {
  std::vector<std::uint32_t> a(32);
  for (std::uint32_t lane = 0; lane < 32; ++lane) a[lane] = lane / 5 * 3;
  const auto out = [&](const std::string& body) {
    return map3<std::uint32_t>(
        "ld.global.u32 %r1, [%rd1]; setp.gt.u32 %p1, %r1, 6;\n" + body + "\nst.global.u32 [%rd4], %r2;", a, a, a);
  };
  std::uint32_t ballot = 0, sum = 0, most = 0, combined = 0;
  for (std::uint32_t lane = 0; lane < 32; ++lane) {
    ballot |= (a[lane] > 6 ? 1U : 0U) << lane;
    sum += a[lane], most = std::max(most, a[lane]), combined ^= a[lane];
  }
  CHECK(out("vote.sync.ballot.b32 %r2, %p1, -1;")[3] == ballot);
  CHECK(out("vote.sync.ballot.b32 %r2, !%p1, -1;")[31] == ~ballot);
  CHECK(out("vote.sync.any.pred %p2, %p1, -1; selp.u32 %r2, 1, 0, %p2;")[0] == 1);
  CHECK(out("vote.sync.all.pred %p2, %p1, -1; selp.u32 %r2, 1, 0, %p2;")[0] == 0);
  CHECK(out("vote.sync.uni.pred %p2, %p1, -1; selp.u32 %r2, 1, 0, %p2;")[0] == 0);
  CHECK(out("redux.sync.add.u32 %r2, %r1, -1;")[9] == sum);
  CHECK(out("redux.sync.max.u32 %r2, %r1, -1;")[9] == most);
  CHECK(out("redux.sync.xor.b32 %r2, %r1, -1;")[9] == combined);
  CHECK(out("activemask.b32 %r2;")[9] == 0xffffffffU);
  CHECK(out("elect.sync %r2|%p2, 0xffffffff; @%p2 add.u32 %r2, %r2, 100;")[0] == 100);
  CHECK(out("elect.sync %r2|%p2, 0xffffffff; @%p2 add.u32 %r2, %r2, 100;")[7] == 0);
  CHECK(out("match.all.sync.b32 %r2|%p2, %r1, -1;")[0] == 0);
  const auto same = out("match.any.sync.b32 %r2, %r1, -1;");
  for (std::uint32_t lane = 0; lane < 32; ++lane) {
    std::uint32_t want = 0;
    for (std::uint32_t other = 0; other < 32; ++other) want |= (a[other] == a[lane] ? 1U : 0U) << other;
    CHECK(same[lane] == want);
  }
}

TEST_CASE("named barriers let producers and consumers meet, and bar.red counts over the block") {
  // Warps 0 and 1 produce, warps 2 and 3 consume; barrier 3 has 128 threads, of which 64 only arrive.
  const std::string ptx = ptx_module(R"(
    .shared .align 4 .b32 box[64];
    mov.u32 %r1, %tid.x; setp.ge.u32 %p1, %r1, 64; and.b32 %r2, %r1, 63; shl.b32 %r3, %r2, 2; mov.u32 %r4, box; add.u32 %r4, %r4, %r3;
    @%p1 bra CONSUME;
    mul.lo.u32 %r5, %r1, 3; st.shared.u32 [%r4], %r5; bar.arrive 3, 128; bra.uni COUNT;
    CONSUME: bar.sync 3, 128; ld.shared.u32 %r6, [%r4]; mul.wide.u32 %rd3, %r2, 4; add.u64 %rd3, %rd1, %rd3; st.global.u32 [%rd3], %r6;
    COUNT: setp.lt.u32 %p2, %r1, 37; barrier.cta.red.popc.aligned.u32 %r7, 0, %p2; bar.red.and.pred %p3, 1, %p2; bar.red.or.pred %p4, 2, %p2;
    selp.u32 %r8, 1000, 0, %p3; selp.u32 %r9, 2000, 0, %p4; add.u32 %r7, %r7, %r8; add.u32 %r7, %r7, %r9; setp.ne.u32 %p5, %r1, 0; @!%p5 st.global.u32 [%rd2], %r7; ret;)");
  Device& device = emulator();
  const DeviceBuffer values(device, 256, "values"), count(device, 4, "count");
  const auto counters = run(device, ptx, "test", parameter_block(values.data(), count.data()), {.threads = 128});
  for (std::uint32_t i = 0; i < 64; ++i) CHECK(download<std::uint32_t>(device, values)[i] == 3 * i);
  CHECK(download<std::uint32_t>(device, count)[0] == 2037);
  CHECK(counters.block_barriers == 16);
}

}  // namespace
}  // namespace gdnjit::tests

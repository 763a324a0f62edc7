// Loads, stores and atomics in every state space; branches by table; selection.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

TEST_CASE("narrow loads extend to the register, narrow stores cut") {
  const auto a = sample_integers<std::uint64_t>(256, 31);
  const auto result = map3<std::int64_t>(
      R"(ld.global.s8 %rd9, [%rd1]; ld.global.u8 %r1, [%rd1+1]; ld.global.s16 %r2, [%rd1+2]; ld.global.u16 %rs1, [%rd1+4];
    cvt.u64.u32 %rd10, %r1; cvt.s64.s32 %rd11, %r2; cvt.u64.u16 %rd12, %rs1; add.s64 %rd9, %rd9, %rd10; add.s64 %rd9, %rd9, %rd11; add.s64 %rd9, %rd9, %rd12;
    st.global.b32 [%rd4], %rd9; shr.s64 %rd13, %rd9, 32; st.global.b16 [%rd4+4], %rd13; cvt.u16.u64 %rs2, %rd13; st.global.b16 [%rd4+6], %rs2;)",
      a, a, a);
  for (std::size_t i = 0; i < a.size(); ++i) {
    const std::int64_t want = static_cast<std::int8_t>(a[i]) + static_cast<std::int64_t>(a[i] >> 8 & 0xff) +
                              static_cast<std::int16_t>(a[i] >> 16) + static_cast<std::int64_t>(a[i] >> 32 & 0xffff);
    const std::uint64_t high = static_cast<std::uint64_t>(want) >> 32 & 0xffff;
    REQUIRE(static_cast<std::uint64_t>(result[i]) ==
            ((static_cast<std::uint64_t>(want) & 0xffffffffU) | high << 32 | high << 48));
  }
}

struct alignas(16) Four {
  std::uint32_t x[4];
};

TEST_CASE("vector accesses keep the order of their elements, with every cache hint") {
  std::vector<Four> a(96);
  for (std::uint32_t i = 0; i < a.size(); ++i) a[i] = {{i, i + 1000, i + 2000, i + 3000}};
  for (const std::string hint : {"", ".cs", ".cg", ".nc", ".nc.L1::no_allocate", ".L1::no_allocate", ".L2::128B",
                                 ".nc.L1::evict_first.L2::256B"}) {
    CAPTURE(hint);
    const auto result = map3<Four>(
        fmt::format("ld.global{}.v4.b32 {{%r1, %r2, %r3, %r4}}, [%rd1]; ld.global.v2.b64 {{%rd9, %rd10}}, [%rd1]; "
                    "ld.global.v4.u32 {{_, %r5, _, _}}, [%rd1]; mov.b64 {{%r6, %r7}}, %rd10;\n"
                    "add.u32 %r1, %r1, %r7; add.u32 %r2, %r2, %r5; st.global.v4.b32 [%rd4], {{%r4, %r3, %r2, %r1}};",
                    hint),
        a, a, a);
    for (std::uint32_t i = 0; i < a.size(); ++i) {
      REQUIRE(result[i].x[0] == i + 3000);
      REQUIRE(result[i].x[1] == i + 2000);
      REQUIRE(result[i].x[2] == 2 * i + 2000);
      REQUIRE(result[i].x[3] == 2 * i + 3000);
    }
  }
}

TEST_CASE("generic addresses reach shared, local, parameter and global memory") {
  const auto a = sample_integers<std::uint32_t>(64, 32);
  const auto result = map3<std::uint32_t>(R"(.shared .align 8 .b8 box[256]; .local .align 8 .b8 own[64];
    ld.u32 %r1, [%rd1]; mov.u32 %r2, %laneid; mul.wide.u32 %rd9, %r2, 4;
    mov.u64 %rd10, box; add.u64 %rd10, %rd10, %rd9; cvta.shared.u64 %rd11, %rd10; st.u32 [%rd11], %r1; cvta.to.shared.u64 %rd12, %rd11; ld.shared.u32 %r3, [%rd12];
    mov.u64 %rd13, own; cvta.local.u64 %rd14, %rd13; st.u32 [%rd14+8], %r3; ld.local.u32 %r4, [own+8];
    and.b32 %r5, %r2, 1; setp.eq.u32 %p1, %r5, 0; add.u64 %rd15, %rd14, 8; selp.u64 %rd16, %rd15, %rd11, %p1; ld.u32 %r6, [%rd16];
    isspacep.shared %p2, %rd16; selp.u32 %r7, 1, 0, %p2; add.u32 %r8, %r4, %r6; add.u32 %r8, %r8, %r7;
    mov.b64 %rd17, d; cvta.param.u64 %rd18, %rd17; ld.u64 %rd19, [%rd18]; mul.wide.u32 %rd20, %r30, 4; add.u64 %rd19, %rd19, %rd20; cvta.to.global.u64 %rd19, %rd19; st.global.u32 [%rd19], %r8;)",
                                          a, a, a);
  for (std::uint32_t i = 0; i < a.size(); ++i) CHECK(result[i] == 2 * a[i] + i % 2);
}

TEST_CASE("atomics lose no update, from any block, and return the old value") {
  const std::string source = R"(
extern "C" __global__ void tally(unsigned* u, int* s, float* f, unsigned long long* w) {
  unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(u, i); atomicMax(s, (int)(i * 7919 % 1000)); atomicMin(s + 1, -(int)(i % 77)); atomicAdd(f, 0.5f); atomicXor(u + 1, i); atomicOr(u + 2, 1u << i % 32);
  atomicInc(u + 3, 99); atomicAdd(w, 1ull << 33);
  unsigned ticket = atomicAdd(u + 4, 1); u[8 + ticket] = 1;
  __shared__ unsigned total; if (threadIdx.x == 0) total = 0; __syncthreads(); atomicAdd(&total, i); __syncthreads(); if (threadIdx.x == 0) atomicAdd(u + 5, total);
  unsigned old; do { old = u[6]; } while (atomicCAS(u + 6, old, old + 2) != old);
})";
  for (const std::string arch : {"sm_80", "sm_100"}) {
    Device& device = emulator(arch);
    const DeviceBuffer u(device, 4 * (8 + 4096), "u"), s(device, 8, "s"), f(device, 4, "f"), w(device, 8, "w");
    for (const DeviceBuffer* buffer : {&u, &s, &f, &w})
      device.fill(const_cast<void*>(static_cast<const void*>(buffer->data())), 0, buffer->bytes(), nullptr);
    run(device, compile_ptx(source, "tally", arch), "tally", parameter_block(u.data(), s.data(), f.data(), w.data()),
        {.blocks = 32, .threads = 128});
    std::uint32_t sum = 0, exclusive = 0;
    for (std::uint32_t i = 0; i < 4096; ++i) sum += i, exclusive ^= i;
    const auto uu = download<std::uint32_t>(device, u);
    CHECK(uu[0] == sum);
    CHECK(uu[1] == exclusive);
    CHECK(uu[2] == 0xffffffffU);
    CHECK(uu[3] == 4096 % 100);
    CHECK(uu[5] == sum);
    CHECK(uu[6] == 8192);
    CHECK(std::accumulate(uu.begin() + 8, uu.end(), 0U) == 4096);
    CHECK(download<int>(device, s)[0] == 999);
    CHECK(download<int>(device, s)[1] == -76);
    CHECK(download<float>(device, f)[0] == 2048.0F);
    CHECK(download<std::uint64_t>(device, w)[0] == 4096ULL << 33);
  }
}

TEST_CASE("module variables are initialised, shared by blocks and may hold addresses") {
  const std::string ptx = ptx_module(
      "ld.global.u64 %rd3, [pointer]; ld.global.u32 %r1, [%rd3]; ld.const.f32 %f1, [half]; cvt.rni.u32.f32 %r2, %f1; "
      "add.u32 %r1, %r1, %r2; st.global.u32 [%rd1], %r1; ld.global.u32 %r3, [zeros+12]; st.global.u32 [%rd1+4], %r3; "
      "ret;",
      ".global .align 4 .b32 table[3] = {7, 8, 9}; .global .align 8 .u64 pointer = generic(table)+4; .const .f32 half "
      "= 0f40200000; .global .b32 zeros[5];");
  Device& device = emulator();
  const DeviceBuffer out(device, 8, "out");
  run(device, ptx, "test", parameter_block(out.data(), out.data()));
  CHECK(download<std::uint32_t>(device, out) == std::vector<std::uint32_t>{10, 0});
}

TEST_CASE("brx.idx takes each lane to its own label, and lanes meet again") {
  std::vector<std::uint32_t> a(64);
  for (std::uint32_t i = 0; i < 64; ++i) a[i] = i * 5 % 3;
  const auto result = map3<std::uint32_t>(R"(ld.global.u32 %r1, [%rd1];
    TABLE: .branchtargets ZERO, ONE, TWO;
    brx.idx %r1, TABLE;
    TWO: mov.u32 %r2, 22; bra DONE;
    ZERO: mov.u32 %r2, 20; bra DONE;
    ONE: mov.u32 %r2, 21;
    DONE: activemask.b32 %r3; setp.ne.u32 %p1, %r3, -1; @%p1 trap; st.global.u32 [%rd4], %r2;)",
                                          a, a, a);
  for (std::uint32_t i = 0; i < 64; ++i) CHECK(result[i] == 20 + a[i]);
}

TEST_CASE("comparisons order NaN as their names say, and combine with predicates") {
  const auto a = sample_floats(2048, 33), b = sample_floats(2048, 34);
  const struct {
    const char* name;
    bool (*want)(float, float);
  } cases[] = {{"eq", [](float x, float y) { return x == y; }},
               {"ne", [](float x, float y) { return x < y || x > y; }},
               {"lt", [](float x, float y) { return x < y; }},
               {"geu", [](float x, float y) { return !(x < y); }},
               {"neu", [](float x, float y) { return x != y; }},
               {"equ", [](float x, float y) { return !(x < y || x > y); }},
               {"num", [](float x, float y) { return !std::isnan(x) && !std::isnan(y); }},
               {"nan", [](float x, float y) { return std::isnan(x) || std::isnan(y); }},
               {"gtu", [](float x, float y) { return !(x <= y); }}};
  for (const auto& test : cases) {
    CAPTURE(test.name);
    const auto result = map3<std::uint32_t>(
        fmt::format(R"(ld.global.f32 %f1, [%rd1]; ld.global.f32 %f2, [%rd2]; setp.gt.f32 %p1, %f1, 0f00000000;
      setp.{0}.f32 %p2, %f1, %f2; setp.{0}.and.f32 %p3|%p4, %f1, %f2, !%p1; set.{0}.u32.f32 %r1, %f1, %f2;
      selp.u32 %r2, 1, 0, %p2; selp.u32 %r3, 2, 0, %p3; selp.u32 %r4, 4, 0, %p4; and.b32 %r1, %r1, 8; add.u32 %r1, %r1, %r2; add.u32 %r1, %r1, %r3; add.u32 %r1, %r1, %r4; st.global.u32 [%rd4], %r1;)",
                    test.name),
        a, b, a);
    for (std::size_t i = 0; i < a.size(); ++i) {
      const bool holds = test.want(a[i], b[i]), not_positive = !(a[i] > 0);
      REQUIRE(result[i] == (holds ? 9U : 0U) + (holds && not_positive ? 2U : 0U) + (!holds && not_positive ? 4U : 0U));
    }
  }
}

TEST_CASE("slct, testp and packing") {
  const auto a = sample_floats(512, 35);
  const auto result = map3<std::uint32_t>(
      R"(ld.global.f32 %f1, [%rd1]; mov.b32 %r1, %f1; mov.b32 {%rs1, %rs2}, %r1; mov.b32 %r2, {%rs2, %rs1};
    slct.u32.f32 %r3, %r2, %r1, %f1; testp.subnormal.f32 %p1, %f1; @%p1 mov.u32 %r3, 77; st.global.u32 [%rd4], %r3;)",
      a, a, a);
  for (std::size_t i = 0; i < a.size(); ++i) {
    const std::uint32_t raw = bits(a[i]);
    const std::uint32_t want = std::fpclassify(a[i]) == FP_SUBNORMAL ? 77U : a[i] >= 0 ? (raw >> 16 | raw << 16) : raw;
    REQUIRE(result[i] == want);
  }
}

}  // namespace
}  // namespace gdnjit::tests

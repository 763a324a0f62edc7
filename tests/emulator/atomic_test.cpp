// Atomics of 16-bit floats, vectors, 16 and 128 bits; 128-bit moves; cache policies.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

// One warp per block runs `body` with the target's address in %rd1 and the thread's number in %r1.
template <typename T>
std::vector<T> run_on(const std::string& body, const std::vector<T>& initial, std::uint32_t blocks = 1,
                      const std::string& declarations = "") {
  Device& device = emulator();
  const DeviceBuffer target = upload(device, initial);
  const DeviceBuffer other(device, 4096 * 8, "result");
  run(device, ptx_module(".reg .b128 %q<9>;\nmov.u32 %r1, %tid.x;\n" + body + "\nret;", declarations), "test",
      parameter_block(target.data(), other.data()), {.blocks = blocks, .threads = 32});
  return download<T>(device, target);
}

std::uint16_t half(float v) {
  const auto narrow = static_cast<_Float16>(v);
  std::uint16_t bits16;
  std::memcpy(&bits16, &narrow, 2);
  return bits16;
}
std::uint16_t brain(float v) { return static_cast<std::uint16_t>(bits(v) >> 16); }

TEST_CASE("16-bit floats are added in global and shared memory, alone, in pairs and in vectors") {
  // Every lane of 4 blocks adds small whole numbers: the sums are exact in any order.
  const std::uint32_t f16_pair = half(1) | half(2) << 16, bf16_pair = brain(1) | brain(0.5F) << 16;
  const auto singles = run_on<std::uint16_t>(
      "mov.b16 %rs1, 0x3c00; mov.b16 %rs2, 0x3f80; red.global.add.noftz.f16 [%rd1], %rs1; "
      "red.relaxed.gpu.global.add.noftz.bf16 [%rd1+2], %rs2; atom.add.noftz.f16 %rs3, [%rd1+4], %rs1;",
      {0, 0, half(3), 0}, 4);
  CHECK(singles[0] == half(128));
  CHECK(singles[1] == brain(128));
  CHECK(singles[2] == half(131));
  CHECK(singles[3] == 0);
  const auto pairs =
      run_on<std::uint32_t>(fmt::format("mov.b32 %r2, {}; mov.b32 %r3, {}; red.global.add.noftz.f16x2 [%rd1], %r2; "
                                        "atom.acq_rel.sys.global.add.noftz.bf16x2 %r4, [%rd1+4], %r3;",
                                        f16_pair, bf16_pair),
                            {0, 0}, 4);
  CHECK(pairs[0] == (half(128) | static_cast<std::uint32_t>(half(256)) << 16));
  CHECK(pairs[1] == (brain(128) | static_cast<std::uint32_t>(brain(64)) << 16));
  const auto vectors = run_on<std::uint16_t>(
      fmt::format("mov.b32 %r2, {}; mov.b32 %r3, {}; mov.b32 {{%rs1, %rs2}}, %r2; "
                  "red.global.add.noftz.v8.f16 [%rd1], {{%rs1, %rs2, %rs1, %rs2, %rs1, %rs2, %rs1, %rs2}}; "
                  "red.global.v4.bf16x2.add.noftz [%rd1+16], {{%r3, %r3, %r3, %r3}}; "
                  "red.global.v2.bf16.min.noftz [%rd1+32], {{%rs1, %rs2}};",
                  f16_pair, bf16_pair),
      std::vector<std::uint16_t>(18, 0), 2);
  for (std::size_t i = 0; i < 8; ++i) {
    CHECK(vectors[i] == half(i % 2 == 0 ? 64 : 128));
    CHECK(vectors[8 + i] == brain(i % 2 == 0 ? 64 : 32));
  }
  const auto shared = run_on<std::uint32_t>(
      fmt::format("mov.u32 %r5, 0; mov.u64 %rd3, s; setp.eq.u32 %p1, %r1, 0; @%p1 st.shared.u32 [s], %r5; bar.sync 0; "
                  "mov.b32 %r2, {}; red.shared.add.noftz.f16x2 [s], %r2; cvta.shared.u64 %rd4, %rd3; "
                  "red.add.noftz.f16x2 [%rd4], %r2; bar.sync 0; ld.shared.u32 %r6, [s]; st.global.u32 [%rd1], %r6;",
                  f16_pair),
      {0}, 1, ".shared .align 4 .b8 s[4];");
  CHECK(shared[0] == (half(64) | static_cast<std::uint32_t>(half(128)) << 16));
}

TEST_CASE("an atomic addition of f16 rounds to nearest even and keeps subnormals, and gives the old value back") {
  const auto a = sample_floats(2048, 81), b = sample_floats(2048, 82);
  std::vector<std::uint16_t> old(2048), operand(2048);
  std::mt19937 random(83);
  for (std::size_t i = 0; i < old.size(); ++i) {
    old[i] = i % 3 == 0 ? static_cast<std::uint16_t>(random() % 2048) : half(a[i]);
    operand[i] = i % 3 == 0 ? static_cast<std::uint16_t>(random() % 2048) : half(b[i]);
  }
  const std::string load =
      "ld.global.b16 %rs1, [%rd1]; ld.global.b16 %rs2, [%rd2]; mov.b32 %r2, {%rs1, %rs1}; "
      "st.global.b32 [%rd4], %r2;\n";
  const std::string store = " ld.global.b16 %rs5, [%rd4]; mov.b32 %r1, {%rs3, %rs5}; st.global.b32 [%rd4], %r1;";
  const auto sums =
      map3<std::uint32_t>(load + "atom.global.add.noftz.f16 %rs3, [%rd4], %rs2;" + store, old, operand, old);
  const auto least = map3<std::uint32_t>(
      load + "atom.global.min.noftz.v2.f16 {%rs3, %rs4}, [%rd4], {%rs2, %rs2};" + store, old, operand, old);
  const auto most = map3<std::uint32_t>(
      load + "atom.global.max.noftz.v2.f16 {%rs3, %rs4}, [%rd4], {%rs2, %rs2};" + store, old, operand, old);
  // Codes as integers in the order of their values, -0 below +0.
  const auto order = [](std::uint16_t code) { return (code & 0x8000) != 0 ? -(code & 0x7fff) - 1 : code & 0x7fff; };
  const auto is_nan = [](std::uint16_t code) { return (code & 0x7fff) > 0x7c00; };
  for (std::size_t i = 0; i < old.size(); ++i) {
    _Float16 x, y;
    std::memcpy(&x, &old[i], 2);
    std::memcpy(&y, &operand[i], 2);
    const float sum = static_cast<float>(x) + static_cast<float>(y);
    REQUIRE((sums[i] & 0xffff) == old[i]);
    REQUIRE((sums[i] >> 16) == (std::isnan(sum) ? 0x7fffU : half(sum)));
    const bool old_is_less = order(old[i]) < order(operand[i]);
    std::uint16_t low = old_is_less ? old[i] : operand[i], high = old_is_less ? operand[i] : old[i];
    if (is_nan(old[i])) low = high = operand[i];
    if (is_nan(operand[i])) low = high = old[i];
    if (is_nan(low)) low = high = 0x7fff;
    REQUIRE((least[i] >> 16) == low);
    REQUIRE((most[i] >> 16) == high);
    REQUIRE((most[i] & 0xffff) == old[i]);
  }
}

TEST_CASE("vectors of f32 are added in global memory, with subnormals flushed") {
  const auto result = run_on<float>(
      "mov.f32 %f1, 0f3f800000; mov.f32 %f2, 0f40000000; mov.f32 %f3, 0f00000001; "
      "red.global.add.v4.f32 [%rd1], {%f1, %f2, %f3, %f1}; atom.global.v2.f32.add {%f4, %f5}, [%rd1+16], {%f1, %f2}; "
      "add.f32 %f4, %f4, %f5; mul.wide.u32 %rd3, %r1, 4; add.u64 %rd3, %rd2, %rd3; st.global.f32 [%rd3], %f4;",
      {1, 2, from_bits(5), 0, 10, 20, 0, 0});
  CHECK(result[0] == 33);
  CHECK(result[1] == 66);
  CHECK(bits(result[2]) == 0);
  CHECK(result[3] == 32);
  CHECK(result[4] == 42);
  CHECK(result[5] == 84);
}

TEST_CASE("compare-and-swap of 16 bits counts every lane of every block") {
  const auto result = run_on<std::uint16_t>(R"(
  ld.relaxed.gpu.global.b16 %rs1, [%rd1+2];
again:
  add.u16 %rs2, %rs1, 1;
  mov.b16 %rs4, %rs1;
  atom.relaxed.gpu.global.cas.b16 %rs3, [%rd1+2], %rs1, %rs2;
  setp.ne.u16 %p1, %rs3, %rs4;
  mov.b16 %rs1, %rs3;
  @%p1 bra again;)",
                                            {7, 100, 9, 11}, 8);
  CHECK(result == std::vector<std::uint16_t>{7, 100 + 8 * 32, 9, 11});
}

TEST_CASE("exchange and compare-and-swap of 128 bits take both halves together") {
  const auto result = run_on<std::uint64_t>(R"(
again:
  ld.global.v2.u64 {%rd5, %rd6}, [%rd1];
  add.u64 %rd7, %rd5, 1;
  sub.u64 %rd8, %rd6, 1;
  mov.b128 %q1, {%rd5, %rd6};
  mov.b128 %q2, {%rd7, %rd8};
  atom.relaxed.gpu.global.cas.b128 %q3, [%rd1], %q1, %q2;
  mov.b128 {%rd9, %rd10}, %q3;
  setp.ne.u64 %p1, %rd9, %rd5;
  setp.ne.or.u64 %p1, %rd10, %rd6, %p1;
  @%p1 bra again;
  mov.b128 %q4, {%rd7, %rd8};
  mov.b128 %q5, %q4;
  atom.global.exch.b128 %q6, [%rd1+16], %q5;
  ld.global.b128 %q7, [%rd1+32];
  setp.eq.u32 %p2, %r1, 5;
  @%p2 st.global.b128 [%rd1+48], %q7;)",
                                            {0, 1000, 0, 0, 123, 456, 0, 0}, 4);
  CHECK(result[0] == 128);
  CHECK(result[1] == 872);
  CHECK(result[2] + result[3] == 1000);
  CHECK(result[2] != 0);
  CHECK(result[6] == 123);
  CHECK(result[7] == 456);
}

TEST_CASE("cache policies are made, passed on and change nothing") {
  const auto result = run_on<std::uint32_t>(R"(
  createpolicy.fractional.L2::evict_last.b64 %rd5, 0f3f000000;
  createpolicy.fractional.L2::evict_first.L2::evict_unchanged.b64 %rd6;
  createpolicy.range.global.L2::evict_last.L2::evict_first.b64 %rd7, [%rd1], 128, 256;
  createpolicy.cvt.L2.b64 %rd8, 0x1000000000000000;
  mul.wide.u32 %rd9, %r1, 4;
  add.u64 %rd9, %rd1, %rd9;
  prefetch.global.L2::evict_last [%rd1];
  prefetchu.L1 [%rd1];
  applypriority.global.L2::evict_normal [%rd1], 128;
  ld.global.nc.L1::no_allocate.L2::cache_hint.b32 %r2, [%rd9], %rd5;
  add.u32 %r2, %r2, WARP_SZ;
  st.global.L2::cache_hint.b32 [%rd9], %r2, %rd6;
  red.global.add.L2::cache_hint.u32 [%rd9], 1, %rd7;
  atom.global.exch.L2::cache_hint.b32 %r3, [%rd9], 99, %rd8;
  pmevent 3;)",
                                            [] {
                                              std::vector<std::uint32_t> values;
                                              for (std::uint32_t i = 0; i < 32; ++i) values.push_back(i);
                                              return values;
                                            }());
  for (std::uint32_t i = 0; i < 32; ++i) CHECK(result[i] == 99);
}

TEST_CASE("every ordering and scope of loads, stores and atomics runs") {
  std::string body = "mov.u32 %r2, 1;\n";
  int additions = 0;
  for (const char* scope : {"cta", "cluster", "gpu", "sys"}) {
    for (const char* order : {"relaxed", "acquire", "release", "acq_rel"}) {
      body += fmt::format("atom.{}.{}.global.add.u32 %r3, [%rd1], %r2;\n", order, scope);
      ++additions;
    }
    body += fmt::format(
        "red.release.{0}.global.add.u32 [%rd1], 1; ld.acquire.{0}.global.u32 %r3, [%rd1]; "
        "ld.relaxed.{0}.u32 %r3, [%rd1]; st.release.{0}.global.u32 [%rd1+4], %r2; st.relaxed.{0}.u32 "
        "[%rd1+4], %r2;\n",
        scope);
    ++additions;
  }
  body +=
      "ld.volatile.global.u32 %r3, [%rd1]; st.volatile.u32 [%rd1+4], 5; ld.weak.global.u32 %r3, [%rd1]; "
      "ld.mmio.relaxed.sys.global.u32 %r3, [%rd1];\n";
  const auto result = run_on<std::uint32_t>(body, {0, 0});
  CHECK(result[0] == static_cast<std::uint32_t>(32 * additions));
  CHECK(result[1] == 5);
}

TEST_CASE("atomics that PTX does not define are refused") {
  for (const char* line : {"red.global.add.f16 [%rd1], %rs1;", "red.global.add.noftz.f32 [%rd1], %f1;",
                           "red.shared.add.v2.f32 [%rd1], {%f1, %f2};",
                           "red.global.v8.f32.add [%rd1], {%f1, %f1, %f1, %f1, %f1, %f1, %f1, %f1};",
                           "red.global.v2.f32.min [%rd1], {%f1, %f2};", "atom.global.add.b128 %q1, [%rd1], %q2;",
                           "red.global.v4.f32.add [%rd1], {%f1, %f2};", "red.global.min.noftz.f16x2 [%rd1], %r1;",
                           "atom.global.exch.b16 %rs1, [%rd1], %rs2;", "red.global.v2.f16.add [%rd1], {%rs1, %rs2};",
                           "red.local.add.u32 [%rd1], 1;", "multimem.red.global.add.f32 [%rd1], %f1;",
                           "ld.global.L2::cache_hint.b32 %r1, [%rd1];", "ld.global.b32 %r1, [%rd1], %rd2;",
                           "mov.b128 %q1, 5;", "applypriority.global.L2::evict_normal [%rd1], 64;"}) {
    CAPTURE(std::string(line));
    const std::string text = error_text([&] {
      emulator().load({"test", ptx_module(std::string(".reg .b128 %q<9>;\n") + line), {}});
    });
    CHECK(text.find("PTX line") != std::string::npos);
  }
}

}  // namespace
}  // namespace gdnjit::tests

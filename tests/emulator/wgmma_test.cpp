// wgmma, every type, layout and swizzle, against three loops over logical matrices.
#include <doctest/doctest.h>

#include "tests/emulator/wgmma_fixture.h"

namespace gdnjit::tests {
namespace {

struct Case {
  std::string a = "bf16", b = "bf16", d = "f32";
  int n = 64;
  Layout layout_a, layout_b;
  bool a_in_registers = false;
  bool accumulate = true;
  int sign_a = 1, sign_b = 1;
  bool saturates = false;

  int bits() const { return format_of(a).bits; }
  int k() const { return 256 / bits(); }
  int d_bits() const { return d == "f16" ? 16 : 32; }
  int d_registers() const { return n * d_bits() / 64; }
  bool is_integer() const { return format_of(a).is_integer(); }

  std::string instruction() const {
    std::string tail;
    if (!is_integer()) tail = fmt::format(", {}, {}", sign_a, sign_b);
    if (bits() == 16 && !a_in_registers) tail += fmt::format(", {:d}", layout_a.mn_major);
    if (bits() == 16) tail += fmt::format(", {:d}", layout_b.mn_major);
    const std::string first = a_in_registers ? "{" + numbered("%a", 4) + "}" : "%rd10";
    return fmt::format("wgmma.mma_async.sync.aligned.m64n{}k{}{}.{}.{}.{} {{{}}}, {}, %rd11, %p1{};", n, k(),
                       saturates ? ".satfinite" : "", d, a, b, numbered("%d", d_registers()), first, tail);
  }
};

// Row and column of accumulator i of a thread; row and k of element i of its part of A.
std::pair<int, int> d_place(int thread, int i) {
  return {thread / 32 * 16 + thread % 32 / 4 + (i % 4 >= 2 ? 8 : 0), i / 4 * 8 + thread % 4 * 2 + i % 2};
}
std::pair<int, int> a_place(int thread, int i, int bits) {
  const int pack = 32 / bits, reg = i / pack;
  const int row = thread / 32 * 16 + thread % 32 / 4 + (reg == 1 || reg == 3 ? 8 : 0);
  return {row, thread % 4 * pack + i % pack + (reg >= 2 ? 4 * pack : 0)};
}

void check_case(const Case& test, std::uint32_t seed, bool wild = false) {
  CAPTURE(test.instruction().substr(0, 60));
  CAPTURE(test.layout_a.name());
  CAPTURE(test.layout_b.name());
  std::mt19937 random(seed);
  const Matrix a = sample_matrix(test.a, 64, test.k(), random, wild);
  const Matrix b = sample_matrix(test.b, test.k(), test.n, random, wild);
  const Matrix c = sample_matrix(test.d, 64, test.n, random, wild);
  std::vector<std::uint8_t> image;
  if (!test.a_in_registers) put_matrix(image, a, true, test.layout_a);
  put_matrix(image, b, false, test.layout_b);
  image.resize((image.size() + 15) / 16 * 16, 0x55);
  const int fragments = test.a_in_registers ? 4 : 0;
  std::vector<std::uint32_t> registers(static_cast<std::size_t>(test.d_registers() + fragments) * 128);
  const int d_pack = 32 / test.d_bits();
  for (int thread = 0; thread < 128; ++thread) {
    for (int i = 0; i < test.d_registers() * d_pack; ++i) {
      const auto [row, column] = d_place(thread, i);
      registers[static_cast<std::size_t>(i / d_pack * 128 + thread)] |= c.at(row, column)
                                                                        << (i % d_pack * test.d_bits());
    }
    const int pack = 32 / test.bits();
    for (int i = 0; i < fragments * pack; ++i) {
      const auto [row, k] = a_place(thread, i, test.bits());
      registers[static_cast<std::size_t>((test.d_registers() + i / pack) * 128 + thread)] |=
          a.at(row, k) << (i % pack * test.bits());
    }
  }
  WgmmaKernel kernel;
  kernel.image_bytes = static_cast<int>(image.size());
  kernel.d_registers = test.d_registers();
  kernel.a_registers = fragments;
  kernel.body =
      fmt::format(R"(  mov.u64 %rd10, {};
  mov.u64 %rd11, {};
  setp.eq.u32 %p1, 0, {};
  wgmma.fence.sync.aligned;
  {}
  wgmma.commit_group.sync.aligned;
  wgmma.wait_group.sync.aligned 0;)",
                  test.layout_a.descriptor(), test.layout_b.descriptor(), test.accumulate ? 0 : 1, test.instruction());
  Device& device = emulator();
  const DeviceBuffer in = upload(device, image), regs = upload(device, registers);
  const DeviceBuffer out(device, static_cast<std::size_t>(test.d_registers()) * 512, "out");
  const LaunchCounters counters =
      run(device, kernel.ptx(), "test", parameter_block(in.data(), regs.data(), out.data()), {.threads = 128});
  CHECK(counters.tensor_core == 4);
  CHECK(counters.tensor_core_macs == static_cast<std::uint64_t>(64 * test.n * test.k()));
  CHECK(counters.tensor_shared_bytes == static_cast<std::uint64_t>((test.a_in_registers ? 0 : 64 * 32) + test.n * 32));
  const auto results = download<std::uint32_t>(device, out);
  for (int thread = 0; thread < 128; ++thread) {
    for (int i = 0; i < test.d_registers() * d_pack; ++i) {
      const auto [row, column] = d_place(thread, i);
      const std::uint32_t got =
          results[static_cast<std::size_t>(i / d_pack * 128 + thread)] >> (i % d_pack * test.d_bits()) &
          (test.d_bits() == 16 ? 0xffffU : ~0U);
      const Expected expected =
          product_element(a, b, test.accumulate ? c.value(row, column) : 0, row, column, test.sign_a * test.sign_b);
      if (is_rounded(format_of(test.d), got, expected, test.saturates)) continue;
      CAPTURE(row);
      CAPTURE(column);
      CHECK(value_of(format_of(test.d), got) == static_cast<double>(expected.value));
      return;
    }
  }
}

constexpr int kRowBytes[] = {16, 32, 64, 128};
// A starts at 0; B behind the largest A, at a multiple of every pattern.
constexpr int kStartB = 32 * 1024;

TEST_CASE("16-bit operands of either major in every swizzle give the product") {
  const int widths[] = {8, 24, 64, 136, 256};
  std::uint32_t seed = 0;
  for (const int row_a : kRowBytes) {
    for (const int row_b : kRowBytes) {
      for (int majors = 0; majors < 4; ++majors) {
        Case test;
        test.a = test.b = seed % 3 == 0 ? "f16" : "bf16";
        test.d = seed % 6 == 0 ? "f16" : "f32";
        test.n = widths[seed % 5];
        test.layout_a = layout_of(row_a, (majors & 1) != 0, 64, 0);
        test.layout_b = layout_of(row_b, (majors & 2) != 0, test.n, kStartB);
        test.accumulate = seed % 4 != 0;
        check_case(test, ++seed);
      }
    }
  }
}

TEST_CASE("A in registers meets B of either major in every swizzle") {
  std::uint32_t seed = 200;
  for (const int row_b : kRowBytes) {
    for (const bool mn_major : {false, true}) {
      for (const int n : {8, 96}) {
        Case test;
        test.a_in_registers = true;
        test.n = n;
        test.layout_b = layout_of(row_b, mn_major, n, 1024);
        check_case(test, ++seed);
      }
    }
  }
}

TEST_CASE("tf32, fp8 and byte operands in every swizzle give the product") {
  const std::vector<std::vector<std::string>> types{
      {"tf32", "tf32", "f32"}, {"e4m3", "e4m3", "f32"}, {"e4m3", "e5m2", "f32"},
      {"e5m2", "e4m3", "f16"}, {"e5m2", "e5m2", "f32"}, {"s8", "s8", "s32"},
      {"s8", "u8", "s32"},     {"u8", "s8", "s32"},     {"u8", "u8", "s32"}};
  const int widths[] = {8, 32, 112, 256};
  std::uint32_t seed = 300;
  for (const auto& type : types) {
    for (const int row : kRowBytes) {
      for (const bool registers : {false, true}) {
        Case test;
        test.a = type[0], test.b = type[1], test.d = type[2];
        test.n = widths[seed % 4];
        test.a_in_registers = registers;
        test.layout_a = layout_of(row, false, 64, 0);
        test.layout_b = layout_of(kRowBytes[seed % 4], false, test.n, kStartB);
        test.saturates = test.is_integer() && seed % 2 == 0;
        check_case(test, ++seed);
      }
    }
  }
}

TEST_CASE("infinities, NaN, subnormals and the ends of the formats go through as numbers") {
  std::uint32_t seed = 500;
  for (const std::vector<std::string>& type : {std::vector<std::string>{"bf16", "f32"},
                                               {"f16", "f32"},
                                               {"f16", "f16"},
                                               {"tf32", "f32"},
                                               {"e4m3", "f32"},
                                               {"e5m2", "f16"},
                                               {"s8", "s32"},
                                               {"u8", "s32"}}) {
    for (const bool saturates : {false, true}) {
      Case test;
      test.a = test.b = type[0], test.d = type[1];
      if (saturates && !test.is_integer()) continue;
      test.saturates = saturates;
      test.layout_a = layout_of(128, false, 64, 0);
      test.layout_b = layout_of(128, false, 64, kStartB);
      check_case(test, ++seed, true);
    }
  }
}

TEST_CASE("imm-scale negates A and B") {
  for (int signs = 0; signs < 4; ++signs) {
    Case test;
    test.n = 16;
    test.sign_a = (signs & 1) != 0 ? -1 : 1, test.sign_b = (signs & 2) != 0 ? -1 : 1;
    test.layout_a = layout_of(64, false, 64, 0);
    test.layout_b = layout_of(64, true, 16, kStartB);
    check_case(test, 600 + static_cast<std::uint32_t>(signs));
  }
}

TEST_CASE("a start inside a swizzled row is the next k, and a pattern may begin at its base offset") {
  std::uint32_t seed = 700;
  for (const int row : {64, 128}) {
    for (int column = 32; column < row; column += 32) {
      Case test;
      test.layout_a = layout_of(row, false, 64, 0);
      test.layout_b = layout_of(row, false, 64, kStartB);
      test.layout_a.column = test.layout_b.column = column;
      check_case(test, ++seed);
    }
  }
  for (const int base : {1, 3, 7}) {
    Case test;
    test.layout_a = layout_of(128, false, 64, 128 * base);
    test.layout_b = layout_of(64, true, 64, kStartB + 128 * base);
    test.layout_a.base_offset = test.layout_b.base_offset = base;
    check_case(test, ++seed);
  }
}

}  // namespace
}  // namespace gdnjit::tests

// mma.sync, every shape and type, against three loops over logical matrices; fragments by the tables of the PTX ISA.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <ctime>
#include <functional>

#include "tests/emulator/matrices.h"

namespace gdnjit::tests {
namespace {

// Row and column of element i of a lane's fragment, lane = 4 g + t, as the ISA writes them for each shape.
using Place = std::function<std::pair<int, int>(int g, int t, int i)>;

struct Shape {
  std::string name;
  int k = 0;
  int bits = 0;        // of an element of A and B
  int a_elements = 0;  // of a lane
  int b_elements = 0;
  Place a, b;
};

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> kShapes{
      {"m16n8k8", 8, 16, 4, 2,  //
       [](int g, int t, int i) { return std::pair(i < 2 ? g : g + 8, t * 2 + (i & 1)); },
       [](int g, int t, int i) { return std::pair(t * 2 + i, g); }},
      {"m16n8k16", 16, 16, 8, 4,
       [](int g, int t, int i) {
         return std::pair(i < 2 || (i >= 4 && i < 6) ? g : g + 8, t * 2 + (i & 1) + (i >= 4 ? 8 : 0));
       },
       [](int g, int t, int i) { return std::pair(t * 2 + (i & 1) + (i >= 2 ? 8 : 0), g); }},
      {"m16n8k4", 4, 32, 2, 1,  //
       [](int g, int t, int i) { return std::pair(i == 0 ? g : g + 8, t); },
       [](int g, int t, int) { return std::pair(t, g); }},
      {"m16n8k8", 8, 32, 4, 2,
       [](int g, int t, int i) { return std::pair(i == 0 || i == 2 ? g : g + 8, i < 2 ? t : t + 4); },
       [](int g, int t, int i) { return std::pair(i == 0 ? t : t + 4, g); }},
      {"m16n8k16", 16, 8, 8, 4,  //
       [](int g, int t, int i) { return std::pair(i < 4 ? g : g + 8, t * 4 + (i & 3)); },
       [](int g, int t, int i) { return std::pair(t * 4 + i, g); }},
      {"m16n8k32", 32, 8, 16, 8,
       [](int g, int t, int i) {
         return std::pair(i < 4 || (i >= 8 && i < 12) ? g : g + 8, t * 4 + (i & 3) + (i >= 8 ? 16 : 0));
       },
       [](int g, int t, int i) { return std::pair(t * 4 + (i & 3) + (i >= 4 ? 16 : 0), g); }},
      {"m16n8k32", 32, 4, 16, 8,  //
       [](int g, int t, int i) { return std::pair(i < 8 ? g : g + 8, t * 8 + (i & 7)); },
       [](int g, int t, int i) { return std::pair(t * 8 + i, g); }},
      {"m16n8k64", 64, 4, 32, 16,
       [](int g, int t, int i) {
         return std::pair(i < 8 || (i >= 16 && i < 24) ? g : g + 8, t * 8 + (i & 7) + (i >= 16 ? 32 : 0));
       },
       [](int g, int t, int i) { return std::pair(t * 8 + (i & 7) + (i >= 8 ? 32 : 0), g); }}};
  return kShapes;
}

std::pair<int, int> d_place(int g, int t, int i) { return {i < 2 ? g : g + 8, t * 2 + (i & 1)}; }

// The registers of all lanes, [register][trial][lane].
struct Fragments {
  int trials = 0;
  std::vector<std::uint32_t> words;

  Fragments(int registers, int count)
      : trials(count), words(static_cast<std::size_t>(registers) * static_cast<std::size_t>(count) * 32) {}
  std::uint32_t& at(int reg, int trial, int lane) {
    return words[static_cast<std::size_t>((reg * trials + trial) * 32 + lane)];
  }
  void put(int trial, int lane, int i, int bits, std::uint32_t element) {
    at(i * bits / 32, trial, lane) |= element << (i * bits % 32);
  }
  std::uint32_t get(int trial, int lane, int i, int bits) {
    return at(i * bits / 32, trial, lane) >> (i * bits % 32) & (bits == 32 ? ~0U : (1U << bits) - 1);
  }
};

struct Case {
  Shape shape;
  std::string a, b, d;
  bool saturates = false;

  int a_registers() const { return shape.a_elements * shape.bits / 32; }
  int b_registers() const { return shape.b_elements * shape.bits / 32; }
  int d_bits() const { return d == "f16" ? 16 : 32; }
  int d_registers() const { return d_bits() / 8; }
};

// "{%r0, %r1}" and the loads or stores of those registers, `stride` bytes apart.
std::string list(int first, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += fmt::format("{}%r{}", i == 0 ? "{" : ", ", first + i);
  return text + "}";
}
std::string loads(int first, int count, int pointer, int stride) {
  std::string text;
  for (int i = 0; i < count; ++i)
    text += fmt::format("ld.global.b32 %r{}, [%rd{}+{}];\n", first + i, pointer, i * stride);
  return text;
}

std::string ptx_of(const Case& test, int trials) {
  const int stride = trials * 128;
  std::string body = loads(0, test.a_registers(), 1, stride) + loads(4, test.b_registers(), 2, stride) +
                     loads(8, test.d_registers(), 3, stride);
  body += fmt::format("mma.sync.aligned.{}.row.col{}.{}.{}.{}.{} {}, {}, {}, {};\n", test.shape.name,
                      test.saturates ? ".satfinite" : "", test.d, test.a, test.b, test.d, list(12, test.d_registers()),
                      list(0, test.a_registers()), list(4, test.b_registers()), list(8, test.d_registers()));
  for (int i = 0; i < test.d_registers(); ++i)
    body += fmt::format("st.global.b32 [%rd4+{}], %r{};\n", i * stride, 12 + i);
  return ptx_kernel(body, 4, 4, 4, 4);
}

// Runs `trials` products on a kernel (a, b, c, d) and compares each element.
void check_case(const Case& test, const std::string& ptx, const std::string& entry, int trials, std::uint32_t seed) {
  CAPTURE(test.shape.name);
  CAPTURE(test.a);
  CAPTURE(test.b);
  CAPTURE(test.d);
  std::mt19937 random(seed);
  std::vector<Matrix> a, b, c;
  Fragments fa(test.a_registers(), trials), fb(test.b_registers(), trials), fc(test.d_registers(), trials);
  for (int trial = 0; trial < trials; ++trial) {
    const bool wild = trial % 3 == 2;
    a.push_back(sample_matrix(test.a, 16, test.shape.k, random, wild));
    b.push_back(sample_matrix(test.b, test.shape.k, 8, random, wild));
    c.push_back(sample_matrix(test.d, 16, 8, random, wild));
    for (int lane = 0; lane < 32; ++lane) {
      const int g = lane / 4, t = lane % 4;
      for (int i = 0; i < test.shape.a_elements; ++i) {
        const auto [row, column] = test.shape.a(g, t, i);
        fa.put(trial, lane, i, test.shape.bits, a.back().at(row, column));
      }
      for (int i = 0; i < test.shape.b_elements; ++i) {
        const auto [row, column] = test.shape.b(g, t, i);
        fb.put(trial, lane, i, test.shape.bits, b.back().at(row, column));
      }
      for (int i = 0; i < 4; ++i) {
        const auto [row, column] = d_place(g, t, i);
        fc.put(trial, lane, i, test.d_bits(), c.back().at(row, column));
      }
    }
  }
  Device& device = emulator();
  const DeviceBuffer da = upload(device, fa.words), db = upload(device, fb.words), dc = upload(device, fc.words);
  const DeviceBuffer dd(device, dc.bytes(), "d");
  const LaunchCounters counters = run(device, ptx, entry, parameter_block(da.data(), db.data(), dc.data(), dd.data()),
                                      {.blocks = static_cast<std::uint32_t>(trials), .threads = 32});
  CHECK(counters.tensor_core == static_cast<std::uint64_t>(trials));
  CHECK(counters.tensor_core_macs ==
        static_cast<std::uint64_t>(trials) * 128 * static_cast<std::uint64_t>(test.shape.k));
  Fragments fd(test.d_registers(), trials);
  fd.words = download<std::uint32_t>(device, dd);
  for (int trial = 0; trial < trials; ++trial) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 4; ++i) {
        const auto [row, column] = d_place(lane / 4, lane % 4, i);
        const Expected expected = product_element(a[trial], b[trial], c[trial].value(row, column), row, column);
        const std::uint32_t got = fd.get(trial, lane, i, test.d_bits());
        if (is_rounded(format_of(test.d), got, expected, test.saturates)) continue;
        CAPTURE(trial);
        CAPTURE(row);
        CAPTURE(column);
        CHECK(value_of(format_of(test.d), got) == static_cast<double>(expected.value));
        return;
      }
    }
  }
}

std::vector<Case> cases() {
  std::vector<Case> all;
  const auto add = [&](std::size_t shape, std::vector<std::string> types, std::vector<std::string> results, bool mixed,
                       bool saturates = false) {
    for (const std::string& a : types) {
      for (const std::string& b : types) {
        if (a != b && !mixed) continue;
        for (const std::string& d : results) all.push_back({shapes()[shape], a, b, d, saturates});
      }
    }
  };
  for (const std::size_t half : {0U, 1U}) {
    add(half, {"bf16"}, {"f32"}, false);
    add(half, {"f16"}, {"f32", "f16"}, false);
    add(2 + half, {"tf32"}, {"f32"}, false);
    add(4 + half, {"e4m3", "e5m2"}, {"f32", "f16"}, true);
    for (const bool saturates : {false, true}) {
      add(4 + half, {"s8", "u8"}, {"s32"}, true, saturates);
      add(6 + half, {"s4", "u4"}, {"s32"}, true, saturates);
    }
  }
  return all;
}

TEST_CASE("every shape and type of mma gives the rounded product, also of infinities, NaN and subnormals") {
  std::uint32_t seed = 1;
  for (const Case& test : cases()) check_case(test, ptx_of(test, 24), "test", 24, seed++);
}

TEST_CASE("the wrappers of device/mma.cuh take the fragments that they document") {
  struct Wrapper {
    Case test;
    std::string call;
    std::string sum = "float";
  };
  const auto& s = shapes();
  const std::vector<Wrapper> wrappers{
      {{s[1], "bf16", "bf16", "f32"}, "mma_m16n8k16<Element::bf16>"},
      {{s[1], "f16", "f16", "f32"}, "mma_m16n8k16<Element::f16>"},
      {{s[1], "f16", "f16", "f16"}, "mma_m16n8k16_f16", "unsigned"},
      {{s[0], "bf16", "bf16", "f32"}, "mma_m16n8k8<Element::bf16>"},
      {{s[0], "f16", "f16", "f32"}, "mma_m16n8k8<Element::f16>"},
      {{s[3], "tf32", "tf32", "f32"}, "mma_m16n8k8_tf32"},
      {{s[2], "tf32", "tf32", "f32"}, "mma_m16n8k4_tf32"},
      {{s[5], "e4m3", "e4m3", "f32"}, "mma_m16n8k32<Element::e4m3>"},
      {{s[5], "e4m3", "e5m2", "f32"}, "mma_m16n8k32<Element::e4m3, Element::e5m2>"},
      {{s[5], "e5m2", "e4m3", "f32"}, "mma_m16n8k32<Element::e5m2, Element::e4m3>"},
      {{s[5], "e5m2", "e5m2", "f32"}, "mma_m16n8k32<Element::e5m2>"},
      {{s[5], "s8", "s8", "s32", true}, "mma_m16n8k32<Element::s8>", "int"},
      {{s[5], "s8", "u8", "s32", true}, "mma_m16n8k32<Element::s8, Element::u8>", "int"},
      {{s[5], "u8", "s8", "s32", true}, "mma_m16n8k32<Element::u8, Element::s8>", "int"},
      {{s[5], "u8", "u8", "s32", true}, "mma_m16n8k32<Element::u8>", "int"}};
  std::string source = R"(#include "device/mma.cuh"
using namespace gdnjit::device;
template <int kCount, typename T>
__device__ void load(T (&r)[kCount], const T* from) {
  for (int i = 0; i < kCount; ++i) r[i] = from[i * gridDim.x * 32 + blockIdx.x * 32 + threadIdx.x];
})";
  for (std::size_t i = 0; i < wrappers.size(); ++i) {
    const Wrapper& w = wrappers[i];
    source += fmt::format(R"(
extern "C" __global__ void k{0}(const unsigned* pa, const unsigned* pb, const {1}* pc, {1}* pd) {{
  unsigned a[{2}], b[{3}];
  {1} d[{4}];
  load(a, pa); load(b, pb); load(d, pc);
  {5}(d, a, b);
  for (int i = 0; i < {4}; ++i) pd[i * gridDim.x * 32 + blockIdx.x * 32 + threadIdx.x] = d[i];
}})",
                          i, w.sum, w.test.a_registers(), w.test.b_registers(), w.test.d_registers(), w.call);
  }
  const std::string& ptx = compile_ptx(source, "k0");
  for (std::size_t i = 0; i < wrappers.size(); ++i)
    check_case(wrappers[i].test, ptx, fmt::format("k{}", i), 6, 100 + static_cast<std::uint32_t>(i));
}

TEST_CASE("the place functions of device/mma.cuh are the fragments of the ISA") {
  const std::string source = R"(#include "device/mma.cuh"
using namespace gdnjit::device;
template <Element kElement>
__device__ void places(int* out) {
  using P = MmaPlaces<kElement>;
  const int lane = threadIdx.x;
  for (int r = 0; r < 4; ++r) { *out++ = P::a_row(lane, r); *out++ = P::a_column(lane, r); }
  for (int r = 0; r < 2; ++r) { *out++ = P::b_row(lane, r); *out++ = P::b_column(lane); }
  for (int i = 0; i < 4; ++i) { *out++ = mma_d_row(lane, i); *out++ = mma_d_column(lane, i); }
}
extern "C" __global__ void k(int* out) {
  places<Element::bf16>(out + threadIdx.x * 60);
  places<Element::tf32>(out + threadIdx.x * 60 + 20);
  places<Element::e4m3>(out + threadIdx.x * 60 + 40);
})";
  Device& device = emulator();
  const DeviceBuffer out(device, 32 * 60 * 4, "out");
  run(device, compile_ptx(source, "k"), "k", parameter_block(out.data()));
  const auto values = download<int>(device, out);
  for (int lane = 0; lane < 32; ++lane) {
    for (int type = 0; type < 3; ++type) {
      const Shape& shape = shapes()[type == 0 ? 1 : type == 1 ? 3 : 5];
      const int* at = &values[static_cast<std::size_t>(lane * 60 + type * 20)];
      const int pack = 32 / shape.bits;
      for (int r = 0; r < 4; ++r) CHECK(shape.a(lane / 4, lane % 4, r * pack) == std::pair(at[2 * r], at[2 * r + 1]));
      for (int r = 0; r < 2; ++r)
        CHECK(shape.b(lane / 4, lane % 4, r * pack) == std::pair(at[8 + 2 * r], at[9 + 2 * r]));
      for (int i = 0; i < 4; ++i) CHECK(d_place(lane / 4, lane % 4, i) == std::pair(at[12 + 2 * i], at[13 + 2 * i]));
    }
  }
}

std::string mma_report(const std::string& body, std::uint32_t threads = 32) {
  return error_text(
      [&] { run(emulator(), ptx_module(body), "test", parameter_block(nullptr, nullptr), {.threads = threads}); });
}

std::string zeros(int first, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += fmt::format("mov.b32 %r{}, 0;\n", first + i);
  return text;
}

TEST_CASE("an unwritten fragment, an absent lane and a half warp are faults of mma") {
  const std::string mma =
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1,%f2,%f3,%f4}, {%r0,%r1,%r2,%r3}, "
      "{%r4,%r5}, {%f5,%f6,%f7,%f8};";
  const std::string c = "mov.f32 %f5, 0f00000000; mov.f32 %f6, %f5; mov.f32 %f7, %f5; mov.f32 %f8, %f5;\n";
  CHECK(mma_report(zeros(0, 6) + c + mma + "ret;") == "");
  CHECK(mma_report(zeros(0, 5) + c + mma + "ret;").find("uses the register %r5") != std::string::npos);
  CHECK(mma_report(zeros(0, 6) + mma + "ret;").find("uses the register %f5") != std::string::npos);
  CHECK(mma_report(zeros(0, 6) + c + mma + "ret;", 20).find("needs all 32 lanes of its warp: lanes 0xfff00000 have") !=
        std::string::npos);
  CHECK(mma_report(zeros(0, 6) + c + "mov.u32 %r9, %tid.x; setp.lt.u32 %p1, %r9, 8;\n@%p1 " + mma + "ret;")
            .find("lanes 0xffffff00 are elsewhere") != std::string::npos);
}

TEST_CASE("forms of mma that the emulator does not execute are refused with their line") {
  const auto refused = [](const std::string& opcode, const std::string& operands) {
    return mma_report("\n" + opcode + " " + operands + ";\nret;");
  };
  const std::string wide = "{%r0,%r1,%r2,%r3}, {%r4,%r5,%r6,%r7}, {%r8,%r9}, {%r0,%r1,%r2,%r3}";
  for (const std::string opcode :
       {"mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32", "mma.sync.aligned.m16n8k16.col.col.f32.f16.f16.f32",
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.f16.f32", "mma.sync.aligned.m16n8k16.row.col.f16.bf16.bf16.f16",
        "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.xor.popc", "mma.sync.aligned.m16n8k8.row.col.f64.f64.f64.f64",
        "mma.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32",
        "mma.sync.aligned.m16n8k16.row.col.satfinite.f32.f16.f16.f32",
        "mma.sync.aligned.m16n8k32.row.col.kind::f8f6f4.f32.e4m3.e4m3.f32",
        "mma.sp.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32", "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f16",
        "mma.sync.aligned.m16n8kk.row.col.f32.f16.f16.f32"}) {
    CAPTURE(opcode);
    const std::string text = refused(opcode, wide);
    CHECK(text.find(opcode) != std::string::npos);
    CHECK(text.find("PTX line") != std::string::npos);
  }
  CHECK(
      refused("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", "{%r0,%r1}, {%r4,%r5,%r6,%r7}, {%r8,%r9}, {%r0,%r1}")
          .find("2 registers where 4 are needed") != std::string::npos);
  CHECK(refused("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32",
                "{%rd0,%rd1,%rd2,%rd3}, {%r4,%r5,%r6,%r7}, {%r8,%r9}, {%r0,%r1,%r2,%r3}") != "");
}

// The rate of this machine; nothing is asserted, since it is shared.
TEST_CASE("speed of mma, bf16") {
  const std::string source = R"(#include "device/mma.cuh"
using namespace gdnjit::device;
extern "C" __global__ void k(float* out, int steps) {
  float d[4][4] = {};
  unsigned a[4] = {0x3f803f80u, 0x3f803f80u, 0x40003f80u, 0x3f800000u}, b[2] = {0x3f803f80u, 0x3f80bf80u};
  for (int i = 0; i < steps; ++i)
    for (int j = 0; j < 4; ++j) mma_m16n8k16<Element::bf16>(d[j], a, b);
  for (int i = 0; i < 16; ++i) out[i * 32 + threadIdx.x] = d[i / 4][i % 4];
})";
  Device& device = emulator();
  const DeviceBuffer out(device, 2048, "out");
  const std::string& ptx = compile_ptx(source, "k");
  const std::clock_t begin = std::clock();
  const LaunchCounters counters = run(device, ptx, "k", parameter_block(out.data(), 5000));
  const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  MESSAGE("mma.m16n8k16: " << static_cast<double>(counters.tensor_core_macs) / seconds * 1e-9
                           << "e9 multiply-accumulates per second of one core");
}

}  // namespace
}  // namespace gdnjit::tests

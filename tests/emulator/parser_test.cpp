// What the parser and the decoder refuse: never a guess, never a crash.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

struct Refusal {
  std::string text;
  ErrorCode code = ErrorCode::ok;
};

Refusal load(const std::string& ptx, const std::string& entry = "test") {
  try {
    emulator().load({entry, ptx, {}});
  } catch (const Error& error) {
    return {error.what(), error.code()};
  }
  return {};
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST_CASE("an unknown instruction, modifier or operand form is refused with its line") {
  const struct {
    std::string line, part;
  } cases[] = {{"frobnicate.b32 %r1, %r2;", "does not know the instruction 'frobnicate'"},
               {"add.u32.sideways %r1, %r2, %r3;", "does not know '.sideways'"},
               {"add.rn.u32 %r1, %r2, %r3;", ""},
               {"fma.f32 %f1, %f2, %f3, %f4;", "rounding mode is needed"},
               {"add.f32 %f1, %f2;", "2 operands; expected 3"},
               {"add.f32 %r1, %rd2, %f3;", "has 8 bytes where 4 are needed"},
               {"add.u32 %r1, %r2, 0f3f800000;", ""},
               {"add.f32 %f1, %f2, 3;", "integer literal"},
               {"mov.u32 %r1, %nosuchregister;", "does not know '%nosuchregister'"},
               {"mul.u32 %r1, %r2, %r3;", "needs .lo, .hi or .wide"},
               {"cvt.f32.s32 %f1, %r1;", "this rounding"},
               {"cvt.rn.s32.f32 %r1, %f1;", "this rounding"},
               {"ld.global.v2.u32 %r1, [%rd1];", "2 elements"},
               {"ld.global.v4.u64 {%rd3, %rd4, %rd5, %rd6}, %rd1;", "address in brackets"},
               {"ld.shared.v4.b64 {%rd3, %rd4, %rd5, %rd6}, [%rd1];", "more than 16 bytes"},
               {"ld.global.u64 %r1, [%rd1];", "too small"},
               {"st.param.u32 [a], %r1;", "nothing can be stored there"},
               {"setp.lt.u32 %r1, %r2, %r3;", "is b32 where pred is needed"},
               {"setp.u32 %p1, %r2, %r3;", "no comparison operator"},
               {"@%r1 mov.u32 %r2, 1;", "predicate register is needed"},
               {"bra NOWHERE;", "there is no label 'NOWHERE'"},
               {"shfl.bfly.b32 %r1, %r2, 1, 31;", "without .sync"},
               {"lop3.b32 %r1, %r2, %r3, %r4, 300;", "table in 0..255"},
               {"tcgen05.fence::before_thread_sync;", "does not know the instruction 'tcgen05'"},
               {"wgmma.fence.sync.aligned;", "wgmma needs the target sm_90a"},
               {"fence.proxy.constant;", "these proxies"},
               {"mov.b64 {%r1, %r2, %r3}, %rd1;", "into 3 values"},
               {"call foo, (%r1);", ""}};
  for (const auto& test : cases) {
    CAPTURE(test.line);
    const Refusal refusal = load(ptx_module(fmt::format("{}\nret;", test.line)));
    CAPTURE(refusal.text);
    CHECK((refusal.code == ErrorCode::unsupported || refusal.code == ErrorCode::device_failed));
    CHECK(contains(refusal.text, "line 14"));
    CHECK(contains(refusal.text, test.part));
  }
}

TEST_CASE("text that is not PTX is refused") {
  for (const char* text : {"", "hello world", "\x01\x02", ".version 8.0", ".version 8.0 .target sm_90 .address_size 32",
                           "/* never closed", ".target \"sm_90", ".version 8.0\n.target sm_90\n.visible .entry test( {",
                           ".version 8.0 .target sm_90 .func f() { ret; }",
                           ".version 8.0 .target sm_90 .entry test() { .reg .b32 %r<99999999999>; ret; }",
                           ".version 8.0 .target sm_90 .entry test() { .reg .b32 %r<4>; .reg .b32 %r1; ret; }",
                           ".version 8.0 .target sm_90 .entry test() { .shared .b8 x[999999999999]; ret; }",
                           ".version 8.0 .target sm_90 .global .b32 x[2] = {1, 2, 3};",
                           ".version 8.0 .target sm_90 .entry test() { A: A: ret; }",
                           ".version 8.0 .target sm_90 .entry test() { {{{ ret; }",
                           ".version 8.0 .target sm_90 .entry test() { mov.b32 %r1, 99999999999999999999999; }",
                           ".version 8.0 .target sm_90 .global .align 3 .b8 x;"}) {
    CAPTURE(text);
    CHECK(load(text).code != ErrorCode::ok);
  }
}

TEST_CASE("a missing entry is named with a suggestion") {
  CHECK(contains(load(ptx_module("ret;"), "tset").text, "did you mean 'test'"));
}

TEST_CASE("inline assembly opens scopes of its own for registers and labels") {
  const std::vector<std::uint32_t> a(32, 5);
  const auto result = map3<std::uint32_t>(R"(ld.global.u32 %r1, [%rd1]; mov.u32 %r2, 0;
    { .reg .b32 t; .reg .pred again; mov.u32 t, 3; LOOP: add.u32 %r2, %r2, %r1; sub.u32 t, t, 1; setp.ne.u32 again, t, 0; @again bra LOOP; }
    { .reg .b64 t; .reg .pred again; mov.u64 t, 2; LOOP: add.u32 %r2, %r2, 100; sub.u64 t, t, 1; setp.ne.u64 again, t, 0; @again bra LOOP; ; }
    st.global.u32 [%rd4], %r2;)",
                                          a, a, a);
  CHECK(result[0] == 215);
}

TEST_CASE("mutated PTX is refused or loaded, never a crash") {
  const std::string source = R"(
struct P { const float* x; float* y; int n; };
extern "C" __global__ void __launch_bounds__(64) test(const __grid_constant__ P p) {
  __shared__ float part[64];
  int i = blockIdx.x * 64 + threadIdx.x;
  part[threadIdx.x] = i < p.n ? expf(p.x[i]) / 3.0f : 0.0f;
  __syncthreads();
  float v = part[threadIdx.x ^ 1];
  for (int m = 16; m; m /= 2) v += __shfl_xor_sync(~0u, v, m);
  if (i < p.n) p.y[i] = v;
})";
  std::mt19937 random(20240607);
  const std::string pieces[] = {"%r1",
                                "%rd99",
                                "[",
                                "]",
                                "{",
                                "}",
                                ";",
                                ",",
                                ".reg",
                                ".v4",
                                "0x",
                                "-",
                                "ret",
                                "bra",
                                ":",
                                ".shared .b8 q[7];",
                                "\"",
                                "/*",
                                "@",
                                "!",
                                "_",
                                "|",
                                "99999999999999999999",
                                "0f",
                                ".align 0",
                                "<",
                                ">",
                                "\n"};
  for (const char* arch : {"sm_90a", "sm_120"}) {
    const std::string& valid = compile_ptx(source, "test", arch);
    REQUIRE_NOTHROW(emulator(arch).load({"test", valid, {}}));
    int refused = 0;
    for (int round = 0; round < 300; ++round) {
      std::string text = valid;
      for (std::uint32_t edit = 0; edit <= random() % 3; ++edit) {
        const std::size_t at = random() % text.size();
        const std::string& piece = pieces[random() % std::size(pieces)];
        switch (random() % 5) {
          case 0: text.erase(at, 1 + random() % 40); break;
          case 1: text.insert(at, piece); break;
          case 2: text[at] = static_cast<char>(random() % 256); break;
          case 3: text.resize(at + 1); break;
          default: text.insert(at, text.substr(random() % text.size(), random() % 60)); break;
        }
      }
      try {
        emulator(arch).load({"test", text, {}});
      } catch (const Error& error) {
        CHECK(error.code() != ErrorCode::internal);
        ++refused;
      }
    }
    CHECK(refused > 100);
  }
}

}  // namespace
}  // namespace gdnjit::tests

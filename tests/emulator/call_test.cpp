// Functions: arguments and results, recursion, divergence, indirect calls, printf and assertions.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdio>

#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

std::vector<std::int32_t> run_ints(const std::string& source, const std::vector<std::int32_t>& input,
                                   std::uint32_t threads = 32) {
  Device& device = emulator();
  const DeviceBuffer in = upload(device, input);
  const DeviceBuffer out(device, threads * sizeof(std::int32_t), "result");
  run(device, compile_ptx(source, "test"), "test", parameter_block(in.data(), out.data()), {.threads = threads});
  return download<std::int32_t>(device, out);
}

std::vector<std::int32_t> counting(int count) {
  std::vector<std::int32_t> values;
  for (int i = 0; i < count; ++i) values.push_back(i);
  return values;
}

TEST_CASE("a function takes structures and returns one") {
  const auto result = run_ints(R"(
struct Six { int a[6]; float f; };
__device__ __noinline__ Six shift(Six s, float x, char c) {
  Six r;
  for (int i = 0; i < 6; ++i) r.a[i] = s.a[(i + 1) % 6] + c;
  r.f = s.f * x;
  return r;
}
extern "C" __global__ void test(const int* in, int* out) {
  Six s;
  for (int i = 0; i < 6; ++i) s.a[i] = in[threadIdx.x] * (i + 1);
  s.f = 0.5f;
  Six r = shift(s, 4.0f, (char)(threadIdx.x & 3));
  out[threadIdx.x] = r.a[in[threadIdx.x] % 6] * 100 + (int)r.f;
})",
                               counting(32));
  for (int i = 0; i < 32; ++i) CHECK(result[static_cast<std::size_t>(i)] == (i * ((i + 1) % 6 + 1) + i % 4) * 100 + 2);
}

TEST_CASE("recursion goes as deep as each lane needs and keeps its registers and its arrays") {
  const auto result = run_ints(R"(
__device__ __noinline__ int walk(int n, int* outer, int salt) {
  int mine[3] = {n, salt, n * salt};
  if (n == 0) return outer[1];
  int below = walk(n - 1, mine, salt + 1);
  int again = (n & 1) ? walk(n / 2, mine, salt) : 0;
  return below + again + mine[2] + outer[0];
}
extern "C" __global__ void test(const int* in, int* out) {
  int top[3] = {7, 5, 3};
  out[threadIdx.x] = walk(in[threadIdx.x], top, threadIdx.x);
})",
                               counting(12), 12);
  struct Walker {
    static int walk(int n, const int* outer, int salt) {
      const int mine[3] = {n, salt, n * salt};
      if (n == 0) return outer[1];
      return walk(n - 1, mine, salt + 1) + (n % 2 != 0 ? walk(n / 2, mine, salt) : 0) + mine[2] + outer[0];
    }
  };
  const int top[3] = {7, 5, 3};
  for (int i = 0; i < 12; ++i) CHECK(result[static_cast<std::size_t>(i)] == Walker::walk(i, top, i));
}

TEST_CASE("two functions may call each other") {
  const auto result = run_ints(R"(
__device__ __noinline__ int odd(int n, int path);
__device__ __noinline__ int even(int n, int path) { return n == 0 ? path : odd(n - 1, path * 3 + 1) + n; }
__device__ __noinline__ int odd(int n, int path) { return n == 0 ? -path : even(n - 1, path * 2) + n; }
extern "C" __global__ void test(const int* in, int* out) { out[threadIdx.x] = even(in[threadIdx.x], 1); })",
                               counting(13), 13);
  for (int i = 0; i < 13; ++i) {
    int path = 1, sum = 0;
    bool is_even = true;
    for (int n = i; n > 0; --n, is_even = !is_even) path = is_even ? path * 3 + 1 : path * 2, sum += n;
    CHECK(result[static_cast<std::size_t>(i)] == (is_even ? path : -path) + sum);
  }
}

TEST_CASE("lanes that call and lanes that do not meet again behind the call") {
  // The shuffle behind the branch names all lanes: it would be a fault if the callers came late.
  const auto result = run_ints(R"(
__device__ __noinline__ int triple(int n) { return n > 20 ? n * 3 : n + 3; }
extern "C" __global__ void test(const int* in, int* out) {
  int v = in[threadIdx.x];
  if (threadIdx.x & 1) v = triple(v);
  if (threadIdx.x & 2) v += triple(v + 1);
  out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, v, 1);
})",
                               counting(32));
  const auto triple = [](int n) { return n > 20 ? n * 3 : n + 3; };
  for (int i = 0; i < 32; ++i) {
    const int lane = i ^ 1;
    int v = (lane & 1) != 0 ? triple(lane) : lane;
    if ((lane & 2) != 0) v += triple(v + 1);
    CHECK(result[static_cast<std::size_t>(i)] == v);
  }
}

const char* const kIndirectSource = R"(
typedef int (*Function)(int);
__device__ __noinline__ int square(int x) { return x * x; }
__device__ __noinline__ int cube(int x) { return x * x * x; }
__device__ __noinline__ int next(int x) { return x + 1; }
__device__ Function table[3] = {square, cube, next};
extern "C" __global__ void test(const int* in, int* out) {
  out[threadIdx.x] = table[in[threadIdx.x] % 3](in[threadIdx.x]);
})";

TEST_CASE("an indirect call takes each lane to its own function") {
  const auto result = run_ints(kIndirectSource, counting(32));
  for (int i = 0; i < 32; ++i)
    CHECK(result[static_cast<std::size_t>(i)] == (i % 3 == 0 ? i * i : i % 3 == 1 ? i * i * i : i + 1));
}

TEST_CASE("a call of what is no function is a fault") {
  const std::string text = error_text([] {
    run_ints(R"(
typedef int (*Function)(int);
extern "C" __global__ void test(const int* in, int* out) {
  Function f = (Function)(unsigned long long)in[threadIdx.x];
  out[threadIdx.x] = f(1);
})",
             counting(32));
  });
  CHECK(text.find("where no function is") != std::string::npos);
}

TEST_CASE("endless recursion is a fault that says the stack overflows") {
  const std::string text = error_text([] {
    run_ints(R"(
__device__ __noinline__ int down(int n) {
  volatile int keep[4] = {n, n, n, n};
  return n == 1000000 ? keep[n & 3] : down(n + 1) + keep[n & 3];
}
extern "C" __global__ void test(const int* in, int* out) { out[threadIdx.x] = down(in[threadIdx.x]); })",
             counting(32));
  });
  CHECK(text.find("the stack overflows: calling") != std::string::npos);
}

TEST_CASE("a failed assertion names the expression, the file and the line") {
  const std::string ptx = R"(.version 9.0
.target sm_90
.address_size 64
.extern .func __assertfail (.param .b64 p0, .param .b64 p1, .param .b32 p2, .param .b64 p3, .param .b64 p4) .noreturn;
.global .align 1 .b8 expression[6] = {110, 32, 60, 32, 53};
.global .align 1 .b8 file[5] = {97, 46, 99, 117};
.visible .entry test(.param .u64 a, .param .u64 b) {
  .reg .b64 %rd<9>;
  .reg .b32 %r<3>;
  .reg .pred %p1;
  mov.u32 %r1, %tid.x;
  setp.lt.u32 %p1, %r1, 5;
  @%p1 bra good;
  mov.u64 %rd1, expression;
  cvta.global.u64 %rd2, %rd1;
  mov.u64 %rd3, file;
  cvta.global.u64 %rd4, %rd3;
  {
  .param .b64 param0;
  st.param.b64 [param0+0], %rd2;
  .param .b64 param1;
  st.param.b64 [param1+0], %rd4;
  .param .b32 param2;
  st.param.b32 [param2+0], 42;
  .param .b64 param3;
  st.param.b64 [param3+0], %rd2;
  .param .b64 param4;
  st.param.b64 [param4+0], 1;
  call.uni __assertfail, (param0, param1, param2, param3, param4);
  }
good:
  ret;
})";
  const std::string text =
      error_text([&] { run(emulator(), ptx, "test", parameter_block(std::uint64_t{0}, std::uint64_t{0})); });
  CHECK(text.find("thread (5,0,0): assertion 'n < 5' failed (a.cu:42, n < 5)") != std::string::npos);
}

TEST_CASE("printf prints each lane's values to the error stream") {
  std::FILE* saved = std::tmpfile();
  REQUIRE(saved != nullptr);
  std::fflush(stderr);
  const int original = dup(fileno(stderr));
  dup2(fileno(saved), fileno(stderr));
  std::vector<std::int32_t> result;
  const std::string failure = error_text([&] {
    result = run_ints(R"(
extern "C" __device__ int printf(const char*, ...);
extern "C" __global__ void test(const int* in, int* out) {
  int n = 0;
  if (threadIdx.x > 29)
    n = printf("lane %2d: %s %.3f 0x%llx %c %% %-4u|\n", threadIdx.x, "abc", 0.5f * in[threadIdx.x], 1ull << 40, 'z', 7u);
  out[threadIdx.x] = n;
})",
                      counting(32));
  });
  std::fflush(stderr);
  dup2(original, fileno(stderr));
  close(original);
  std::rewind(saved);
  std::string text(200, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), saved));
  std::fclose(saved);
  CHECK(failure.empty());
  CHECK(text ==
        "lane 30: abc 15.000 0x10000000000 z % 7   |\n"
        "lane 31: abc 15.500 0x10000000000 z % 7   |\n");
  REQUIRE(result.size() == 32);
  CHECK(result[31] == 6);
  CHECK(result[0] == 0);
}

TEST_CASE("a function that the module does not define is refused with its name") {
  const std::string text = error_text([] {
    run(emulator(), ptx_module("  call.uni elsewhere, ();\n  ret;", ".extern .func elsewhere ();"), "test",
        parameter_block(std::uint64_t{0}, std::uint64_t{0}));
  });
  CHECK(text.find("the function 'elsewhere' without defining it") != std::string::npos);
}

TEST_CASE("arguments of other sizes than the function's are refused") {
  const std::string text = error_text([] {
    run(emulator(),
        ptx_module(R"(
  { .param .b64 p; st.param.b64 [p], %rd1; .param .b32 r; call.uni (r), f, (p); }
  ret;)",
                   ".func (.param .b32 r) f(.param .b32 a) { .reg .b32 %q; ld.param.b32 %q, [a]; st.param.b32 [r], %q; "
                   "ret; }"),
        "test", parameter_block(std::uint64_t{0}, std::uint64_t{0}));
  });
  CHECK(text.find("the parameters or results of 'f' have other sizes") != std::string::npos);
}

}  // namespace
}  // namespace gdnjit::tests

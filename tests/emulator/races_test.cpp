// The race detector: what orders accesses and what does not, in shared and in global memory.
#include "tests/emulator/race_fixture.h"

namespace gdnjit::tests {
namespace {

TEST_CASE("a barrier orders the accesses of a block, its absence is a race") {
  const std::string body = R"(
  __shared__ int tile[64];
  tile[threadIdx.x] = in[threadIdx.x];
  BARRIER
  tile[threadIdx.x] += 1;
  __syncthreads();
  out[threadIdx.x] = tile[63 - threadIdx.x];)";
  std::vector<int> result;
  CHECK(report_of(kernel_source(body, "#define BARRIER __syncthreads();"), {}, &result) == "");
  CHECK(result[3] == 61);
  CHECK(report_of(kernel_source(body, "#define BARRIER")) == "");  // each thread touches its own element before
}

TEST_CASE("an element that one warp reads and another one writes is a race in either order") {
  // Warps run in turn, so the first kernel reads before and the second writes before.
  const std::string read_first = kernel_source(R"(
  __shared__ int tile[64];
  tile[threadIdx.x] = 1;
  __syncthreads();
  int value = tile[(threadIdx.x + 32) % 64]; // read
  tile[threadIdx.x] = value + 1;             // write
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x];)");
  check_report(report_of(read_first), {"race: reads offset 0 of 'tile'", "thread (32,0,0): race",
                                       "thread (0,0,0) writes", "add __syncthreads()"});
  const std::string write_first = kernel_source(R"(
  __shared__ int tile[64];
  tile[threadIdx.x] = 1;
  __syncthreads();
  tile[threadIdx.x] = in[threadIdx.x];       // write
  out[threadIdx.x] = tile[(threadIdx.x + 32) % 64]; // read)");
  check_report(report_of(write_first),
               {"race: writes offset 128 of 'tile'", "thread (32,0,0): race", "thread (0,0,0) reads"});
}

TEST_CASE("lanes of one warp need __syncwarp, a shuffle is none") {
  const std::string body = R"(
  __shared__ int tile[32];
  tile[threadIdx.x] = in[threadIdx.x];
  SYNC
  out[threadIdx.x] = tile[31 - threadIdx.x];)";
  const Trial warp{.threads = 32};
  CHECK(report_of(kernel_source(body, "#define SYNC __syncwarp();"), warp) == "");
  check_report(report_of(kernel_source(body, "#define SYNC"), warp),
               {"race: reads offset", "'tile'", "both are lanes of one warp", "add __syncwarp()"});
  check_report(
      report_of(kernel_source(body, "#define SYNC out[threadIdx.x + 64] = __shfl_xor_sync(~0u, threadIdx.x, 1);"),
                warp),
      {"both are lanes of one warp", "a shuffle or a vote orders no memory"});
}

TEST_CASE("a partial __syncwarp orders its members only") {
  const std::string body = R"(
  __shared__ int tile[32];
  tile[threadIdx.x] = in[threadIdx.x];
  unsigned mask = threadIdx.x < 16 ? 0xffffu : 0xffff0000u;
  __syncwarp(mask);
  out[threadIdx.x] = tile[threadIdx.x ^ OTHER];)";
  const Trial warp{.threads = 32};
  CHECK(report_of(kernel_source(body, "#define OTHER 8"), warp) == "");
  check_report(report_of(kernel_source(body, "#define OTHER 16"), warp), {"race: reads", "add __syncwarp()"});
}

TEST_CASE("two blocks that write one element race, with each other's values equal or not") {
  check_report(report_of(kernel_source("if (threadIdx.x == 5) out[7] = 1;"), {.blocks = 4}),
               {"race: writes offset 28 of 'result'", "block (1,0,0), thread (5,0,0)", "block (0,0,0), thread (5,0,0)",
                "nothing orders the two blocks"});
  CHECK(report_of(kernel_source("out[blockIdx.x * 64 + threadIdx.x] = 1;"), {.blocks = 4}) == "");
  check_report(report_of(kernel_source("if (blockIdx.x == 2) out[3] = 1; else out[threadIdx.x + 64] += out[3];"),
                         {.threads = 1, .blocks = 4}),
               {"race: ", "'result'"});
}

TEST_CASE("atomics do not race with atomics, but with plain accesses") {
  CHECK(report_of(kernel_source("atomicAdd(out, 1);"), {.blocks = 8}) == "");
  CHECK(
      report_of(kernel_source("__shared__ int sum; if (threadIdx.x == 0) sum = 0; __syncthreads(); atomicAdd(&sum, 1); "
                              "__syncthreads(); out[threadIdx.x] = sum;")) == "");
  check_report(report_of(kernel_source("__shared__ int sum; if (threadIdx.x == 0) sum = 0; __syncthreads();\n"
                                       "atomicAdd(&sum, 1);\nout[threadIdx.x] = sum;")),
               {"race: ", "updates atomically", "'sum'"});
  check_report(report_of(kernel_source("atomicAdd_block(out, 1);"), {.blocks = 2}), {"race: ", "offset 0 of 'result'"});
}

TEST_CASE("lanes of one store that write different values to one address are reported") {
  check_report(report_of(kernel_source("out[threadIdx.x / 2] = threadIdx.x;"), {.threads = 32}),
               {"lanes of one store", "offset 0 of 'result'"});
  CHECK(report_of(kernel_source("out[threadIdx.x / 2] = 7;"), {.threads = 32}) == "");
}

}  // namespace
}  // namespace gdnjit::tests

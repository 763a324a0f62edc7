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

TEST_CASE("bytes of one word may belong to different threads") {
  CHECK(
      report_of(kernel_source("__shared__ unsigned char box[256]; box[threadIdx.x * 4 % 256 + threadIdx.x / 64] = 1;\n"
                              "__syncthreads(); if (threadIdx.x == 0) out[0] = box[0] + box[1] + box[2] + box[3];"),
                {.threads = 256}) == "");
  CHECK(report_of(kernel_source("((short*)out)[blockIdx.x * 2 + threadIdx.x % 2] = 1;"),
                  {.threads = 2, .blocks = 64}) == "");
  check_report(report_of(kernel_source("__shared__ short box[64]; box[threadIdx.x] = 1; if (threadIdx.x == 40) "
                                       "((int*)box)[8] = 7;\n__syncthreads(); out[threadIdx.x] = box[threadIdx.x];")),
               {"race: writes offset 32 of 'box'", "thread (40,0,0)", "thread (16,0,0) writes"});
}

TEST_CASE("a wide access and a narrow one that meet are compared byte by byte") {
  const std::string body = R"(
  __shared__ __align__(16) int box[256];
  if (threadIdx.x < 32) ((int4*)box)[threadIdx.x] = make_int4(1, 2, 3, 4);
  __syncthreads();
  if (threadIdx.x == 32) box[INDEX] = 5;
  if (threadIdx.x < 32) out[threadIdx.x] = ((int4*)box)[threadIdx.x].x;
  __syncthreads();
  out[threadIdx.x + 64] = box[threadIdx.x];)";
  CHECK(report_of(kernel_source(body, "#define INDEX 200")) == "");
  check_report(report_of(kernel_source(body, "#define INDEX 76")),
               {"race: writes offset 304 of 'box'", "thread (19,0,0) reads"});
}

TEST_CASE("each of several readers counts") {
  // Warps 1 to 3 read; a barrier of 64 threads orders the writer behind warp 1 alone.
  const std::string body = R"(
  __shared__ int word;
  if (threadIdx.x == 0) word = 3;
  __syncthreads();
  int warp = threadIdx.x / 32;
  if (warp != 0) out[threadIdx.x] = word;
  if (warp < LAST) asm volatile("bar.sync 1, %0;" ::"n"(LAST * 32) : "memory");
  if (warp == 0) __nanosleep(1);
  if (threadIdx.x == 0) word = 4;)";
  CHECK(report_of(kernel_source(body, "#define LAST 4"), {.threads = 128}) == "");
  check_report(report_of(kernel_source(body, "#define LAST 2"), {.threads = 128}), {"race: ", "'word'"});
}

TEST_CASE("a producer that only arrives at a named barrier is in order with those who wait") {
  const std::string body = R"(
  __shared__ int box[32];
  if (threadIdx.x < 32) {
    box[threadIdx.x] = in[threadIdx.x];
    asm volatile("bar.arrive 1, 64;" ::: "memory");
    AFTER
  } else {
    asm volatile("bar.sync 1, 64;" ::: "memory");
    out[threadIdx.x] = box[63 - threadIdx.x];
  })";
  CHECK(report_of(kernel_source(body, "#define AFTER")) == "");
  check_report(report_of(kernel_source(body, "#define AFTER box[threadIdx.x] = 0;")), {"race: ", "of 'box'"});
}

TEST_CASE("release and acquire order blocks only if both scopes reach the other block") {
  const std::string body = R"(
  if (blockIdx.x == 0) {
    out[64] = 5;
    asm volatile("st.release.RELEASE.global.b32 [%0], 1;" ::"l"(out) : "memory");
  } else {
    int seen;
    do asm volatile("ld.acquire.ACQUIRE.global.b32 %0, [%1];" : "=r"(seen) : "l"(out) : "memory"); while (seen == 0);
    out[65] = out[64];
  })";
  const auto with = [&](const std::string& release, const std::string& acquire) {
    std::string text = body;
    text.replace(text.find("RELEASE"), 7, release);
    text.replace(text.find("ACQUIRE"), 7, acquire);
    return report_of(kernel_source(text), {.threads = 1, .blocks = 2});
  };
  CHECK(with("gpu", "gpu") == "");
  CHECK(with("sys", "gpu") == "");
  check_report(with("cta", "gpu"), {"race: ", "block (1,0,0)", "block (0,0,0)", "of 'result'"});
  check_report(with("gpu", "cta"), {"race: ", "of 'result'"});
}

TEST_CASE("blocks of a cluster need its barrier") {
  const std::string body = R"(
  __shared__ int box[32];
  unsigned rank, other;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  box[threadIdx.x] = rank;
  asm volatile("barrier.cluster.arrive.aligned;\n barrier.cluster.wait.aligned;" ::: "memory");
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(other)
               : "r"((unsigned)__cvta_generic_to_shared(&box[threadIdx.x])), "r"(rank ^ 1));
  asm volatile("st.shared::cluster.b32 [%0], %1;" ::"r"(other), "r"(7) : "memory");
  WAIT
  out[blockIdx.x * 32 + threadIdx.x] = box[threadIdx.x];
  asm volatile("barrier.cluster.arrive.aligned;\n barrier.cluster.wait.aligned;" ::: "memory");)";
  const Trial pair{.threads = 32, .blocks = 2, .cluster = 2};
  const std::string wait =
      "#define WAIT asm volatile(\"barrier.cluster.arrive.aligned;\\n "
      "barrier.cluster.wait.aligned;\" ::: \"memory\");";
  CHECK(report_of(kernel_source(body, wait), pair) == "");
  check_report(report_of(kernel_source(body, "#define WAIT __syncthreads();"), pair),
               {"race: ", "of 'box'", "nothing orders the two blocks: use a barrier of the cluster"});
}

TEST_CASE("an mbarrier is known to others only behind a barrier, and orders who arrives before who waits") {
  const std::string body = R"(
  __shared__ __align__(8) unsigned long long gate;
  __shared__ int box[32];
  unsigned at = (unsigned)__cvta_generic_to_shared(&gate);
  if (threadIdx.x == 0) asm volatile("mbarrier.init.shared.b64 [%0], 32;" ::"r"(at) : "memory");
  SYNC
  if (threadIdx.x < 32) {
    box[threadIdx.x] = in[threadIdx.x];
    asm volatile("{ .reg .b64 s; mbarrier.arrive.ORDER.cta.shared.b64 s, [%0]; }" ::"r"(at) : "memory");
  } else {
    asm volatile("{ .reg .pred p;\nL: mbarrier.try_wait.parity.shared.b64 p, [%0], 0;\n@!p bra L; }" ::"r"(at) : "memory");
    out[threadIdx.x] = box[63 - threadIdx.x];
  })";
  const auto with = [&](const std::string& sync, const std::string& order) {
    std::string text = body;
    text.replace(text.find("ORDER"), 5, order);
    return report_of(kernel_source(text, "#define SYNC " + sync));
  };
  CHECK(with("__syncthreads();", "release") == "");
  check_report(with("", "release"), {"race: updates atomically", "of 'gate'", "thread (0,0,0) writes"});
  check_report(with("__syncthreads();", "relaxed"), {"race: reads", "of 'box'"});
}

TEST_CASE("a report of blocks is the same every time") {
  const std::string source = kernel_source(R"(
  for (int k = 0; k < 40; ++k) { out[(blockIdx.x * 13 + threadIdx.x + k) % 512] = 1; __syncthreads(); }
  if (threadIdx.x == 3) out[100] += 2;)");
  const auto first = report_of(source, {.blocks = 24});
  check_report(
      first, {"race: writes offset 52 of 'result'", "block (1,0,0), thread (0,0,0)", "block (0,0,0), thread (13,0,0)"});
  for (int round = 0; round < 10; ++round) {
    const std::string again = report_of(source, {.blocks = 24});
    CHECK(again == first);
  }
}

TEST_CASE("races are not looked for on request") {
  const auto device = make_emulator("sm_90a", EmulatorChecks::memory);
  const DeviceBuffer out = upload(*device, std::vector<int>(64, 0), "result");
  const std::string source = "extern \"C\" __global__ void test(int* out) { out[3] = 1; }";
  CHECK(error_text([&] {
          run(*device, compile_ptx(source, "test"), "test", parameter_block(out.data()), {.blocks = 8, .threads = 64});
        }) == "");
}

}  // namespace
}  // namespace gdnjit::tests

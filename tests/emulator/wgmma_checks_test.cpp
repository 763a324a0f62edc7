// Planted bugs around wgmma: each is found and located, and the correct kernel beside it gives no report.
#include <doctest/doctest.h>

#include "tests/emulator/wgmma_fixture.h"

namespace gdnjit::tests {
namespace {

constexpr int kA = 0;     // 64 rows of 128 bytes
constexpr int kB = 8192;  // 16 columns of 128 bytes
constexpr int kBytes = kB + 2048;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::uint64_t descriptor(int start) {
  Layout layout;
  layout.stride = 1024, layout.leading = 16, layout.start = start;
  return layout.descriptor();
}

// m64n16k16 into %d<first>... with descriptors in %rd10 (A) and %rd11 (B).
std::string multiply(int first = 0, const std::string& a = "%rd10", int n = 16) {
  return fmt::format("wgmma.mma_async.sync.aligned.m64n{}k16.f32.bf16.bf16 {{{}}}, {}, %rd11, %p1, 1, 1, 0{};\n", n,
                     numbered("%d", n / 2, first), a, a.front() == '{' ? "" : ", 0");
}
const std::string kFence = "wgmma.fence.sync.aligned;\n";
const std::string kCommit = "wgmma.commit_group.sync.aligned;\n";
const std::string kWait = "wgmma.wait_group.sync.aligned 0;\n";
const std::string kAccumulate = "setp.eq.u32 %p1, 0, 0;\n";
const std::string kFragments = "{%a0, %a1, %a2, %a3}";

struct Planted {
  WgmmaKernel kernel{.image_bytes = kBytes, .d_registers = 16, .a_registers = 4};
  std::uint32_t threads = 128;

  std::string report(const std::string& body) {
    kernel.body =
        fmt::format("mov.u64 %rd10, {};\nmov.u64 %rd11, {};\n", descriptor(kA), descriptor(kB)) + kAccumulate + body;
    Device& device = emulator();
    const DeviceBuffer image = upload(device, std::vector<std::uint8_t>(kBytes));
    const DeviceBuffer registers = upload(device, std::vector<std::uint32_t>(20 * 128)), out(device, 16 * 512, "out");
    return error_text([&] {
      run(device, kernel.ptx(), "test", parameter_block(image.data(), registers.data(), out.data()),
          {.threads = threads});
    });
  }
};

// Every part must be in the report.
void check_report(const std::string& text, const std::vector<std::string>& parts) {
  CAPTURE(text);
  for (const std::string& part : parts) {
    CAPTURE(part);
    CHECK(contains(text, part));
  }
}

TEST_CASE("a correct sequence gives no report") {
  CHECK(Planted().report(kFence + multiply() + kCommit + kWait) == "");
  CHECK(Planted().report(kFence + multiply() + multiply() + kCommit + multiply() + kCommit + kWait) == "");
  CHECK(Planted().report(kFence + multiply(0, kFragments) + kCommit + kWait) == "");
  // The first product does not read the accumulators.
  CHECK(Planted().report(kFence + "setp.ne.u32 %p1, 0, 0;\n" + multiply(100) + kAccumulate + multiply(100) + kCommit +
                         kWait + "mov.b32 %d0, %d100;") == "");
}

TEST_CASE("a missing wait is found where the accumulators are used") {
  check_report(Planted().report(kFence + multiply() + kCommit),
               {"uses the register %d0, which has no defined value", "no wgmma.wait_group has completed",
                "wgmma.mma_async.sync.aligned.m64n16k16", "st.global.b32 [%rd3+0], %d0"});
  check_report(Planted().report(kFence + multiply() + kCommit +
                                "add.f32 %d30, %d1, %d1;\nst.global.b32 [%rd3], %d30;\n" + kWait),
               {"uses the register %d30", "no wgmma.wait_group has completed"});
  // Not committed: the wait does not know it.
  check_report(Planted().report(kFence + multiply() + kWait), {"no wgmma.wait_group has completed"});
}

TEST_CASE("wait_group n completes all but the n latest groups") {
  const std::string two = kFence + multiply(0) + kCommit + multiply(8) + kCommit;
  const std::string one_left = "wgmma.wait_group.sync.aligned 1;\n";
  Planted early;
  early.kernel.stores = false;
  CHECK(early.report(two + one_left + "st.global.b32 [%rd3], %d0;\n" + kWait) == "");
  check_report(early.report(two + one_left + "st.global.b32 [%rd3], %d8;\n" + kWait),
               {"uses the register %d8", "no wgmma.wait_group has completed"});
  check_report(early.report(two + "wgmma.wait_group.sync.aligned 2;\nst.global.b32 [%rd3], %d0;\n" + kWait),
               {"uses the register %d0"});
  // The same accumulators in both groups are complete with the second.
  check_report(early.report(kFence + multiply(0) + kCommit + multiply(0) + kCommit + one_left +
                            "st.global.b32 [%rd3], %d0;\n" + kWait),
               {"uses the register %d0"});
  // An empty group counts as one.
  CHECK(early.report(kFence + multiply(0) + kCommit + kCommit + one_left + "st.global.b32 [%rd3], %d0;\n") == "");
}

TEST_CASE("a missing fence is found for accumulators and for A in registers") {
  check_report(Planted().report(multiply() + kCommit + kWait),
               {"there has been no wgmma.fence before the first", "mma_async"});
  const std::string once = kFence + multiply(0, kFragments) + kCommit + kWait;
  check_report(Planted().report(once + "add.u32 %d3, %d3, %d3;\n" + multiply() + kCommit + kWait),
               {"uses %d3 without a wgmma.fence after it was written at", "add.u32 %d3, %d3, %d3;"});
  check_report(Planted().report(once + "add.u32 %a1, %a1, 1;\n" + multiply(0, kFragments) + kCommit + kWait),
               {"uses %a1 without a wgmma.fence after it was written at", "add.u32 %a1, %a1, 1;"});
  check_report(Planted().report(once + "ld.global.v2.b32 {%r3, %d5}, [%rd1];\n" + multiply() + kCommit + kWait),
               {"uses %d5 without"});
  CHECK(Planted().report(once + "add.u32 %d3, %d3, %d3;\nadd.u32 %a1, %a1, 1;\n" + kFence + multiply(0, kFragments) +
                         kCommit + kWait) == "");
}

TEST_CASE("moves between a fence and a wgmma are the compiler's, and as old as what they move") {
  const std::string once = kFence + multiply(0, kFragments) + kCommit + kWait;
  CHECK(Planted().report("add.u32 %d20, %d7, 1;\n" + once + "mov.b32 %d7, %d20;\n" + multiply() + kCommit + kWait) ==
        "");
  CHECK(Planted().report(once + "mov.b32 %d7, 0;\nmov.b32 %d6, %d7;\n" + multiply() + kCommit + kWait) == "");
  check_report(Planted().report(once + "add.u32 %d20, %d7, 1;\nmov.b32 %d7, %d20;\n" + multiply() + kCommit + kWait),
               {"uses %d7 without a wgmma.fence after it was written at", "add.u32 %d20, %d7, 1;"});
}

TEST_CASE("a write to registers in flight is found at once") {
  check_report(Planted().report(kFence + multiply() + kCommit + "mov.b32 %d3, 0;\n" + kWait),
               {"writes %d3, which a wgmma in flight still uses", "mov.b32 %d3, 0;"});
  check_report(Planted().report(kFence + multiply(0, kFragments) + kCommit + "mov.b32 %a2, 0;\n" + kWait),
               {"writes %a2, which a wgmma"});
  check_report(Planted().report(kFence + multiply(0) + multiply(0, "%rd10", 8) + kCommit + kWait),
               {"accumulates into %d0, which an operation of another shape has not completed", "m64n16k16"});
  // The accumulators of one in flight as A of the next.
  check_report(Planted().report(kFence + multiply(0) + multiply(8, "{%d0, %d1, %d2, %d3}") + kCommit + kWait),
               {"uses the register %d0", "no wgmma.wait_group has completed"});
}

TEST_CASE("warps of a warpgroup that differ are named") {
  check_report(Planted().report("setp.eq.u32 %p2, %r2, 2;\n@%p2 add.u64 %rd11, %rd11, 2;\n" + kFence + multiply() +
                                kCommit + kWait),
               {"warp 2", fmt::format("the descriptor of B is 0x{:016x} here and 0x{:016x} in warp 0",
                                      descriptor(kB) + 2, descriptor(kB))});
  check_report(Planted().report("setp.eq.u32 %p2, %r2, 1;\n@%p2 add.u64 %rd10, %rd10, 64;\n" + kFence + multiply() +
                                kCommit + kWait),
               {"warp 1", "the descriptor of A is"});
  check_report(Planted().report("setp.lt.u32 %p1, %r2, 3;\n" + kFence + multiply() + kCommit + kWait),
               {"warp 3", "the scale-d is false here and true in warp 0"});
  check_report(Planted().report(kFence + "setp.eq.u32 %p2, %r2, 3;\n@%p2 bra OTHER;\n" + multiply() + "OTHER:\n" +
                                kCommit + kWait),
               {"the warps of a warpgroup must issue the same instructions", "wgmma.commit_group"});
  check_report(Planted().report("setp.eq.u32 %p2, %r2, 3;\n@%p2 ret;\n" + kFence + multiply() + kCommit + kWait),
               {"warp 3"});
  check_report(
      Planted().report(kFence + multiply() + kCommit + kWait + "setp.eq.u32 %p2, %r2, 1;\n@%p2 ret;\n" + kFence),
      {"warp 1", "exits, but warp 0 of the same warpgroup has issued", "wgmma.fence"});
}

TEST_CASE("lanes that differ or are elsewhere, and warpgroups that are too small, are faults") {
  check_report(Planted().report("and.b32 %r3, %r1, 31;\nsetp.eq.u32 %p2, %r3, 5;\n@%p2 add.u64 %rd11, %rd11, 2;\n" +
                                kFence + multiply()),
               {"thread (5,0,0)", "has another descriptor of B than lane 0"});
  check_report(Planted().report("and.b32 %r3, %r1, 31;\nsetp.lt.u32 %p1, %r3, 9;\n" + kFence + multiply()),
               {"thread (9,0,0)", "has another scale-d than lane 0"});
  check_report(Planted().report("and.b32 %r3, %r1, 31;\nsetp.lt.u32 %p2, %r3, 9;\n" + kFence + "@%p2 " + multiply()),
               {"needs all 32 lanes of its warp: lanes 0xfffffe00 are elsewhere"});
  Planted small;
  small.threads = 64;
  check_report(small.report(kFence), {"needs a warpgroup of 4 warps", "the block has 2"});
}

TEST_CASE("an exit with a wgmma in flight is a fault") {
  Planted test;
  test.kernel.stores = false;
  check_report(test.report(kFence + multiply() + kCommit),
               {"exits before a wgmma.wait_group has completed", "m64n16k16"});
}

TEST_CASE("a descriptor that leads outside, or that is none, is a fault that names the matrix") {
  // Far outside: the emulator may put gaps behind the variables.
  constexpr int kFar = 131072;
  check_report(Planted().report(fmt::format("mov.u64 %rd11, {};\n", descriptor(kFar)) + kFence + multiply()),
               {"the descriptor leads beyond shared memory: 16 bytes at offset 131072 (matrix B, column 0, k 0 to 7)",
                "the block has"});
  Layout layout;
  layout.leading = 16, layout.stride = 65536;
  check_report(Planted().report(fmt::format("mov.u64 %rd10, {};\n", layout.descriptor()) + kFence + multiply()),
               {"16 bytes at offset 65536 (matrix A, row 8, k 0 to 7)"});
  check_report(Planted().report(fmt::format("mov.u64 %rd10, {};\n", descriptor(kA) | 1ULL << 46) + kFence + multiply()),
               {"the descriptor of A has bits set that mean nothing to wgmma"});
}

TEST_CASE("shared memory that nobody has written is found, with the element") {
  Planted test;
  test.kernel.image_bytes = kB + 1024;
  test.kernel.shared_bytes = kBytes;
  check_report(test.report(kFence + multiply() + kCommit + kWait),
               {"reads shared memory that nobody has written: offset 9216 of 'tile' (matrix B, column 8, k 0 to 7)",
                "mma_async"});
}

TEST_CASE("setmaxnreg wants the whole warpgroup and a number that exists") {
  CHECK(Planted().report("setmaxnreg.dec.sync.aligned.u32 40;\nsetmaxnreg.inc.sync.aligned.u32 232;\n") == "");
  check_report(Planted().report(
                   "setp.eq.u32 %p2, %r2, 3;\n@%p2 bra OTHER;\nsetmaxnreg.dec.sync.aligned.u32 40;\nOTHER:\n" + kFence),
               {"must issue the same instructions", "setmaxnreg.dec"});
  check_report(Planted().report("setmaxnreg.inc.sync.aligned.u32 20;\n"), {"a constant from 24 to 256"});
  check_report(Planted().report("setmaxnreg.inc.sync.aligned.u32 100;\n"), {"must be a multiple of 8"});
}

TEST_CASE("forms of wgmma that the emulator does not execute are refused with their line") {
  const std::string tail = " {%d0, %d1, %d2, %d3}, %rd10, %rd11, %p1, 1, 1, 0, 0;\n";
  for (const std::string opcode :
       {"wgmma.mma_async.sync.aligned.m64n12k16.f32.bf16.bf16", "wgmma.mma_async.sync.aligned.m64n8k8.f32.bf16.bf16",
        "wgmma.mma_async.sync.aligned.m64n8k16.f16.bf16.bf16", "wgmma.mma_async.sync.aligned.m64n264k16.f32.f16.f16",
        "wgmma.mma_async.sp.sync.aligned.m64n8k32.f32.bf16.bf16",
        "wgmma.mma_async.sync.aligned.m64n8k256.s32.b1.b1.and.popc", "wgmma.mma_async.sync.m64n8k16.f32.bf16.bf16",
        "wgmma.wait_all.sync.aligned"}) {
    CAPTURE(opcode);
    check_report(Planted().report(opcode + tail), {"PTX line", opcode});
  }
  const std::string opcode =
      "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%d0, %d1, %d2, %d3}, %rd10, %rd11, %p1, ";
  CHECK(contains(Planted().report(opcode + "1, 2, 0, 0;"), "a constant from -1 to 1"));
  CHECK(contains(Planted().report(opcode + "1, 0, 0, 0;"), "must be 1 or -1"));
  CHECK(contains(Planted().report(opcode + "1, 1, 0, 2;"), "a constant from 0 to 1"));
  CHECK(contains(Planted().report(opcode + "1, 1, 0;"), "operands"));
  Planted older;
  older.kernel.target = "sm_90";
  CHECK(contains(older.report(kFence), "wgmma needs the target sm_90a; this is sm_90"));
}

}  // namespace
}  // namespace gdnjit::tests

// Planted bugs: each class is found, and located. The correct kernel beside it gives no report.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

struct Buffers {
  Device& device = emulator();
  DeviceBuffer in = upload(device, std::vector<float>(64, 1.0F), "weights");
  DeviceBuffer out{device, 256, "result"};

  std::string report(const std::string& body, std::uint32_t threads = 32, std::vector<BufferRange> ranges = {},
                     const std::string& declarations = "") {
    return error_text([&] {
      run(device, ptx_module(body, declarations), "test", parameter_block(in.data(), out.data()),
          {.threads = threads, .buffers = std::move(ranges)});
    });
  }
  std::vector<BufferRange> roles(TensorRole in_role, TensorRole out_role) const {
    return {{in.data(), in.bytes(), "weights", in_role}, {out.data(), out.bytes(), "result", out_role}};
  }
};

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Every part must be in the report.
void check_report(const std::string& text, const std::vector<std::string>& parts) {
  CAPTURE(text);
  for (const std::string& part : parts) {
    CAPTURE(part);
    CHECK(contains(text, part));
  }
}

const std::string kOwnElement =
    "mov.u32 %r1, %tid.x; mul.wide.u32 %rd5, %r1, 4; add.u64 %rd3, %rd1, %rd5; add.u64 %rd4, %rd2, %rd5;\n";

TEST_CASE("a correct kernel gives no report") {
  Buffers test;
  CHECK(test.report(kOwnElement + "ld.global.f32 %f1, [%rd3];\nst.global.f32 [%rd4], %f1;\nret;", 64,
                    test.roles(TensorRole::input, TensorRole::output)) == "");
}

TEST_CASE("an access past the end names the buffer, the distance, the thread and the line") {
  Buffers test;
  const auto ranges = test.roles(TensorRole::input, TensorRole::output);
  check_report(test.report(kOwnElement + "ld.global.f32 %f1, [%rd3];\nst.global.f32 [%rd4], %f1;\nret;", 65, ranges),
               {"kernel 'test'", "block (0,0,0)", "thread (64,0,0)", "reads out of bounds",
                "0 bytes past the end of 'weights' (256 bytes", "ld.global.f32 %f1, [%rd3];"});
  check_report(test.report("mov.u32 %r1, 1; st.global.b32 [%rd2+-4], %r1;\nret;", 1, ranges),
               {"writes out of bounds", "4 bytes before 'result'"});
  check_report(test.report("ld.global.u8 %r1, [%rd1+256];\nret;", 1), {"reads out of bounds"});
  check_report(test.report("mov.u64 %rd3, 16; ld.global.u32 %r1, [%rd3]; ret;", 1), {"reads out of bounds", "at 0x10"});
}

TEST_CASE("an access that begins inside and ends one byte outside is found") {
  Buffers test;
  CHECK(test.report("ld.global.b16 %rs1, [%rd1+254]; ret;", 1, {{test.in.data(), 256, "weights", TensorRole::input}}) ==
        "");
  check_report(
      test.report("ld.global.b16 %rs1, [%rd1+254]; ret;", 1, {{test.in.data(), 255, "weights", TensorRole::input}}),
      {"reads out of bounds", "past the end of 'weights' (255 bytes"});
}

TEST_CASE("a store to an input and a load of an unwritten output are faults; in place is neither") {
  Buffers test;
  check_report(test.report(kOwnElement + "mov.f32 %f1, 0f3f800000; st.global.f32 [%rd3], %f1; ret;", 32,
                           test.roles(TensorRole::input, TensorRole::output)),
               {"writes memory that is only an input", "offset 0 of 'weights'"});
  test.device.fill(test.out.data(), 0, test.out.bytes(), nullptr);
  const std::string read_output = kOwnElement + "ld.global.f32 %f1, [%rd4]; st.global.f32 [%rd4], %f1; ret;";
  check_report(test.report(read_output, 32, test.roles(TensorRole::input, TensorRole::output)),
               {"is an output and has not been written by this launch", "'result'"});
  CHECK(test.report(read_output, 32, test.roles(TensorRole::input, TensorRole::in_out)) == "");
  std::vector<BufferRange> both = test.roles(TensorRole::input, TensorRole::output);
  both.push_back({test.out.data(), test.out.bytes(), "state_in", TensorRole::input});
  CHECK(test.report(read_output, 32, both) == "");
  CHECK(test.report(kOwnElement + "mov.f32 %f1, 0f3f800000; st.global.f32 [%rd4], %f1; ld.global.f32 %f2, [%rd4]; ret;",
                    32, test.roles(TensorRole::input, TensorRole::output)) == "");
}

TEST_CASE("discarded memory is poisoned and unwritten, and only it") {
  Buffers test;
  const std::string read = "ld.global.f32 %f1, [%rd1+128]; add.f32 %f1, %f1, %f1; st.global.f32 [%rd2], %f1; ret;";
  CHECK(test.report(read, 1) == "");
  auto* const bytes = static_cast<std::byte*>(test.in.data());
  test.device.discard(bytes + 128, 64, nullptr);
  check_report(test.report(read, 1), {"'weights'", "offset 128"});
  CHECK(test.report("ld.global.f32 %f1, [%rd1+124]; ld.global.f32 %f2, [%rd1+192]; ret;", 1) == "");
  CHECK(download<std::uint32_t>(test.device, test.in)[32] == 0xffffffff);
  CHECK(test.report("mov.f32 %f1, 0f3f800000; st.global.f32 [%rd1+128], %f1; " + read, 1) == "");
  // Memory of the caller's own has no record of writes; it is poisoned.
  std::uint32_t host[2] = {1, 2};
  test.device.discard(&host[1], 4, nullptr);
  CHECK(host[0] == 1);
  CHECK(host[1] == 0xffffffff);
  // A captured discard happens at each replay.
  const Stream stream = test.device.create_stream();
  const auto graph = test.device.capture(stream, [&](Stream captured) { test.device.discard(host, 4, captured); });
  CHECK(host[0] == 1);
  graph->launch(stream);
  CHECK(host[0] == 0xffffffff);
  test.device.destroy_stream(stream);
}

TEST_CASE("host memory passes as a buffer, and only as far as it is named") {
  Buffers test;
  std::vector<std::uint32_t> host(8, 3);
  const std::string body = "ld.global.u32 %r1, [%rd1]; add.u32 %r1, %r1, 1; st.global.u32 [%rd1+4], %r1; ret;";
  const auto launch = [&](std::vector<BufferRange> ranges) {
    return error_text([&] {
      run(test.device, ptx_module(body), "test", parameter_block(host.data(), host.data()),
          {.threads = 1, .buffers = std::move(ranges)});
    });
  };
  CHECK(launch({{host.data(), 32, "host", TensorRole::in_out}}) == "");
  CHECK(host[1] == 4);
  check_report(launch({{host.data(), 4, "host", TensorRole::in_out}}), {"writes out of bounds", "'host' (4 bytes"});
  check_report(launch({}), {"reads out of bounds"});
}

TEST_CASE("a misaligned access is a fault, also inside a vector") {
  Buffers test;
  check_report(test.report("ld.global.u32 %r1, [%rd1+2]; ret;", 1),
               {"reads 4 bytes at", "an address that 4 does not divide"});
  check_report(test.report("ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd1+8]; ret;", 1),
               {"reads 16 bytes", "16 does not divide"});
  check_report(
      test.report(
          ".shared .align 8 .b8 box[64]; mov.u64 %rd3, box; mov.u64 %rd4, 1; st.shared.u64 [%rd3+4], %rd4; ret;", 1),
      {"writes 8 bytes", "8 does not divide"});
}

TEST_CASE("reads of unwritten memory are faults in every space") {
  Buffers test;
  const DeviceBuffer fresh(test.device, 64, "fresh");
  check_report(error_text([&] {
                 run(test.device, ptx_module("ld.global.u32 %r1, [%rd1+8]; ret;"), "test",
                     parameter_block(fresh.data(), fresh.data()), {.threads = 1});
               }),
               {"reads global memory that nobody has written", "offset 8 of 'fresh'"});
  check_report(test.report(".shared .align 4 .b8 box[64]; ld.shared.u32 %r1, [box+12]; ret;", 1),
               {"reads shared memory that nobody has written", "offset 12 of 'box'"});
  check_report(test.report(".local .align 4 .b8 own[64]; ld.local.u32 %r1, [own+4]; ret;", 1),
               {"reads local memory that has not been written"});
  // One byte of four is missing.
  check_report(test.report(".shared .align 4 .b8 box[64]; mov.u16 %rs1, 1; st.shared.u8 [box], %rs1; st.shared.u8 "
                           "[box+1], %rs1; st.shared.u8 [box+3], %rs1; ld.shared.u32 %r1, [box]; ret;",
                           1),
               {"offset 2 of 'box'"});
}

TEST_CASE("an unwritten register is a fault where its value matters, with the place where it came in") {
  Buffers test;
  check_report(test.report("add.s32 %r2, %r9, 1;\nmul.lo.s32 %r3, %r2, 2;\nst.global.u32 [%rd2], %r3;\nret;", 1),
               {"uses the register %r3, which has no defined value", "%r9 had not been written", "add.s32 %r2, %r9, 1;",
                "st.global.u32 [%rd2], %r3;"});
  check_report(test.report("@%p7 bra END;\nEND: ret;", 1), {"uses the register %p7"});
  check_report(test.report("ld.global.u32 %r1, [%rd30]; ret;", 1), {"uses the register %rd30"});
  CHECK(test.report(
            "mov.u32 %r2, %r9; setp.eq.u32 %p1, 0, 0; selp.u32 %r3, 5, %r2, %p1; st.global.u32 [%rd2], %r3; ret;", 1) ==
        "");
  // Only lane 3 lacks the value.
  check_report(test.report("mov.u32 %r1, %tid.x; setp.ne.u32 %p1, %r1, 3; @%p1 mov.u32 %r2, 1; shl.b32 %r3, %r1, 2; "
                           "cvt.u64.u32 %rd5, %r3; add.u64 %rd4, %rd2, %rd5; st.global.u32 [%rd4], %r2; ret;"),
               {"thread (3,0,0)", "%r2"});
}

TEST_CASE("a register put together from parts is defined part by part, where it is taken apart again") {
  Buffers test;
  const std::string store = " st.global.u32 [%rd2], %r5; ret;";
  const std::string pack = "mov.u32 %r1, 7; mov.b64 %rd5, {%r9, %r1}; ";
  CHECK(test.report(pack + "mov.b64 {%r4, %r5}, %rd5;" + store, 1) == "");
  CHECK(test.report(pack + "mov.b64 {_, %r5}, %rd5;" + store, 1) == "");
  CHECK(test.report(pack + "mov.b64 %rd6, %rd5; mov.b64 {_, %r5}, %rd6;" + store, 1) == "");
  CHECK(test.report(
            "mov.u16 %rs1, 7; mov.b32 %r1, {%rs2, %rs1}; mov.b32 {%rs3, %rs4}, %r1; cvt.u32.u16 %r5, %rs4;" + store,
            1) == "");
  check_report(test.report(pack + "mov.b64 {%r5, %r4}, %rd5;" + store, 1), {"uses the register %r5"});
  check_report(test.report(pack + "mov.b64 %rd6, %rd5; mov.b64 {%r5, _}, %rd6;" + store, 1), {"uses the register %r5"});
  // The whole is undefined, and so is every part of a register that something else may write, or that is taken apart
  // in another way.
  check_report(test.report(pack + "st.global.u64 [%rd2], %rd5; ret;", 1), {"uses the register %rd5"});
  check_report(test.report(pack + "add.u64 %rd5, %rd5, 1; mov.b64 {_, %r5}, %rd5;" + store, 1),
               {"uses the register %r5"});
  check_report(test.report(pack + "mov.b64 {%rs1, %rs2, %rs3, %rs4}, %rd5; cvt.u32.u16 %r5, %rs4;" + store, 1),
               {"uses the register %r5"});
  // Lane by lane: the high half is missing in lane 3, the low half everywhere else.
  const std::string lanes =
      "mov.u32 %r2, %tid.x; setp.eq.u32 %p1, %r2, 3; mov.u32 %r1, 7; mov.b64 %rd5, {%r9, %r1}; "
      "@%p1 mov.b64 %rd5, {%r1, %r9}; ";
  check_report(test.report(lanes + "mov.b64 {_, %r5}, %rd5;" + store), {"thread (3,0,0)", "uses the register %r5"});
  check_report(test.report(lanes + "mov.b64 {%r5, _}, %rd5;" + store), {"thread (0,0,0)", "uses the register %r5"});
}

TEST_CASE("shared accesses beyond the block's memory are faults, dynamic memory included") {
  Buffers test;
  check_report(test.report(".shared .align 4 .b8 box[60]; mov.u32 %r1, 1; st.shared.u32 [box+60], %r1; ret;", 1),
               {"writes 4 bytes of shared memory", "the block has 60 bytes"});
  const std::string dynamic =
      ptx_module("mov.u32 %r1, 1; st.shared.u32 [extra+124], %r1; ret;", ".extern .shared .align 16 .b8 extra[];");
  const auto launch = [&](std::uint32_t bytes) {
    return error_text([&] {
      run(test.device, dynamic, "test", parameter_block(nullptr, nullptr), {.threads = 1, .shared_bytes = bytes});
    });
  };
  CHECK(launch(128) == "");
  check_report(launch(127), {"the block has 127 bytes"});
}

TEST_CASE("a barrier that part of a warp reaches is divergent") {
  Buffers test;
  check_report(test.report("mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 7;\n@%p1 bar.sync 0;\nret;"),
               {"divergent barrier", "lanes 0x0000007f", "lanes 0xffffff80", "bar.sync 0;"});
  check_report(
      test.report(
          "mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 7;\n@%p1 bra A;\nbar.sync 0;\nbra B;\nA: bar.sync 1;\nB: ret;"),
      {"divergent barrier"});
}

TEST_CASE("an exit before a barrier where others wait is a deadlock that names who waits where") {
  Buffers test;
  check_report(test.report("mov.u32 %r1, %tid.x; setp.ge.u32 %p1, %r1, 64;\n@%p1 ret;\nbar.sync 0;\nret;", 128),
               {"deadlock: 2 of 4 warps have exited", "warp 0 waits at barrier 0 (64 of 128 threads are there)",
                "warp 1 waits"});
  check_report(test.report("mov.u32 %r1, %tid.x; setp.ge.u32 %p1, %r1, 40;\n@%p1 ret;\nbar.sync 0;\nret;", 64),
               {"lanes 0xffffff00 of its warp left by exiting"});
  check_report(
      test.report(
          "mov.u32 %r1, %tid.x; setp.ge.u32 %p1, %r1, 32;\n@%p1 bra B;\nbar.sync 1;\nret;\nB: bar.sync 2;\nret;", 64),
      {"deadlock: every warp waits", "barrier 1", "barrier 2"});
  check_report(test.report("mov.u32 %r1, %tid.x; setp.ge.u32 %p1, %r1, 32;\n@%p1 bra B;\nbar.sync 1, 96;\nret;\nB: "
                           "bar.sync 1, 64;\nret;",
                           64),
               {"is expected by 64 threads here and by 96"});
}

TEST_CASE("a mask that names absent lanes, or not the lane itself, is a fault") {
  Buffers test;
  const std::string half = "mov.u32 %r1, %tid.x; setp.ge.u32 %p1, %r1, 16;\n@%p1 bra END;\n";
  check_report(test.report(half + "shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1;\nEND: ret;"),
               {"names lanes 0xffff0000 in its mask 0xffffffff", "shfl.sync"});
  check_report(test.report(half + "bar.warp.sync -1;\nEND: ret;"), {"names lanes 0xffff0000", "bar.warp.sync"});
  check_report(test.report("mov.u32 %r1, 1; shfl.sync.idx.b32 %r2, %r1, 0, 31, 0xff; ret;"),
               {"is not a member of its own mask 0x000000ff", "thread (8,0,0)"});
  // A warp of 16 threads may name all 32: lanes that do not exist wait for nobody, but have nothing to give.
  CHECK(test.report("mov.u32 %r1, 1; shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1; st.global.u32 [%rd2], %r2; ret;", 16) ==
        "");
  check_report(
      test.report("mov.u32 %r1, 1; shfl.sync.bfly.b32 %r2, %r1, 16, 31, -1; st.global.u32 [%rd2], %r2; ret;", 16),
      {"uses the register %r2, which has no defined value"});
}

TEST_CASE("trap, parameters and jump tables") {
  Buffers test;
  check_report(test.report("trap; ret;", 1), {"executes trap"});
  check_report(test.report("mov.b64 %rd3, a; ld.param.u64 %rd4, [%rd3+16]; ret;", 1),
               {"offset 16 of the parameters, which have 16 bytes"});
  check_report(test.report("mov.u32 %r1, 2;\nT: .branchtargets A, A;\nbrx.idx %r1, T;\nA: ret;", 1),
               {"branches by index 2 beyond its table"});
}

TEST_CASE("the template's file and line stand in the report when the module has them") {
  Buffers test;
  check_report(test.report(".loc 1 41 3\ntrap;\nret;", 1, {}, ".file 1 \"gdn/step.cuh\""), {"(gdn/step.cuh:41)"});
}

TEST_CASE("the report is the lowest block's, whichever thread ran it") {
  Buffers test;
  for (int round = 0; round < 5; ++round) {
    const std::string text = error_text([&] {
      run(test.device, ptx_module("mov.u32 %r1, %ctaid.x; setp.lt.u32 %p1, %r1, 37; @%p1 ret; trap;"), "test",
          parameter_block(nullptr, nullptr), {.blocks = 500, .threads = 32});
    });
    check_report(text, {"block (37,0,0)"});
  }
}

}  // namespace
}  // namespace gdnjit::tests

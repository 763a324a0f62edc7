// The Device interface: memory, streams, graphs, events, launches that a driver would refuse.
#include <doctest/doctest.h>

#include <thread>

#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

const std::string kAddOne =
    ptx_module("ld.global.u32 %r1, [%rd1]; add.u32 %r1, %r1, 1; st.global.u32 [%rd1], %r1; ret;");

ErrorCode code_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::ok;
}

TEST_CASE("each architecture has the traits of its card; others are refused with a suggestion") {
  for (const char* arch : {"sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_103", "sm_120"}) {
    const auto device = make_emulator(arch);
    CHECK(device->info().kind == DeviceKind::emulator);
    CHECK(device->info().traits.arch == arch);
    CHECK(device->info().traits.sm_count > 0);
    CHECK(device->info().name == std::string("emulator of ") + arch);
    CHECK(device->info().memory_bytes > 0);
  }
  CHECK(code_of([] { make_emulator("sm_70"); }) == ErrorCode::unsupported);
  CHECK(error_text([] { make_emulator("sm90a"); }).find("did you mean 'sm_90a'?") != std::string::npos);
}

TEST_CASE("PTX of a newer or another specific architecture does not load") {
  CHECK(code_of([] { emulator("sm_80").load({"test", kAddOne, {}}); }) == ErrorCode::unsupported);
  CHECK(code_of([] { emulator("sm_100").load({"test", kAddOne, {}}); }) == ErrorCode::ok);
  const std::string specific = ".version 8.0 .target sm_90a .address_size 64 .visible .entry test() { ret; }";
  CHECK(code_of([&] { emulator("sm_120").load({"test", specific, {}}); }) == ErrorCode::unsupported);
  CHECK(code_of([] { emulator().load({"test", "", {}}); }) == ErrorCode::device_failed);
}

TEST_CASE("memory is aligned, poisoned, and copied only inside allocations") {
  Device& device = emulator();
  const DeviceBuffer buffer(device, 100, "hundred");
  CHECK(reinterpret_cast<std::uintptr_t>(buffer.data()) % 256 == 0);
  std::vector<unsigned char> host(200);
  device.copy_out(host.data(), buffer.data(), 100, nullptr);
  CHECK(host[0] == 0xff);
  CHECK(host[99] == 0xff);
  CHECK(error_text([&] {
          device.copy_in(buffer.data(), host.data(), 101, nullptr);
        }).find("'hundred', which has 100 bytes") != std::string::npos);
  CHECK(code_of([&] { device.copy_out(host.data(), static_cast<std::byte*>(buffer.data()) + 90, 11, nullptr); }) ==
        ErrorCode::device_failed);
  CHECK(code_of([&] { device.fill(host.data(), 0, 10, nullptr); }) == ErrorCode::device_failed);
  CHECK(code_of([&] { device.allocate(~std::size_t{0} / 4, "everything"); }) == ErrorCode::out_of_memory);
  device.copy_in(buffer.data(), host.data(), 0, nullptr);
  const DeviceBuffer nothing(device, 0, "nothing");
  CHECK(nothing.data() != nullptr);
}

TEST_CASE("launches that a driver would refuse are refused") {
  Device& device = emulator();
  const auto kernel = device.load({"test", kAddOne, {}});
  const auto launch = [&](LaunchGeometry geometry, std::size_t bytes = 16) {
    const std::vector<std::byte> parameters(bytes);
    return error_text([&] { device.launch(*kernel, geometry, parameters, nullptr, {}); });
  };
  CHECK(launch({.grid = {0, 1, 1}}).find("no blocks") != std::string::npos);
  CHECK(launch({.block = {0, 1, 1}}).find("no threads") != std::string::npos);
  CHECK(launch({.block = {1025, 1, 1}}).find("up to 1024") != std::string::npos);
  CHECK(launch({.grid = {1, 70000, 1}}).find("the limit is 65535") != std::string::npos);
  CHECK(launch({.shared_bytes = 300000}).find("232448") != std::string::npos);
  CHECK(launch({}, 8).find("8 bytes of parameters; the kernel has 16") != std::string::npos);
  const auto limited = device.load(
      {"test", ".version 8.0 .target sm_90 .address_size 64 .visible .entry test() .reqntid 64 { ret; }", {}});
  CHECK(error_text([&] { device.launch(*limited, {}, {}, nullptr, {}); }).find("the kernel requires 64") !=
        std::string::npos);
}

TEST_CASE("three-dimensional blocks and grids number their threads in order") {
  Device& device = emulator();
  const std::string ptx = ptx_module(
      R"(mov.u32 %r1, %tid.x; mov.u32 %r2, %tid.y; mov.u32 %r3, %tid.z; mov.u32 %r4, %ntid.x; mov.u32 %r5, %ntid.y; mad.lo.u32 %r6, %r3, %r5, %r2; mad.lo.u32 %r6, %r6, %r4, %r1;
    mov.u32 %r7, %ctaid.x; mov.u32 %r8, %ctaid.y; mov.u32 %r9, %ctaid.z; mov.u32 %r10, %nctaid.x; mov.u32 %r11, %nctaid.y; mad.lo.u32 %r12, %r9, %r11, %r8; mad.lo.u32 %r12, %r12, %r10, %r7;
    mov.u32 %r13, %ntid.z; mul.lo.u32 %r14, %r4, %r5; mul.lo.u32 %r14, %r14, %r13; mad.lo.u32 %r15, %r12, %r14, %r6; mul.wide.u32 %rd3, %r15, 4; add.u64 %rd3, %rd1, %rd3; st.global.u32 [%rd3], %r15; ret;)");
  const auto kernel = device.load({"test", ptx, {}});
  const DeviceBuffer out(device, 4 * 3 * 2 * 2 * 5 * 3 * 4, "out");
  device.launch(*kernel, {.grid = {3, 2, 2}, .block = {5, 3, 4}}, parameter_block(out.data(), out.data()), nullptr, {});
  const auto values = download<std::uint32_t>(device, out);
  for (std::uint32_t i = 0; i < values.size(); ++i) CHECK(values[i] == i);
}

TEST_CASE("a graph replays its launches and fills in order; other work is refused under capture") {
  Device& device = emulator();
  const DeviceBuffer value(device, 4, "value");
  const auto kernel = device.load({"test", kAddOne, {}});
  const Stream stream = device.create_stream();
  std::uint32_t host = 0;
  const auto graph = device.capture(stream, [&](Stream captured) {
    CHECK(device.capturing(captured));
    device.fill(value.data(), 0, 4, captured);
    // The graph must keep its own copy of what dies with this function.
    const std::string name = "value, under a name of the caller's";
    std::vector<BufferRange> ranges{{value.data(), 4, name, TensorRole::in_out}};
    for (int i = 0; i < 3; ++i)
      device.launch(*kernel, {}, parameter_block(value.data(), value.data()), captured, ranges);
    CHECK(code_of([&] { device.copy_in(value.data(), &host, 4, captured); }) == ErrorCode::device_failed);
    CHECK(code_of([&] { device.synchronize(captured); }) == ErrorCode::device_failed);
    CHECK(code_of([&] { device.capture(captured, [](Stream) {}); }) == ErrorCode::device_failed);
  });
  CHECK(!device.capturing(stream));
  for (int round = 0; round < 2; ++round) {
    graph->launch(stream);
    device.copy_out(&host, value.data(), 4, stream);
    CHECK(host == 3);
  }
  CHECK(code_of([&] { device.capture(nullptr, [](Stream) {}); }) == ErrorCode::device_failed);
  CHECK_THROWS(device.capture(stream, [](Stream) { throw Error(ErrorCode::io, "stop"); }));
  CHECK(!device.capturing(stream));
  device.destroy_stream(stream);
}

TEST_CASE("events measure time between records") {
  Device& device = emulator();
  const auto begin = device.create_event(), end = device.create_event();
  CHECK(code_of([&] { end->microseconds_since(*begin); }) == ErrorCode::device_failed);
  begin->record(nullptr);
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  end->record(nullptr);
  CHECK(end->microseconds_since(*begin) >= 1900);
}

TEST_CASE("counters are the calling thread's, and absent after a fault") {
  Device& device = emulator();
  const DeviceBuffer value = upload(device, std::vector<std::uint32_t>{0});
  const auto kernel = device.load({"test", kAddOne, {}});
  std::vector<std::thread> threads;
  for (std::uint32_t number = 1; number <= 4; ++number) {
    threads.emplace_back([&, number] {
      const DeviceBuffer own = upload(device, std::vector<std::uint32_t>{0});
      for (int round = 0; round < 20; ++round) {
        device.launch(*kernel, {.grid = {number, 1, 1}, .block = {1, 1, 1}}, parameter_block(own.data(), own.data()),
                      nullptr, {});
        CHECK(device.last_counters()->blocks == number);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  run(device, kAddOne, "test", parameter_block(value.data(), value.data()), {.threads = 1});
  REQUIRE(device.last_counters() != nullptr);
  CHECK(code_of([&] { run(device, ptx_module("trap;"), "test", parameter_block(value.data(), value.data())); }) ==
        ErrorCode::device_failed);
  CHECK(device.last_counters() == nullptr);
}

}  // namespace
}  // namespace gdnjit::tests

// Every function of the driver fails in turn, at every call.
#include <doctest/doctest.h>

#include <set>
#include <string>

#include "runtime/cuda/driver_error.h"
#include "tests/runtime/cuda/fake_driver.h"
#include "tests/runtime/cuda/scenario.h"
#include "tests/support/error_of.h"

namespace gdnjit::cuda {
namespace {

// Called where nothing may be thrown: destructors, release and the way back to the caller's context.
const std::set<std::string> kMayNotThrow{
    "cuDevicePrimaryCtxRelease", "cuMemFree",      "cuStreamDestroy", "cuGraphDestroy",
    "cuGraphExecDestroy",        "cuEventDestroy", "cuLibraryUnload"};
const std::set<std::string> kAboutErrors{"cuGetErrorName", "cuGetErrorString"};

std::map<std::string, int> calls_of_a_healthy_run(Context current = nullptr) {
  FakeDriver& fake = FakeDriver::instance();
  fake.reset();
  FakeDriver::set_current(current);
  run_scenario(fake.table());
  return fake.calls();
}

// Runs the scenario with the failure; checks that nothing is left behind. Returns what was thrown.
Error run_failing(const std::string& symbol, int nth, Result error, bool sticky, Context current = nullptr) {
  FakeDriver& fake = FakeDriver::instance();
  fake.reset();
  FakeDriver::set_current(current);
  fake.fail(symbol, nth, error, sticky);
  const Error thrown = error_of([&] { run_scenario(fake.table()); });
  REQUIRE(fake.failure_happened());
  CHECK(fake.live_objects() == "");
  if (!sticky) CHECK(fake.misuses().empty());
  return thrown;
}

TEST_CASE("the scenario works on a healthy driver, calls every function and leaves nothing behind") {
  const std::map<std::string, int> calls = calls_of_a_healthy_run();
  FakeDriver& fake = FakeDriver::instance();
  std::size_t functions = 0;
  visit_functions(fake.table(), [&](const char* symbol, auto& function) {
    CAPTURE(symbol);
    CHECK((function != nullptr));
    CHECK(calls.contains(symbol) == !kAboutErrors.contains(symbol));
    ++functions;
  });
  visit_optional_functions(fake.table(), [&](const char* symbol, auto& function, int) {
    CAPTURE(symbol);
    CHECK((function != nullptr));
    CHECK(calls.contains(symbol));
    ++functions;
  });
  CHECK(functions == kDriverFunctions);  // the two visitors name every member
  CHECK(fake.live_objects() == "");
  CHECK(fake.misuses().empty());
}

TEST_CASE("a failure of any driver call is an error that says what, why and what to do, and nothing leaks") {
  for (const auto& [symbol, count] : calls_of_a_healthy_run()) {
    for (int nth = 1; nth <= count; ++nth) {
      CAPTURE(symbol);
      CAPTURE(nth);
      const Error error = run_failing(symbol, nth, kUnknownError, false);
      CAPTURE(error.what());
      if (kMayNotThrow.contains(symbol)) {
        CHECK(error.code() == ErrorCode::ok);
      } else if (error.code() != ErrorCode::ok) {
        CHECK(error.code() == ErrorCode::device_failed);
        CHECK(says(error, ": CUDA_ERROR_UNKNOWN (999): a fake failure; check nvidia-smi"));
      } else {
        // Only the scopes of destructors swallow a failure: they read the current context after everything is done.
        CHECK(symbol == "cuCtxGetCurrent");
      }
    }
  }
}

TEST_CASE("failures leak nothing on a thread that works with another GPU") {
  const Context foreign = FakeDriver::foreign_context();
  for (const auto& [symbol, count] : calls_of_a_healthy_run(foreign)) {
    for (int nth = 1; nth <= count; ++nth) {
      CAPTURE(symbol);
      CAPTURE(nth);
      const Error error = run_failing(symbol, nth, kUnknownError, false, foreign);
      // Leaving a scope may not throw, so a failure to put the caller's context back passes in silence.
      if (error.code() == ErrorCode::ok) CHECK((kMayNotThrow.contains(symbol) || symbol.starts_with("cuCtx")));
      if (!symbol.starts_with("cuCtx")) CHECK(FakeDriver::current() == foreign);
    }
  }
}

TEST_CASE("after a sticky error everything unwinds without a second exception") {
  for (const auto& [symbol, count] : calls_of_a_healthy_run()) {
    for (int nth = 1; nth <= count; ++nth) {
      CAPTURE(symbol);
      CAPTURE(nth);
      const Error error = run_failing(symbol, nth, kIllegalAddress, true);
      if (error.code() == ErrorCode::ok) continue;  // it happened in the last destructors
      CHECK(error.code() == ErrorCode::device_failed);
      CHECK(says(error, "CUDA_ERROR_ILLEGAL_ADDRESS (700)"));
      CHECK(says(error, "restart it"));
    }
  }
}

TEST_CASE("running out of memory has its own code at every call") {
  for (const auto& [symbol, count] : calls_of_a_healthy_run()) {
    if (kMayNotThrow.contains(symbol)) continue;
    CAPTURE(symbol);
    CHECK(run_failing(symbol, 1, kOutOfMemory, false).code() == ErrorCode::out_of_memory);
  }
}

TEST_CASE("the message survives a driver that cannot name its errors") {
  FakeDriver& fake = FakeDriver::instance();
  for (const std::string& symbol : kAboutErrors) {
    fake.reset();
    fake.fail(symbol, 1, kUnknownError);
    const Error error = error_of([&] { check(fake.table(), kOutOfMemory, "allocating {} bytes", 5); });
    CHECK(error.code() == ErrorCode::out_of_memory);
    CHECK(says(error, "allocating 5 bytes: "));
    CHECK(says(error, "(2)"));
    CHECK(says(error, "free device memory"));
  }
}

TEST_CASE("what cannot be loaded is named, with the way out") {
  FakeDriver& fake = FakeDriver::instance();
  fake.reset();
  const auto device = make_cuda_device(fake.table(), 0);
  fake.fail("cuLibraryLoadData", 1, kInvalidImage);
  Error error = error_of([&] { device->load(fake_image()); });
  CHECK(error.code() == ErrorCode::device_failed);
  CHECK(says(error,
             "loading kernel 'fake_kernel' on NVIDIA H200: CUDA_ERROR_INVALID_IMAGE (200): device kernel image is "
             "invalid; the kernel was made for another architecture"));

  fake.kernel_name = "another";
  error = error_of([&] { device->load(fake_image()); });
  CHECK(says(error, "finding kernel 'fake_kernel' in its binary"));
  CHECK(says(error, "CUDA_ERROR_NOT_FOUND (500)"));

  error = error_of([&] { device->load({.entry = "fake_kernel", .ptx = "text", .cubin = {}}); });
  CHECK(error.code() == ErrorCode::invalid_argument);
  CHECK(fake.live_objects() == "1 context");
}

TEST_CASE("work that throws under capture ends the capture and drops the graph") {
  FakeDriver& fake = FakeDriver::instance();
  fake.reset();
  const auto device = make_cuda_device(fake.table(), 0);
  const Stream stream = device->create_stream();
  CHECK_THROWS_AS(device->capture(stream, [](Stream) { throw std::runtime_error("from the work"); }),
                  std::runtime_error);
  CHECK(fake.misuses().empty());
  CHECK(fake.live_objects() == "1 context, 1 stream");
  CHECK(device->capture(stream, [](Stream) {}) != nullptr);  // the stream is usable again
  device->destroy_stream(stream);
  CHECK(error_of([&] { device->capture(nullptr, [](Stream) {}); }).code() == ErrorCode::invalid_argument);
}

}  // namespace
}  // namespace gdnjit::cuda

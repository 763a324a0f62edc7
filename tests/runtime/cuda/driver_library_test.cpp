#include "runtime/cuda/driver_library.h"

#include <doctest/doctest.h>

#include <string>

#include "tests/runtime/cuda/fake_driver.h"

namespace gdnjit::cuda {
namespace {

FakeDriver& fresh() {
  FakeDriver::instance().reset();
  return FakeDriver::instance();
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::string reason_of(const DriverLibrary& library) { return cuda_unavailable_reason(library).value_or("usable"); }

TEST_CASE("a complete driver fills the whole table") {
  const FakeDriver& fake = fresh();
  const DriverLibrary library = open_driver(FakeDriver::find_symbol);
  REQUIRE(library.table.has_value());
  CHECK((library.table->launch_kernel == fake.table().launch_kernel));
  CHECK((library.table->device_get_count == fake.table().device_get_count));
  CHECK(reason_of(library) == "usable");
  CHECK(cuda_device_count(*library.table) == 1);
}

TEST_CASE("a driver that lacks any function is refused by its name") {
  FakeDriver& fake = fresh();
  visit_functions(fake.table(), [&](const char* symbol, auto&) {
    fake.missing_symbols = {symbol};
    const DriverLibrary library = open_driver(FakeDriver::find_symbol);
    CAPTURE(symbol);
    CHECK(!library.table.has_value());
    CHECK(contains(library.reason, std::string("lacks ") + symbol + ";"));
    CHECK(reason_of(library) == library.reason);
  });
  fake.missing_symbols = {"cuGetProcAddress_v2"};
  CHECK(contains(open_driver(FakeDriver::find_symbol).reason, "older than 12.0"));
}

TEST_CASE("a driver that lacks an optional function is taken without it") {
  FakeDriver& fake = fresh();
  fake.missing_symbols = {"cuKernelGetParamInfo"};
  const DriverLibrary library = open_driver(FakeDriver::find_symbol);
  REQUIRE(library.table.has_value());
  CHECK((library.table->kernel_get_param_info == nullptr));
}

TEST_CASE("a machine without a usable GPU says why") {
  FakeDriver& fake = fresh();
  const DriverLibrary library = open_driver(FakeDriver::find_symbol);
  fake.device_count = 0;
  CHECK(contains(reason_of(library), "sees no GPU; check nvidia-smi"));
  CHECK(cuda_device_count(*library.table) == 0);

  fresh().driver_version = 11080;
  CHECK(contains(reason_of(library), "CUDA driver 11.8 is too old"));

  for (const Result error : {kNoDevice, kStubLibrary, kSystemDriverMismatch, kUnknownError}) {
    fresh().fail("cuInit", 1, error);
    CHECK(contains(reason_of(library), "(" + std::to_string(error) + ")"));
    fresh().fail("cuInit", 1, error);
    CHECK(cuda_device_count(*library.table) == 0);
  }
  fresh().fail("cuInit", 1, kStubLibrary);
  CHECK(contains(reason_of(library), "stub libcuda"));
  fresh().fail("cuDeviceGetCount", 1, kNoDevice);
  CHECK(contains(reason_of(library), "CUDA_ERROR_NO_DEVICE (100)"));
  fresh().fail("cuDriverGetVersion", 1, kUnknownError);
  CHECK(contains(reason_of(library), "asking the CUDA driver for its version"));
}

TEST_CASE("this machine's driver is usable or says why not, every time the same") {
  const DriverLibrary& library = driver_library();
  CHECK(&library == &driver_library());
  CHECK(library.table.has_value() == library.reason.empty());
  CHECK((cuda_device_count() > 0) == !cuda_unavailable_reason().has_value());
}

}  // namespace
}  // namespace gdnjit::cuda

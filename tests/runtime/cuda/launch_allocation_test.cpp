// A launch is on the path of every decode step: it must not touch the heap.
#include <doctest/doctest.h>

#include <cstdlib>
#include <new>

#include "tests/runtime/cuda/fake_driver.h"
#include "tests/runtime/cuda/scenario.h"

namespace {
thread_local int allocations = 0;
}  // namespace

void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace gdnjit::cuda {
namespace {

// The fake keeps books on the heap, so these stand in for the two functions of a launch.
Context only_context = nullptr;
int launches = 0;

TEST_CASE("a launch allocates no host memory") {
  FakeDriver& fake = FakeDriver::instance();
  fake.reset();
  DriverTable table = fake.table();
  const auto device = make_cuda_device(table, 0);
  const auto kernel = device->load(fake_image());
  only_context = FakeDriver::current();
  table.ctx_get_current = [](Context* context) {
    *context = only_context;
    return kSuccess;
  };
  table.launch_kernel = [](const LaunchConfig*, FunctionRaw, void**, void**) {
    ++launches;
    return kSuccess;
  };
  const std::array<std::byte, 64> parameters{};
  const int before = allocations;
  for (int round = 0; round < 100; ++round) device->launch(*kernel, small_geometry(), parameters, nullptr, {});
  CHECK(allocations == before);
  CHECK(launches == 100);
}

}  // namespace
}  // namespace gdnjit::cuda

#include "runtime/device_choice.h"

#include <doctest/doctest.h>

#include "runtime/support/check.h"
#include "runtime/support/log.h"
#include "tests/runtime/fakes.h"

using namespace gdnjit;

namespace {

// A machine with `gpus` GPUs.
DeviceSources machine(int gpus) {
  return {.cuda_device_count = [gpus] { return gpus; },
          .cuda_unavailable_reason = [] { return std::string("libcuda.so.1 is not installed"); },
          .make_cuda =
              [](int ordinal) {
                return fakes::make_device(std::make_shared<fakes::DeviceLog>(),
                                          fakes::gpu_info("GPU " + std::to_string(ordinal)));
              },
          .make_emulator =
              [](std::string_view arch) {
                return fakes::make_device(std::make_shared<fakes::DeviceLog>(),
                                          fakes::emulator_info(std::string(arch)));
              }};
}

std::string name_of_device(const char* text, int gpus) {
  return open_device(parse_device_choice("device", text), machine(gpus))->info().name;
}

}  // namespace

TEST_CASE("auto takes the first GPU, and without one the emulator, said once") {
  std::vector<std::string> warnings;
  set_warning_sink([&](std::string_view message) { warnings.emplace_back(message); });
  CHECK(name_of_device("auto", 2) == "GPU 0");
  CHECK(warnings.empty());
  CHECK(name_of_device("auto", 0) == "emulator of sm_90a");
  CHECK(name_of_device("auto", 0) == "emulator of sm_90a");
  set_warning_sink({});
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].find("libcuda.so.1 is not installed") != std::string::npos);
  CHECK(warnings[0].find("not GPU times") != std::string::npos);
}

TEST_CASE("a device asked for by name is that device") {
  CHECK(name_of_device("cuda", 1) == "GPU 0");
  CHECK(name_of_device("cuda:1", 2) == "GPU 1");
  CHECK(name_of_device("emulator", 2) == "emulator of sm_90a");
  CHECK(name_of_device("emulator:sm80", 2) == "emulator of sm_80");
}

TEST_CASE("a GPU that is not there is an error and never the emulator") {
  for (const char* text : {"cuda", "cuda:1"}) {
    try {
      name_of_device(text, 0);
      FAIL("no error");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::device_unavailable);
      const std::string message = error.what();
      CHECK(message.find("libcuda.so.1 is not installed") != std::string::npos);
      CHECK(message.find("GDNJIT_DEVICE=emulator") != std::string::npos);
    }
  }
  CHECK_THROWS_WITH_AS(name_of_device("cuda:2", 2),
                       "opening device cuda:2: this machine shows 2 GPUs (0 to 1); check CUDA_VISIBLE_DEVICES", Error);
}

TEST_CASE("devices of one architecture and different size have different tuning identities") {
  DeviceInfo h100 = fakes::gpu_info("NVIDIA H100 80GB HBM3");
  h100.memory_bytes = 79'600LL << 20;
  CHECK(fakes::gpu_info().tuning_identity() == "NVIDIA H200, 132 SMs, 144 GiB");
  CHECK(h100.tuning_identity() == "NVIDIA H100 80GB HBM3, 132 SMs, 80 GiB");
  h100.memory_bytes += 200LL << 20;  // another firmware
  CHECK(h100.tuning_identity() == "NVIDIA H100 80GB HBM3, 132 SMs, 80 GiB");
}

// One run through everything a CUDA device can do; it calls every function of the driver's table that a healthy
// machine needs.
#pragma once

#include <gdnjit/error.h>

#include <array>
#include <memory>
#include <stdexcept>
#include <string>

#include "runtime/cuda/cuda_device.h"

namespace gdnjit::cuda {

inline const std::array<std::byte, 64> kFakeCubin{};

inline KernelImage fake_image() { return {.entry = "fake_kernel", .ptx = {}, .cubin = kFakeCubin}; }

inline LaunchGeometry small_geometry() { return {.grid = {2, 3, 1}, .block = {128, 1, 1}, .shared_bytes = 64 << 10}; }

inline void run_scenario(const DriverTable& driver) {
  const std::unique_ptr<Device> device = make_cuda_device(driver, 0);
  struct StreamOwner {
    Device& device;
    Stream stream;
    ~StreamOwner() { device.destroy_stream(stream); }
  } const owner{*device, device->create_stream()};
  const Stream stream = owner.stream;

  const DeviceBuffer buffer(*device, 256, "data");
  std::array<char, 256> host{};
  host.fill(7);
  device->fill(buffer.data(), 3, 128, stream);
  device->copy_in(buffer.data(), host.data(), 64, stream);

  device->encode_tensor_map({.address = buffer.data(), .dims = {128}, .box = {64}});

  const std::unique_ptr<Kernel> kernel = device->load(fake_image());
  const std::array<std::byte, 32> parameters{};
  const std::unique_ptr<Event> begin = device->create_event();
  const std::unique_ptr<Event> end = device->create_event();
  const std::unique_ptr<Graph> graph = device->capture(
      stream, [&](Stream captured) { device->launch(*kernel, small_geometry(), parameters, captured, {}); });
  if (device->capturing(stream)) throw std::runtime_error("the capture did not end");
  begin->record(stream);
  graph->launch(stream);
  end->record(stream);
  device->synchronize(stream);
  if (end->microseconds_since(*begin) <= 0) throw std::runtime_error("time stands still");
  device->copy_out(host.data(), buffer.data(), 128, stream);
  if (host[0] != 7 || host[64] != 3 || host[128] != 7) throw std::runtime_error("the copies lost bytes");
}

}  // namespace gdnjit::cuda

// A workload's tensors in device memory, each between two guard bands.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "runtime/device.h"
#include "tests/reference/workload.h"

namespace gdnjit::autotune {

class DeviceTensors {
 public:
  // Allocates; contents are undefined until upload(). `guard_bytes` (a multiple of 256) lie on both sides.
  DeviceTensors(Device& device, const std::vector<reference::HostTensor>& tensors, std::size_t guard_bytes);

  // Copies the tensors' bytes to the device and renews the guards' pattern.
  void upload(const std::vector<reference::HostTensor>& tensors, Stream stream);
  // What the device holds now, guards left out; of scratch memory nothing.
  std::vector<reference::HostTensor> download(Stream stream) const;
  // Names of the tensors whose guards changed, such as "o (after)"; "" if none did.
  std::string damaged_guards(Stream stream) const;

  // In the order of the workload.
  const std::vector<TensorView>& views() const { return views_; }

 private:
  Device* device_;
  std::size_t guard_bytes_;
  std::vector<std::byte> pattern_;
  std::vector<TensorSpec> specs_;
  std::vector<DeviceBuffer> buffers_;
  std::vector<TensorView> views_;
  std::vector<std::size_t> bytes_;
};

}  // namespace gdnjit::autotune

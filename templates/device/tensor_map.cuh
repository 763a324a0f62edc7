// The object that describes a tensor to bulk tensor copies. Host code includes this file too.
#pragma once

namespace gdnjit::device {

// A tensor and the box that one copy moves, encoded by the host (Device::encode_tensor_map). A kernel takes it as a
// `const __grid_constant__` parameter, or within one, and never copies it.
struct alignas(128) TensorMap {
  unsigned char opaque[128];
};

}  // namespace gdnjit::device

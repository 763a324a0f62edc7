#include "runtime/dlpack.h"

#include "runtime/support/check.h"

namespace gdnjit {
namespace {

std::string_view device_type_name(int type) {
  switch (type) {
    case kDLCPU: return "CPU";
    case kDLCUDA: return "CUDA";
    case kDLCUDAHost: return "CUDA host";
    case kDLCUDAManaged: return "CUDA managed";
    default: return "another";
  }
}

// Managed memory belongs to every GPU.
void check_device(const DLTensor& tensor, std::string_view name, DLDevice wanted) {
  const int type = tensor.device.device_type;
  if (wanted.device_type == kDLCUDA && type == kDLCUDAManaged) return;
  require(type == wanted.device_type, "{}: lies in {} memory (DLPack device type {}); this runtime needs {} (type {})",
          name, device_type_name(type), type, device_type_name(wanted.device_type),
          static_cast<int>(wanted.device_type));
  require(wanted.device_type == kDLCPU || tensor.device.device_id == wanted.device_id,
          "{}: lies on device {}; this runtime runs on device {}", name, tensor.device.device_id, wanted.device_id);
}

DType dtype_of(DLDataType type, std::string_view name) {
  if (type.lanes == 1) {
    if (type.code == kDLFloat && type.bits == 32) return DType::f32;
    if (type.code == kDLFloat && type.bits == 16) return DType::f16;
    if (type.code == kDLBfloat && type.bits == 16) return DType::bf16;
    if (type.code == kDLInt && type.bits == 32) return DType::i32;
    if (type.code == kDLInt && type.bits == 64) return DType::i64;
    if ((type.code == kDLInt || type.code == kDLUInt) && type.bits == 8) return DType::u8;  // plain memory
  }
  fail(ErrorCode::invalid_argument,
       "{}: element type (DLPack code {}, {} bits, {} lanes) must be f32, bf16, f16, i32, i64 or a byte", name,
       static_cast<int>(type.code), static_cast<int>(type.bits), static_cast<int>(type.lanes));
}

}  // namespace

DLDevice dlpack_device(const DeviceInfo& device, int ordinal) {
  if (device.kind == DeviceKind::emulator) return {kDLCPU, 0};
  return {kDLCUDA, ordinal};
}

TensorView view_of(const DLTensor* tensor, std::string_view name, DLDevice device) {
  TensorView view;
  if (tensor == nullptr) return view;
  check_device(*tensor, name, device);
  require(tensor->ndim >= 0 && tensor->ndim <= kMaxRank, "{}: rank {} must be from 0 to {}", name, tensor->ndim,
          kMaxRank);
  require(tensor->ndim == 0 || tensor->shape != nullptr, "{}: shape is null", name);
  view.dtype = dtype_of(tensor->dtype, name);
  view.rank = tensor->ndim;
  if (tensor->data != nullptr) view.data = static_cast<std::byte*>(tensor->data) + tensor->byte_offset;
  std::int64_t dense = 1;
  for (int axis = view.rank - 1; axis >= 0; --axis) {
    const auto a = static_cast<std::size_t>(axis);
    require(tensor->shape[axis] >= 0, "{}: shape[{}]={} is negative", name, axis, tensor->shape[axis]);
    view.shape[a] = tensor->shape[axis];
    view.strides[a] = tensor->strides != nullptr ? tensor->strides[axis] : dense;
    dense *= view.shape[a];
  }
  return view;
}

}  // namespace gdnjit

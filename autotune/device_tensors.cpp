#include "autotune/device_tensors.h"

#include "runtime/support/check.h"

namespace gdnjit::autotune {
namespace {

std::byte* address(const TensorView& view) { return static_cast<std::byte*>(view.data); }

TensorView dense_view(void* data, const TensorSpec& spec) {
  GDNJIT_CHECK(spec.shape.size() <= kMaxRank, "{} has rank {}", spec.name, spec.shape.size());
  TensorView view{.data = data, .dtype = spec.dtype, .rank = static_cast<int>(spec.shape.size())};
  std::int64_t stride = 1;
  for (std::size_t axis = spec.shape.size(); axis-- > 0;) {
    view.shape[axis] = spec.shape[axis];
    view.strides[axis] = stride;
    stride *= spec.shape[axis];
  }
  return view;
}

// Bytes that no kernel writes by accident: no float format's NaN, zero or one, and no two neighbours equal.
std::vector<std::byte> guard_pattern(std::size_t bytes) {
  std::vector<std::byte> pattern(bytes);
  for (std::size_t i = 0; i < bytes; ++i) pattern[i] = static_cast<std::byte>(0x5b + 37 * i);
  return pattern;
}

}  // namespace

DeviceTensors::DeviceTensors(Device& device, const std::vector<reference::HostTensor>& tensors, std::size_t guard_bytes)
    : device_(&device), guard_bytes_(guard_bytes), pattern_(guard_pattern(guard_bytes)) {
  GDNJIT_CHECK(guard_bytes % 256 == 0, "guards of {} bytes would misalign the tensors", guard_bytes);
  for (const reference::HostTensor& tensor : tensors) {
    specs_.push_back(tensor.spec);
    bytes_.push_back(tensor.bytes.size());
    const std::size_t total = tensor.bytes.size() + 2 * guard_bytes;
    buffers_.emplace_back(device, total == 0 ? 1 : total, tensor.spec.name);
    views_.push_back(dense_view(static_cast<std::byte*>(buffers_.back().data()) + guard_bytes, tensor.spec));
  }
}

void DeviceTensors::upload(const std::vector<reference::HostTensor>& tensors, Stream stream) {
  GDNJIT_CHECK(tensors.size() == views_.size(), "{} tensors for {}", tensors.size(), views_.size());
  for (std::size_t i = 0; i < views_.size(); ++i) {
    GDNJIT_CHECK(tensors[i].bytes.size() == bytes_[i], "{}: size changed", specs_[i].name);
    if (guard_bytes_ > 0) {
      device_->copy_in(address(views_[i]) - guard_bytes_, pattern_.data(), guard_bytes_, stream);
      device_->copy_in(address(views_[i]) + bytes_[i], pattern_.data(), guard_bytes_, stream);
    }
    if (bytes_[i] > 0) device_->copy_in(views_[i].data, tensors[i].bytes.data(), bytes_[i], stream);
  }
}

std::vector<reference::HostTensor> DeviceTensors::download(Stream stream) const {
  std::vector<reference::HostTensor> tensors;
  for (std::size_t i = 0; i < views_.size(); ++i) {
    const bool is_scratch = specs_[i].role == TensorRole::scratch;
    tensors.push_back({specs_[i], std::vector<std::byte>(is_scratch ? 0 : bytes_[i])});
    if (!tensors.back().bytes.empty())
      device_->copy_out(tensors.back().bytes.data(), views_[i].data, bytes_[i], stream);
  }
  return tensors;
}

std::string DeviceTensors::damaged_guards(Stream stream) const {
  std::string damaged;
  std::vector<std::byte> found(guard_bytes_);
  const auto look = [&](std::size_t index, const std::byte* place, const char* side) {
    if (guard_bytes_ == 0) return;
    device_->copy_out(found.data(), place, guard_bytes_, stream);
    if (found != pattern_) damaged += fmt::format("{}{} ({})", damaged.empty() ? "" : ", ", specs_[index].name, side);
  };
  for (std::size_t i = 0; i < views_.size(); ++i) {
    look(i, address(views_[i]) - guard_bytes_, "before");
    look(i, address(views_[i]) + bytes_[i], "after");
  }
  return damaged;
}

}  // namespace gdnjit::autotune

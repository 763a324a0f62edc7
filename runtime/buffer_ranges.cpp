#include "runtime/buffer_ranges.h"

namespace gdnjit {
namespace {

// Lowest and highest element offset of a view that is not empty.
struct Extent {
  std::int64_t low = 0;
  std::int64_t high = 0;
};

Extent extent_of(const TensorView& view) {
  Extent extent;
  for (int axis = 0; axis < view.rank; ++axis) {
    const auto a = static_cast<std::size_t>(axis);
    const std::int64_t reach = (view.shape[a] - 1) * view.strides[a];
    (reach < 0 ? extent.low : extent.high) += reach;
  }
  return extent;
}

bool overlap(const BufferRange& left, const BufferRange& right) {
  const auto* left_begin = static_cast<const std::byte*>(left.begin);
  const auto* right_begin = static_cast<const std::byte*>(right.begin);
  return left_begin < right_begin + right.bytes && right_begin < left_begin + left.bytes;
}

void join_roles(std::span<BufferRange> ranges) {
  for (bool changed = true; changed;) {
    changed = false;
    for (BufferRange& left : ranges) {
      for (BufferRange& right : ranges) {
        if (left.role == right.role || !overlap(left, right)) continue;
        left.role = TensorRole::in_out;
        right.role = TensorRole::in_out;
        changed = true;
      }
    }
  }
}

}  // namespace

std::size_t buffer_ranges(std::span<const TensorView> tensors, std::span<const TensorSpec> specs,
                          std::span<BufferRange> out) {
  std::size_t count = 0;
  for (std::size_t index = 0; index < tensors.size(); ++index) {
    const TensorView& view = tensors[index];
    if (view.data == nullptr || view.elements() == 0) continue;
    const Extent extent = extent_of(view);
    const std::int64_t element = dtype_bytes(view.dtype);
    out[count++] = {.begin = static_cast<std::byte*>(view.data) + extent.low * element,
                    .bytes = static_cast<std::size_t>((extent.high - extent.low + 1) * element),
                    .name = specs[index].name,
                    .role = specs[index].role};
  }
  join_roles(out.first(count));
  return count;
}

}  // namespace gdnjit

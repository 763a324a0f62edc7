#include "runtime/dense_copy.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace gdnjit {
namespace {

// A copy costs about as much as 100 KB of it.
constexpr std::int64_t kManyRuns = 64;
constexpr std::int64_t kMostWaste = 16;  // times the bytes wanted

// A view as runs of contiguous bytes: `rank` outer dimensions, strides in bytes.
struct Runs {
  std::array<std::int64_t, kMaxRank> shape{};
  std::array<std::int64_t, kMaxRank> strides{};
  std::size_t rank = 0;
  std::int64_t run_bytes = 0;
  std::int64_t count = 1;

  explicit Runs(const TensorView& view) : run_bytes(dtype_bytes(view.dtype)) {
    const std::int64_t element = run_bytes;
    for (auto axis = static_cast<std::size_t>(view.rank); axis-- > 0;) {
      const std::int64_t extent = view.shape[axis], stride = view.strides[axis] * element;
      if (extent == 1) continue;
      if (rank == 0 && stride == run_bytes) {
        run_bytes *= extent;
      } else {
        shape[rank] = extent;
        strides[rank++] = stride;
        count *= extent;
      }
    }
    std::reverse(shape.begin(), shape.begin() + static_cast<std::ptrdiff_t>(rank));
    std::reverse(strides.begin(), strides.begin() + static_cast<std::ptrdiff_t>(rank));
  }

  // Calls visit(byte offset) for every run in order.
  template <typename Visit>
  void for_each(Visit&& visit) const {
    std::array<std::int64_t, kMaxRank> index{};
    std::int64_t offset = 0;
    for (std::int64_t run = 0; run < count; ++run) {
      visit(offset);
      for (std::size_t axis = rank; axis-- > 0;) {
        offset += strides[axis];
        if (++index[axis] < shape[axis]) break;
        offset -= shape[axis] * strides[axis];
        index[axis] = 0;
      }
    }
  }

  // From the lowest to behind the highest byte.
  std::int64_t low() const {
    std::int64_t low = 0;
    for (std::size_t axis = 0; axis < rank; ++axis) low += std::min<std::int64_t>(0, (shape[axis] - 1) * strides[axis]);
    return low;
  }
  std::int64_t high() const {
    std::int64_t high = run_bytes;
    for (std::size_t axis = 0; axis < rank; ++axis)
      high += std::max<std::int64_t>(0, (shape[axis] - 1) * strides[axis]);
    return high;
  }
};

}  // namespace

std::vector<std::byte> dense_copy(Device& device, const TensorView& view, Stream stream) {
  const std::int64_t bytes = view.elements() * dtype_bytes(view.dtype);
  std::vector<std::byte> dense(static_cast<std::size_t>(bytes));
  if (bytes == 0) return dense;
  const Runs runs(view);
  const auto run = static_cast<std::size_t>(runs.run_bytes);
  const auto* data = static_cast<const std::byte*>(view.data);
  std::byte* next = dense.data();
  const auto gather = [&](const std::byte* from) {
    runs.for_each([&](std::int64_t offset) {
      std::memcpy(next, from + offset, run);
      next += run;
    });
  };
  if (device.info().kind == DeviceKind::emulator) {
    gather(data);
  } else if (const std::int64_t extent = runs.high() - runs.low();
             runs.count > kManyRuns && extent / kMostWaste <= bytes) {
    std::vector<std::byte> whole(static_cast<std::size_t>(extent));
    device.copy_out(whole.data(), data + runs.low(), whole.size(), stream);
    gather(whole.data() - runs.low());
  } else {
    runs.for_each([&](std::int64_t offset) {
      device.copy_out(next, data + offset, run, stream);
      next += run;
    });
  }
  return dense;
}

}  // namespace gdnjit

// A strided view of memory that somebody else owns.
#pragma once

#include <gdnjit/dtype.h>

#include <array>
#include <cstdint>
#include <initializer_list>

namespace gdnjit {

inline constexpr int kMaxRank = 5;

// `data` is a device address (a CUdeviceptr on a GPU; host memory on the emulator). Strides count elements.
struct TensorView {
  void* data = nullptr;
  DType dtype = DType::f32;
  int rank = 0;
  std::array<std::int64_t, kMaxRank> shape{};
  std::array<std::int64_t, kMaxRank> strides{};

  // A dense row-major view.
  static TensorView dense(void* data, DType dtype, std::initializer_list<std::int64_t> shape) {
    TensorView view{.data = data, .dtype = dtype, .rank = static_cast<int>(shape.size())};
    int axis = 0;
    for (std::int64_t extent : shape) view.shape[static_cast<std::size_t>(axis++)] = extent;
    std::int64_t stride = 1;
    while (axis-- > 0) {
      view.strides[static_cast<std::size_t>(axis)] = stride;
      stride *= view.shape[static_cast<std::size_t>(axis)];
    }
    return view;
  }

  explicit operator bool() const { return data != nullptr; }

  std::int64_t elements() const {
    std::int64_t count = 1;
    for (int axis = 0; axis < rank; ++axis) count *= shape[static_cast<std::size_t>(axis)];
    return count;
  }
};

}  // namespace gdnjit

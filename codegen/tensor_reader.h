// The tensors of a call against what a problem says about them.
#pragma once

#include <gdnjit/tensor.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>

namespace gdnjit {

// Extent of a dimension that the caller chooses: the slots of a pool.
inline constexpr std::int64_t kAnyExtent = -1;

inline std::int64_t stride(const TensorView& view, int axis) { return view.strides[static_cast<std::size_t>(axis)]; }
inline std::int64_t extent(const TensorView& view, int axis) { return view.shape[static_cast<std::size_t>(axis)]; }

// f32, bf16 or f16. Throws invalid_argument.
void require_float(std::string_view name, DType dtype);

// The last `axes` dimensions are one dense run. Throws invalid_argument.
void require_dense(std::string_view name, const TensorView& view, int axes);

// Address and the `outer_axes` first strides keep accesses of `vector` elements aligned. `field` is the problem's that
// says how wide they are, "" if none does. Throws invalid_argument.
void require_aligned(std::string_view name, const TensorView& view, int outer_axes, int vector,
                     std::string_view field = "");

// The largest power of two of elements, up to 16 bytes, that divides `extent` and keeps to `alignment` bytes.
int vector_elements(DType dtype, int extent, int alignment);

// Takes tensors one by one and checks each against what the problem says; every function throws invalid_argument.
// Memory is only needed where there are elements.
class TensorReader {
 public:
  TensorReader(std::string_view operator_name, std::span<const TensorView> tensors, std::size_t expected);

  const TensorView& take(std::string_view name, DType dtype, std::span<const std::int64_t> shape);
  const TensorView& take(std::string_view name, DType dtype, std::initializer_list<std::int64_t> shape) {
    return take(name, dtype, std::span(shape.begin(), shape.size()));
  }
  const TensorView& peek() const { return tensors_[next_]; }  // the next to be taken
  // The `axes` last dimensions are dense.
  const TensorView& take_dense(std::string_view name, DType dtype, std::initializer_list<std::int64_t> shape, int axes);

 private:
  std::span<const TensorView> tensors_;
  std::size_t next_ = 0;
};

}  // namespace gdnjit

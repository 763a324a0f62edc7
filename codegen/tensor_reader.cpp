#include "codegen/tensor_reader.h"

#include "codegen/fields.h"
#include "runtime/support/check.h"

namespace gdnjit {

void require_float(std::string_view name, DType dtype) {
  require(dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16, "{}={}: must be f32, bf16 or f16", name,
          enum_name(dtype));
}

void require_dense(std::string_view name, const TensorView& view, int axes) {
  std::int64_t expected = 1;
  for (int axis = view.rank - 1; axis >= view.rank - axes; --axis) {
    require(extent(view, axis) == 1 || stride(view, axis) == expected, "{}: stride {} of dimension {} must be {} ({})",
            name, stride(view, axis), axis, expected,
            axes == 1 ? "the last dimension is contiguous" : "the last dimensions are dense");
    expected *= extent(view, axis);
  }
}

void require_aligned(std::string_view name, const TensorView& view, int outer_axes, int vector,
                     std::string_view field) {
  const int bytes = vector * dtype_bytes(view.dtype);
  const std::string_view instead = field.empty() ? "" : " or plan with a smaller ";  // every call comes here: no string
  require(reinterpret_cast<std::uintptr_t>(view.data) % static_cast<std::uintptr_t>(bytes) == 0,
          "{}: address {} is not a multiple of {} bytes; align it{}{}", name, view.data, bytes, instead, field);
  for (int axis = 0; axis < outer_axes; ++axis) {
    require(extent(view, axis) <= 1 || stride(view, axis) % vector == 0,
            "{}: stride {} of dimension {} is not a multiple of {} elements; pad it{}{}", name, stride(view, axis),
            axis, vector, instead, field);
  }
}

int vector_elements(DType dtype, int extent, int alignment) {
  int elements = 16 / dtype_bytes(dtype);
  while (extent % elements != 0 || alignment % (elements * dtype_bytes(dtype)) != 0) elements /= 2;
  return elements;
}

TensorReader::TensorReader(std::string_view operator_name, std::span<const TensorView> tensors, std::size_t expected)
    : tensors_(tensors) {
  require(tensors.size() == expected, "{}: {} tensors given, the problem has {}", operator_name, tensors.size(),
          expected);
}

const TensorView& TensorReader::take(std::string_view name, DType dtype, std::span<const std::int64_t> shape) {
  const TensorView& view = tensors_[next_++];
  require(view.data != nullptr || (view.rank > 0 && view.elements() == 0), "{}: is null; the problem needs it", name);
  require(view.dtype == dtype, "{}: has dtype {}, the problem says {}", name, enum_name(view.dtype), enum_name(dtype));
  require(view.rank == static_cast<int>(shape.size()), "{}: has rank {}, must be {}", name, view.rank, shape.size());
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    if (shape[axis] == kAnyExtent) {
      require(view.shape[axis] >= 1, "{}: dimension {} is {}, must be at least 1", name, axis, view.shape[axis]);
    } else {
      require(view.shape[axis] == shape[axis], "{}: dimension {} is {}, must be {}", name, axis, view.shape[axis],
              shape[axis]);
    }
  }
  require(reinterpret_cast<std::uintptr_t>(view.data) % static_cast<std::uintptr_t>(dtype_bytes(dtype)) == 0,
          "{}: address {} is not a multiple of its element size {}", name, view.data, dtype_bytes(dtype));
  return view;
}

const TensorView& TensorReader::take_dense(std::string_view name, DType dtype,
                                           std::initializer_list<std::int64_t> shape, int axes) {
  const TensorView& view = take(name, dtype, shape);
  require_dense(name, view, axes);
  return view;
}

}  // namespace gdnjit

// The tensors of a call in ordinary host memory, which the emulator takes: by name, in slices, copied and compared.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "autotune/checker.h"
#include "runtime/plan.h"
#include "tests/reference/workload.h"

namespace gdnjit::tests {

// A dense view of a host tensor. REQUIRES: the tensor outlives it.
inline TensorView view_of(reference::HostTensor& tensor) {
  TensorView view{.data = tensor.bytes.data(), .dtype = tensor.spec.dtype};
  view.rank = static_cast<int>(tensor.spec.shape.size());
  std::int64_t stride = 1;
  for (std::size_t axis = tensor.spec.shape.size(); axis-- > 0;) {
    view.shape[axis] = tensor.spec.shape[axis];
    view.strides[axis] = stride;
    stride *= tensor.spec.shape[axis];
  }
  return view;
}

// Indices [first, first + count) of one dimension.
inline TensorView slice(TensorView view, int axis, std::int64_t first, std::int64_t count) {
  const auto a = static_cast<std::size_t>(axis);
  view.data = static_cast<std::byte*>(view.data) + first * view.strides[a] * dtype_bytes(view.dtype);
  view.shape[a] = count;
  return view;
}

class HostCall {
 public:
  explicit HostCall(std::vector<reference::HostTensor> tensors) : tensors_(std::move(tensors)) {
    for (const reference::HostTensor& tensor : tensors_) {
      if (tensor.spec.role == TensorRole::scratch) scratch_.resize(tensor.bytes.size() + kScratchAlignment);
    }
  }

  bool has(std::string_view name) const {
    for (const reference::HostTensor& tensor : tensors_) {
      if (tensor.spec.name == name) return true;
    }
    return false;
  }
  reference::HostTensor& operator[](std::string_view name) {
    for (reference::HostTensor& tensor : tensors_) {
      if (tensor.spec.name == name) return tensor;
    }
    throw std::logic_error(std::string(name));
  }
  TensorView view(std::string_view name) { return view((*this)[name]); }

  std::vector<TensorView> views() {
    std::vector<TensorView> result;
    for (reference::HostTensor& tensor : tensors_) result.push_back(view(tensor));
    return result;
  }

  // Views in the order of another plan's tensors, by name; `replace` may change one.
  template <typename Replace>
  std::vector<TensorView> views_for(const OperatorPlan& plan, Replace replace) {
    std::vector<TensorView> result;
    for (const TensorSpec& spec : plan.tensors()) {
      result.push_back(replace(spec.name, has(spec.name) ? view(spec.name) : TensorView{}));
    }
    return result;
  }

 private:
  static constexpr std::size_t kScratchAlignment = 128;

  // Scratch memory lies apart, for it is aligned more strictly than a vector.
  TensorView view(reference::HostTensor& tensor) {
    TensorView view = view_of(tensor);
    if (tensor.spec.role != TensorRole::scratch) return view;
    const auto begin = reinterpret_cast<std::uintptr_t>(scratch_.data());
    view.data = scratch_.data() + (kScratchAlignment - begin % kScratchAlignment) % kScratchAlignment;
    return view;
  }

  std::vector<reference::HostTensor> tensors_;
  std::vector<std::byte> scratch_;
};

// True for tensors whose dimension 1 counts tokens.
inline bool has_tokens(std::string_view name) {
  return name == "q" || name == "k" || name == "v" || name == "packed" || name == "a" || name == "b" || name == "z" ||
         name == "o";
}

}  // namespace gdnjit::tests

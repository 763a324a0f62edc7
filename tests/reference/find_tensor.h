// The tensors of a call by their names.
#pragma once

#include <string_view>
#include <vector>

#include "tests/reference/numeric.h"
#include "tests/reference/workload.h"

namespace gdnjit::reference {

// nullptr if there is none.
inline const HostTensor* find_tensor(const std::vector<HostTensor>& tensors, std::string_view name) {
  for (const HostTensor& tensor : tensors) {
    if (tensor.spec.name == name) return &tensor;
  }
  return nullptr;
}
inline HostTensor* find_tensor(std::vector<HostTensor>& tensors, std::string_view name) {
  for (HostTensor& tensor : tensors) {
    if (tensor.spec.name == name) return &tensor;
  }
  return nullptr;
}

// All elements; none if there is no such tensor.
inline std::vector<double> numbers_of(const std::vector<HostTensor>& tensors, std::string_view name) {
  const HostTensor* const tensor = find_tensor(tensors, name);
  return tensor == nullptr ? std::vector<double>() : load_all(tensor->spec.dtype, tensor->bytes);
}

}  // namespace gdnjit::reference

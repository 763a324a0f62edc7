// fp32 to the storage types of scales and back, on the host.
#pragma once

#include <gdnjit/dtype.h>

#include <cstddef>
#include <cstdint>

namespace gdnjit {

// One element of a dense array of f32, bf16 or f16. Exact.
float load_float(DType dtype, const void* data, std::int64_t index);
// Rounded once, to nearest, ties to even.
void store_float(DType dtype, void* data, std::int64_t index, float value);

}  // namespace gdnjit

// The libFuzzer target: build with clang and -DGDNJIT_FUZZ=ON, run as `ptx_fuzzer tests/fuzz/corpus`.
#include <cstddef>
#include <cstdint>

#include "tests/fuzz/ptx_input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  gdnjit::fuzz::run_ptx({reinterpret_cast<const char*>(data), size});
  return 0;
}

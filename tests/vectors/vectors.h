// Instruction vectors: tiny kernels with fixed inputs whose outputs were recorded on a GPU. The recorder
// (tools/record-vectors) runs the cases on a device and writes files; tests/vectors runs them on the emulator and
// compares with the files. A case says for one instruction, or one wrapper of templates/device, what the hardware does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/compiler.h"
#include "runtime/device.h"

namespace gdnjit::vectors {

// How near an output must be to the recorded one.
struct Comparison {
  enum class Kind : unsigned char {
    exact,  // bit by bit
    ulps,   // neighbours of the format count one; any NaN equals any NaN, zeros are equal
    ratio,  // largest difference over the largest recorded value
    upper,  // f64: units in the last place of the upper 32 bits; the lower ones are equal
  };
  Kind kind = Kind::exact;
  DType dtype = DType::f32;  // of the elements, for ulps and ratio
  double limit = 0;
  double absolute = 0;  // ulps: a difference of at most this is near enough too
};
constexpr Comparison exact() { return {}; }
constexpr Comparison ulps(DType dtype, double limit, double absolute = 0) {
  return {Comparison::Kind::ulps, dtype, limit, absolute};
}
constexpr Comparison ratio(DType dtype, double limit) { return {Comparison::Kind::ratio, dtype, limit}; }

constexpr Comparison upper_words(double limit) { return {Comparison::Kind::upper, DType::i64, limit}; }

struct VectorCase {
  std::string family;  // "prmt", "mma.sync": what the documentation lists
  std::string name;    // unique in its family
  // CUDA C++ that may include templates. Its kernel is `vectors(maps..., const T* input..., U* output)`.
  std::string source;
  int first_arch = 80;       // the oldest that has the instruction
  bool hopper_only = false;  // exists on sm_90a alone
  std::vector<std::vector<std::byte>> inputs;
  std::size_t output_bytes = 0;
  std::uint32_t blocks = 1;
  std::uint32_t threads = 32;
  std::uint32_t shared_bytes = 0;
  std::uint32_t cluster = 1;
  Comparison comparison;
  // Parameters that stand before the pointers, such as tensor maps; nullptr: none.
  std::function<std::vector<std::byte>(Device& device, std::span<const DeviceBuffer> inputs,
                                       const DeviceBuffer& output)>
      leading_parameters;
};

// Every case, family by family.
std::vector<VectorCase> all_cases();

// Whether a device of this architecture has the instruction.
bool runs_on(const VectorCase& vector_case, std::string_view arch);

// A digest of everything that decides the output: source, inputs, geometry. A recorded output of another digest is
// out of date.
std::string digest_of(const VectorCase& vector_case);

// Compiles for the device's architecture, runs, returns the output. Throws Error.
std::vector<std::byte> run_case(Device& device, Compiler& compiler, const VectorCase& vector_case);

// "" if `actual` is near enough to `recorded`; else the first element that is not, and how many are not.
std::string difference(const VectorCase& vector_case, std::span<const std::byte> actual,
                       std::span<const std::byte> recorded);

}  // namespace gdnjit::vectors

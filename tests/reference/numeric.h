// Numbers for references: exact conversions between stored formats and double, and a random stream that gives the
// same values on every machine. Written apart from the kernels' conversions, which it judges.
#pragma once

#include <gdnjit/dtype.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace gdnjit::reference {

// The value of a 16-bit pattern. Exact.
double bf16_value(std::uint16_t bits);
double f16_value(std::uint16_t bits);

// Rounds once, to nearest, ties to even; overflow gives infinity, NaN gives a quiet NaN.
std::uint16_t bf16_bits(double value);
std::uint16_t f16_bits(double value);

// One element of a dense array of `dtype`. Integers convert exactly up to 2^53.
double load_element(DType dtype, const std::byte* data, std::int64_t index);
void store_element(DType dtype, std::byte* data, std::int64_t index, double value);

// A whole dense array as doubles.
std::vector<double> load_all(DType dtype, std::span<const std::byte> bytes);

// Deterministic random numbers (splitmix64). No libm: two machines draw the same inputs.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  // A stream of its own for each name, so that a new tensor does not change the others.
  Random(std::uint64_t seed, std::string_view name);

  std::uint64_t bits();
  double uniform();  // [0, 1)
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  double normal();                         // mean 0, variance 1: the sum of eight 16-bit uniforms, so |x| < 5
  std::int64_t below(std::int64_t limit);  // 0 .. limit - 1
  bool one_in(int n) { return below(n) == 0; }

 private:
  std::uint64_t state_;
};

}  // namespace gdnjit::reference

#include "tests/reference/numeric.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/support/check.h"

namespace gdnjit::reference {
namespace {

// A binary format of one sign bit, kExponentBits and kMantissaBits, in 16 bits.
template <int kExponentBits, int kMantissaBits>
struct Format {
  static constexpr int kBias = (1 << (kExponentBits - 1)) - 1;
  static constexpr std::uint32_t kInfinity = ((1U << kExponentBits) - 1) << kMantissaBits;
  static constexpr std::uint32_t kQuietNan = kInfinity | (1U << (kMantissaBits - 1));
  static constexpr std::uint32_t kMantissa = (1U << kMantissaBits) - 1;
  static constexpr std::uint32_t kSign = 0x8000U;

  static double value(std::uint16_t bits) {
    const double sign = (bits & kSign) != 0 ? -1.0 : 1.0;
    const int exponent = static_cast<int>((bits & kInfinity) >> kMantissaBits);
    const std::uint32_t mantissa = bits & kMantissa;
    if ((bits & kInfinity) == kInfinity) {
      return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
    }
    if (exponent == 0) return sign * std::ldexp(mantissa, 1 - kBias - kMantissaBits);
    return sign * std::ldexp(mantissa + kMantissa + 1, exponent - kBias - kMantissaBits);
  }

  static std::uint16_t bits(double value) {
    const std::uint32_t sign = std::signbit(value) ? kSign : 0;
    if (std::isnan(value)) return static_cast<std::uint16_t>(sign | kQuietNan);
    const double magnitude = std::fabs(value);
    if (std::isinf(value)) return static_cast<std::uint16_t>(sign | kInfinity);
    if (magnitude == 0) return static_cast<std::uint16_t>(sign);

    int exponent = std::ilogb(magnitude);
    if (exponent < 1 - kBias) exponent = 1 - kBias;  // subnormal results share the smallest normal's step
    if (exponent > kBias) return static_cast<std::uint16_t>(sign | kInfinity);
    const double steps = std::ldexp(magnitude, kMantissaBits - exponent);  // exact
    double whole = std::floor(steps);
    const double rest = steps - whole;
    if (rest > 0.5 || (rest == 0.5 && std::fmod(whole, 2.0) != 0)) whole += 1;

    // A carry out of the mantissa moves into the exponent by itself, up to the pattern of infinity.
    const auto count = static_cast<std::uint32_t>(whole);
    const std::uint32_t base = static_cast<std::uint32_t>(exponent + kBias - 1) << kMantissaBits;
    return static_cast<std::uint16_t>(sign | (base + count));
  }
};

using Bf16 = Format<8, 7>;
using F16 = Format<5, 10>;

template <typename T>
T read(const std::byte* data, std::int64_t index) {
  T value;
  std::memcpy(&value, data + index * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
  return value;
}

template <typename T>
void write(std::byte* data, std::int64_t index, T value) {
  std::memcpy(data + index * static_cast<std::int64_t>(sizeof(T)), &value, sizeof(T));
}

}  // namespace

double bf16_value(std::uint16_t bits) { return Bf16::value(bits); }
double f16_value(std::uint16_t bits) { return F16::value(bits); }
std::uint16_t bf16_bits(double value) { return Bf16::bits(value); }
std::uint16_t f16_bits(double value) { return F16::bits(value); }

double load_element(DType dtype, const std::byte* data, std::int64_t index) {
  switch (dtype) {
    case DType::f32: return static_cast<double>(read<float>(data, index));
    case DType::bf16: return bf16_value(read<std::uint16_t>(data, index));
    case DType::f16: return f16_value(read<std::uint16_t>(data, index));
    case DType::i32: return static_cast<double>(read<std::int32_t>(data, index));
    case DType::i64: return static_cast<double>(read<std::int64_t>(data, index));
    case DType::u8: return static_cast<double>(read<std::uint8_t>(data, index));
  }
  GDNJIT_CHECK(false, "unknown dtype {}", static_cast<int>(dtype));
}

void store_element(DType dtype, std::byte* data, std::int64_t index, double value) {
  switch (dtype) {
    case DType::f32: return write(data, index, static_cast<float>(value));
    case DType::bf16: return write(data, index, bf16_bits(value));
    case DType::f16: return write(data, index, f16_bits(value));
    case DType::i32: return write(data, index, static_cast<std::int32_t>(value));
    case DType::i64: return write(data, index, static_cast<std::int64_t>(value));
    case DType::u8: return write(data, index, static_cast<std::uint8_t>(value));
  }
  GDNJIT_CHECK(false, "unknown dtype {}", static_cast<int>(dtype));
}

std::vector<double> load_all(DType dtype, std::span<const std::byte> bytes) {
  std::vector<double> values(bytes.size() / static_cast<std::size_t>(dtype_bytes(dtype)));
  for (std::size_t index = 0; index < values.size(); ++index) {
    values[index] = load_element(dtype, bytes.data(), static_cast<std::int64_t>(index));
  }
  return values;
}

Random::Random(std::uint64_t seed, std::string_view name) : state_(seed) {
  for (char letter : name) state_ = (state_ ^ static_cast<unsigned char>(letter)) * 0x100000001b3ULL;  // FNV-1a
}

std::uint64_t Random::bits() {
  state_ += 0x9e3779b97f4a7c15ULL;
  std::uint64_t mixed = state_;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ULL;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebULL;
  return mixed ^ (mixed >> 31);
}

double Random::uniform() { return static_cast<double>(bits() >> 11) * 0x1.0p-53; }

double Random::normal() {
  std::int64_t sum = 0;
  for (int draw = 0; draw < 2; ++draw) {
    const std::uint64_t word = bits();
    for (int shift = 0; shift < 64; shift += 16) sum += static_cast<std::int64_t>((word >> shift) & 0xffffU);
  }
  // Eight uniforms on 0..65535: mean 8 * 32767.5, variance 8 * (65536^2 - 1) / 12.
  constexpr double kInverseDeviation = 1.0 / 53509.91992145;
  return (static_cast<double>(sum) - 262140.0) * kInverseDeviation;
}

std::int64_t Random::below(std::int64_t limit) {
  GDNJIT_CHECK(limit > 0, "empty range");
  return static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(limit));
}

}  // namespace gdnjit::reference

#include "tests/vectors/vectors.h"

#include <cmath>
#include <cstring>
#include <memory>

#include "runtime/emulator/traits.h"
#include "runtime/support/check.h"
#include "runtime/support/digest.h"

namespace gdnjit::vectors {
namespace {

constexpr std::string_view kEntry = "vectors";
constexpr std::uint8_t kUnwritten = 0xee;

// An element's bits, and their place on a line on which neighbours of the format differ by one.
struct Element {
  std::uint32_t bits = 0;
  bool is_nan = false;
  std::int64_t rank = 0;
  double value = 0;
};

double value_of(DType dtype, std::uint32_t bits) {
  if (dtype == DType::f16) {
    const int exponent = static_cast<int>(bits >> 10 & 31U);
    const double fraction = static_cast<double>(bits & 1023U) / 1024.0;
    const double size = exponent == 0 ? std::ldexp(fraction, -14) : std::ldexp(1.0 + fraction, exponent - 15);
    return (bits & 0x8000U) != 0 ? -size : size;
  }
  const std::uint32_t single = dtype == DType::bf16 ? bits << 16 : bits;
  float value = 0;
  std::memcpy(&value, &single, sizeof(value));
  return static_cast<double>(value);
}

Element element_at(DType dtype, std::span<const std::byte> bytes, std::size_t index) {
  const auto size = static_cast<std::size_t>(dtype_bytes(dtype));
  Element element;
  std::memcpy(&element.bits, bytes.data() + index * size, size);
  const std::uint32_t sign = size == 2 ? 0x8000U : 0x80000000U;
  const std::uint32_t magnitude = element.bits & (sign - 1);
  const std::uint32_t infinity = dtype == DType::f16 ? 0x7c00U : dtype == DType::bf16 ? 0x7f80U : 0x7f800000U;
  element.is_nan = magnitude > infinity;
  element.rank = (element.bits & sign) != 0 ? -static_cast<std::int64_t>(magnitude) : magnitude;
  element.value = value_of(dtype, element.bits);
  return element;
}

std::string bits_text(std::span<const std::byte> bytes, std::size_t at, std::size_t size) {
  std::string text = "0x";
  for (std::size_t i = size; i-- > 0;) text += fmt::format("{:02x}", std::to_integer<unsigned>(bytes[at + i]));
  return text;
}

// The upper words of two doubles, at most `limit` apart, with equal lower words.
bool upper_near(std::span<const std::byte> actual, std::span<const std::byte> recorded, std::size_t at, double limit) {
  std::uint32_t words[4];
  std::memcpy(words, actual.data() + at, 8);
  std::memcpy(words + 2, recorded.data() + at, 8);
  const auto apart = static_cast<std::int64_t>(words[1]) - static_cast<std::int64_t>(words[3]);
  return words[0] == words[2] && std::fabs(static_cast<double>(apart)) <= limit;
}

double largest_finite(DType dtype, std::span<const std::byte> recorded) {
  double largest = 0;
  for (std::size_t i = 0; i < recorded.size() / static_cast<std::size_t>(dtype_bytes(dtype)); ++i) {
    const Element element = element_at(dtype, recorded, i);
    if (!element.is_nan && std::isfinite(element.value)) largest = std::max(largest, std::fabs(element.value));
  }
  return largest;
}

bool near_enough(const Comparison& comparison, const Element& actual, const Element& recorded, double largest) {
  if (actual.is_nan || recorded.is_nan) return actual.is_nan && recorded.is_nan;
  if (comparison.kind == Comparison::Kind::ulps)
    return std::fabs(static_cast<double>(actual.rank - recorded.rank)) <= comparison.limit ||
           std::fabs(actual.value - recorded.value) <= comparison.absolute;
  if (std::isinf(actual.value) || std::isinf(recorded.value)) return actual.rank == recorded.rank;
  return std::fabs(actual.value - recorded.value) <= comparison.limit * largest;
}

}  // namespace

bool runs_on(const VectorCase& vector_case, std::string_view arch) {
  if (vector_case.hopper_only) return arch == "sm_90a";
  return emulator::arch_number(arch) >= vector_case.first_arch;
}

std::string digest_of(const VectorCase& vector_case) {
  const std::string geometry = fmt::format("{} {} {} {} {}", vector_case.blocks, vector_case.threads,
                                           vector_case.shared_bytes, vector_case.cluster, vector_case.output_bytes);
  std::vector<std::string_view> parts{vector_case.source, geometry};
  for (const auto& input : vector_case.inputs)
    parts.emplace_back(reinterpret_cast<const char*>(input.data()), input.size());
  return digest_of_parts(parts).hex();
}

std::vector<std::byte> run_case(Device& device, Compiler& compiler, const VectorCase& vector_case) {
  const KernelSpec spec{.operator_name = "vectors",
                        .signature = vector_case.family + " " + vector_case.name,
                        .source = vector_case.source,
                        .entry = std::string(kEntry),
                        .target = {device.info().traits.arch}};
  const CompileResult result = compiler.compile(spec);
  if (const auto* failure = std::get_if<CompileFailure>(&result)) {
    fail(ErrorCode::compile_failed, "compiling the vector case {} / {}: {}", vector_case.family, vector_case.name,
         failure->log);
  }
  const auto& compiled = std::get<CompiledKernel>(result);
  std::vector<DeviceBuffer> inputs;
  for (const auto& bytes : vector_case.inputs) {
    inputs.emplace_back(device, bytes.size(), fmt::format("input {}", inputs.size()));
    device.copy_in(inputs.back().data(), bytes.data(), bytes.size(), nullptr);
  }
  const DeviceBuffer output(device, vector_case.output_bytes, "output");
  device.fill(output.data(), kUnwritten, output.bytes(), nullptr);

  std::vector<std::byte> parameters;
  if (vector_case.leading_parameters) parameters = vector_case.leading_parameters(device, inputs, output);
  const auto append = [&parameters](const void* pointer) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&pointer);
    parameters.insert(parameters.end(), bytes, bytes + sizeof(pointer));
  };
  for (const DeviceBuffer& input : inputs) append(input.data());
  append(output.data());

  const auto kernel = device.load({kEntry, compiled.ptx, compiled.cubin});
  LaunchGeometry geometry;
  geometry.grid[0] = vector_case.blocks;
  geometry.block[0] = vector_case.threads;
  geometry.shared_bytes = vector_case.shared_bytes;
  geometry.cluster[0] = vector_case.cluster;
  device.launch(*kernel, geometry, parameters, nullptr, {});
  device.synchronize(nullptr);
  std::vector<std::byte> bytes(vector_case.output_bytes);
  device.copy_out(bytes.data(), output.data(), bytes.size(), nullptr);
  return bytes;
}

std::string difference(const VectorCase& vector_case, std::span<const std::byte> actual,
                       std::span<const std::byte> recorded) {
  if (actual.size() != recorded.size())
    return fmt::format("{} bytes; the recording has {}", actual.size(), recorded.size());
  const Comparison& comparison = vector_case.comparison;
  const bool bitwise = comparison.kind == Comparison::Kind::exact;
  const bool upper = comparison.kind == Comparison::Kind::upper;
  const std::size_t size = bitwise ? 4 : static_cast<std::size_t>(dtype_bytes(comparison.dtype));
  const double largest = bitwise || upper ? 0 : largest_finite(comparison.dtype, recorded);
  std::size_t wrong = 0;
  std::size_t first = 0;
  for (std::size_t i = 0; i < actual.size() / size; ++i) {
    const bool good = upper     ? upper_near(actual, recorded, i * size, comparison.limit)
                      : bitwise ? std::memcmp(actual.data() + i * size, recorded.data() + i * size, size) == 0
                                : near_enough(comparison, element_at(comparison.dtype, actual, i),
                                              element_at(comparison.dtype, recorded, i), largest);
    if (!good && wrong++ == 0) first = i;
  }
  if (wrong == 0) return "";
  return fmt::format("{} of {} elements differ; the first is element {}: {} here, {} recorded", wrong,
                     actual.size() / size, first, bits_text(actual, first * size, size),
                     bits_text(recorded, first * size, size));
}

}  // namespace gdnjit::vectors

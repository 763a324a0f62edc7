#include "tests/vectors/lane_cases.h"

#include <cstring>
#include <random>

#include "runtime/support/check.h"

namespace gdnjit::vectors {
namespace {

constexpr std::size_t kThreads = 128;

constexpr std::uint32_t kIntegers[] = {
    0,          1,          2,          3,          7,          8,          31,         32,        33,
    0x7f,       0x80,       0xff,       0x100,      0x7fff,     0x8000,     0xffff,     0x10000,   0x7fffffff,
    0x80000000, 0x80000001, 0xffffffff, 0xfffffffe, 0x00ff00ff, 0x01234567, 0x89abcdef, 0xf0f0f0f0};
constexpr std::uint32_t kFloats[] = {0x00000000, 0x80000000, 0x3f800000, 0xbf800000, 0x3f000000, 0x40490fdb,
                                     0x40000000, 0x00000001, 0x80000001, 0x007fffff, 0x00800000, 0x7f7fffff,
                                     0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0x3f7fffff,
                                     0x3f800001, 0x4b000001, 0x477fe000, 0x477ff000, 0x33800000, 0x43e00000,
                                     0xc3e00000, 0x42fe0000, 0xc2fe0000, 0x3e000000};
constexpr std::uint16_t kHalves[] = {0x0000, 0x8000, 0x3c00, 0xbc00, 0x3800, 0x4000, 0x0001, 0x8001, 0x03ff, 0x0400,
                                     0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00, 0x7c01, 0x3bff, 0x3c01, 0x4248, 0x5640};
constexpr std::uint16_t kBfloats[] = {0x0000, 0x8000, 0x3f80, 0xbf80, 0x3f00, 0x4000, 0x0001, 0x8001, 0x007f, 0x0080,
                                      0x7f7f, 0xff7f, 0x7f80, 0xff80, 0x7fc0, 0x7f81, 0x3f7f, 0x3f81, 0x4049, 0x42c8};

class Draw {
 public:
  Draw(Operands kind, std::uint32_t seed) : kind_(kind), random_(seed) {}

  std::uint64_t next() {
    switch (kind_) {
      case Operands::integers: return pick(kIntegers, random_());
      case Operands::floats: return random_() % 2 == 0 ? ordinary() : pick(kFloats, random_());
      case Operands::halves: return half(kHalves) | half(kHalves) << 16;
      case Operands::bfloats: return half(kBfloats) | half(kBfloats) << 16;
      case Operands::fp8: return random_() & 0xffffU;
      case Operands::wide_integers: return pick(kIntegers, random_()) | pick(kIntegers, random_()) << 32;
      case Operands::doubles: return random_() % 2 == 0 ? ordinary_double() : wide();
    }
    return 0;
  }

 private:
  template <typename T, std::size_t kCount>
  std::uint64_t pick(const T (&edges)[kCount], std::uint64_t other) {
    return random_() % 2 == 0 ? edges[random_() % kCount] : static_cast<T>(other);
  }
  template <std::size_t kCount>
  std::uint64_t half(const std::uint16_t (&edges)[kCount]) {
    return pick(edges, random_());
  }
  std::uint64_t wide() {
    const std::uint64_t low = random_();
    return low | static_cast<std::uint64_t>(random_()) << 32;
  }
  // Bits, not a distribution of the standard library, whose results differ between libraries.
  std::uint64_t ordinary() { return (random_() & 0x807fffffU) | (120 + random_() % 14) << 23; }
  std::uint64_t ordinary_double() { return (wide() & 0x800fffffffffffffULL) | (1015ULL + random_() % 16) << 52; }

  Operands kind_;
  std::mt19937 random_;
};

const char* type_of(char reg) {
  switch (reg) {
    case 'h': return "unsigned short";
    case 'r': return "unsigned";
    case 'f': return "float";
    case 'l': return "unsigned long long";
    case 'd': return "double";
    default: GDNJIT_CHECK(false, "a register class of inline assembly");
  }
}

std::size_t bytes_of(char reg) { return reg == 'h' ? 2 : reg == 'l' || reg == 'd' ? 8 : 4; }

std::string source_of(const LaneOp& op) {
  std::string parameters;
  std::string operands;
  for (std::size_t i = 0; i < op.operands.size(); ++i) {
    parameters += fmt::format("const {}* in{}, ", type_of(op.operands[i]), i);
    operands += fmt::format("{}\"{}\"(in{}[i])", i == 0 ? "" : ", ", op.operands[i], i);
  }
  return fmt::format(
      "extern \"C\" __global__ void vectors({}{}* out) {{\n  const int i = threadIdx.x;\n  {} result;\n"
      "  asm volatile(\"{}\" : \"={}\"(result) : {});\n  out[i] = result;\n}}\n",
      parameters, type_of(op.result), type_of(op.result), op.text, op.result, operands);
}

std::vector<std::byte> draw_operands(const LaneOp& op, std::size_t index) {
  Draw draw(op.values, static_cast<std::uint32_t>(index * 7919 + 1));
  const std::size_t size = bytes_of(op.operands[index]);
  std::vector<std::byte> bytes(kThreads * size);
  for (std::size_t thread = 0; thread < kThreads; ++thread) {
    const std::uint64_t value = draw.next();
    std::memcpy(bytes.data() + thread * size, &value, size);
  }
  return bytes;
}

}  // namespace

void add_lane_cases(std::vector<VectorCase>& cases, const std::string& family, const std::vector<LaneOp>& ops) {
  for (const LaneOp& op : ops) {
    VectorCase added;
    added.family = family;
    added.name = op.text;
    added.source = source_of(op);
    added.first_arch = op.first_arch;
    for (std::size_t i = 0; i < op.operands.size(); ++i) added.inputs.push_back(draw_operands(op, i));
    added.output_bytes = kThreads * bytes_of(op.result);
    added.threads = kThreads;
    added.comparison = op.comparison;
    cases.push_back(std::move(added));
  }
}

}  // namespace gdnjit::vectors

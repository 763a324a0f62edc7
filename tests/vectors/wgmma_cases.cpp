// wgmma: shared memory as a block of bytes, a descriptor, and what the accumulators then hold. The descriptors step
// through swizzles, majors and offsets; that the operands overlap does not matter.
#include "runtime/support/check.h"
#include "tests/vectors/lane_cases.h"
#include "tests/vectors/operand_bytes.h"

namespace gdnjit::vectors {
namespace {

struct Descriptor {
  int start = 0;        // bytes into the block
  int leading = 16;     // bytes
  int stride = 128;     // bytes
  int base_offset = 0;  // 0..7
  int swizzle = 0;      // 0 none, 1: 128 bytes, 2: 64, 3: 32
};

struct Wgmma {
  std::string name;
  std::string shape = "m64n8k16";
  std::string types = "f32.bf16.bf16";
  Element type = Element::bf16;
  int n = 8;
  Descriptor a = {};
  Descriptor b = {};
  bool a_in_registers = false;
  std::string immediates = ", 1, 1, 0, 0";  // scale-a, scale-b, and for 16-bit types tnsp-a, tnsp-b
  int steps = 1;                            // products in one group, `b` moved by 32 bytes each
};

constexpr int kSharedBytes = 16384;

std::string descriptor_text(const Descriptor& d, const char* moved) {
  return fmt::format(
      "((unsigned long long)(((base + {} + {}) & 0x3ffff) >> 4) | {}ull << 16 | {}ull << 32 | {}ull << 49 | {}ull << "
      "62)",
      d.start, moved, d.leading / 16, d.stride / 16, d.base_offset, d.swizzle);
}

std::string source_of(const Wgmma& w) {
  const int results = w.n / 2;
  std::string accumulators = "{";
  std::string tied;
  for (int i = 0; i < results; ++i) {
    accumulators += fmt::format("{}%{}", i == 0 ? "" : ", ", i);
    tied += fmt::format("{}\"+r\"(d[{}])", i == 0 ? "" : ", ", i);
  }
  accumulators += "}";
  const int next = results;
  const std::string a_operand = w.a_in_registers
                                    ? fmt::format("{{%{}, %{}, %{}, %{}}}", next, next + 1, next + 2, next + 3)
                                    : fmt::format("%{}", next);
  const int b_number = next + (w.a_in_registers ? 4 : 1);
  const std::string a_inputs =
      w.a_in_registers ? "\"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3])" : "\"l\"(descriptor_a)";
  return fmt::format(
      "extern \"C\" __global__ void vectors(const uint4* in, const unsigned* registers, unsigned* out) {{\n"
      "  extern __shared__ __align__(1024) unsigned char block[];\n"
      "  for (int i = threadIdx.x; i < {bytes} / 16; i += 128) ((uint4*)block)[i] = in[i];\n"
      "  asm volatile(\"fence.proxy.async;\" ::: \"memory\");\n  __syncthreads();\n"
      "  const unsigned base = (unsigned)__cvta_generic_to_shared(block);\n"
      "  unsigned a[4];\n  for (int i = 0; i < 4; ++i) a[i] = registers[threadIdx.x * 4 + i];\n"
      "  unsigned d[{results}];\n  for (int i = 0; i < {results}; ++i) d[i] = registers[threadIdx.x * 4 + i % 4] & 0;\n"
      "  asm volatile(\"wgmma.fence.sync.aligned;\" ::: \"memory\");\n"
      "#pragma unroll\n  for (int step = 0; step < {steps}; ++step) {{\n"
      "    const unsigned long long descriptor_a = {descriptor_a};\n"
      "    const unsigned long long descriptor_b = {descriptor_b};\n"
      "    asm volatile(\"{{.reg .pred p; setp.ne.b32 p, %{scale}, 0; wgmma.mma_async.sync.aligned.{shape}.{types} "
      "{accumulators}, {a}, %{b}, p{immediates};}}\" : {tied} : {a_inputs}, \"l\"(descriptor_b), \"r\"(step));\n  }}\n"
      "  asm volatile(\"wgmma.commit_group.sync.aligned;\" ::: \"memory\");\n"
      "  asm volatile(\"wgmma.wait_group.sync.aligned 0;\" ::: \"memory\");\n"
      "  for (int i = 0; i < {results}; ++i) out[threadIdx.x * {results} + i] = d[i];\n  (void)a;\n}}\n",
      fmt::arg("bytes", kSharedBytes), fmt::arg("results", results), fmt::arg("steps", w.steps),
      fmt::arg("descriptor_a", descriptor_text(w.a, "0")), fmt::arg("descriptor_b", descriptor_text(w.b, "32 * step")),
      fmt::arg("scale", b_number + 1), fmt::arg("shape", w.shape), fmt::arg("types", w.types),
      fmt::arg("accumulators", accumulators), fmt::arg("a", a_operand), fmt::arg("b", b_number),
      fmt::arg("immediates", w.immediates), fmt::arg("tied", tied), fmt::arg("a_inputs", a_inputs));
}

void add(std::vector<VectorCase>& cases, const Wgmma& w) {
  VectorCase added;
  added.family = "wgmma";
  added.name = w.name;
  added.source = source_of(w);
  added.hopper_only = true;
  added.threads = 128;
  added.shared_bytes = kSharedBytes;
  added.inputs.push_back(
      matrix_bytes(w.type, static_cast<std::size_t>(kSharedBytes / element_bytes(w.type)), true, 21));
  added.inputs.push_back(matrix_bytes(w.type, static_cast<std::size_t>(2048 / element_bytes(w.type)), true, 22));
  added.output_bytes = static_cast<std::size_t>(128 * w.n / 2 * 4);
  cases.push_back(std::move(added));
}

// K-major operands of 16-bit elements under one swizzle: rows of `span` bytes, eight rows an atom.
Descriptor k_major(int start, int swizzle, int span) {
  return {.start = start, .leading = 16, .stride = 8 * span, .swizzle = swizzle};
}

}  // namespace

void add_wgmma_cases(std::vector<VectorCase>& cases) {
  const Descriptor plain_a{.start = 0, .leading = 128, .stride = 256};
  const Descriptor plain_b{.start = 8192, .leading = 128, .stride = 256};
  add(cases, {.name = "K-major, no swizzle", .a = plain_a, .b = plain_b});
  add(cases, {.name = "K-major, no swizzle, offsets exchanged",
              .a = {.start = 0, .leading = 1024, .stride = 128},
              .b = {.start = 8192, .leading = 1024, .stride = 128}});
  add(cases, {.name = "K-major, 32-byte swizzle", .a = k_major(0, 3, 32), .b = k_major(8192, 3, 32)});
  add(cases, {.name = "K-major, 64-byte swizzle", .a = k_major(0, 2, 64), .b = k_major(8192, 2, 64)});
  add(cases, {.name = "K-major, 128-byte swizzle", .a = k_major(0, 1, 128), .b = k_major(8192, 1, 128)});
  add(cases,
      {.name = "K-major, 128-byte swizzle, second k step", .a = k_major(32, 1, 128), .b = k_major(8224, 1, 128)});
  add(cases, {.name = "K-major, 64-byte swizzle, second k step", .a = k_major(32, 2, 64), .b = k_major(8224, 2, 64)});
  for (const int swizzle : {0, 1, 2, 3}) {
    const int span = swizzle == 1 ? 128 : swizzle == 2 ? 64 : swizzle == 3 ? 32 : 16;
    const Descriptor mn{.start = 0, .leading = 2048, .stride = 8 * span, .swizzle = swizzle};
    Descriptor mn_b = mn;
    mn_b.start = 8192;
    const std::string suffix = fmt::format(", swizzle {}", swizzle);
    add(cases, {.name = "B MN-major" + suffix, .a = plain_a, .b = mn_b, .immediates = ", 1, 1, 0, 1"});
    add(cases, {.name = "A MN-major" + suffix, .a = mn, .b = plain_b, .immediates = ", 1, 1, 1, 0"});
    Descriptor other = mn;
    other.leading = 512;
    other.stride = 1024;
    add(cases, {.name = "A MN-major, other offsets" + suffix, .a = other, .b = plain_b, .immediates = ", 1, 1, 1, 0"});
    Descriptor wide = mn_b;
    wide.leading = 4096;
    add(cases, {.name = "B MN-major, n = 32" + suffix,
                .shape = "m64n32k16",
                .n = 32,
                .a = plain_a,
                .b = wide,
                .immediates = ", 1, 1, 0, 1"});
  }
  add(cases,
      {.name = "A from registers", .b = k_major(8192, 1, 128), .a_in_registers = true, .immediates = ", 1, 1, 0"});
  add(cases, {.name = "negated operands", .a = plain_a, .b = plain_b, .immediates = ", -1, 1, 0, 0"});
  add(cases, {.name = "three products in a group", .a = k_major(0, 1, 128), .b = k_major(8192, 1, 128), .steps = 3});
  add(cases, {.name = "n = 64", .shape = "m64n64k16", .n = 64, .a = k_major(0, 1, 128), .b = k_major(8192, 1, 128)});
  add(cases, {.name = "f16, f32 sums", .types = "f32.f16.f16", .type = Element::f16, .a = plain_a, .b = plain_b});
  add(cases, {.name = "tf32",
              .shape = "m64n8k8",
              .types = "f32.tf32.tf32",
              .type = Element::tf32,
              .a = k_major(0, 1, 128),
              .b = k_major(8192, 1, 128),
              .immediates = ", 1, 1"});
  add(cases, {.name = "e4m3",
              .shape = "m64n8k32",
              .types = "f32.e4m3.e4m3",
              .type = Element::e4m3,
              .a = k_major(0, 1, 128),
              .b = k_major(8192, 1, 128),
              .immediates = ", 1, 1"});
  add(cases, {.name = "e5m2, 64-byte swizzle",
              .shape = "m64n8k32",
              .types = "f32.e5m2.e5m2",
              .type = Element::e5m2,
              .a = k_major(0, 2, 64),
              .b = k_major(8192, 2, 64),
              .immediates = ", 1, 1"});
  add(cases, {.name = "s8",
              .shape = "m64n8k32",
              .types = "s32.s8.s8",
              .type = Element::s8,
              .a = k_major(0, 3, 32),
              .b = k_major(8192, 3, 32),
              .immediates = ""});
}

}  // namespace gdnjit::vectors

// mma.sync, ldmatrix, stmatrix and movmatrix: registers in, registers out.
#include "runtime/support/check.h"
#include "tests/vectors/lane_cases.h"
#include "tests/vectors/operand_bytes.h"

namespace gdnjit::vectors {
namespace {

struct Mma {
  std::string text;  // "m16n8k16.row.col.f32.bf16.bf16.f32"
  int a, b, c;       // registers of a lane
  Element type_a, type_b;
  bool packed_result = false;  // C and D are f16x2
  int first_arch = 80;
};

std::string list(int first, int count) {
  std::string text = "{";
  for (int i = 0; i < count; ++i) text += fmt::format("{}%{}", i == 0 ? "" : ", ", first + i);
  return text + "}";
}

// Registers of lane l are words l * count ...: the recorded output says which element lives where.
std::string mma_source(const Mma& mma) {
  std::string inputs;
  for (int i = 0; i < mma.a; ++i) inputs += fmt::format(", \"r\"(a[lane * {} + {}])", mma.a, i);
  for (int i = 0; i < mma.b; ++i) inputs += fmt::format(", \"r\"(b[lane * {} + {}])", mma.b, i);
  for (int i = 0; i < mma.c; ++i) inputs += fmt::format(", \"r\"(c[lane * {} + {}])", mma.c, i);
  std::string results;
  for (int i = 0; i < mma.c; ++i) results += fmt::format("{}\"=r\"(d[{}])", i == 0 ? "" : ", ", i);
  return fmt::format(
      "extern \"C\" __global__ void vectors(const unsigned* a, const unsigned* b, const unsigned* c, unsigned* out) "
      "{{\n"
      "  const int lane = threadIdx.x;\n  unsigned d[{0}];\n"
      "  asm volatile(\"mma.sync.aligned.{1} {2}, {3}, {4}, {5};\" : {6} : {7});\n"
      "  for (int i = 0; i < {0}; ++i) out[lane * {0} + i] = d[i];\n}}\n",
      mma.c, mma.text, list(0, mma.c), list(mma.c, mma.a), list(mma.c + mma.a, mma.b),
      list(mma.c + mma.a + mma.b, mma.c), results, inputs.substr(2));
}

void add_mma(std::vector<VectorCase>& cases, const Mma& mma) {
  const bool integers = mma.type_a == Element::s8 || mma.type_a == Element::u8;
  for (const bool small : {true, false}) {
    VectorCase added;
    added.family = "mma.sync";
    added.name = mma.text + (small ? " exact sums" : " ordinary values");
    added.source = mma_source(mma);
    added.first_arch = mma.first_arch;
    const auto words = [&](Element element, int registers) {
      return static_cast<std::size_t>(32 * registers * 4 / element_bytes(element));
    };
    added.inputs.push_back(matrix_bytes(mma.type_a, words(mma.type_a, mma.a), small, 1));
    added.inputs.push_back(matrix_bytes(mma.type_b, words(mma.type_b, mma.b), small, 2));
    const Element accumulator = mma.packed_result ? Element::f16 : integers ? Element::s8 : Element::tf32;
    added.inputs.push_back(matrix_bytes(accumulator, words(accumulator, mma.c), small, 3));
    added.output_bytes = static_cast<std::size_t>(32 * mma.c * 4);
    if (!small && !integers) added.comparison = mma.packed_result ? ratio(DType::f16, 2e-3) : ratio(DType::f32, 3e-6);
    if (!small && (mma.type_a == Element::e4m3 || mma.type_a == Element::e5m2)) added.comparison.limit = 1e-3;
    cases.push_back(std::move(added));
  }
}

// Rows of 16 bytes in shared memory; the lane of row r passes its address.
std::string ldmatrix_source(int matrices, bool trans) {
  std::string results;
  for (int i = 0; i < matrices; ++i) results += fmt::format("{}\"=r\"(d[{}])", i == 0 ? "" : ", ", i);
  return fmt::format(
      "extern \"C\" __global__ void vectors(const unsigned* in, unsigned* out) {{\n"
      "  __shared__ __align__(128) unsigned rows[128];\n  const int lane = threadIdx.x;\n"
      "  for (int i = lane; i < 128; i += 32) rows[i] = in[i];\n  __syncthreads();\n  unsigned d[{0}];\n"
      "  const unsigned at = (unsigned)__cvta_generic_to_shared(rows + (lane * 5 % 32) * 4);\n"
      "  asm volatile(\"ldmatrix.sync.aligned.m8n8.x{0}{1}.shared.b16 {2}, [%{0}];\" : {3} : \"r\"(at) : \"memory\");\n"
      "  for (int i = 0; i < {0}; ++i) out[lane * {0} + i] = d[i];\n}}\n",
      matrices, trans ? ".trans" : "", list(0, matrices), results);
}

std::string stmatrix_source(int matrices, bool trans) {
  std::string values;
  for (int i = 0; i < matrices; ++i) values += fmt::format(", \"r\"(in[lane * {} + {}])", matrices, i);
  return fmt::format(
      "extern \"C\" __global__ void vectors(const unsigned* in, unsigned* out) {{\n"
      "  __shared__ __align__(128) unsigned rows[128];\n  const int lane = threadIdx.x;\n"
      "  for (int i = lane; i < 128; i += 32) rows[i] = 0;\n  __syncthreads();\n"
      "  const unsigned at = (unsigned)__cvta_generic_to_shared(rows + (lane * 5 % 32) * 4);\n"
      "  asm volatile(\"stmatrix.sync.aligned.m8n8.x{0}{1}.shared.b16 [%0], {2};\" :: \"r\"(at){3} : \"memory\");\n"
      "  __syncthreads();\n  for (int i = lane; i < 128; i += 32) out[i] = rows[i];\n}}\n",
      matrices, trans ? ".trans" : "", list(1, matrices), values);
}

void add_ldmatrix(std::vector<VectorCase>& cases) {
  for (const int matrices : {1, 2, 4}) {
    for (const bool trans : {false, true}) {
      VectorCase load;
      load.family = "ldmatrix";
      load.name = fmt::format("x{}{}", matrices, trans ? ".trans" : "");
      load.source = ldmatrix_source(matrices, trans);
      load.inputs.push_back(matrix_bytes(Element::bf16, 256, false, 11));
      load.output_bytes = static_cast<std::size_t>(32 * matrices * 4);
      cases.push_back(load);
      VectorCase store = load;
      store.family = "stmatrix";
      store.source = stmatrix_source(matrices, trans);
      store.first_arch = 90;
      store.output_bytes = 512;
      cases.push_back(store);
    }
  }
  add_lane_cases(cases, "movmatrix", {{.text = "movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;", .operands = "r"}});
  cases.back().threads = 32;
  cases.back().output_bytes = 128;
}

}  // namespace

void add_matrix_cases(std::vector<VectorCase>& cases) {
  using enum Element;
  const Mma kinds[] = {
      {"m16n8k8.row.col.f32.f16.f16.f32", 2, 1, 4, f16, f16},
      {"m16n8k8.row.col.f16.f16.f16.f16", 2, 1, 2, f16, f16, true},
      {"m16n8k16.row.col.f32.f16.f16.f32", 4, 2, 4, f16, f16},
      {"m16n8k16.row.col.f16.f16.f16.f16", 4, 2, 2, f16, f16, true},
      {"m16n8k8.row.col.f32.bf16.bf16.f32", 2, 1, 4, bf16, bf16},
      {"m16n8k16.row.col.f32.bf16.bf16.f32", 4, 2, 4, bf16, bf16},
      {"m16n8k4.row.col.f32.tf32.tf32.f32", 2, 1, 4, tf32, tf32},
      {"m16n8k8.row.col.f32.tf32.tf32.f32", 4, 2, 4, tf32, tf32},
      {"m16n8k16.row.col.s32.s8.s8.s32", 2, 1, 4, s8, s8},
      {"m16n8k32.row.col.s32.s8.s8.s32", 4, 2, 4, s8, s8},
      {"m16n8k32.row.col.satfinite.s32.u8.s8.s32", 4, 2, 4, u8, s8},
      {"m16n8k32.row.col.f32.e4m3.e4m3.f32", 4, 2, 4, e4m3, e4m3, false, 89},
      {"m16n8k32.row.col.f32.e4m3.e5m2.f32", 4, 2, 4, e4m3, e5m2, false, 89},
      {"m16n8k32.row.col.f32.e5m2.e5m2.f32", 4, 2, 4, e5m2, e5m2, false, 89},
  };
  for (const Mma& mma : kinds) add_mma(cases, mma);
  add_ldmatrix(cases);
}

}  // namespace gdnjit::vectors

// 16-bit floating-point arithmetic, scalar and packed.
#include "tests/vectors/lane_cases.h"

namespace gdnjit::vectors {
namespace {

LaneOp packed(std::string text, std::string operands, Operands values, Comparison comparison = exact()) {
  return {.text = std::move(text), .operands = std::move(operands), .values = values, .comparison = comparison};
}

void add_half_cases(std::vector<VectorCase>& cases) {
  std::vector<LaneOp> ops;
  for (const char* op :
       {"add.rn", "add.ftz", "sub.sat", "mul", "mul.ftz.sat", "min", "max.NaN", "min.xorsign.abs", "max.ftz"})
    ops.push_back(packed(std::string(op) + ".f16x2 %0, %1, %2;", "rr", Operands::halves));
  for (const char* op : {"fma.rn", "fma.rn.ftz", "fma.rn.sat", "fma.rn.relu"})
    ops.push_back(packed(std::string(op) + ".f16x2 %0, %1, %2, %3;", "rrr", Operands::halves));
  for (const char* op : {"neg", "neg.ftz", "abs"})
    ops.push_back(packed(std::string(op) + ".f16x2 %0, %1;", "r", Operands::halves));
  for (const char* op : {"ex2.approx.f16x2", "tanh.approx.f16x2"})
    ops.push_back(packed(std::string(op) + " %0, %1;", "r", Operands::halves, ulps(DType::f16, 1)));
  ops.push_back(packed("set.gt.f16x2.f16x2 %0, %1, %2;", "rr", Operands::halves));
  ops.push_back(packed("set.leu.ftz.f16x2.f16x2 %0, %1, %2;", "rr", Operands::halves));
  add_lane_cases(cases, "f16x2 arithmetic", ops);
}

void add_bfloat_cases(std::vector<VectorCase>& cases) {
  std::vector<LaneOp> ops;
  for (const char* op : {"min", "max.NaN", "min.xorsign.abs"})
    ops.push_back(packed(std::string(op) + ".bf16x2 %0, %1, %2;", "rr", Operands::bfloats));
  for (const char* op : {"add.rn", "sub", "mul"}) {
    LaneOp op90 = packed(std::string(op) + ".bf16x2 %0, %1, %2;", "rr", Operands::bfloats);
    op90.first_arch = 90;
    ops.push_back(op90);
  }
  for (const char* op : {"fma.rn", "fma.rn.relu"})
    ops.push_back(packed(std::string(op) + ".bf16x2 %0, %1, %2, %3;", "rrr", Operands::bfloats));
  for (const char* op : {"neg", "abs"})
    ops.push_back(packed(std::string(op) + ".bf16x2 %0, %1;", "r", Operands::bfloats));
  for (const char* op : {"ex2.approx.ftz.bf16x2", "tanh.approx.bf16x2"}) {
    LaneOp op90 = packed(std::string(op) + " %0, %1;", "r", Operands::bfloats, ulps(DType::bf16, 1));
    op90.first_arch = 90;
    ops.push_back(op90);
  }
  LaneOp set = packed("set.lt.bf16x2.bf16x2 %0, %1, %2;", "rr", Operands::bfloats);
  set.first_arch = 90;
  ops.push_back(set);
  add_lane_cases(cases, "bf16x2 arithmetic", ops);
}

}  // namespace

void add_packed_cases(std::vector<VectorCase>& cases) {
  add_half_cases(cases);
  add_bfloat_cases(cases);
  std::vector<LaneOp> integers;
  for (const char* op : {"add.s16x2", "add.u16x2", "min.s16x2", "max.u16x2", "min.relu.s16x2"}) {
    integers.push_back(
        {.text = std::string(op) + " %0, %1, %2;", .operands = "rr", .values = Operands::integers, .first_arch = 90});
  }
  add_lane_cases(cases, "16x2 integers", integers);
}

}  // namespace gdnjit::vectors

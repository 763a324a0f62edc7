// cvt in its forms.
#include "tests/vectors/lane_cases.h"

namespace gdnjit::vectors {
namespace {

std::vector<LaneOp> from_floats() {
  std::vector<LaneOp> ops;
  for (const char* form : {"rni.s32", "rzi.u32", "rmi.s32", "rpi.sat.s32", "rni.ftz.u32", "rzi.s32", "rna.tf32",
                           "rn.tf32", "rz.relu.tf32"}) {
    ops.push_back({.text = "cvt." + std::string(form) + ".f32 %0, %1;", .operands = "f", .values = Operands::floats});
    if (std::string_view(form).starts_with("rn.tf32") || std::string_view(form).starts_with("rz.relu"))
      ops.back().first_arch = 90;
  }
  for (const char* form : {"rni.f32", "rzi.ftz.f32", "rpi.f32", "sat.f32"})
    ops.push_back({.text = "cvt." + std::string(form) + ".f32 %0, %1;",
                   .operands = "f",
                   .result = 'f',
                   .values = Operands::floats});
  for (const char* form : {"rzi.s64", "rni.u64"})
    ops.push_back({.text = "cvt." + std::string(form) + ".f32 %0, %1;",
                   .operands = "f",
                   .result = 'l',
                   .values = Operands::floats});
  for (const char* form :
       {"rn.f16", "rz.f16", "rn.sat.f16", "rn.relu.f16", "rn.bf16", "rz.bf16", "rn.relu.bf16", "rzi.s16", "rni.u16"})
    ops.push_back({.text = "cvt." + std::string(form) + ".f32 %0, %1;",
                   .operands = "f",
                   .result = 'h',
                   .values = Operands::floats});
  for (const char* form : {"rn.f16x2", "rz.f16x2", "rn.relu.f16x2", "rn.bf16x2", "rz.bf16x2", "rn.relu.bf16x2"})
    ops.push_back(
        {.text = "cvt." + std::string(form) + ".f32 %0, %1, %2;", .operands = "ff", .values = Operands::floats});
  return ops;
}

std::vector<LaneOp> to_floats() {
  std::vector<LaneOp> ops;
  ops.push_back({.text = "cvt.f32.f16 %0, %1;", .operands = "h", .result = 'f', .values = Operands::halves});
  ops.push_back({.text = "cvt.ftz.f32.f16 %0, %1;", .operands = "h", .result = 'f', .values = Operands::halves});
  ops.push_back(
      {.text = "cvt.f32.bf16 %0, %1;", .operands = "h", .result = 'f', .values = Operands::bfloats, .first_arch = 90});
  ops.push_back({.text = "cvt.rni.s32.f16 %0, %1;", .operands = "h", .values = Operands::halves});
  ops.push_back({.text = "cvt.rn.f32.s32 %0, %1;", .operands = "r", .result = 'f'});
  ops.push_back({.text = "cvt.rz.f32.u32 %0, %1;", .operands = "r", .result = 'f'});
  ops.push_back({.text = "cvt.rp.f32.s64 %0, %1;", .operands = "l", .result = 'f', .values = Operands::wide_integers});
  ops.push_back({.text = "cvt.rn.f16.s32 %0, %1;", .operands = "r", .result = 'h'});
  ops.push_back({.text = "cvt.rn.f32.f64 %0, %1;", .operands = "d", .result = 'f', .values = Operands::doubles});
  ops.push_back({.text = "cvt.rm.ftz.f32.f64 %0, %1;", .operands = "d", .result = 'f', .values = Operands::doubles});
  ops.push_back({.text = "cvt.rzi.s32.f64 %0, %1;", .operands = "d", .values = Operands::doubles});
  return ops;
}

std::vector<LaneOp> integers() {
  std::vector<LaneOp> ops;
  for (const char* form : {"cvt.sat.s16.s32 %0, %1;", "cvt.sat.u16.s32 %0, %1;", "cvt.u16.u32 %0, %1;"})
    ops.push_back({.text = form, .operands = "r", .result = 'h'});
  ops.push_back({.text = "cvt.sat.u32.s32 %0, %1;", .operands = "r"});
  ops.push_back({.text = "cvt.sat.s32.s64 %0, %1;", .operands = "l", .values = Operands::wide_integers});
  ops.push_back({.text = "cvt.pack.sat.u8.s32.b32 %0, %1, %2, %3;", .operands = "rrr"});
  ops.push_back({.text = "cvt.pack.sat.s16.s32 %0, %1, %2;", .operands = "rr"});
  return ops;
}

std::vector<LaneOp> fp8() {
  std::vector<LaneOp> ops;
  for (const char* form : {"rn.satfinite.e4m3x2", "rn.satfinite.e5m2x2", "rn.satfinite.relu.e4m3x2"}) {
    ops.push_back({.text = "cvt." + std::string(form) + ".f32 %0, %1, %2;",
                   .operands = "ff",
                   .result = 'h',
                   .values = Operands::floats,
                   .first_arch = 89});
    ops.push_back({.text = "cvt." + std::string(form) + ".f16x2 %0, %1;",
                   .operands = "r",
                   .result = 'h',
                   .values = Operands::halves,
                   .first_arch = 89});
  }
  for (const char* form : {"rn.f16x2.e4m3x2", "rn.f16x2.e5m2x2", "rn.relu.f16x2.e4m3x2"})
    ops.push_back(
        {.text = "cvt." + std::string(form) + " %0, %1;", .operands = "h", .values = Operands::fp8, .first_arch = 89});
  return ops;
}

}  // namespace

void add_conversion_cases(std::vector<VectorCase>& cases) {
  add_lane_cases(cases, "cvt from f32", from_floats());
  add_lane_cases(cases, "cvt to floating point", to_floats());
  add_lane_cases(cases, "cvt between integers", integers());
  add_lane_cases(cases, "cvt of fp8", fp8());
}

}  // namespace gdnjit::vectors

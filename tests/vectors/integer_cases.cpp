// Integer arithmetic, logic and bit fields.
#include "tests/vectors/lane_cases.h"

namespace gdnjit::vectors {

void add_integer_cases(std::vector<VectorCase>& cases) {
  add_lane_cases(
      cases, "integer arithmetic",
      {
          {.text = "mul.hi.s32 %0, %1, %2;", .operands = "rr"},
          {.text = "mul.hi.u32 %0, %1, %2;", .operands = "rr"},
          {.text = "mul24.hi.s32 %0, %1, %2;", .operands = "rr"},
          {.text = "mul24.lo.u32 %0, %1, %2;", .operands = "rr"},
          {.text = "mad.hi.s32 %0, %1, %2, %3;", .operands = "rrr"},
          {.text = "mad.hi.sat.s32 %0, %1, %2, %3;", .operands = "rrr"},
          {.text = "add.sat.s32 %0, %1, %2;", .operands = "rr"},
          {.text = "sub.sat.s32 %0, %1, %2;", .operands = "rr"},
          {.text = "sad.s32 %0, %1, %2, %3;", .operands = "rrr"},
          {.text = "abs.s32 %0, %1;", .operands = "r"},
          {.text = "div.s32 %0, %1, %2;", .operands = "rr"},
          {.text = "rem.s32 %0, %1, %2;", .operands = "rr"},
          {.text = "div.u32 %0, %1, %2;", .operands = "rr"},
          {.text = "rem.u32 %0, %1, %2;", .operands = "rr"},
          {.text = "dp4a.s32.u32 %0, %1, %2, %3;", .operands = "rrr"},
          {.text = "dp4a.u32.u32 %0, %1, %2, %3;", .operands = "rrr"},
          {.text = "dp2a.lo.s32.s32 %0, %1, %2, %3;", .operands = "rrr"},
          {.text = "dp2a.hi.u32.s32 %0, %1, %2, %3;", .operands = "rrr"},
          {.text = "{.reg .b32 t; add.cc.u32 t, %1, %2; addc.u32 %0, t, %3;}", .operands = "rrr"},
          {.text = "{.reg .b32 t; sub.cc.u32 t, %1, %2; subc.u32 %0, t, %3;}", .operands = "rrr"},
          {.text = "{.reg .b32 t; mad.lo.cc.u32 t, %1, %2, %3; madc.hi.u32 %0, %1, %2, t;}", .operands = "rrr"},
      });
  add_lane_cases(cases, "prmt",
                 {
                     {.text = "prmt.b32 %0, %1, %2, %3;", .operands = "rrr"},
                     {.text = "prmt.b32.f4e %0, %1, %2, %3;", .operands = "rrr"},
                     {.text = "prmt.b32.b4e %0, %1, %2, %3;", .operands = "rrr"},
                     {.text = "prmt.b32.rc8 %0, %1, %2, %3;", .operands = "rrr"},
                     {.text = "prmt.b32.ecl %0, %1, %2, %3;", .operands = "rrr"},
                     {.text = "prmt.b32.ecr %0, %1, %2, %3;", .operands = "rrr"},
                     {.text = "prmt.b32.rc16 %0, %1, %2, %3;", .operands = "rrr"},
                 });
  add_lane_cases(cases, "logic and shifts",
                 {
                     {.text = "lop3.b32 %0, %1, %2, %3, 0xe2;", .operands = "rrr"},
                     {.text = "lop3.b32 %0, %1, %2, %3, 0x96;", .operands = "rrr"},
                     {.text = "shf.l.clamp.b32 %0, %1, %2, %3;", .operands = "rrr"},
                     {.text = "shf.l.wrap.b32 %0, %1, %2, %3;", .operands = "rrr"},
                     {.text = "shf.r.clamp.b32 %0, %1, %2, %3;", .operands = "rrr"},
                     {.text = "shf.r.wrap.b32 %0, %1, %2, %3;", .operands = "rrr"},
                     {.text = "shl.b32 %0, %1, %2;", .operands = "rr"},
                     {.text = "shr.s32 %0, %1, %2;", .operands = "rr"},
                     {.text = "shr.u32 %0, %1, %2;", .operands = "rr"},
                 });
  add_lane_cases(cases, "bit fields",
                 {
                     {.text = "bfe.s32 %0, %1, %2, %3;", .operands = "rrr"},
                     {.text = "bfe.u32 %0, %1, %2, %3;", .operands = "rrr"},
                     {.text = "{.reg .b32 f; and.b32 f, %3, 63; bfi.b32 %0, %1, %2, f, 9;}", .operands = "rrr"},
                     {.text = "bfi.b32 %0, %1, %2, %3, 7;", .operands = "rrr"},
                     {.text = "bfind.s32 %0, %1;", .operands = "r"},
                     {.text = "bfind.shiftamt.u32 %0, %1;", .operands = "r"},
                     {.text = "szext.wrap.s32 %0, %1, %2;", .operands = "rr"},
                     {.text = "szext.clamp.u32 %0, %1, %2;", .operands = "rr"},
                     {.text = "bmsk.clamp.b32 %0, %1, %2;", .operands = "rr"},
                     {.text = "bmsk.wrap.b32 %0, %1, %2;", .operands = "rr"},
                     {.text = "brev.b32 %0, %1;", .operands = "r"},
                     {.text = "popc.b32 %0, %1;", .operands = "r"},
                     {.text = "clz.b32 %0, %1;", .operands = "r"},
                     {.text = "fns.b32 %0, %1, 5, 2;", .operands = "r"},
                 });
  add_lane_cases(cases, "video",
                 {
                     {.text = "vadd.s32.u32.s32.sat %0, %1.b2, %2.h1;", .operands = "rr"},
                     {.text = "vabsdiff.u32.s32.s32.add %0, %1.h0, %2.h1, %3;", .operands = "rrr"},
                     {.text = "vadd4.u32.u32.u32.sat %0, %1, %2, %3;", .operands = "rrr"},
                     {.text = "vabsdiff4.u32.u32.u32.add %0, %1, %2, %3;", .operands = "rrr"},
                     {.text = "vavrg2.s32.s32.s32 %0, %1, %2, %3;", .operands = "rrr"},
                     {.text = "vset4.u32.u32.ge %0, %1, %2, %3;", .operands = "rrr"},
                     {.text = "vmad.s32.s32.s32.shr15 %0, %1.h0, %2.h1, %3;", .operands = "rrr"},
                 });
}

}  // namespace gdnjit::vectors

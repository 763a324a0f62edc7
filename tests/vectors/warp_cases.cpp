// Exchange among the lanes of a warp, and atomics whose result does not depend on an order.
#include "tests/vectors/lane_cases.h"

namespace gdnjit::vectors {

void add_warp_cases(std::vector<VectorCase>& cases) {
  add_lane_cases(
      cases, "shfl",
      {
          {.text = "shfl.sync.bfly.b32 %0, %1, 5, 0x1f, -1;", .operands = "r"},
          {.text = "shfl.sync.up.b32 %0, %1, 3, 0, -1;", .operands = "r"},
          {.text = "shfl.sync.down.b32 %0, %1, 3, 0x181f, -1;", .operands = "r"},
          {.text = "shfl.sync.idx.b32 %0, %1, %2, 0x101f, -1;", .operands = "rr"},
          {.text = "{.reg .pred p; .reg .b32 t; shfl.sync.up.b32 t|p, %1, 2, 0x1800, -1; selp.b32 %0, t, 77, p;}",
           .operands = "r"},
      });
  add_lane_cases(
      cases, "vote, match, redux",
      {
          {.text = "{.reg .pred p; setp.lt.s32 p, %1, 0; vote.sync.ballot.b32 %0, p, -1;}", .operands = "r"},
          {.text = "{.reg .b32 t; and.b32 t, %1, 3; match.any.sync.b32 %0, t, -1;}", .operands = "r"},
          {.text = "{.reg .b32 t; .reg .pred p; and.b32 t, %1, 0; match.all.sync.b32 %0|p, t, -1;}", .operands = "r"},
          {.text = "redux.sync.add.s32 %0, %1, -1;", .operands = "r"},
          {.text = "redux.sync.min.s32 %0, %1, -1;", .operands = "r"},
          {.text = "redux.sync.max.u32 %0, %1, -1;", .operands = "r"},
          {.text = "redux.sync.xor.b32 %0, %1, -1;", .operands = "r"},
          {.text = "{.reg .pred p; elect.sync %0|p, -1; selp.b32 %0, %1, %0, p;}", .operands = "r", .first_arch = 90},
      });
}

}  // namespace gdnjit::vectors

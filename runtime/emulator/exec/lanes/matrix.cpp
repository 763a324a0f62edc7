// 8 x 8 matrices of 16-bit elements between shared memory and registers: ldmatrix, stmatrix, movmatrix.
#include "runtime/emulator/exec/access.h"
#include "runtime/emulator/exec/wgmma.h"
#include "runtime/emulator/semantics/tensor_layout.h"

namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA {
namespace {

constexpr std::uint32_t kRowBytes = 16;

struct Matrix {
  std::uint16_t at[8][8];
};

// Lane 8 i + r names row r of matrix i; the addresses of the other lanes do not count. in.count matrices.
void resolve_rows(Warp& warp, const Instruction& in, Space space, bool wide_address, AccessKind kind, Access& access) {
  need_all_lanes(warp, in);
  const std::uint32_t lanes = in.count == 4 ? kAllLanes : (1U << 8 * in.count) - 1;
  const std::uint32_t undefined = lanes & ~warp.written[in.a.id];
  if (undefined != 0) fault_undefined(warp, in, undefined, in.a.id);
  warp.mask = lanes;
  resolve(warp, in, space, wide_address, kind, kRowBytes, access);
  warp.mask = kAllLanes;
  const auto own = reinterpret_cast<std::uint64_t>(warp.block->shared);
  for (int lane = 0; lane < 8 * in.count; ++lane) {
    if (access.host[lane] - own >= warp.block->launch->shared_bytes)
      fault(warp, in, lane, "names an address that is not in the shared memory of its block");
  }
}

// The two elements of a lane.
std::uint32_t take(const Matrix& matrix, int lane, bool transposed) {
  const AccumulatorPlace place = matrix_place(lane);
  const std::uint32_t low = transposed ? matrix.at[place.column][place.row] : matrix.at[place.row][place.column];
  const std::uint32_t high =
      transposed ? matrix.at[place.column + 1][place.row] : matrix.at[place.row][place.column + 1];
  return low | high << 16;
}

void put(Matrix& matrix, int lane, bool transposed, std::uint32_t value) {
  const AccumulatorPlace place = matrix_place(lane);
  std::uint16_t& low = transposed ? matrix.at[place.column][place.row] : matrix.at[place.row][place.column];
  std::uint16_t& high = transposed ? matrix.at[place.column + 1][place.row] : matrix.at[place.row][place.column + 1];
  low = static_cast<std::uint16_t>(value);
  high = static_cast<std::uint16_t>(value >> 16);
}

template <Space kSpace, bool kWide>
void execute_ldmatrix(Warp& warp, const Instruction& in) {
  Access access;
  resolve_rows(warp, in, kSpace, kWide, AccessKind::load, access);
  const Slot* slots = &warp.program->operands[in.operands];
  for (int number = 0; number < in.count; ++number) {
    Matrix matrix;
    for (int row = 0; row < 8; ++row)
      std::memcpy(matrix.at[row], reinterpret_cast<const void*>(access.host[8 * number + row]), kRowBytes);
    auto* out = warp.values<std::uint32_t>(slots[number]);
    for (int lane = 0; lane < kLanes; ++lane) out[lane] = take(matrix, lane, in.flags != 0);
    warp.written[slots[number].id] = kAllLanes;
  }
}

template <Space kSpace, bool kWide>
void execute_stmatrix(Warp& warp, const Instruction& in) {
  const Slot* slots = &warp.program->operands[in.operands];
  for (int number = 0; number < in.count; ++number) {
    const std::uint32_t undefined = warp.mask & ~warp.written[slots[number].id];
    if (undefined != 0) fault_undefined(warp, in, undefined, slots[number].id);
  }
  Access access;
  resolve_rows(warp, in, kSpace, kWide, AccessKind::store, access);
  for (int number = 0; number < in.count; ++number) {
    Matrix matrix;
    const auto* values = warp.values<std::uint32_t>(slots[number]);
    for (int lane = 0; lane < kLanes; ++lane) put(matrix, lane, in.flags != 0, values[lane]);
    for (int row = 0; row < 8; ++row)
      std::memcpy(reinterpret_cast<void*>(access.host[8 * number + row]), matrix.at[row], kRowBytes);
  }
}

// The transpose.
void execute_movmatrix(Warp& warp, const Instruction& in) {
  need_all_lanes(warp, in);
  Matrix matrix;
  const auto* values = warp.values<std::uint32_t>(in.a);
  for (int lane = 0; lane < kLanes; ++lane) put(matrix, lane, false, values[lane]);
  auto* out = warp.values<std::uint32_t>(in.dst);
  for (int lane = 0; lane < kLanes; ++lane) out[lane] = take(matrix, lane, true);
}

template <Space kSpace>
Handler pick(const OpKey& key) {
  if (key.op == Opcode::ldmatrix)
    return key.wide_address ? execute_ldmatrix<kSpace, true> : execute_ldmatrix<kSpace, false>;
  return key.wide_address ? execute_stmatrix<kSpace, true> : execute_stmatrix<kSpace, false>;
}

}  // namespace

Handler find_matrix(const OpKey& key) {
  if (key.op == Opcode::movmatrix) return execute_movmatrix;
  if (key.op != Opcode::ldmatrix && key.op != Opcode::stmatrix) return nullptr;
  if (key.space == Space::shared) return pick<Space::shared>(key);
  return key.space == Space::generic ? pick<Space::generic>(key) : nullptr;
}

}  // namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA

// Matrix products: mma.sync, and wgmma at the wait that completes it.
#include "runtime/emulator/exec/lanes.h"
#include "runtime/emulator/exec/wgmma.h"
#include "runtime/emulator/semantics/tensor_math.h"

namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA {
namespace {

constexpr int kMaxColumns = 256;
constexpr int kMaxK = 64;
constexpr int kMaxMmaRegisters = 4;

// ---- mma.sync

// The registers of an mma from `first` on; all must be written.
void read_registers(Warp& warp, const Instruction& in, const Slot* first, int count, const std::uint32_t** out) {
  for (int reg = 0; reg < count; ++reg) {
    if (warp.written[first[reg].id] != kAllLanes)
      fault_undefined(warp, in, ~warp.written[first[reg].id], first[reg].id);
    out[reg] = warp.values<std::uint32_t>(first[reg]);
  }
}

struct MmaRegisters {
  const std::uint32_t* a[kMaxMmaRegisters];
  const std::uint32_t* b[kMaxMmaRegisters];
  const std::uint32_t* c[kMaxMmaRegisters];
  std::uint32_t* d[kMaxMmaRegisters];
};

void multiply_floats(const TensorOp& op, const MmaRegisters& registers) {
  alignas(64) double a[kMaxK * kTileRows];
  alignas(64) double b[8 * kMaxK];
  alignas(64) double c[8 * kTileRows];
  unpack_a(op.a, registers.a, op.a_registers, a);
  unpack_b(op.b, registers.b, op.b_registers, op.k, b);
  unpack_accumulators(op.d, registers.c, op.d_registers, c);
  multiply_add(a, b, c, op.k, 8);
  pack_accumulators(op.d, c, registers.d, op.d_registers);
}

void multiply_integers(const TensorOp& op, const MmaRegisters& registers) {
  alignas(64) std::int32_t a[kMaxK * kTileRows];
  alignas(64) std::int32_t b[8 * kMaxK];
  alignas(64) std::int32_t sums[8 * kTileRows] = {};
  unpack_a(op.a, registers.a, op.a_registers, a);
  unpack_b(op.b, registers.b, op.b_registers, op.k, b);
  multiply_add(a, b, sums, op.k, 8);
  add_integer_sums(sums, registers.c, registers.d, op.d_registers, op.satfinite);
}

// operands: D, A, B, C.
void execute_mma(Warp& warp, const Instruction& in) {
  need_all_lanes(warp, in);
  const TensorOp& op = warp.program->tensor_ops[in.target];
  const Slot* d = &warp.program->operands[op.operands];
  const Slot* a = d + op.d_registers;
  const Slot* b = a + op.a_registers;
  MmaRegisters registers;
  read_registers(warp, in, a, op.a_registers, registers.a);
  read_registers(warp, in, b, op.b_registers, registers.b);
  read_registers(warp, in, b + op.b_registers, op.d_registers, registers.c);
  for (int reg = 0; reg < op.d_registers; ++reg) registers.d[reg] = warp.values<std::uint32_t>(d[reg]);
  if (is_integer_element(op.d)) {
    multiply_integers(op, registers);
  } else {
    multiply_floats(op, registers);
  }
  for (int reg = 0; reg < op.d_registers; ++reg) warp.written[d[reg].id] = kAllLanes;
  warp.worker->counts.memory.tensor_core_macs += static_cast<std::uint64_t>(kTileRows) * 8 * op.k;
}

// ---- wgmma

// The tiles of one operation in one warp, too large for the stack of a thread that has little.
template <typename Number>
struct WgmmaTiles {
  alignas(64) std::uint32_t raw[kMaxColumns * 8];
  alignas(64) Number a[32 * kTileRows];
  alignas(64) Number b[kMaxColumns * 32];
  alignas(64) Number c[kMaxColumns * kTileRows];
};

template <typename Number>
WgmmaTiles<Number>& tiles() {
  static thread_local WgmmaTiles<Number> instance;
  return instance;
}

// MN-major units (8 rows or columns, 16-bit elements, at one k) to one element each: place(outer, k).
template <typename Number, typename Place>
void unpack_mn_major(ElementType type, const std::uint32_t* raw, int outer, int k, Place place) {
  Number elements[8 * 16] = {};
  for (int unit = 0; unit < outer / 8; ++unit) {
    unpack_elements(type, raw + unit * k * 4, k * 4, elements);
    for (int i = 0; i < k * 8; ++i) place(unit * 8 + i % 8, i / 8) = elements[i];
  }
}

template <typename Number>
void load_a(Warp& warp, const TensorOp& op, const WgmmaOperation& operation, WgmmaTiles<Number>& tile) {
  const auto place = [&](int row, int k) -> Number& { return tile.a[k * kTileRows + row]; };
  if (op.a_registers != 0) {
    const Slot* slots = &warp.program->operands[op.operands] + op.d_registers;
    const std::uint32_t* registers[kMaxMmaRegisters];
    for (int reg = 0; reg < op.a_registers; ++reg) registers[reg] = warp.values<std::uint32_t>(slots[reg]);
    unpack_a(op.a, registers, op.a_registers, tile.a);
  } else {
    read_wgmma_matrix(warp, operation, WgmmaMatrix::a, tile.raw);
    if (op.a_mn_major) {
      unpack_mn_major<Number>(op.a, tile.raw, kTileRows, op.k, place);
    } else {
      Number elements[kTileRows * 32];
      unpack_elements(op.a, tile.raw, kTileRows * 8, elements);
      for (int row = 0; row < kTileRows; ++row) {
        for (int k = 0; k < op.k; ++k) place(row, k) = elements[row * op.k + k];
      }
    }
  }
  if (op.negate_a != op.negate_b) {
    for (int i = 0; i < op.k * kTileRows; ++i) tile.a[i] = -tile.a[i];
  }
}

template <typename Number>
void load_b(Warp& warp, const TensorOp& op, const WgmmaOperation& operation, WgmmaTiles<Number>& tile) {
  read_wgmma_matrix(warp, operation, WgmmaMatrix::b, tile.raw);
  if (op.b_mn_major) {
    unpack_mn_major<Number>(op.b, tile.raw, op.n, op.k,
                            [&](int column, int k) -> Number& { return tile.b[column * op.k + k]; });
  } else {
    unpack_elements(op.b, tile.raw, op.n * 8, tile.b);
  }
}

void multiply(Warp& warp, const WgmmaOperation& operation) {
  const TensorOp& op = warp.program->tensor_ops[warp.program->instructions[operation.instruction].target];
  const Slot* slots = &warp.program->operands[op.operands];
  std::uint32_t* d[kMaxColumns / 2];
  for (int reg = 0; reg < op.d_registers; ++reg) d[reg] = warp.values<std::uint32_t>(slots[reg]);
  if (is_integer_element(op.d)) {
    auto& tile = tiles<std::int32_t>();
    load_a(warp, op, operation, tile);
    load_b(warp, op, operation, tile);
    std::memset(tile.c, 0, sizeof(tile.c));
    multiply_add(tile.a, tile.b, tile.c, op.k, op.n);
    static constexpr std::uint32_t kZeros[kLanes] = {};
    const std::uint32_t* c[kMaxColumns / 2];
    for (int reg = 0; reg < op.d_registers; ++reg) c[reg] = operation.accumulate ? d[reg] : kZeros;
    add_integer_sums(tile.c, c, d, op.d_registers, op.satfinite);
  } else {
    auto& tile = tiles<double>();
    load_a(warp, op, operation, tile);
    load_b(warp, op, operation, tile);
    if (operation.accumulate) {
      unpack_accumulators(op.d, d, op.d_registers, tile.c);
    } else {
      std::memset(tile.c, 0, static_cast<std::size_t>(op.n) * kTileRows * sizeof(double));
    }
    multiply_add(tile.a, tile.b, tile.c, op.k, op.n);
    pack_accumulators(op.d, tile.c, d, op.d_registers);
  }
}

// immediate: the groups that may stay in flight.
void execute_wgmma_wait(Warp& warp, const Instruction& in) {
  begin_wgmma_wait(warp, in);
  while (const WgmmaOperation* operation = next_wgmma(warp, static_cast<std::uint32_t>(in.immediate))) {
    multiply(warp, *operation);
    complete_wgmma(warp);
  }
}

void execute_wgmma_fence(Warp& warp, const Instruction& in) { fence_wgmma(warp, in); }
void execute_wgmma(Warp& warp, const Instruction& in) { issue_wgmma(warp, in); }
void execute_wgmma_commit(Warp& warp, const Instruction& in) { commit_wgmma(warp, in); }
void execute_setmaxnreg(Warp& warp, const Instruction& in) { check_setmaxnreg(warp, in); }

}  // namespace

Handler find_tensor(const OpKey& key) {
  switch (key.op) {
    case Opcode::mma: return execute_mma;
    case Opcode::wgmma: return execute_wgmma;
    case Opcode::wgmma_fence: return execute_wgmma_fence;
    case Opcode::wgmma_commit: return execute_wgmma_commit;
    case Opcode::wgmma_wait: return execute_wgmma_wait;
    case Opcode::setmaxnreg: return execute_setmaxnreg;
    default: return nullptr;
  }
}

}  // namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA

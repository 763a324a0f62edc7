// Branches, exits, barriers, and the loop that runs a warp.
#include "runtime/emulator/exec/divergence.h"
#include "runtime/emulator/exec/lanes.h"
#include "runtime/emulator/exec/wgmma.h"

namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA {
namespace {

void reconverge(Warp& warp) {
  park(warp, warp.depth, warp.pc, warp.active);
  resume_next(warp);
}

void execute_bra(Warp& warp, const Instruction& in) {
  const std::uint32_t taken = warp.mask;
  const std::uint32_t stay = warp.active & ~taken;
  if (stay == 0) {
    warp.pc = in.target;
    return;
  }
  ++warp.worker->counts.memory.divergent_branches;
  park(warp, warp.depth, warp.pc, stay);
  park(warp, warp.depth, in.target, taken);
  resume_next(warp);
}

// brx.idx: target is the first entry in Program::targets, operand a the index.
void execute_brx(Warp& warp, const Instruction& in) {
  const auto* index = warp.values<std::uint32_t>(in.a);
  const std::uint32_t stay = warp.active & ~warp.mask;
  std::uint32_t first = 0;
  bool divergent = stay != 0;
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    if (index[lane] >= in.target_count)
      fault(warp, in, lane, "branches by index " + std::to_string(index[lane]) + " beyond its table");
    const std::uint32_t target = warp.program->targets[in.target + index[lane]];
    if (rest == warp.mask) first = target;
    divergent = divergent || target != first;
    park(warp, warp.depth, target, 1U << lane);
  }
  if (stay != 0) park(warp, warp.depth, warp.pc, stay);
  if (divergent) ++warp.worker->counts.memory.divergent_branches;
  resume_next(warp);
}

void execute_exit(Warp& warp, const Instruction& in) {
  warp.live &= ~warp.mask;
  warp.active &= ~warp.mask;
  if (warp.active != 0) return;
  if (warp.waiting.empty()) {
    if (warp.block->warpgroups != nullptr) check_wgmma_exit(warp, in);
    warp.state = WarpState::finished;
    warp.depth = 0;
    if (!warp.calls.sites.empty()) warp.calls = {};
  } else {
    resume_next(warp);
  }
}

void execute_trap(Warp& warp, const Instruction& in) { fault(warp, in, std::countr_zero(warp.mask), "executes trap"); }
void execute_barrier_sync(Warp& warp, const Instruction& in) { arrive_at_barrier(warp, in, true); }
void execute_barrier_arrive(Warp& warp, const Instruction& in) { arrive_at_barrier(warp, in, false); }
void execute_barrier_red(Warp& warp, const Instruction& in) { reduce_at_barrier(warp, in); }
void execute_nop(Warp&, const Instruction&) {}

// Some operand of the instruction is undefined in the lanes of warp.undefined. Returns the lanes whose result is.
std::uint32_t undefined_operand(Warp& warp, const Instruction& in) {
  if (in.marked != kConstantId && !in.critical) note_undefined(warp, in);
  if (!in.critical) return in.marked == kConstantId ? 0 : warp.undefined;
  for (const std::uint16_t id : in.checked) {
    const std::uint32_t lanes = warp.mask & ~warp.written[id];
    if (lanes != 0) fault_undefined(warp, in, lanes, id);
  }
  return warp.undefined;
}

}  // namespace

Handler find_control(const OpKey& key) {
  switch (key.op) {
    case Opcode::bra: return execute_bra;
    case Opcode::brx: return execute_brx;
    case Opcode::exit: return execute_exit;
    case Opcode::trap: return execute_trap;
    case Opcode::barrier_sync: return execute_barrier_sync;
    case Opcode::barrier_arrive: return execute_barrier_arrive;
    case Opcode::barrier_red: return execute_barrier_red;
    case Opcode::nop: return execute_nop;
    default: return nullptr;
  }
}

Handler find(const OpKey& key) {
  for (const auto family :
       {find_packed,      find_narrow,   find_floating, find_integer,       find_bits,       find_compare,
        find_convert,     find_movement, find_memory,   find_atomic,        find_collective, find_control,
        find_async,       find_cluster,  find_call,     find_integer_forms, find_video,      find_rounded,
        find_wide_atomic, find_tensor,   find_matrix}) {
    if (const Handler handler = family(key)) return handler;
  }
  return nullptr;
}

std::uint32_t run_warp(Warp& warp, std::uint32_t quantum) {
  const Instruction* const code = warp.program->instructions.data();
  std::uint64_t* const issued = warp.worker->counts.issued.data();
  std::uint64_t* const lanes = warp.worker->counts.lanes.data();
  const std::uint32_t* const written = warp.written;
  warp.state = WarpState::running;
  std::uint32_t left = quantum;
  while (left != 0) {
    if (warp.pc >= warp.stop_pc) reconverge(warp);
    const std::uint32_t pc = warp.pc;
    const Instruction& in = code[pc];
    std::uint32_t mask = warp.active;
    if (in.guard != kConstantId) {
      if ((mask & ~written[in.guard]) != 0) fault_undefined(warp, in, mask & ~written[in.guard], in.guard);
      mask &= warp.predicates[in.guard] ^ in.guard_flip;
    }
    warp.mask = mask;
    warp.pc = pc + 1;
    --left;
    ++issued[pc];
    lanes[pc] += mask == kAllLanes ? 32U : static_cast<std::uint32_t>(__builtin_popcount(mask));
    if (mask == 0) continue;
    std::uint32_t undefined =
        mask & ~(written[in.checked[0]] & written[in.checked[1]] & written[in.checked[2]] & written[in.checked[3]]);
    warp.undefined = undefined;
    if (undefined != 0) undefined = undefined_operand(warp, in);
    in.run(warp, in);
    if (warp.state == WarpState::waiting) {  // not issued after all
      ++left;
      --issued[pc];
      lanes[pc] -= static_cast<std::uint32_t>(__builtin_popcount(mask));
      break;
    }
    // Id 0 stands for "no result" and stays all ones.
    warp.written[in.marked] = (warp.written[in.marked] | mask) & ~undefined;
    if (warp.state != WarpState::running) break;
  }
  warp.block->instructions += quantum - left;
  if (warp.state == WarpState::running) warp.state = WarpState::yielded;
  return quantum - left;
}

}  // namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA

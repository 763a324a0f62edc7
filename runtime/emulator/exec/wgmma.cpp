#include "runtime/emulator/exec/wgmma.h"

#include <fmt/format.h>

#include <span>

#include "runtime/emulator/exec/shared_variables.h"
#include "runtime/emulator/races/group_races.h"

namespace gdnjit::emulator {
namespace {

constexpr std::uint32_t kGroupWarps = 4;

const TensorOp& op_of(const Warp& warp, const WgmmaOperation& operation) {
  return warp.program->tensor_ops[warp.program->instructions[operation.instruction].target];
}
std::span<const Slot> accumulators(const Warp& warp, const TensorOp& op) {
  return {&warp.program->operands[op.operands], op.d_registers};
}
std::span<const Slot> fragments(const Warp& warp, const TensorOp& op) {
  return {warp.program->operands.data() + op.operands + op.d_registers, op.a_registers};
}

WgmmaQueue& queue_of(Warp& warp) {
  if (warp.wgmma == nullptr) {
    warp.wgmma = std::make_shared<WgmmaQueue>();
    warp.wgmma->writer.resize(warp.program->ids);
    warp.wgmma->user.resize(warp.program->ids);
  }
  return *warp.wgmma;
}

WarpgroupLog& log_of(Warp& warp) {
  Block& block = *warp.block;
  if (block.warpgroups == nullptr) {
    block.warpgroups = std::make_shared<WarpgroupLogs>();
    block.warpgroups->groups.resize((block.launch->warps + kGroupWarps - 1) / kGroupWarps);
  }
  return block.warpgroups->groups[warp.number / kGroupWarps];
}

[[noreturn]] void mismatch(const Warp& warp, const Instruction& at, const WarpgroupLog::Entry& entry,
                           const WarpgroupLog::Entry& other) {
  if (entry.instruction != other.instruction) {
    fault(warp, at, -1,
          fmt::format("the warps of a warpgroup must issue the same instructions; here warp {} has issued\n  {}",
                      other.first_warp, warp.program->describe(other.instruction)));
  }
  const char* what = entry.a != other.a ? "descriptor of A" : entry.b != other.b ? "descriptor of B" : "scale-d";
  const auto value = [&](const WarpgroupLog::Entry& of) {
    return entry.a != other.a   ? fmt::format("0x{:016x}", of.a)
           : entry.b != other.b ? fmt::format("0x{:016x}", of.b)
                                : fmt::format("{}", of.accumulate);
  };
  fault(warp, at, -1,
        fmt::format("the {} is {} here and {} in warp {} of the same warpgroup", what, value(entry), value(other),
                    other.first_warp));
}

// Compares the instruction with what the other warps of the warpgroup issued in its place.
void log_instruction(Warp& warp, const Instruction& at, WarpgroupLog::Entry entry) {
  need_all_lanes(warp, at);
  const std::uint32_t first = warp.number / kGroupWarps * kGroupWarps;
  if (first + kGroupWarps > warp.block->launch->warps) {
    fault(warp, at, -1,
          fmt::format("needs a warpgroup of 4 warps; of warps {} to {} the block has {}", first, first + 3,
                      warp.block->launch->warps - first));
  }
  WgmmaQueue& queue = queue_of(warp);
  WarpgroupLog& log = log_of(warp);
  entry.instruction = at.index;
  entry.first_warp = warp.number;
  entry.warps = 1;
  const std::uint64_t place = queue.entries++ - log.first;
  if (place == log.entries.size()) {
    for (std::uint32_t other = first; other < first + kGroupWarps; ++other) {
      if (warp.block->warps[other].state == WarpState::finished)
        fault(warp, at, -1, fmt::format("is issued by the whole warpgroup, but its warp {} has exited", other));
    }
    log.entries.push_back(entry);
    return;
  }
  WarpgroupLog::Entry& other = log.entries[place];
  if (entry.instruction != other.instruction || entry.a != other.a || entry.b != other.b ||
      entry.accumulate != other.accumulate) {
    mismatch(warp, at, entry, other);
  }
  if (++other.warps == kGroupWarps) {
    // All four have been here, so they have passed everything before it.
    log.entries.pop_front();
    ++log.first;
  }
}

template <typename T>
T uniform(Warp& warp, const Instruction& at, Slot slot, const char* what) {
  const T* values = warp.values<T>(slot);
  for (int lane = 1; lane < kLanes; ++lane) {
    if (values[lane] != values[0]) {
      fault(warp, at, lane,
            fmt::format("has another {} than lane 0 (0x{:x} and 0x{:x})", what, values[lane], values[0]));
    }
  }
  return values[0];
}

bool uniform_predicate(Warp& warp, const Instruction& at, Slot slot, bool negated) {
  const std::uint32_t value = warp.predicates[slot.offset];
  if (value != 0 && value != kAllLanes)
    fault(warp, at, std::countr_zero(value ^ (0U - (value & 1U))), "has another scale-d than lane 0");
  return (value != 0) != negated;
}

std::string shared_place(const Warp& warp, std::uint32_t offset) {
  for (const NamedRange& variable : warp.program->shared_variables) {
    if (offset - variable.begin < variable.bytes)
      return fmt::format("offset {} of '{}'", offset - variable.begin, variable.label);
  }
  return fmt::format("offset {}", offset);
}

// Calls visit(address, number) for each 16 bytes of the matrix, in the order of read_wgmma_matrix.
template <typename Visit>
void for_each_unit(const Warp& warp, const TensorOp& op, const MatrixDescriptor& descriptor, WgmmaMatrix matrix,
                   Visit visit) {
  const bool is_a = matrix == WgmmaMatrix::a;
  const std::uint32_t first = is_a ? warp.number % kGroupWarps * 16 : 0;
  const std::uint32_t outer = is_a ? 16 : op.n;
  std::uint32_t number = 0;
  if (is_a ? op.a_mn_major : op.b_mn_major) {
    for (std::uint32_t unit = first / 8; unit < (first + outer) / 8; ++unit) {
      for (std::uint32_t k = 0; k < op.k; ++k) visit(mn_major_address(descriptor, unit, k), number++);
    }
  } else {
    for (std::uint32_t row = first; row < first + outer; ++row) {
      for (std::uint32_t unit = 0; unit < 2; ++unit) visit(k_major_address(descriptor, row, unit), number++);
    }
  }
}

// "matrix B, column 17, k 8 to 15"
std::string unit_name(const Warp& warp, const TensorOp& op, WgmmaMatrix matrix, std::uint32_t number) {
  const bool is_a = matrix == WgmmaMatrix::a;
  const std::uint32_t first = is_a ? warp.number % kGroupWarps * 16 : 0;
  const char* outer = is_a ? "row" : "column";
  const char* name = is_a ? "A" : "B";
  if (is_a ? op.a_mn_major : op.b_mn_major) {
    const std::uint32_t from = first + number / op.k * 8;
    return fmt::format("matrix {}, {}s {} to {}, k {}", name, outer, from, from + 7, number % op.k);
  }
  const std::uint32_t half = op.k / 2U;
  return fmt::format("matrix {}, {} {}, k {} to {}", name, outer, first + number / 2, number % 2 * half,
                     number % 2 * half + half - 1);
}

void check_descriptor(const Warp& warp, const Instruction& at, const TensorOp& op, const MatrixDescriptor& descriptor,
                      WgmmaMatrix matrix) {
  if (descriptor.reserved_bits) {
    fault(warp, at, -1,
          fmt::format("the descriptor of {} has bits set that mean nothing to wgmma",
                      matrix == WgmmaMatrix::a ? 'A' : 'B'));
  }
  const std::uint64_t limit = warp.block->launch->shared_bytes;
  for_each_unit(warp, op, descriptor, matrix, [&](std::uint32_t address, std::uint32_t number) {
    if (address + 16ULL <= limit && !lies_in_shared_variable(*warp.program, address, 16)) {
      fault(warp, at, -1,
            fmt::format("the descriptor leads out of its variable: 16 bytes at {} ({})",
                        describe_shared(*warp.block, address), unit_name(warp, op, matrix, number)));
    }
    if (address + 16ULL > limit) {
      fault(warp, at, -1,
            fmt::format("the descriptor leads beyond shared memory: 16 bytes at offset {} ({}); the block has {} bytes",
                        address, unit_name(warp, op, matrix, number), limit));
    }
  });
}

// The race detector learns what will be read, at issue. B is read by four warps alike; the first stands for all.
void watch_operands(const Warp& warp, const Instruction& at, const TensorOp& op, WgmmaOperation& operation) {
  GroupRaces* const races = warp.block->races;
  if (races == nullptr) return;
  operation.stamp = races->begin_operation();
  const GroupRaces::AsyncOperation reader{.warp = &warp,
                                          .at = &at,
                                          .agent = races->agent(AgentKind::wgmma, GroupRaces::object(&warp)),
                                          .stamp = operation.stamp};
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  const auto flush = [&] {
    if (end != begin) races->async_shared(reader, *warp.block, begin, end - begin, false);
  };
  const auto unit = [&](std::uint32_t address, std::uint32_t) {
    if (address != end || end == begin) {
      flush();
      begin = address;
    }
    end = address + 16ULL;
  };
  if (op.a_registers == 0) for_each_unit(warp, op, operation.a, WgmmaMatrix::a, unit);
  if (warp.number % kGroupWarps == 0) for_each_unit(warp, op, operation.b, WgmmaMatrix::b, unit);
  flush();
}

// A register that the operation uses must be as it was at the last fence, unless wgmma itself made it.
void check_register(Warp& warp, const Instruction& at, const TensorOp& op, Slot slot, bool accumulator) {
  const WgmmaQueue& queue = *warp.wgmma;
  if (slot.id == kConstantId) return;
  const std::string& name = warp.program->id_names[slot.id];
  if (const std::uint32_t writer = queue.writer[slot.id]; writer != 0) {
    fault(warp, at, -1,
          fmt::format("uses {} without a wgmma.fence after it was written at {}", name,
                      warp.program->describe(writer - 1)));
  }
  if (const std::uint32_t user = queue.user[slot.id]; accumulator && user != 0) {
    const TensorOp& other = warp.program->tensor_ops[warp.program->instructions[user - 1].target];
    if (other.n != op.n || other.d != op.d) {
      fault(warp, at, -1,
            fmt::format("accumulates into {}, which an operation of another shape has not completed: {}", name,
                        warp.program->describe(user - 1)));
    }
  }
}

void mark_pending(Warp& warp, const WgmmaOperation& operation) {
  const TensorOp& op = op_of(warp, operation);
  WgmmaQueue& queue = *warp.wgmma;
  if (warp.origin.empty()) warp.origin.resize(warp.program->ids);
  for (const Slot slot : accumulators(warp, op)) {
    queue.user[slot.id] = operation.instruction + 1;
    if (slot.id == kConstantId) continue;
    warp.written[slot.id] = 0;
    warp.origin[slot.id] = operation.instruction + 1;
  }
  for (const Slot slot : fragments(warp, op)) queue.user[slot.id] = operation.instruction + 1;
}

}  // namespace

void need_all_lanes(const Warp& warp, const Instruction& at) {
  if (warp.mask == kAllLanes) return;
  const std::uint32_t elsewhere = warp.live & ~warp.mask;
  const std::string where = elsewhere != 0
                                ? fmt::format("lanes 0x{:08x} are elsewhere", elsewhere)
                                : fmt::format("lanes 0x{:08x} have exited or do not exist", kAllLanes & ~warp.live);
  fault(warp, at, std::countr_zero(warp.mask), "needs all 32 lanes of its warp: " + where);
}

void fence_wgmma(Warp& warp, const Instruction& at) {
  log_instruction(warp, at, {});
  WgmmaQueue& queue = *warp.wgmma;
  queue.fenced = true;
  std::fill(queue.writer.begin(), queue.writer.end(), 0U);
}

void issue_wgmma(Warp& warp, const Instruction& at) {
  need_all_lanes(warp, at);
  const TensorOp& op = warp.program->tensor_ops[at.target];
  WgmmaQueue& queue = queue_of(warp);
  WgmmaOperation operation;
  WarpgroupLog::Entry entry;
  operation.instruction = at.index;
  entry.b = uniform<std::uint64_t>(warp, at, at.b, "descriptor of B");
  if (op.a_registers == 0) entry.a = uniform<std::uint64_t>(warp, at, at.a, "descriptor of A");
  entry.accumulate = uniform_predicate(warp, at, at.c, (at.flags & kNegateThird) != 0);
  log_instruction(warp, at, entry);
  operation.a = decode_descriptor(entry.a);
  operation.b = decode_descriptor(entry.b);
  operation.accumulate = entry.accumulate;
  if (!queue.fenced) fault(warp, at, -1, "there has been no wgmma.fence before the first wgmma.mma_async");
  for (const Slot slot : fragments(warp, op)) {
    if (warp.written[slot.id] != kAllLanes) fault_undefined(warp, at, ~warp.written[slot.id], slot.id);
    check_register(warp, at, op, slot, false);
  }
  for (const Slot slot : accumulators(warp, op)) {
    check_register(warp, at, op, slot, true);
    if (operation.accumulate && queue.user[slot.id] == 0 && warp.written[slot.id] != kAllLanes)
      fault_undefined(warp, at, ~warp.written[slot.id], slot.id);
  }
  if (op.a_registers == 0) check_descriptor(warp, at, op, operation.a, WgmmaMatrix::a);
  check_descriptor(warp, at, op, operation.b, WgmmaMatrix::b);
  watch_operands(warp, at, op, operation);
  queue.pending.push_back(operation);
  ++queue.uncommitted;
  mark_pending(warp, operation);
  LaunchCounters& counters = warp.worker->counts.memory;
  counters.tensor_core_macs += 16ULL * op.n * op.k;
  // 32 bytes for each of the warp's rows; B is read once for the four warps.
  if (op.a_registers == 0) counters.tensor_shared_bytes += 16 * 32;
  if (warp.number % kGroupWarps == 0) counters.tensor_shared_bytes += 32ULL * op.n;
}

void commit_wgmma(Warp& warp, const Instruction& at) {
  log_instruction(warp, at, {});
  WgmmaQueue& queue = *warp.wgmma;
  queue.groups.push_back(queue.uncommitted);
  queue.uncommitted = 0;
}

void check_setmaxnreg(Warp& warp, const Instruction& at) { log_instruction(warp, at, {}); }

void begin_wgmma_wait(Warp& warp, const Instruction& at) { log_instruction(warp, at, {}); }

const WgmmaOperation* next_wgmma(Warp& warp, std::uint32_t keep) {
  WgmmaQueue& queue = *warp.wgmma;
  while (queue.groups.size() > keep) {
    if (queue.groups.front() != 0) return &queue.pending.front();
    queue.groups.pop_front();
  }
  return nullptr;
}

void complete_wgmma(Warp& warp) {
  WgmmaQueue& queue = *warp.wgmma;
  const TensorOp& op = op_of(warp, queue.pending.front());
  if (GroupRaces* races = warp.block->races)
    races->complete(warp, kAllLanes, races->agent(AgentKind::wgmma, GroupRaces::object(&warp)), 0,
                    queue.pending.front().stamp);
  queue.pending.pop_front();
  --queue.groups.front();
  for (const Slot slot : accumulators(warp, op)) {
    queue.user[slot.id] = 0;
    warp.written[slot.id] = kAllLanes;
    warp.origin[slot.id] = 0;
  }
  for (const Slot slot : fragments(warp, op)) queue.user[slot.id] = 0;
  // Later operations may use the same registers.
  for (const WgmmaOperation& later : queue.pending) mark_pending(warp, later);
}

void read_wgmma_matrix(Warp& warp, const WgmmaOperation& operation, WgmmaMatrix matrix, std::uint32_t* out) {
  const TensorOp& op = op_of(warp, operation);
  const Block& block = *warp.block;
  const MatrixDescriptor& descriptor = matrix == WgmmaMatrix::a ? operation.a : operation.b;
  for_each_unit(warp, op, descriptor, matrix, [&](std::uint32_t address, std::uint32_t number) {
    if (!block.shared_written.all_marked(address, 16)) {
      std::uint32_t at = address;
      while (block.shared_written.all_marked(at, 1)) ++at;
      fault(warp, warp.program->instructions[operation.instruction], -1,
            fmt::format("reads shared memory that nobody has written: {} ({})", shared_place(warp, at),
                        unit_name(warp, op, matrix, number)));
    }
    std::memcpy(out + number * 4, block.shared + address, 16);
  });
}

void check_wgmma_exit(const Warp& warp, const Instruction& at) {
  if (warp.wgmma != nullptr && !warp.wgmma->pending.empty()) {
    fault(warp, at, -1,
          fmt::format("exits before a wgmma.wait_group has completed {}",
                      warp.program->describe(warp.wgmma->pending.front().instruction)));
  }
  const WarpgroupLog& log = warp.block->warpgroups->groups[warp.number / kGroupWarps];
  const std::uint64_t place = (warp.wgmma != nullptr ? warp.wgmma->entries : 0) - log.first;
  if (place < log.entries.size()) {
    const WarpgroupLog::Entry& missed = log.entries[place];
    fault(warp, at, -1,
          fmt::format("exits, but warp {} of the same warpgroup has issued {}", missed.first_warp,
                      warp.program->describe(missed.instruction)));
  }
}

void execute_guarded(Warp& warp, const Instruction& in) {
  const GuardedWrite& guarded = warp.program->guarded_writes.at(in.index);
  if (warp.wgmma == nullptr) return guarded.run(warp, in);
  WgmmaQueue& queue = *warp.wgmma;
  for (const std::uint16_t id : guarded.ids) {
    if (const std::uint32_t user = queue.user[id]; user != 0) {
      fault(warp, in, std::countr_zero(warp.mask),
            fmt::format("writes {}, which a wgmma in flight still uses; wait for {}", warp.program->id_names[id],
                        warp.program->describe(user - 1)));
    }
    // A copy is as old as its source, and a constant has no age: compilers put moves where they please, also between
    // a fence and the operation.
    queue.writer[id] = guarded.copies ? queue.writer[guarded.copied_from] : in.index + 1;
  }
  guarded.run(warp, in);
}

}  // namespace gdnjit::emulator

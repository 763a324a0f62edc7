// How the decoder describes an asynchronous instruction to its handler: Instruction::immediate holds an AsyncSpec,
// Program::operands the operands (Instruction::count of them), addresses first, each as its register and the constant
// that is added to it.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "runtime/emulator/exec/async/access.h"

namespace gdnjit::emulator {

struct AsyncSpec {
  std::uint8_t wide = 0;  // bit i: the register of address i has 64 bits
  Space from = Space::global;
  Space to = Space::shared;
  std::uint8_t options = 0;
  std::uint8_t size = 0;  // bytes of cp.async, dimensions of a tensor copy, groups to leave of a wait
  AtomicOp op = AtomicOp::add;
  Type type = Type::none;  // of a reduction; none: a copy
  std::uint8_t unused = 0;
};
static_assert(sizeof(AsyncSpec) == sizeof(Instruction::immediate));

// AsyncSpec::options of cp.async
inline constexpr std::uint8_t kSourceSize = 1;    // operand: bytes to read
inline constexpr std::uint8_t kIgnoreSource = 2;  // operand: a predicate; true reads nothing
inline constexpr std::uint8_t kNegated = 4;       // that predicate, negated
// of bulk copies
inline constexpr std::uint8_t kMulticast = 1;  // operand: the blocks of the cluster that receive
inline constexpr std::uint8_t kSignals = 2;    // operand: an mbarrier; otherwise the copy joins a bulk group
inline constexpr std::uint8_t kReduces = 4;
// of waits
inline constexpr std::uint8_t kReadOnly = 1;  // .read
inline constexpr std::uint8_t kWaitAll = 2;
// of cp.async.mbarrier.arrive
inline constexpr std::uint8_t kNoIncrement = 1;

// The operands of the instruction that a warp executes. Faults if one is undefined.
class AsyncOperands {
 public:
  AsyncOperands(Warp& warp, const Instruction& in)
      : spec(std::bit_cast<AsyncSpec>(in.immediate)), warp_(warp), slots_(&warp.program->operands[in.operands]) {
    for (std::uint32_t i = 0; i < in.count; ++i) {
      const std::uint32_t undefined = warp.mask & ~warp.written[slots_[i].id];
      if (undefined != 0) fault_undefined(warp, in, undefined, slots_[i].id);
    }
  }

  const AsyncSpec spec;

  std::uint64_t address(int number, int lane) const {
    const Slot base = slots_[2 * number];
    const std::uint64_t offset = wide(2 * number + 1, lane);
    if ((spec.wide >> number & 1) != 0) return wide(2 * number, lane) + offset;
    return static_cast<std::uint32_t>(warp_.values<std::uint32_t>(base)[lane] + offset);
  }
  std::uint64_t wide(int slot, int lane) const { return warp_.values<std::uint64_t>(slots_[slot])[lane]; }
  std::uint32_t narrow(int slot, int lane) const { return warp_.values<std::uint32_t>(slots_[slot])[lane]; }
  std::uint16_t half(int slot, int lane) const { return static_cast<std::uint16_t>(narrow(slot, lane)); }
  bool predicate(int slot, int lane) const { return (warp_.predicates[slots_[slot].offset] >> lane & 1U) != 0; }

 private:
  Warp& warp_;
  const Slot* slots_;
};

// Calls body(lane) for each lane that executes the instruction.
template <typename Body>
void for_each_lane(const Warp& warp, Body body) {
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) body(std::countr_zero(rest));
}

}  // namespace gdnjit::emulator

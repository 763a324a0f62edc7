// What a warp's memory access touches: host addresses for each lane, after every check, and the counts.
// Included by the files that are compiled once per instruction set.
#pragma once

#include "runtime/emulator/exec/lanes.h"

namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA {

enum class AccessKind : std::uint8_t { load, store, atomic };

struct Access {
  alignas(64) std::uint64_t host[kLanes];  // valid for the lanes of the warp's mask
  bool contiguous = false;                 // all 32 lanes, one behind the other
};

// Checks the access of `bytes` (a power of two) per lane: alignment, bounds, permission, initialisation; marks
// stored bytes as written; counts sectors or wavefronts. Throws the report of a fault.
// Space::constant and Space::global are host addresses; the other spaces are windows of the block or the thread.
void resolve(Warp& warp, const Instruction& in, Space space, bool wide_address, AccessKind kind, std::uint32_t bytes,
             Access& access);

}  // namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA

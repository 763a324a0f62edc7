// What a warp's memory access touches: host addresses for each lane, after every check, and the counts.
// Included by the files that are compiled once per instruction set.
#pragma once

#include "runtime/emulator/exec/lanes.h"
#include "runtime/emulator/races/group_races.h"

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

// Lanes of one store whose bytes overlap, as a mask: all that share bytes with another one. 0 if races are not looked
// for.
std::uint32_t overlapping_lanes(const Warp& warp, const Access& access, std::uint32_t bytes);
// One of them wrote another value than what stays in memory: which one stays is open on a GPU.
[[noreturn]] void fault_overlap(const Warp& warp, const Instruction& in, int lane, const Access& access);

// Held while a volatile, relaxed or stronger access, or an atomic, touches memory, so that what it publishes or
// observes fits what it reads. Nothing if races are not looked for.
class StrongGuard {
 public:
  StrongGuard(const Warp& warp, const Instruction& in, const Access& access);
  // After the access: for one lane of an atomic, and for all lanes of a load or store.
  void note(const Warp& warp, const Instruction& in, int lane, std::uint64_t host, bool reads, bool writes) const;
  void note_all(const Warp& warp, const Instruction& in, const Access& access, bool load) const {
    if (races_ == nullptr) return;
    for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
      const int lane = std::countr_zero(rest);
      note(warp, in, lane, access.host[lane], load, !load);
    }
  }

 private:
  GroupRaces* races_;
  LaunchRaces::AddressGuard guard_;
};

}  // namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA

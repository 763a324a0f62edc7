// Atomic access to 16 bytes, which not every host CPU has: one after the other, behind a lock. They are atomic among
// themselves; a narrower access to the same bytes at the same moment is a race of the kernel's.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gdnjit::emulator {

struct Word128 {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  bool operator==(const Word128&) const = default;
};

// Stores `value` if `expected` is null or equal to what is there; returns what was there.
Word128 exchange_128(std::byte* address, const Word128* expected, const Word128& value);

}  // namespace gdnjit::emulator

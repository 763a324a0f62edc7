// Fences. Memory is sequentially consistent here and every proxy sees it at once, so a fence changes nothing; what it
// orders is of interest to a race detector alone.
#include <fmt/format.h>

#include "runtime/emulator/exec/async/handlers.h"

namespace gdnjit::emulator {

void execute_fence(Warp& warp, const Instruction& in) {
  if (static_cast<FenceKind>(in.flags) != FenceKind::tensormap_acquire) return;
  const auto* addresses = warp.values<std::uint64_t>(in.a);
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    const std::uint64_t address = addresses[lane] + static_cast<std::uint64_t>(in.immediate);
    if (address % 64 != 0)
      fault(warp, in, lane, fmt::format("names a tensor map at 0x{:x}, which 64 does not divide", address));
  }
}

}  // namespace gdnjit::emulator

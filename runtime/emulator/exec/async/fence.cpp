// Fences. Memory is sequentially consistent here and every proxy sees it at once, so a fence changes nothing; what it
// orders is of interest to a race detector alone.
#include <fmt/format.h>

#include "runtime/emulator/exec/async/handlers.h"
#include "runtime/emulator/races/group_races.h"

namespace gdnjit::emulator {

namespace {

void note_fence(GroupRaces& races, const Warp& warp, FenceKind kind, FenceScope scope) {
  switch (kind) {
    case FenceKind::acq_rel:
    case FenceKind::sc:
    case FenceKind::acquire:
    case FenceKind::release: {
      const bool narrow = scope == FenceScope::block || scope == FenceScope::cluster;
      return races.fence(warp, warp.mask,
                         !narrow                      ? Scope::gpu
                         : scope == FenceScope::block ? Scope::cta
                                                      : Scope::cluster);
    }
    case FenceKind::mbarrier_init: return races.fence(warp, warp.mask, Scope::cluster);
    case FenceKind::async_all:
    case FenceKind::async_global:
    case FenceKind::async_shared:
    case FenceKind::async_cluster:
    case FenceKind::async_generic_acquire:
    case FenceKind::async_generic_release: return races.fence_async_proxy(warp, warp.mask);
    case FenceKind::proxy_alias:
    case FenceKind::tensormap_acquire:
    case FenceKind::tensormap_release: return;
  }
}

}  // namespace

void execute_fence(Warp& warp, const Instruction& in) {
  if (GroupRaces* races = warp.block->races)
    note_fence(*races, warp, static_cast<FenceKind>(in.flags), static_cast<FenceScope>(in.count));
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

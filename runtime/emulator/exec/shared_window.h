// Where an address of shared memory leads. `.shared::cta` addresses are offsets into the own block's memory.
// `.shared::cluster` addresses are the same, or name another block of the cluster in their upper byte, as mapa makes
// them. Generic addresses are host addresses.
#pragma once

#include <cstdint>

#include "runtime/emulator/exec/warp.h"

namespace gdnjit::emulator {

// Far above the shared memory of a block.
inline constexpr int kRankShift = 24;

struct SharedPlace {
  Block* block = nullptr;  // nullptr: no block of the cluster
  std::uint64_t offset = 0;
};

inline std::uint32_t cluster_address(std::uint32_t rank, std::uint64_t offset) {
  return (rank + 1) << kRankShift | static_cast<std::uint32_t>(offset);
}

// Of a `.shared::cluster` address.
inline SharedPlace shared_place_of(Block& own, std::uint64_t address) {
  const std::uint64_t number = address >> kRankShift;
  const std::uint64_t offset = address & ((1ULL << kRankShift) - 1);
  if (number == 0) return {&own, offset};
  if (number > own.cluster->blocks.size()) return {nullptr, offset};
  return {&own.cluster->blocks[number - 1], offset};
}

// Of a generic address; block is nullptr if it leads elsewhere.
inline SharedPlace shared_place_of_generic(const Block& own, std::uint64_t address) {
  for (Block& block : own.cluster->blocks) {
    const std::uint64_t offset = address - reinterpret_cast<std::uint64_t>(block.shared);
    if (offset < own.launch->shared_bytes) return {&block, offset};
  }
  return {};
}

inline bool has_exited(const Block& block) {
  for (std::uint32_t number = 0; number < block.launch->warps; ++number) {
    if (block.warps[number].state != WarpState::finished) return false;
  }
  return true;
}

}  // namespace gdnjit::emulator

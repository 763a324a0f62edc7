// Runs the blocks of a launch on one worker thread, one group at a time: a block, a cluster, or a cooperative grid.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/emulator/exec/handlers.h"
#include "runtime/emulator/exec/warp.h"
#include "runtime/emulator/races/group_races.h"

namespace gdnjit::emulator {

// Memory of a block, aligned as the largest vector access of the host wants it.
struct AlignedFree {
  void operator()(std::byte* memory) const;
};
using AlignedBytes = std::unique_ptr<std::byte[], AlignedFree>;
AlignedBytes allocate_aligned(std::size_t bytes);

class GroupRunner {
 public:
  GroupRunner(const LaunchState& launch, const ExecutionSet& set);

  // Groups are numbered in the order of their first blocks. Throws the report of the group's first fault.
  void run(std::uint64_t group);

  const Counts& counts() const { return worker_.counts; }

 private:
  // Memory of one of the group's blocks.
  struct BlockMemory {
    AlignedBytes registers;
    std::vector<std::uint32_t> written;
    std::vector<std::uint32_t> predicates;
    AlignedBytes shared;
    AlignedBytes local;
    std::vector<Warp> warps;
  };

  void make_block(Block& block, BlockMemory& memory);
  void place_block(Block& block, std::uint64_t cluster, std::uint32_t rank);
  void start_block(Block& block);
  void start_warp(Warp& warp);
  void fill_special(Warp& warp, const SpecialSlot& slot);
  std::uint64_t special_value(const Warp& warp, Special special, std::uint32_t lane) const;
  // Gives every warp of the block a turn; returns whether it has unfinished warps.
  bool take_turns(Block& block, bool& progress);
  // Where warps wait, other lanes of theirs get a turn. Returns whether there are any.
  bool turn_to_other_lanes();
  [[noreturn]] void report_endless(Block& block);
  [[noreturn]] void report_deadlock();

  const LaunchState& launch_;
  const ExecutionSet& set_;
  const std::uint32_t quantum_;
  Worker worker_;
  std::vector<Block> blocks_;
  std::vector<BlockMemory> memory_;
  std::vector<Cluster> clusters_;
  std::unique_ptr<GroupRaces> races_;  // nullptr: races are not looked for
};

// Blocks that one runner runs at a time, and groups of the launch.
std::uint64_t group_blocks(const LaunchState& launch);
std::uint64_t group_count(const LaunchState& launch);

}  // namespace gdnjit::emulator

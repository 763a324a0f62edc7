// Runs the blocks of a launch on one worker thread, one block at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/emulator/exec/handlers.h"
#include "runtime/emulator/exec/warp.h"

namespace gdnjit::emulator {

// Memory of a block, aligned as the largest vector access of the host wants it.
struct AlignedFree {
  void operator()(std::byte* memory) const;
};
using AlignedBytes = std::unique_ptr<std::byte[], AlignedFree>;
AlignedBytes allocate_aligned(std::size_t bytes);

class BlockRunner {
 public:
  BlockRunner(const LaunchState& launch, const ExecutionSet& set);

  // Throws the report of the block's first fault.
  void run(std::uint64_t block_number);

  const Counts& counts() const { return worker_.counts; }

 private:
  void start_block(std::uint64_t block_number);
  void start_warp(std::uint32_t number);
  void fill_special(Warp& warp, const SpecialSlot& slot);
  std::uint64_t special_value(const Warp& warp, Special special, std::uint32_t lane) const;
  [[noreturn]] void report_deadlock();

  const LaunchState& launch_;
  const ExecutionSet& set_;
  Worker worker_;
  Block block_;
  std::vector<Warp> warps_;
  AlignedBytes registers_;
  std::vector<std::uint32_t> written_;
  std::vector<std::uint32_t> predicates_;
  AlignedBytes shared_;
  AlignedBytes local_;
};

}  // namespace gdnjit::emulator

#include "runtime/emulator/races/report.h"

#include <fmt/format.h>

#include "runtime/emulator/exec/warp.h"

namespace gdnjit::emulator {
namespace {

const char* did(const RaceSide& side) {
  if ((side.flags & kAsyncAgent) != 0) return side.wrote ? "writes asynchronously" : "reads asynchronously";
  if ((side.flags & kUpdate) != 0) return "updates atomically";
  return side.wrote ? "writes" : "reads";
}

// What orders the later access behind the earlier one, in words and as a thing to try.
std::string missing_order(const RaceText& race) {
  const RaceSide& earlier = race.earlier;
  const RaceSide& current = race.current;
  if (race.proxy) {
    return "fence.proxy.async is missing: the write went through the generic proxy, and the asynchronous operation may "
           "not see it. Let the writing thread execute fence.proxy.async after its writes, before the barrier";
  }
  if ((earlier.flags & kAsyncAgent) != 0) {
    return earlier.wrote ? "nothing waits for the end of the asynchronous write: wait for its group or its mbarrier "
                           "(cp.async.wait_group, mbarrier.try_wait, cp.async.bulk.wait_group), then synchronise with "
                           "the threads that did not wait themselves"
                         : "nothing waits until the asynchronous operation has read: wait for it (wgmma.wait_group, "
                           "cp.async.bulk.wait_group.read, the mbarrier of the consumers) before the memory is used "
                           "again";
  }
  const bool same_block = earlier.thread / race.padded_block_threads == current.thread / race.padded_block_threads;
  if (same_block && (current.flags & kAsyncAgent) != 0)
    return "nothing orders the asynchronous operation behind the other access: synchronise before it is issued";
  if (earlier.thread / kLanes == current.thread / kLanes) {
    return "both are lanes of one warp, with no __syncwarp() between them (a shuffle or a vote orders no memory): add "
           "__syncwarp()";
  }
  if (same_block)
    return "no barrier between them: add __syncthreads(), or a wait on an mbarrier at which the other thread arrives";
  return "nothing orders the two blocks: use a barrier of the cluster or the grid, or an atomic with __threadfence() "
         "on "
         "both sides";
}

}  // namespace

std::string name_global(const LaunchState& launch, std::uint64_t address) {
  const BufferSource* found = nullptr;
  for (const BufferSource& buffer : launch.ranges->buffers()) {
    if (address >= buffer.begin && address < buffer.end && found == nullptr) found = &buffer;
  }
  if (found == nullptr) return fmt::format("0x{:x}", address);
  return fmt::format("offset {} of '{}'", address - found->begin, found->name);
}

std::string describe_race(const LaunchState& launch, const RaceText& race) {
  return fmt::format("race: {} {}, which {} {}\n  the other access is at {}\n  {}", did(race.current), race.place,
                     name_thread(launch, race.earlier.group, race.earlier.thread), did(race.earlier),
                     launch.program->describe(race.earlier.instruction), missing_order(race));
}

std::string describe_group_race(const LaunchState& launch, std::uint64_t address, const RaceSide& first,
                                const RaceSide& second) {
  return fmt::format(
      "emulator: kernel '{}', {}: race: {} {}, which {} {}\n  the other access is at {}\n  nothing orders the two "
      "blocks: give each element "
      "one "
      "block, or use an atomic, or order them with an atomic that has __threadfence() on both sides\n  at {}",
      launch.program->name, name_thread(launch, second.group, second.thread), did(second), name_global(launch, address),
      name_thread(launch, first.group, first.thread), did(first), launch.program->describe(first.instruction),
      launch.program->describe(second.instruction));
}

}  // namespace gdnjit::emulator

// What the groups of a launch share for the race detector: what it remembers of global memory, the addresses through
// which blocks synchronise, and conflicts between groups. Thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/emulator/races/clock.h"
#include "runtime/emulator/races/shadow.h"

namespace gdnjit::emulator {

struct LaunchState;

// One side of a race as a report names it.
struct RaceSide {
  std::uint32_t group = 0;
  std::uint32_t thread = 0;  // of the group
  std::uint32_t instruction = 0;
  std::uint8_t flags = 0;
  bool wrote = false;
  Stamp stamp = 0;  // of a group's accesses, the first stands for all
};

// A store or an atomic that others may observe, with what it publishes at each scope.
struct Publication {
  std::uint64_t number = 0;  // unique in the launch
  std::uint32_t group = 0;
  std::uint32_t block = 0;   // of the group
  std::uint32_t thread = 0;  // of the group
  bool releases = false;
  Scope scope = Scope::gpu;
  std::array<PublishedClock, 3> clocks;  // by Scope
  PublishedClock visible;                // to the async proxy
};
// What a load of an address observes: a store, and the atomics behind it.
using PublicationChain = std::vector<std::shared_ptr<const Publication>>;

class LaunchRaces {
 public:
  explicit LaunchRaces(const LaunchState& launch);
  ~LaunchRaces();

  // A part of global memory that the launch may write.
  struct Region {
    std::atomic<bool> busy{false};
    ShadowRegion shadow;
  };
  // Nullptr if nothing there can be written, so that nothing can race. `range` indexes the launch's RangeTable.
  Region* region(std::uint32_t range, std::uint64_t address);

  // Threads that synchronise through `addresses` do so one at a time; the guard covers the access itself.
  class AddressGuard {
   public:
    AddressGuard(LaunchRaces* races, std::uint64_t shards);
    ~AddressGuard();
    AddressGuard(const AddressGuard&) = delete;
    AddressGuard& operator=(const AddressGuard&) = delete;

   private:
    LaunchRaces* races_;  // nullptr: nothing to guard
    std::uint64_t shards_;
  };
  static std::uint64_t shard_bit(std::uint64_t address) { return 1ULL << (address / 4 * 0x9e3779b97f4a7c15ULL >> 58); }
  // REQUIRES: a guard of the address's shard.
  PublicationChain& chain(std::uint64_t address) {
    return chains_[static_cast<std::size_t>(std::countr_zero(shard_bit(address)))][address];
  }
  std::uint64_t number_publication() { return published_.fetch_add(1, std::memory_order_relaxed) + 1; }

  // A conflict between groups at a byte of global memory. The launch goes on, so that all of them are seen.
  void collect(std::uint64_t address, const RaceSide& a, const RaceSide& b);
  // The report of the lowest address and its lowest groups, if there was a conflict: the same on any number of cores.
  std::optional<std::string> report() const;

  std::uint32_t group_threads() const { return group_threads_; }
  const LaunchState& launch() const { return launch_; }

 private:
  struct Directory {
    std::once_flag made;
    std::uint64_t first = 0;  // region number
    std::vector<std::atomic<Region*>> regions;
  };
  // The lowest address with a conflict: who touched it, by group, the lowest two that read and that wrote.
  struct Lowest {
    std::uint64_t address = ~0ULL;
    std::map<std::uint32_t, RaceSide> readers, writers;
  };

  const LaunchState& launch_;
  std::uint32_t group_threads_ = 0;
  std::vector<std::unique_ptr<Directory>> directories_;  // by range; nullptr: nothing to watch
  std::array<std::mutex, 64> locks_;
  std::array<std::unordered_map<std::uint64_t, PublicationChain>, 64> chains_;
  std::atomic<std::uint64_t> published_{0};
  std::atomic<std::uint64_t> lowest_address_{~0ULL};
  mutable std::mutex mutex_;
  Lowest lowest_;
};

// "block (1,0,0), thread (3,0,0)" of a thread of a group.
std::string name_thread(const LaunchState& launch, std::uint32_t group, std::uint32_t thread);

}  // namespace gdnjit::emulator

// The race detector of one group of blocks, on the worker that runs it: everything that touches memory or orders
// threads calls in here. A race within the group throws the report of a fault; a race with another group is collected
// by the launch.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "runtime/emulator/exec/warp.h"
#include "runtime/emulator/races/knowledge.h"
#include "runtime/emulator/races/launch_races.h"
#include "runtime/emulator/races/shadow.h"

namespace gdnjit::emulator {

// What asynchronous operations complete by, and so in which order they do.
enum class AgentKind : std::uint8_t { small_copy, bulk_read, bulk_write, mbarrier, wgmma };

class GroupRaces final : private ConflictSink {
 public:
  GroupRaces(LaunchRaces& launch, std::span<Block> blocks);

  void start(std::uint64_t group);

  // ---- accesses of warps. `at` holds offsets into the shared memory of `block`, or global addresses, for the lanes of
  // the warp's mask.
  struct LaneAccess {
    const std::uint64_t* at = nullptr;
    std::uint32_t bytes = 0;  // of each lane
    bool contiguous = false;  // all 32 lanes, one behind the other
    bool writes = false;
    bool reads = false;
  };
  void shared_access(Warp& warp, const Instruction& in, Block& block, const LaneAccess& access);
  // The lanes' bytes are in writable memory of these ranges or are not watched.
  void global_access(Warp& warp, const Instruction& in, const LaneAccess& access);

  // ---- accesses of asynchronous operations, when they are issued
  struct AsyncOperation {
    const Warp* warp = nullptr;
    const Instruction* at = nullptr;
    int lane = 0;
    std::uint32_t agent = 0;
    Stamp stamp = 0;      // from begin_operation
    bool atomic = false;  // its writes are updates, relaxed at the scope of the GPU
  };
  // 32 entries of the clock, one for each lane that issues.
  std::uint32_t agent(AgentKind kind, std::uint64_t key);
  // The stamp of an operation that is being issued; all its accesses carry it.
  Stamp begin_operation() { return knowledge_.tick(); }
  void async_shared(const AsyncOperation& operation, Block& block, std::uint64_t offset, std::uint64_t bytes,
                    bool writes);
  void async_global(const AsyncOperation& operation, std::uint64_t address, std::uint64_t bytes, bool writes);
  // The lanes have seen the end of all the agent's operations that `lane` issued, up to a stamp.
  void complete(const Warp& warp, std::uint32_t lanes, std::uint32_t agent, int lane, Stamp stamp);
  // cp.async, through the generic proxy: `to` holds offsets in the block's shared memory, `from` global addresses;
  // bytes of each lane, none to read for lanes outside `reading`. Returns the stamp.
  Stamp copy(Warp& warp, const Instruction& in, const std::uint64_t* to, const std::uint64_t* from, std::uint32_t bytes,
             std::uint32_t reading);
  void copied(const Warp& warp, int lane, Stamp stamp);
  // An mbarrier of 8 bytes is made or unmade (a write), or used (as by an atomic).
  void touch_object(Warp& warp, const Instruction& in, int lane, Block& block, std::uint64_t offset, bool uses);

  // ---- synchronisation
  void warp_sync(const Warp& warp, std::uint32_t lanes);
  void fence(const Warp& warp, std::uint32_t lanes, Scope scope);
  void fence_async_proxy(const Warp& warp, std::uint32_t lanes);

  // Barriers of blocks and clusters and mbarriers, by any address of their own. Arrivals gather until the phase ends;
  // whoever observes the end learns what they knew.
  using Object = std::uint64_t;
  static Object object(const void* place) { return reinterpret_cast<Object>(place); }
  void arrive(Object object, const Warp& warp, std::uint32_t lanes, bool relaxed = false);
  // An operation of an agent, issued by `lane`, ends in this phase.
  void arrive(Object object, std::uint32_t agent, int lane, Stamp stamp);
  // The cp.async of a lane that have completed are part of the phase.
  void arrive_copies(Object object, const Warp& warp, int lane, Stamp stamp);
  // `keeps`: later phases hand on the earlier arrivals too, as the atomics behind an mbarrier do.
  void end_phase(Object object, bool keeps = false);
  void observe(Object object, const Warp& warp, std::uint32_t lanes);
  void forget(Object object);

  // ---- strong loads, stores and atomics: a guard of these shards is held while the memory is accessed and for one
  // call for each lane. Places are host addresses.
  LaunchRaces* launch() { return &launch_; }
  std::uint64_t shards_of(std::uint32_t lanes, const std::uint64_t* places) const;
  struct Strong {
    bool reads = false;
    bool writes = false;
    bool acquires = false;
    bool releases = false;
    Scope scope = Scope::gpu;
  };
  void strong_access(const Warp& warp, int lane, std::uint64_t place, const Strong& strong);

 private:
  struct Phase {
    Gathering gathering;
    Handed last{};
  };
  struct Where {  // of the access that is being checked
    const Warp* warp = nullptr;
    const Instruction* at = nullptr;
    const Block* shared = nullptr;  // nullptr: global
  };

  void conflict(const Accessor& accessor, const Conflict& conflict) override;
  std::uint32_t warp_index(const Warp& warp) const;
  Accessor warp_accessor(const Warp& warp, const Instruction& in);
  Accessor accessor_of(const AsyncOperation& operation, bool writes);
  void touch_shared(const Accessor& accessor, Block& block, const AccessSpan& span);
  void touch_global(const Accessor& accessor, const AccessSpan& span);
  void touch_pieces(const Accessor& accessor, const AccessSpan& span, std::uint64_t border);
  template <typename Touch>
  void lanes_access(const Warp& warp, std::uint32_t mask, Accessor accessor, const LaneAccess& access, Touch touch);
  void learn_chain(const Warp& warp, int lane, std::uint64_t place, const PublicationChain& chain,
                   const Strong& strong);
  void publish(const Warp& warp, int lane, std::uint64_t place, PublicationChain& chain, const Strong& strong);
  void collect_if_needed();

  LaunchRaces& launch_;
  std::span<Block> blocks_;
  std::uint32_t group_ = 0;
  std::uint32_t block_threads_ = 32;  // padded to whole warps
  Scope peer_scope_ = Scope::gpu;
  Knowledge knowledge_;
  std::vector<std::vector<ShadowRegion>> shared_;    // by block and region
  std::vector<std::vector<std::uint32_t>> touched_;  // regions that this group has used, by block
  std::unordered_map<Object, Phase> objects_;
  std::unordered_map<std::uint64_t, std::uint32_t> agents_;
  std::unordered_map<std::uint64_t, PublicationChain> shared_chains_;
  // What a thread has learned from an address and published there, by thread and address, so that one that asks in a
  // loop does so only once.
  struct Learned {
    std::uint64_t latest = 0;   // publication
    std::uint64_t ordered = 0;  // the same, by acquiring
    const Clock* published = nullptr;
    Stamp published_own = 0;
  };
  Learned& learned(const Warp& warp, int lane, std::uint64_t place) {
    const std::uint64_t thread = static_cast<std::uint64_t>(warp_index(warp)) * 32 + static_cast<std::uint64_t>(lane);
    return learned_[place ^ thread << 44];
  }
  std::unordered_map<std::uint64_t, Learned> learned_;
  std::uint32_t next_agent_ = 0;
  std::uint32_t range_hint_ = 0;
  Where where_;
};

}  // namespace gdnjit::emulator

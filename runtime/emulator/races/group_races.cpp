#include "runtime/emulator/races/group_races.h"

#include <algorithm>
#include <bit>
#include <thread>

#include "runtime/emulator/exec/shared_variables.h"
#include "runtime/emulator/races/report.h"

namespace gdnjit::emulator {
namespace {

// Warps whose reads of a part of global memory are remembered. More would find more only where some readers are in
// order with a writer and others are not.
constexpr std::size_t kMostGlobalLayers = 8;

// Flags of a warp's access.
std::uint8_t flags_of(const Instruction& in, const GroupRaces::LaneAccess& access) {
  std::uint8_t flags = access.reads && access.writes ? kUpdate : 0;
  if (in.order != Order::weak || flags != 0)
    flags |= static_cast<std::uint8_t>(kStrong | static_cast<int>(in.scope) << kScopeShift);
  return flags;
}

// Consecutive lanes with consecutive bytes, or with the same bytes, are one span.
template <typename Visit>
void for_each_span(const GroupRaces::LaneAccess& access, std::uint32_t lanes, Visit visit) {
  if (access.contiguous && lanes == kAllLanes) {
    return visit(AccessSpan{access.at[0], static_cast<std::uint64_t>(access.bytes) * kLanes, lanes, access.bytes});
  }
  AccessSpan span;
  int last = -2;
  for (std::uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    const std::uint64_t at = access.at[lane];
    if (span.lanes != 0 && span.width != 0 && lane == last + 1 && at == span.begin + span.bytes) {
      span.bytes += access.bytes;
    } else if (span.lanes != 0 && span.bytes == access.bytes && at == span.begin) {
      span.width = 0;
    } else {
      if (span.lanes != 0) visit(span);
      span = {at, access.bytes, 0, access.bytes};
    }
    span.lanes |= 1U << lane;
    last = lane;
  }
  visit(span);
}

// Cuts a span at the borders of regions. visit(span, region number).
template <typename Visit>
void for_each_region(const AccessSpan& span, Visit visit) {
  std::uint64_t at = span.begin;
  const std::uint64_t end = span.begin + span.bytes;
  std::uint32_t lanes = span.lanes;
  while (at < end) {
    const std::uint64_t border = (at / ShadowRegion::kBytes + 1) * ShadowRegion::kBytes;
    const std::uint64_t bytes = std::min(end, border) - at;
    AccessSpan piece{at, bytes, lanes, span.width};
    if (span.width != 0 && bytes < end - at) {
      const auto count = static_cast<std::uint32_t>(bytes / span.width);
      piece.lanes = lanes & ((1U << count) - 1) << std::countr_zero(lanes);
      lanes &= ~piece.lanes;
    } else if (span.width != 0) {
      piece.lanes = lanes;
    }
    visit(piece, at >> ShadowRegion::kShift);
    at += bytes;
  }
}

class BusyGuard {
 public:
  explicit BusyGuard(std::atomic<bool>& busy) : busy_(busy) {
    while (busy_.exchange(true, std::memory_order_acquire)) std::this_thread::yield();
  }
  ~BusyGuard() { busy_.store(false, std::memory_order_release); }
  BusyGuard(const BusyGuard&) = delete;
  BusyGuard& operator=(const BusyGuard&) = delete;

 private:
  std::atomic<bool>& busy_;
};

}  // namespace

GroupRaces::GroupRaces(LaunchRaces& launch, std::span<Block> blocks)
    : launch_(launch),
      blocks_(blocks),
      block_threads_(launch.launch().warps * kLanes),
      peer_scope_(launch.launch().cooperative ? Scope::gpu : Scope::cluster) {
  const std::size_t regions = launch.launch().shared_bytes / ShadowRegion::kBytes + 1;
  shared_.resize(blocks.size());
  touched_.resize(blocks.size());
  for (auto& block : shared_) block.resize(regions);
}

void GroupRaces::start(std::uint64_t group) {
  group_ = static_cast<std::uint32_t>(group);
  knowledge_.start(group_, static_cast<std::uint32_t>(blocks_.size()) * launch_.launch().warps);
  for (std::size_t block = 0; block < blocks_.size(); ++block) {
    for (const std::uint32_t region : touched_[block]) shared_[block][region].clear();
    touched_[block].clear();
  }
  objects_.clear();
  agents_.clear();
  shared_chains_.clear();
  learned_.clear();
  next_agent_ = static_cast<std::uint32_t>(blocks_.size()) * block_threads_;
}

std::uint32_t GroupRaces::warp_index(const Warp& warp) const {
  return static_cast<std::uint32_t>(warp.block - blocks_.data()) * launch_.launch().warps + warp.number;
}

// ---- accesses

void GroupRaces::touch_shared(const Accessor& accessor, Block& block, const AccessSpan& span) {
  const auto number = static_cast<std::size_t>(&block - blocks_.data());
  for_each_region(span, [&](const AccessSpan& piece, std::uint64_t region) {
    ShadowRegion& shadow = shared_[number][region];
    if (shadow.unused()) touched_[number].push_back(static_cast<std::uint32_t>(region));
    shadow.access(accessor, piece, region << ShadowRegion::kShift, 0, *this);
  });
}

void GroupRaces::touch_global(const Accessor& accessor, const AccessSpan& span) {
  const RangeTable& table = *launch_.launch().ranges;
  const auto& ranges = table.ranges();
  for_each_region(span, [&](const AccessSpan& piece, std::uint64_t region) {
    if (range_hint_ >= ranges.size() || piece.begin < ranges[range_hint_].begin ||
        piece.begin >= ranges[range_hint_].end)
      range_hint_ = table.find(piece.begin);
    if (range_hint_ >= ranges.size()) return;
    if (piece.begin + piece.bytes > ranges[range_hint_].end)
      return touch_pieces(accessor, piece, ranges[range_hint_].end);
    LaunchRaces::Region* const shadow = launch_.region(range_hint_, piece.begin);
    if (shadow == nullptr) return;
    const BusyGuard guard(shadow->busy);
    shadow->shadow.access(accessor, piece, region << ShadowRegion::kShift, kMostGlobalLayers, *this);
  });
}

// A span that goes on in the next range: lane by lane, each cut at the border.
void GroupRaces::touch_pieces(const Accessor& accessor, const AccessSpan& span, std::uint64_t border) {
  std::uint64_t at = span.begin;
  const std::uint64_t step = span.width == 0 ? span.bytes : span.width;
  for (std::uint32_t rest = span.lanes; at < span.begin + span.bytes; at += step) {
    const std::uint32_t lanes = span.width == 0 ? span.lanes : rest & -rest;
    rest &= rest - 1;
    const std::uint64_t before = at >= border ? 0 : std::min(step, border - at);
    if (before != 0) touch_global(accessor, {at, before, lanes, 0});
    if (before != step) touch_global(accessor, {at + before, step - before, lanes, 0});
  }
}

Accessor GroupRaces::warp_accessor(const Warp& warp, const Instruction& in) {
  const std::uint32_t number = warp_index(warp);
  WarpKnowledge& known = knowledge_.warp(number);
  known.changed = true;
  Accessor accessor;
  accessor.copy_agent = known.copy_agent;
  accessor.copied = known.copied.data();
  accessor.copied_visible = known.copied_visible.data();
  accessor.group = group_;
  accessor.stamp = knowledge_.tick();
  accessor.released = known.released;
  accessor.thread = accessor.index = number * kLanes;
  accessor.instruction = in.index;
  accessor.block_threads = block_threads_;
  accessor.peer_scope = peer_scope_;
  return accessor;
}

// Lanes that know the same are checked together.
template <typename Touch>
void GroupRaces::lanes_access(const Warp& warp, std::uint32_t mask, Accessor accessor, const LaneAccess& access,
                              Touch touch) {
  const auto& clocks = knowledge_.warp(warp_index(warp)).clock[static_cast<std::size_t>(View::ordered)];
  accessor.writes = access.writes;
  for (std::uint32_t rest = mask; rest != 0;) {
    const Clock* const clock = clocks[static_cast<std::size_t>(std::countr_zero(rest))];
    std::uint32_t lanes = 0;
    for (std::size_t lane = 0; lane < kLanes; ++lane)
      lanes |= static_cast<std::uint32_t>(clocks[lane] == clock) << lane;
    lanes &= rest;
    rest &= ~lanes;
    accessor.clock = clock;
    for_each_span(access, lanes, [&](const AccessSpan& span) { touch(accessor, span); });
  }
}

void GroupRaces::shared_access(Warp& warp, const Instruction& in, Block& block, const LaneAccess& access) {
  where_ = {&warp, &in, &block};
  Accessor accessor = warp_accessor(warp, in);
  accessor.flags = flags_of(in, access);
  lanes_access(warp, warp.mask, accessor, access,
               [&](const Accessor& by, const AccessSpan& span) { touch_shared(by, block, span); });
}

void GroupRaces::global_access(Warp& warp, const Instruction& in, const LaneAccess& access) {
  where_ = {&warp, &in, nullptr};
  Accessor accessor = warp_accessor(warp, in);
  accessor.flags = flags_of(in, access);
  lanes_access(warp, warp.mask, accessor, access,
               [&](const Accessor& by, const AccessSpan& span) { touch_global(by, span); });
}

// ---- asynchronous operations

std::uint32_t GroupRaces::agent(AgentKind kind, std::uint64_t key) {
  const auto [place, added] = agents_.try_emplace(key << 3 | static_cast<std::uint64_t>(kind), next_agent_);
  if (added) next_agent_ += kLanes;  // agents never share a layer of reads
  return place->second;
}

Accessor GroupRaces::accessor_of(const AsyncOperation& operation, bool writes) {
  const WarpKnowledge& known = knowledge_.warp(warp_index(*operation.warp));
  const auto lane = static_cast<std::size_t>(operation.lane);
  const auto visible = static_cast<std::size_t>(View::visible);
  Accessor accessor = warp_accessor(*operation.warp, *operation.at);
  accessor.clock = known.clock[static_cast<std::size_t>(View::ordered)][lane];
  accessor.visible = known.clock[visible][lane];
  accessor.visible_own = known.own[visible][lane];
  accessor.stamp = accessor.released = operation.stamp;
  accessor.index = operation.agent;
  accessor.flags = kAsyncAgent | kAsyncProxy;
  if (operation.atomic && writes)
    accessor.flags |= static_cast<std::uint8_t>(kStrong | kUpdate | static_cast<int>(Scope::gpu) << kScopeShift);
  accessor.writes = writes;
  return accessor;
}

void GroupRaces::async_shared(const AsyncOperation& operation, Block& block, std::uint64_t offset, std::uint64_t bytes,
                              bool writes) {
  where_ = {operation.warp, operation.at, &block};
  touch_shared(accessor_of(operation, writes), block, {offset, bytes, 1U << operation.lane, 0});
}

void GroupRaces::async_global(const AsyncOperation& operation, std::uint64_t address, std::uint64_t bytes,
                              bool writes) {
  where_ = {operation.warp, operation.at, nullptr};
  touch_global(accessor_of(operation, writes), {address, bytes, 1U << operation.lane, 0});
}

void GroupRaces::complete(const Warp& warp, std::uint32_t lanes, std::uint32_t agent, int lane, Stamp stamp) {
  knowledge_.complete(warp_index(warp), lanes, agent + static_cast<std::uint32_t>(lane), stamp);
}

Stamp GroupRaces::copy(Warp& warp, const Instruction& in, const std::uint64_t* to, const std::uint64_t* from,
                       std::uint32_t bytes, std::uint32_t reading) {
  WarpKnowledge& known = knowledge_.warp(warp_index(warp));
  if (known.copy_agent == 0) known.copy_agent = agent(AgentKind::small_copy, warp_index(warp));
  Accessor accessor = warp_accessor(warp, in);
  accessor.index = known.copy_agent;
  accessor.flags = kAsyncAgent;
  where_ = {&warp, &in, nullptr};
  lanes_access(warp, reading, accessor, {.at = from, .bytes = bytes, .reads = true},
               [&](const Accessor& by, const AccessSpan& span) { touch_global(by, span); });
  where_.shared = warp.block;
  lanes_access(warp, warp.mask, accessor, {.at = to, .bytes = bytes, .writes = true},
               [&](const Accessor& by, const AccessSpan& span) { touch_shared(by, *warp.block, span); });
  return accessor.stamp;
}

void GroupRaces::copied(const Warp& warp, int lane, Stamp stamp) {
  WarpKnowledge& known = knowledge_.warp(warp_index(warp));
  known.copied[static_cast<std::size_t>(lane)] = std::max(known.copied[static_cast<std::size_t>(lane)], stamp);
  known.changed = true;
}

void GroupRaces::touch_object(Warp& warp, const Instruction& in, int lane, Block& block, std::uint64_t offset,
                              bool uses) {
  std::uint64_t at[kLanes];
  at[lane] = offset;
  where_ = {&warp, &in, &block};
  Accessor accessor = warp_accessor(warp, in);
  if (uses) accessor.flags = static_cast<std::uint8_t>(kStrong | kUpdate | static_cast<int>(Scope::gpu) << kScopeShift);
  lanes_access(warp, 1U << lane, accessor, {.at = at, .bytes = 8, .writes = true, .reads = uses},
               [&](const Accessor& by, const AccessSpan& span) { touch_shared(by, block, span); });
}

// ---- synchronisation

void GroupRaces::collect_if_needed() {
  if (!knowledge_.wants_collection()) return;
  knowledge_.collect([&](auto visit) {
    for (const auto& [key, phase] : objects_) {
      for (const Clock* clock : phase.last) visit(clock);
      for (int view = 0; view < kViews; ++view) visit(phase.gathering[view].last());
    }
    for (const auto& [key, learned] : learned_) visit(learned.published);
  });
}

void GroupRaces::warp_sync(const Warp& warp, std::uint32_t lanes) {
  collect_if_needed();
  knowledge_.synchronize(warp_index(warp), lanes);
}

void GroupRaces::arrive(Object object, const Warp& warp, std::uint32_t lanes, bool relaxed) {
  Gathering& gathering = objects_[object].gathering;
  if (relaxed) return knowledge_.release_relaxed(warp_index(warp), lanes, gathering);
  knowledge_.release(warp_index(warp), lanes, gathering);
}

void GroupRaces::arrive(Object object, std::uint32_t agent, int lane, Stamp stamp) {
  objects_[object].gathering[static_cast<int>(View::ordered)].raise(agent + static_cast<std::uint32_t>(lane), stamp);
}

void GroupRaces::arrive_copies(Object object, const Warp& warp, int lane, Stamp stamp) {
  const std::uint32_t agent = knowledge_.warp(warp_index(warp)).copy_agent;
  if (agent != 0) arrive(object, agent, lane, stamp);
}

void GroupRaces::end_phase(Object object, bool keeps) {
  collect_if_needed();
  Phase& phase = objects_[object];
  phase.last = knowledge_.hand(phase.gathering);
  if (!keeps) phase.gathering.clear();
}

void GroupRaces::observe(Object object, const Warp& warp, std::uint32_t lanes) {
  const auto found = objects_.find(object);
  if (found != objects_.end()) knowledge_.acquire(warp_index(warp), lanes, found->second.last);
}

void GroupRaces::forget(Object object) { objects_.erase(object); }

void GroupRaces::fence(const Warp& warp, std::uint32_t lanes, Scope scope) {
  const int widest = static_cast<int>(View::flushed_cta) + static_cast<int>(scope);
  knowledge_.fence(warp_index(warp), lanes, static_cast<View>(widest));
}

void GroupRaces::fence_async_proxy(const Warp& warp, std::uint32_t lanes) {
  knowledge_.fence_async_proxy(warp_index(warp), lanes);
}

// ---- strong accesses

std::uint64_t GroupRaces::shards_of(std::uint32_t lanes, const std::uint64_t* places) const {
  std::uint64_t shards = 0;
  for (; lanes != 0; lanes &= lanes - 1) shards |= LaunchRaces::shard_bit(places[std::countr_zero(lanes)]);
  return shards;
}

void GroupRaces::learn_chain(const Warp& warp, int lane, std::uint64_t place, const PublicationChain& chain,
                             const Strong& strong) {
  if (chain.empty()) return;
  const std::uint32_t number = warp_index(warp);
  const auto block = static_cast<std::uint32_t>(warp.block - blocks_.data());
  Learned& known = learned(warp, lane, place);
  std::uint64_t& latest = strong.acquires ? known.ordered : known.latest;
  for (const auto& publication : chain) {
    if (publication->number <= latest) continue;
    Scope needed = Scope::gpu;
    if (publication->group == group_) needed = publication->block == block ? Scope::cta : peer_scope_;
    if (std::min(publication->scope, strong.scope) < needed) continue;
    const PublishedClock& clock = publication->clocks[static_cast<std::size_t>(needed)];
    knowledge_.learn(number, lane, strong.acquires ? View::ordered : View::pending, clock);
    knowledge_.learn(number, lane, View::visible, publication->visible);
  }
  latest = chain.back()->number;
}

void GroupRaces::publish(const Warp& warp, int lane, std::uint64_t place, PublicationChain& chain,
                         const Strong& strong) {
  const std::uint32_t number = warp_index(warp);
  const WarpKnowledge& known = knowledge_.warp(number);
  // A store is a new value; an atomic passes on what it has read.
  if (!strong.reads) chain.clear();
  const auto flushed = static_cast<std::size_t>(View::flushed_cta);
  const auto at = static_cast<std::size_t>(lane);
  Learned& before = learned(warp, lane, place);
  if (!strong.releases) {
    if (known.own[flushed][at] == 0 && known.clock[flushed][at] == nullptr) return;
    const bool same = before.published == known.clock[flushed][at] && before.published_own == known.own[flushed][at];
    if (same && strong.reads) return;
    before.published = known.clock[flushed][at];
    before.published_own = known.own[flushed][at];
  }
  auto publication = std::make_shared<Publication>();
  publication->number = launch_.number_publication();
  publication->group = group_;
  publication->block = static_cast<std::uint32_t>(warp.block - blocks_.data());
  publication->thread = number * kLanes + static_cast<std::uint32_t>(lane);
  publication->scope = strong.scope;
  publication->releases = strong.releases;
  for (int level = 0; level <= static_cast<int>(strong.scope); ++level) {
    const View view = strong.releases ? View::ordered : static_cast<View>(static_cast<int>(View::flushed_cta) + level);
    publication->clocks[static_cast<std::size_t>(level)] =
        strong.releases && level > 0 ? publication->clocks[0] : knowledge_.publish(number, lane, view);
  }
  publication->visible = knowledge_.publish(number, lane, View::visible);
  // What the thread published here before is part of what it publishes now.
  std::erase_if(chain, [&](const auto& old) {
    return old->group == group_ && old->thread == publication->thread && old->scope <= publication->scope &&
           (publication->releases || !old->releases);
  });
  chain.push_back(std::move(publication));
  knowledge_.warp(number).released = knowledge_.now();
  knowledge_.tick();
}

void GroupRaces::strong_access(const Warp& warp, int lane, std::uint64_t place, const Strong& strong) {
  collect_if_needed();
  const bool is_shared = std::any_of(blocks_.begin(), blocks_.end(), [&](const Block& block) {
    return place - reinterpret_cast<std::uint64_t>(block.shared) < block.launch->shared_bytes;
  });
  PublicationChain& chain = is_shared ? shared_chains_[place] : launch_.chain(place);
  if (strong.reads) learn_chain(warp, lane, place, chain, strong);
  if (strong.writes) publish(warp, lane, place, chain, strong);
}

// ---- conflicts

void GroupRaces::conflict(const Accessor& accessor, const Conflict& conflict) {
  const bool same_group = conflict.group == group_;
  const Who& earlier = same_group ? conflict.earlier : conflict.first;
  const RaceSide before{conflict.group, earlier.thread, earlier.instruction,
                        earlier.flags,  conflict.wrote, same_group ? 0 : conflict.first_stamp};
  const RaceSide now{group_,
                     accessor.thread + static_cast<std::uint32_t>(conflict.lane),
                     accessor.instruction,
                     accessor.flags,
                     accessor.writes,
                     accessor.stamp};
  if (!same_group) {
    launch_.collect(conflict.address, before, now);
    return;
  }
  RaceText text{.place = where_.shared != nullptr ? describe_shared(*where_.shared, conflict.address)
                                                  : name_global(launch_.launch(), conflict.address),
                .earlier = before,
                .current = now,
                .proxy = conflict.proxy,
                .padded_block_threads = block_threads_};
  fault(*where_.warp, *where_.at, static_cast<int>(now.thread % kLanes), describe_race(launch_.launch(), text));
}

}  // namespace gdnjit::emulator

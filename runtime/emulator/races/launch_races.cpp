#include "runtime/emulator/races/launch_races.h"

#include <fmt/format.h>

#include <tuple>

#include "runtime/emulator/exec/warp.h"
#include "runtime/emulator/races/report.h"

namespace gdnjit::emulator {

LaunchRaces::LaunchRaces(const LaunchState& launch) : launch_(launch) {
  const std::uint64_t blocks = launch.cooperative
                                   ? static_cast<std::uint64_t>(launch.grid[0]) * launch.grid[1] * launch.grid[2]
                                   : launch.cluster_blocks;
  group_threads_ = static_cast<std::uint32_t>(blocks * launch.warps * kLanes);
  for (const Range& range : launch.ranges->ranges()) {
    directories_.push_back(range.writable ? std::make_unique<Directory>() : nullptr);
  }
}

LaunchRaces::~LaunchRaces() {
  for (const auto& directory : directories_) {
    if (directory == nullptr) continue;
    for (auto& region : directory->regions) delete region.load();
  }
}

LaunchRaces::Region* LaunchRaces::region(std::uint32_t range, std::uint64_t address) {
  Directory* const directory = directories_[range].get();
  if (directory == nullptr) return nullptr;
  std::call_once(directory->made, [&] {
    const Range& place = launch_.ranges->ranges()[range];
    directory->first = place.begin >> ShadowRegion::kShift;
    const std::uint64_t last = (place.end - 1) >> ShadowRegion::kShift;
    directory->regions = std::vector<std::atomic<Region*>>(last - directory->first + 1);
  });
  std::atomic<Region*>& entry = directory->regions[(address >> ShadowRegion::kShift) - directory->first];
  Region* region = entry.load(std::memory_order_acquire);
  if (region != nullptr) return region;
  auto fresh = std::make_unique<Region>();
  if (entry.compare_exchange_strong(region, fresh.get())) region = fresh.release();
  return region;
}

LaunchRaces::AddressGuard::AddressGuard(LaunchRaces* races, std::uint64_t shards)
    : races_(races), shards_(races == nullptr ? 0 : shards) {
  for (std::uint64_t rest = shards_; rest != 0; rest &= rest - 1)
    races_->locks_[static_cast<std::size_t>(std::countr_zero(rest))].lock();
}

LaunchRaces::AddressGuard::~AddressGuard() {
  for (std::uint64_t rest = shards_; rest != 0; rest &= rest - 1)
    races_->locks_[static_cast<std::size_t>(std::countr_zero(rest))].unlock();
}

void LaunchRaces::collect(std::uint64_t address, const RaceSide& a, const RaceSide& b) {
  if (address > lowest_address_.load(std::memory_order_relaxed)) return;
  const std::lock_guard lock(mutex_);
  if (address > lowest_.address) return;
  if (address < lowest_.address) {
    lowest_ = {.address = address, .readers = {}, .writers = {}};
    lowest_address_.store(address, std::memory_order_relaxed);
  }
  for (const RaceSide* side : {&a, &b}) {
    auto& sides = side->wrote ? lowest_.writers : lowest_.readers;
    const auto [place, added] = sides.emplace(side->group, *side);
    const auto rank = [](const RaceSide& s) { return std::tuple(s.stamp, s.thread, s.instruction); };
    if (!added && rank(*side) < rank(place->second)) place->second = *side;
    if (sides.size() > 2) sides.erase(std::prev(sides.end()));
  }
}

std::optional<std::string> LaunchRaces::report() const {
  const std::lock_guard lock(mutex_);
  if (lowest_.writers.empty()) return std::nullopt;
  // The lowest writer, and the lowest other group; a reader among equals, since it shows what goes wrong.
  const RaceSide& writer = lowest_.writers.begin()->second;
  const RaceSide* other = nullptr;
  for (const auto* sides : {&lowest_.readers, &lowest_.writers}) {
    for (const auto& [group, side] : *sides) {
      if (group != writer.group && (other == nullptr || group < other->group)) other = &side;
    }
  }
  if (other == nullptr) return std::nullopt;
  const RaceSide& first = other->group < writer.group ? *other : writer;
  const RaceSide& second = &first == other ? writer : *other;
  return describe_group_race(launch_, lowest_.address, first, second);
}

std::string name_thread(const LaunchState& launch, std::uint32_t group, std::uint32_t thread) {
  const std::uint32_t padded = launch.warps * kLanes;
  const std::uint32_t* size = launch.cluster;
  const std::uint64_t blocks = launch.cooperative
                                   ? static_cast<std::uint64_t>(launch.grid[0]) * launch.grid[1] * launch.grid[2]
                                   : launch.cluster_blocks;
  const std::uint64_t place = group * blocks + thread / padded;
  const auto cluster = place / launch.cluster_blocks;
  const auto rank = static_cast<std::uint32_t>(place % launch.cluster_blocks);
  const std::uint64_t across = launch.grid[0] / size[0];
  const std::uint64_t down = launch.grid[1] / size[1];
  const std::uint64_t number[3] = {cluster % across, cluster / across % down, cluster / across / down};
  const std::uint32_t inside[3] = {rank % size[0], rank / size[0] % size[1], rank / size[0] / size[1]};
  const std::uint32_t lane = thread % padded;
  const std::uint32_t* block = launch.block;
  return fmt::format("block ({},{},{}), thread ({},{},{})", number[0] * size[0] + inside[0],
                     number[1] * size[1] + inside[1], number[2] * size[2] + inside[2], lane % block[0],
                     lane / block[0] % block[1], lane / block[0] / block[1]);
}

}  // namespace gdnjit::emulator

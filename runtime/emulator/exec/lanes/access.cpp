#include "runtime/emulator/exec/access.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/emulator/exec/async.h"
#include "runtime/emulator/exec/banks.h"
#include "runtime/emulator/exec/shared_variables.h"
#include "runtime/emulator/exec/shared_window.h"
#include "runtime/emulator/races/group_races.h"

namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA {
namespace {

// Lanes whose bytes lie one behind the other are checked as one run.
struct Run {
  std::uint64_t begin = 0;
  std::uint64_t bytes = 0;
  int lane = 0;  // the first
};

struct Runs {
  Run items[kLanes];
  int count = 0;
};

int first_lane(std::uint32_t mask) { return std::countr_zero(mask); }

bool is_contiguous(const std::uint64_t* address, std::uint32_t bytes) {
  std::uint64_t difference = 0;
  for (int lane = 0; lane < kLanes; ++lane)
    difference |= address[lane] ^ (address[0] + static_cast<std::uint64_t>(lane) * bytes);
  return difference == 0;
}

void find_runs(const std::uint64_t* address, std::uint32_t mask, std::uint32_t bytes, Runs& runs) {
  Run current{address[first_lane(mask)], bytes, first_lane(mask)};
  runs.count = 0;
  for (std::uint32_t rest = mask & (mask - 1); rest != 0; rest &= rest - 1) {
    const int lane = first_lane(rest);
    const std::uint64_t at = address[lane];
    if (at == current.begin + current.bytes) {
      current.bytes += bytes;
    } else if (at + bytes != current.begin + current.bytes) {  // not a repetition of the last one
      runs.items[runs.count++] = current;
      current = {at, bytes, lane};
    }
  }
  runs.items[runs.count++] = current;
}

const char* verb(AccessKind kind) {
  return kind == AccessKind::load ? "reads" : kind == AccessKind::store ? "writes" : "updates";
}

// The lane of a run that touches `address`.
int lane_at(const Access& access, std::uint32_t mask, const Run& run, std::uint32_t bytes, std::uint64_t address) {
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = first_lane(rest);
    if (address - access.host[lane] < bytes) return lane;
  }
  return run.lane;
}

[[noreturn]] void misaligned(const Warp& warp, const Instruction& in, AccessKind kind, const std::uint64_t* address,
                             std::uint32_t mask, std::uint32_t bytes) {
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = first_lane(rest);
    if (address[lane] % bytes != 0) {
      fault(warp, in, lane,
            fmt::format("{} {} bytes at 0x{:x}, an address that {} does not divide", verb(kind), bytes, address[lane],
                        bytes));
    }
  }
  fault(warp, in, -1, "misaligned access");
}

void check_alignment(const Warp& warp, const Instruction& in, AccessKind kind, const std::uint64_t* address,
                     std::uint32_t mask, std::uint32_t bytes) {
  std::uint64_t low = 0;
  for (int lane = 0; lane < kLanes; ++lane) low |= (mask >> lane & 1U) != 0 ? address[lane] : 0;
  if ((low & (bytes - 1)) != 0) misaligned(warp, in, kind, address, mask, bytes);
}

// ---- global memory

std::uint64_t first_unwritten(const ShadowBits& shadow, std::uint64_t begin, std::uint64_t count) {
  for (std::uint64_t at = begin; at < begin + count; ++at) {
    if (!shadow.all_marked(at, 1)) return at;
  }
  return begin;
}

[[noreturn]] void unwritten_global(const Warp& warp, const Instruction& in, const Access& access, const Run& run,
                                   std::uint32_t bytes, std::uint64_t address, bool output) {
  const std::string where = warp.block->launch->ranges->describe(address, 1);
  fault(warp, in, lane_at(access, warp.mask, run, bytes, address),
        fmt::format("reads global memory that {}: {}",
                    output ? "is an output and has not been written by this launch" : "nobody has written", where));
}

// One piece of a run that lies within one range.
void check_range(Warp& warp, const Instruction& in, const Access& access, const Run& run, std::uint32_t bytes,
                 AccessKind kind, const Range& range, std::uint64_t begin, std::uint64_t count) {
  if (kind != AccessKind::load && !range.writable) {
    fault(warp, in, lane_at(access, warp.mask, run, bytes, begin),
          fmt::format("{} memory that is only an input: {}", verb(kind),
                      warp.block->launch->ranges->describe(begin, bytes)));
  }
  if (range.fully_written) return;
  if (kind != AccessKind::store) {
    if (range.launch != nullptr) {
      const std::uint64_t offset = begin - range.launch_begin;
      if (!range.launch->all_marked(offset, count)) {
        unwritten_global(warp, in, access, run, bytes,
                         range.launch_begin + first_unwritten(*range.launch, offset, count), true);
      }
    } else {
      const std::uint64_t offset = begin - range.allocation_begin;
      if (!range.allocation->all_marked(offset, count)) {
        unwritten_global(warp, in, access, run, bytes,
                         range.allocation_begin + first_unwritten(*range.allocation, offset, count), false);
      }
    }
  }
  if (kind != AccessKind::load) {
    if (range.launch != nullptr) range.launch->mark(begin - range.launch_begin, count);
    if (range.allocation != nullptr) range.allocation->mark(begin - range.allocation_begin, count);
  }
}

// Returns whether the launch may write there, so that accesses can race.
bool check_run(Warp& warp, const Instruction& in, const Access& access, const Run& run, std::uint32_t bytes,
               AccessKind kind) {
  bool writable = false;
  const RangeTable& table = *warp.block->launch->ranges;
  std::uint32_t& hint = warp.worker->range_hints[in.index];
  std::uint64_t begin = run.begin;
  const std::uint64_t end = run.begin + run.bytes;
  while (begin < end) {
    const auto& ranges = table.ranges();
    if (hint >= ranges.size() || begin < ranges[hint].begin || begin >= ranges[hint].end) hint = table.find(begin);
    if (hint >= ranges.size()) {
      const int lane = lane_at(access, warp.mask, run, bytes, begin);
      fault(warp, in, lane, fmt::format("{} out of bounds: {}", verb(kind), table.describe(begin, bytes)));
    }
    const Range& range = ranges[hint];
    writable = writable || range.writable;
    const std::uint64_t piece_end = std::min(end, range.end);
    check_range(warp, in, access, run, bytes, kind, range, begin, piece_end - begin);
    begin = piece_end;
  }
  return writable;
}

GroupRaces::LaneAccess lane_access(const Access& access, AccessKind kind, std::uint32_t bytes) {
  return {.at = access.host,
          .bytes = bytes,
          .contiguous = access.contiguous,
          .writes = kind != AccessKind::load,
          .reads = kind != AccessKind::store};
}

// 32-byte sectors that the runs touch. Runs mostly ascend; the rest is sorted first.
std::uint64_t count_sectors(Runs& runs) {
  bool ascending = true;
  for (int i = 1; i < runs.count; ++i) ascending = ascending && runs.items[i - 1].begin <= runs.items[i].begin;
  if (!ascending) {
    std::sort(runs.items, runs.items + runs.count, [](const Run& a, const Run& b) { return a.begin < b.begin; });
  }
  std::uint64_t sectors = 0;
  std::uint64_t next = 0;  // the first sector not counted yet
  for (int i = 0; i < runs.count; ++i) {
    const std::uint64_t first = std::max(runs.items[i].begin / 32, next);
    const std::uint64_t last = (runs.items[i].begin + runs.items[i].bytes - 1) / 32;
    if (last >= first) {
      sectors += last - first + 1;
      next = last + 1;
    }
  }
  return sectors;
}

void access_global(Warp& warp, const Instruction& in, AccessKind kind, std::uint32_t bytes, Access& access) {
  check_alignment(warp, in, kind, access.host, warp.mask, bytes);
  Runs runs;
  access.contiguous = warp.mask == kAllLanes && is_contiguous(access.host, bytes);
  if (access.contiguous) {
    runs.items[0] = {access.host[0], static_cast<std::uint64_t>(bytes) * kLanes, 0};
    runs.count = 1;
  } else {
    find_runs(access.host, warp.mask, bytes, runs);
  }
  bool writable = false;
  for (int i = 0; i < runs.count; ++i) writable = check_run(warp, in, access, runs.items[i], bytes, kind) || writable;
  if (writable && warp.block->races != nullptr)
    warp.block->races->global_access(warp, in, lane_access(access, kind, bytes));
  LaunchCounters& counters = warp.worker->counts.memory;
  const std::uint64_t sectors = count_sectors(runs);
  const std::uint64_t requested = static_cast<std::uint64_t>(std::popcount(warp.mask)) * bytes;
  const std::uint32_t range = warp.worker->range_hints[in.index];  // of the last run
  if (kind == AccessKind::load) {
    counters.sectors_read += sectors;
    warp.worker->counts.range_sectors_read[range] += sectors;
    counters.bytes_requested_read += requested;
  } else {
    counters.sectors_written += sectors;
    warp.worker->counts.range_sectors_written[range] += sectors;
    counters.bytes_requested_written += requested;
  }
}

// ---- shared memory

void count_access(Warp& warp, const std::uint64_t* offset, std::uint32_t bytes, bool contiguous) {
  LaunchCounters& counters = warp.worker->counts.memory;
  if (!contiguous) return count_wavefronts(counters, offset, warp.mask, bytes);
  const std::uint32_t words = bytes < 4 ? 1 : bytes / 4;
  counters.shared_wavefronts += words;
  counters.shared_wavefronts_ideal += words;
}

std::string why_unwritten(const Block& block, std::uint64_t offset) {
  const std::string pending = describe_unwritten(block, offset);
  return !pending.empty() ? pending : "\n  if another thread writes it, no barrier makes this one wait for it";
}

// The run leaves its variable: at its first byte, or within.
[[noreturn]] void outside_variables(const Warp& warp, const Instruction& in, const Access& access, const Run& run,
                                    std::uint32_t bytes, AccessKind kind) {
  std::uint64_t at = run.begin;
  while (lies_in_shared_variable(*warp.program, at, 1)) ++at;
  fault(warp, in, lane_at(access, warp.mask, run, bytes, at),
        fmt::format("{} {} bytes of shared memory, {}; the block has {} bytes", verb(kind), bytes,
                    describe_shared(*warp.block, at), declared_shared(*warp.block)));
}

// `block` is the warp's own or another of its cluster.
void access_shared(Warp& warp, const Instruction& in, Block& block, AccessKind kind, std::uint32_t bytes,
                   Access& access) {
  const std::uint64_t limit = block.launch->shared_bytes;
  check_alignment(warp, in, kind, access.host, warp.mask, bytes);
  access.contiguous = warp.mask == kAllLanes && is_contiguous(access.host, bytes);
  Runs runs;
  if (access.contiguous) {
    runs.items[0] = {access.host[0], static_cast<std::uint64_t>(bytes) * kLanes, 0};
    runs.count = 1;
  } else {
    find_runs(access.host, warp.mask, bytes, runs);
  }
  for (int i = 0; i < runs.count; ++i) {
    const Run& run = runs.items[i];
    if (run.begin >= limit || run.bytes > limit - run.begin) {
      const std::uint64_t beyond = run.begin >= limit ? run.begin : limit;
      fault(warp, in, lane_at(access, warp.mask, run, bytes, beyond),
            fmt::format("{} {} bytes of shared memory, {}; the block has {} bytes", verb(kind), bytes,
                        describe_shared(block, beyond), declared_shared(block)));
    }
    if (!lies_in_shared_variable(*warp.program, run.begin, run.bytes))
      outside_variables(warp, in, access, run, bytes, kind);
    if (kind != AccessKind::store && !block.shared_written.all_marked(run.begin, run.bytes)) {
      const std::uint64_t at = first_unwritten(block.shared_written, run.begin, run.bytes);
      fault(warp, in, lane_at(access, warp.mask, run, bytes, at),
            fmt::format("reads shared memory that nobody has written: {}{}", describe_shared(block, at),
                        why_unwritten(block, at)));
    }
    if (kind != AccessKind::load) block.shared_written.mark(run.begin, run.bytes);
  }
  count_access(warp, access.host, bytes, access.contiguous);
  if (warp.block->races != nullptr) warp.block->races->shared_access(warp, in, block, lane_access(access, kind, bytes));
  for (int lane = 0; lane < kLanes; ++lane) access.host[lane] += reinterpret_cast<std::uint64_t>(block.shared);
}

// Lanes may reach into different blocks of the cluster; each block is one access.
void access_cluster(Warp& warp, const Instruction& in, AccessKind kind, std::uint32_t bytes, Access& access) {
  const std::uint32_t mask = warp.mask;
  Access part;
  for (std::uint32_t rest = mask; rest != 0;) {
    const int lane = first_lane(rest);
    Block* const block = shared_place_of(*warp.block, access.host[lane]).block;
    if (block == nullptr) {
      fault(warp, in, lane,
            fmt::format("{} shared memory of block {} of its cluster, which has {}", verb(kind),
                        (access.host[lane] >> kRankShift) - 1, warp.block->cluster->blocks.size()));
    }
    if (block != warp.block && has_exited(*block)) {
      fault(warp, in, lane,
            fmt::format("{} shared memory of block {} of its cluster, which has exited", verb(kind), block->rank));
    }
    std::uint32_t lanes = 0;
    for (std::uint32_t others = rest; others != 0; others &= others - 1) {
      const int other = first_lane(others);
      const SharedPlace place = shared_place_of(*warp.block, access.host[other]);
      if (place.block != block) continue;
      lanes |= 1U << other;
      part.host[other] = place.offset;
    }
    warp.mask = lanes;
    access_shared(warp, in, *block, kind, bytes, part);
    for (std::uint32_t others = lanes; others != 0; others &= others - 1)
      access.host[first_lane(others)] = part.host[first_lane(others)];
    rest &= ~lanes;
  }
  warp.mask = mask;
}

// ---- local memory and parameters

void access_local(Warp& warp, const Instruction& in, AccessKind kind, std::uint32_t bytes, Access& access) {
  Block& block = *warp.block;
  check_alignment(warp, in, kind, access.host, warp.mask, bytes);
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = first_lane(rest);
    const std::uint64_t offset = access.host[lane];
    if (offset >= block.local_bytes || bytes > block.local_bytes - offset) {
      fault(warp, in, lane,
            fmt::format("{} {} bytes at offset {} of local memory; the thread has {} bytes", verb(kind), bytes,
                        static_cast<std::int64_t>(offset), block.local_bytes));
    }
    const std::uint64_t at =
        static_cast<std::uint64_t>(warp.first_thread + static_cast<std::uint32_t>(lane)) * block.local_bytes + offset;
    if (kind != AccessKind::store && !block.local_written.all_marked(at, bytes)) {
      fault(warp, in, lane,
            fmt::format("reads local memory that has not been written: {} bytes at offset {}", bytes, offset));
    }
    if (kind != AccessKind::load) block.local_written.mark(at, bytes);
    access.host[lane] = reinterpret_cast<std::uint64_t>(block.local) + at;
  }
}

void access_param(Warp& warp, const Instruction& in, AccessKind kind, std::uint32_t bytes, Access& access) {
  const std::uint64_t limit = warp.program->parameter_bytes;
  check_alignment(warp, in, kind, access.host, warp.mask, bytes);
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = first_lane(rest);
    if (kind != AccessKind::load) fault(warp, in, lane, "writes a kernel parameter");
    if (access.host[lane] >= limit || bytes > limit - access.host[lane]) {
      fault(warp, in, lane,
            fmt::format("reads {} bytes at offset {} of the parameters, which have {} bytes", bytes,
                        static_cast<std::int64_t>(access.host[lane]), limit));
    }
    access.host[lane] += reinterpret_cast<std::uint64_t>(warp.block->launch->parameters);
  }
}

// ---- generic addresses

void access_space(Warp& warp, const Instruction& in, Space space, AccessKind kind, std::uint32_t bytes,
                  Access& access) {
  switch (space) {
    case Space::shared: return access_shared(warp, in, *warp.block, kind, bytes, access);
    case Space::cluster: return access_cluster(warp, in, kind, bytes, access);
    case Space::local: return access_local(warp, in, kind, bytes, access);
    case Space::param: return access_param(warp, in, kind, bytes, access);
    default: return access_global(warp, in, kind, bytes, access);
  }
}

struct Window {
  Space space = Space::global;
  std::uint64_t begin = 0;
};

Window window_of(const Warp& warp, int lane, std::uint64_t address) {
  const Block& block = *warp.block;
  const auto inside = [&](const std::byte* base, std::uint64_t bytes) {
    return base != nullptr && address - reinterpret_cast<std::uint64_t>(base) < bytes;
  };
  if (inside(block.shared, block.launch->shared_bytes))
    return {Space::shared, reinterpret_cast<std::uint64_t>(block.shared)};
  if (inside(block.launch->parameters, warp.program->parameter_bytes)) {
    return {Space::param, reinterpret_cast<std::uint64_t>(block.launch->parameters)};
  }
  const std::uint64_t thread = warp.first_thread + static_cast<std::uint32_t>(lane);
  const std::byte* local = block.local + thread * block.local_bytes;
  if (block.local_bytes != 0 && inside(local, block.local_bytes))
    return {Space::local, reinterpret_cast<std::uint64_t>(local)};
  if (const SharedPlace place = shared_place_of_generic(block, address); place.block != nullptr) {
    return {Space::cluster, address - cluster_address(place.block->rank, place.offset)};
  }
  return {Space::global, 0};
}

// Lanes may point into different spaces; each space is one access.
void access_generic(Warp& warp, const Instruction& in, AccessKind kind, std::uint32_t bytes, Access& access) {
  const std::uint32_t mask = warp.mask;
  std::uint32_t lanes_of[7] = {};
  Access part;
  std::uint64_t offset[kLanes];
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = first_lane(rest);
    const Window window = window_of(warp, lane, access.host[lane]);
    lanes_of[static_cast<int>(window.space)] |= 1U << lane;
    offset[lane] = access.host[lane] - window.begin;
  }
  for (const Space space : {Space::global, Space::shared, Space::cluster, Space::local, Space::param}) {
    const std::uint32_t lanes = lanes_of[static_cast<int>(space)];
    if (lanes == 0) continue;
    for (std::uint32_t rest = lanes; rest != 0; rest &= rest - 1)
      part.host[first_lane(rest)] = offset[first_lane(rest)];
    warp.mask = lanes;
    access_space(warp, in, space, kind, bytes, part);
    for (std::uint32_t rest = lanes; rest != 0; rest &= rest - 1)
      access.host[first_lane(rest)] = part.host[first_lane(rest)];
  }
  warp.mask = mask;
}

}  // namespace

void resolve(Warp& warp, const Instruction& in, Space space, bool wide_address, AccessKind kind, std::uint32_t bytes,
             Access& access) {
  const auto offset = static_cast<std::uint64_t>(in.immediate);
  if (wide_address) {
    const auto* base = warp.values<std::uint64_t>(in.a);
    for (int lane = 0; lane < kLanes; ++lane) access.host[lane] = base[lane] + offset;
  } else {
    const auto* base = warp.values<std::uint32_t>(in.a);
    for (int lane = 0; lane < kLanes; ++lane) access.host[lane] = static_cast<std::uint32_t>(base[lane] + offset);
  }
  if (space == Space::generic) return access_generic(warp, in, kind, bytes, access);
  access_space(warp, in, space, kind, bytes, access);
}

std::uint32_t overlapping_lanes(const Warp& warp, const Access& access, std::uint32_t bytes) {
  if (access.contiguous || warp.block->races == nullptr) return 0;
  std::uint64_t end = 0;
  bool ascending = true;
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const std::uint64_t at = access.host[first_lane(rest)];
    ascending = ascending && at >= end;
    end = at + bytes;
  }
  std::uint32_t overlapping = 0;
  for (std::uint32_t rest = ascending ? 0 : warp.mask; rest != 0; rest &= rest - 1) {
    for (std::uint32_t others = rest & (rest - 1); others != 0; others &= others - 1) {
      const std::uint64_t a = access.host[first_lane(rest)];
      const std::uint64_t b = access.host[first_lane(others)];
      if (a < b + bytes && b < a + bytes) overlapping |= (rest & -rest) | (others & -others);
    }
  }
  return overlapping;
}

void fault_overlap(const Warp& warp, const Instruction& in, int lane, const Access& access) {
  const std::uint64_t host = access.host[lane];
  const std::uint64_t offset = host - reinterpret_cast<std::uint64_t>(warp.block->shared);
  const std::string place = offset < warp.block->launch->shared_bytes ? describe_shared(*warp.block, offset)
                                                                      : warp.block->launch->ranges->describe(host, 1);
  fault(warp, in, lane,
        fmt::format(
            "race: lanes of one store write different values to the same address, {}\n  which value stays is open: "
            "let one lane write",
            place));
}

StrongGuard::StrongGuard(const Warp& warp, const Instruction& in, const Access& access)
    : races_(in.order == Order::weak ? nullptr : warp.block->races),
      guard_(races_ == nullptr ? nullptr : races_->launch(),
             races_ == nullptr ? 0 : races_->shards_of(warp.mask, access.host)) {}

void StrongGuard::note(const Warp& warp, const Instruction& in, int lane, std::uint64_t host, bool reads,
                       bool writes) const {
  if (races_ == nullptr) return;
  races_->strong_access(warp, lane, host,
                        {.reads = reads,
                         .writes = writes,
                         .acquires = in.order == Order::acquire || in.order == Order::acq_rel,
                         .releases = in.order == Order::release || in.order == Order::acq_rel,
                         .scope = in.scope});
}

}  // namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA

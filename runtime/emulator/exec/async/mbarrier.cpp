// mbarriers: arrivals and transaction bytes of phase after phase, in a block's shared memory. Copies that signal one
// are carried out when somebody asks whether its phase is over and it is not.
#include <fmt/format.h>

#include <bit>

#include "runtime/emulator/exec/async/handlers.h"
#include "runtime/emulator/exec/async/state.h"
#include "runtime/emulator/races/group_races.h"

namespace gdnjit::emulator {
namespace {

constexpr std::uint64_t kBytes = 8;  // of the object in shared memory

// What arrive returns: a mark, the phase, the arrivals that the phase waited for.
constexpr std::uint64_t kStateMark = 0x5ULL << 60;
constexpr std::uint64_t kPhaseMask = (1ULL << 40) - 1;
constexpr std::uint64_t kPendingMask = (1ULL << 20) - 1;

[[noreturn]] void fail_at(const AsyncIssue& issue, const std::string& what) {
  fault(*issue.warp, *issue.at, issue.lane, what);
}

std::string name_of(const SharedPlace& place) {
  return fmt::format("the mbarrier at {}", shared_name(*place.block, place.offset));
}

std::string describe(const MBarrier& barrier, const SharedPlace& place) {
  return fmt::format("phase {} of {} ({} of {} arrivals, {} bytes pending)", barrier.phase, name_of(place),
                     barrier.expected - barrier.pending, barrier.expected, barrier.bytes);
}

// Instruction::a is the address, immediate its offset, count the space.
std::uint64_t address_of(Warp& warp, const Instruction& in, int lane) {
  const auto offset = static_cast<std::uint64_t>(in.immediate);
  if ((in.flags & kMbarrierWide) != 0) return warp.values<std::uint64_t>(in.a)[lane] + offset;
  return static_cast<std::uint32_t>(warp.values<std::uint32_t>(in.a)[lane] + offset);
}
SharedPlace place_of(Warp& warp, const Instruction& in, int lane) {
  return find_shared(warp, in, lane, static_cast<Space>(in.count), address_of(warp, in, lane));
}

SharedPlace own_place(Warp& warp, const Instruction& in, int lane) {
  const SharedPlace place = place_of(warp, in, lane);
  if (place.block != warp.block)
    fault(warp, in, lane, fmt::format("uses {}, which only a remote arrival may do", name_of(place)));
  return place;
}

void check_place(const AsyncIssue& issue, const SharedPlace& place) {
  if (place.offset % kBytes != 0)
    fail_at(issue, fmt::format("uses an mbarrier at {}, which {} does not divide",
                               shared_name(*place.block, place.offset), kBytes));
  check_async(issue, AsyncAccess::update, {place.block, place.offset}, kBytes);
}

bool is_overwritten(const SharedPlace& place) {
  for (std::uint64_t byte = 0; byte < kBytes; ++byte) {
    if (place.block->shared_written.all_marked(place.offset + byte, 1)) return true;
  }
  return false;
}

// ---- transitions

GroupRaces::Object object_of(const SharedPlace& place) {
  return GroupRaces::object(place.block->shared + place.offset);
}

void end_phase_if_due(const SharedPlace& place, MBarrier& barrier) {
  if (barrier.pending != 0 || barrier.bytes != 0) return;
  if (place.block->races != nullptr) place.block->races->end_phase(object_of(place), true);
  ++barrier.phase;
  barrier.pending = barrier.expected;
}

void add_bytes(const AsyncIssue& issue, const SharedPlace& place, MBarrier& barrier, std::int64_t bytes) {
  barrier.bytes += bytes;
  if (barrier.bytes > kMaxTransactionBytes || barrier.bytes < -kMaxTransactionBytes)
    fail_at(issue, fmt::format("brings the transaction count of {} to {}; it holds {} to {}", name_of(place),
                               barrier.bytes, -kMaxTransactionBytes, kMaxTransactionBytes));
}

void arrive(const AsyncIssue& issue, const SharedPlace& place, MBarrier& barrier, std::uint32_t count) {
  if (count == 0 || count > kMaxArrivals)
    fail_at(issue, fmt::format("arrives {} times; 1 to {} are possible", count, kMaxArrivals));
  if (count > barrier.pending)
    fail_at(issue, fmt::format("arrives {} times, more than is expected: {}", count, describe(barrier, place)));
  barrier.pending -= count;
  end_phase_if_due(place, barrier);
}

void run_signal(const SharedPlace& place, MBarrier& barrier) {
  Signal signal = std::move(barrier.signals.front());
  barrier.signals.pop_front();
  const AsyncIssue issue = signal.issue();
  if (signal.copy) {
    run_bulk_copy(*signal.copy);
    if (GroupRaces* races = place.block->races)
      races->arrive(object_of(place), races->agent(AgentKind::mbarrier, object_of(place)), issue.lane,
                    signal.copy->stamp);
    add_bytes(issue, place, barrier, -static_cast<std::int64_t>(signal.copy->bytes));
    end_phase_if_due(place, barrier);
  } else {
    run_small_copies(*place.block, issue.thread(), signal.arrival.operations);
    if (GroupRaces* races = place.block->races)
      races->arrive_copies(object_of(place), *issue.warp, issue.lane,
                           async_state(*place.block).copies[issue.thread()].done_stamp);
    arrive(issue, place, barrier, 1);
  }
}

void note_use(Warp& warp, const Instruction& in, int lane, const SharedPlace& place) {
  if (GroupRaces* races = warp.block->races) races->touch_object(warp, in, lane, *place.block, place.offset, true);
}

// Whether the phase that lane asks about is over.
bool is_over(Warp& warp, const Instruction& in, int lane, const SharedPlace& place, const MBarrier& barrier) {
  if ((in.flags & kMbarrierParity) != 0) {
    const std::uint32_t parity = warp.values<std::uint32_t>(in.b)[lane];
    if (parity > 1) fault(warp, in, lane, fmt::format("asks for a phase of parity {}: 0 or 1 exist", parity));
    return (barrier.phase & 1) != parity;
  }
  const std::uint64_t state = warp.values<std::uint64_t>(in.b)[lane];
  if ((state & ~(kPhaseMask << 20 | kPendingMask)) != kStateMark)
    fault(warp, in, lane, fmt::format("asks with 0x{:x}, which is no state that an arrival returned", state));
  const std::uint64_t phase = state >> 20 & kPhaseMask;
  if (phase != barrier.phase && phase + 1 != barrier.phase)
    fault(warp, in, lane,
          fmt::format("asks about phase {} of {}, which is in phase {}: it only knows its present and its "
                      "previous phase",
                      phase, name_of(place), barrier.phase));
  return phase != barrier.phase;
}

// The lanes whose phases are over, after the copies that could end them.
std::uint32_t finished_lanes(Warp& warp, const Instruction& in) {
  std::uint32_t finished = 0;
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    const SharedPlace place = own_place(warp, in, lane);
    note_use(warp, in, lane, place);
    MBarrier& barrier = mbarrier_at({&warp, &in, lane}, place);
    bool over = is_over(warp, in, lane, place, barrier);
    while (!over && !barrier.signals.empty()) {
      run_signal(place, barrier);
      over = is_over(warp, in, lane, place, barrier);
    }
    if (!over) continue;
    finished |= 1U << lane;
    if (warp.block->races != nullptr && (in.flags & kMbarrierRelaxed) == 0)
      warp.block->races->observe(object_of(place), warp, 1U << lane);
  }
  return finished;
}

void set_result(Warp& warp, const Instruction& in, std::uint32_t finished) {
  std::uint32_t& destination = warp.predicates[in.dst.offset];
  destination = (destination & ~warp.mask) | (finished & warp.mask);
}

std::string describe_wait(const Warp& waiting) {
  auto& warp = const_cast<Warp&>(waiting);
  const Instruction& in = warp.program->instructions[warp.pc];
  const int lane = std::countr_zero(warp.mask);
  const SharedPlace place = own_place(warp, in, lane);
  return describe(mbarrier_at({&warp, &in, lane}, place), place);
}

}  // namespace

SharedPlace find_shared(Warp& warp, const Instruction& in, int lane, Space space, std::uint64_t address) {
  SharedPlace place{warp.block, address};
  if (space == Space::generic) place = shared_place_of_generic(*warp.block, address);
  if (space == Space::cluster) place = shared_place_of(*warp.block, address);
  if (place.block == nullptr) fault(warp, in, lane, fmt::format("uses 0x{:x} as an address of shared memory", address));
  return place;
}

MBarrier& mbarrier_at(const AsyncIssue& issue, const SharedPlace& place) {
  check_place(issue, place);
  AsyncState& state = async_state(*place.block);
  const auto found = state.barriers.find(place.offset);
  if (found == state.barriers.end())
    fail_at(issue, fmt::format("uses an mbarrier at {}, where none has been initialised",
                               shared_name(*place.block, place.offset)));
  if (is_overwritten(place)) fail_at(issue, fmt::format("uses {}, over which something was written", name_of(place)));
  return found->second;
}

void signal_later(const AsyncIssue& issue, const SharedPlace& place, Signal signal) {
  mbarrier_at(issue, place).signals.push_back(std::move(signal));
}

void run_signals_of(Block& block) {
  for (Block& owner : block.cluster->blocks) {
    if (owner.async == nullptr) continue;
    for (auto& [offset, barrier] : owner.async->barriers) {
      std::deque<Signal> others;
      while (!barrier.signals.empty()) {
        if (barrier.signals.front().issue().warp->block == &block) {
          run_signal({&owner, offset}, barrier);
        } else {
          others.push_back(std::move(barrier.signals.front()));
          barrier.signals.pop_front();
        }
      }
      barrier.signals = std::move(others);
    }
  }
}

// ---- handlers

void execute_mbarrier_init(Warp& warp, const Instruction& in) {
  const auto* counts = warp.values<std::uint32_t>(in.b);
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    const AsyncIssue issue{&warp, &in, lane};
    const SharedPlace place = own_place(warp, in, lane);
    check_place(issue, place);
    if (counts[lane] == 0 || counts[lane] > kMaxArrivals)
      fail_at(issue, fmt::format("initialises {} for {} arrivals; 1 to {} are possible", name_of(place), counts[lane],
                                 kMaxArrivals));
    AsyncState& state = async_state(*place.block);
    const auto found = state.barriers.find(place.offset);
    if (found != state.barriers.end() && !is_overwritten(place))
      fail_at(issue, fmt::format("initialises {} again without mbarrier.inval; first at {}", name_of(place),
                                 warp.program->describe(found->second.init)));
    MBarrier barrier;
    barrier.expected = barrier.pending = counts[lane];
    barrier.init = in.index;
    if (GroupRaces* races = warp.block->races) {
      races->forget(object_of(place));
      races->touch_object(warp, in, lane, *place.block, place.offset, false);
    }
    state.barriers[place.offset] = std::move(barrier);
    // The object is opaque: to ordinary loads its bytes are unwritten, and a store to them marks them.
    expect_async_write({place.block, place.offset}, kBytes);
  }
}

void execute_mbarrier_inval(Warp& warp, const Instruction& in) {
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    const SharedPlace place = own_place(warp, in, lane);
    const MBarrier& barrier = mbarrier_at({&warp, &in, lane}, place);
    if (!barrier.signals.empty())
      fault(warp, in, lane, fmt::format("invalidates {}, which a pending copy will signal", name_of(place)));
    if (GroupRaces* races = warp.block->races) races->touch_object(warp, in, lane, *place.block, place.offset, false);
    async_state(*place.block).barriers.erase(place.offset);
  }
}

namespace {

void change_bytes(Warp& warp, const Instruction& in, int sign) {
  const auto* bytes = warp.values<std::uint32_t>(in.b);
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    const AsyncIssue issue{&warp, &in, lane};
    const SharedPlace place = place_of(warp, in, lane);
    MBarrier& barrier = mbarrier_at(issue, place);
    note_use(warp, in, lane, place);
    add_bytes(issue, place, barrier, sign * static_cast<std::int64_t>(bytes[lane]));
    end_phase_if_due(place, barrier);
  }
}

}  // namespace

void execute_mbarrier_expect_tx(Warp& warp, const Instruction& in) { change_bytes(warp, in, 1); }
void execute_mbarrier_complete_tx(Warp& warp, const Instruction& in) { change_bytes(warp, in, -1); }

// Operand b: the arrivals, or with kMbarrierExpect the bytes that the phase shall wait for.
void execute_mbarrier_arrive(Warp& warp, const Instruction& in) {
  const auto* values = warp.values<std::uint32_t>(in.b);
  auto* states = warp.values<std::uint64_t>(in.dst);
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    const AsyncIssue issue{&warp, &in, lane};
    const bool returns = (in.flags & kMbarrierReturns) != 0;
    const SharedPlace place = returns ? own_place(warp, in, lane) : place_of(warp, in, lane);
    MBarrier& barrier = mbarrier_at(issue, place);
    note_use(warp, in, lane, place);
    if (GroupRaces* races = warp.block->races)
      races->arrive(object_of(place), warp, 1U << lane, (in.flags & kMbarrierRelaxed) != 0);
    const std::uint64_t state = kStateMark | (barrier.phase & kPhaseMask) << 20 | barrier.pending;
    const bool expects = (in.flags & kMbarrierExpect) != 0;
    const std::uint32_t count = expects ? 1 : values[lane];
    if (expects) add_bytes(issue, place, barrier, values[lane]);
    if ((in.flags & kMbarrierNoComplete) != 0 && count >= barrier.pending)
      fail_at(issue, fmt::format("arrives with .noComplete and completes {}", describe(barrier, place)));
    if ((in.flags & kMbarrierDrop) != 0) {
      if (count > barrier.expected)
        fail_at(issue, fmt::format("drops {} arrivals of {}", count, describe(barrier, place)));
      barrier.expected -= count;
    }
    arrive(issue, place, barrier, count);
    if (returns) states[lane] = state;
  }
}

void execute_mbarrier_test_wait(Warp& warp, const Instruction& in) {
  const std::uint32_t finished = finished_lanes(warp, in);
  set_result(warp, in, finished);
  if (finished != warp.mask) warp.state = WarpState::yielded;  // whoever asks in a loop lets others go on
}

// Waits until a lane's phase is over; the time limit that may end it earlier is not simulated, unless another lane
// has what it waits for.
void execute_mbarrier_try_wait(Warp& warp, const Instruction& in) {
  const std::uint32_t finished = finished_lanes(warp, in);
  if (finished == 0) return suspend(warp, in, describe_wait);
  set_result(warp, in, finished);
}

void execute_mbarrier_pending_count(Warp& warp, const Instruction& in) {
  const auto* states = warp.values<std::uint64_t>(in.a);
  auto* counts = warp.values<std::uint32_t>(in.dst);
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    if ((states[lane] & ~(kPhaseMask << 20 | kPendingMask)) != kStateMark)
      fault(warp, in, lane, fmt::format("asks with 0x{:x}, which is no state that an arrival returned", states[lane]));
    counts[lane] = static_cast<std::uint32_t>(states[lane] & kPendingMask);
  }
}

}  // namespace gdnjit::emulator

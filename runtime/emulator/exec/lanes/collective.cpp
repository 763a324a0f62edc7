// Exchange among the lanes of a warp: shuffles, votes, matches, reductions.
#include "runtime/emulator/exec/lanes.h"
#include "runtime/emulator/races/group_races.h"

namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA {
namespace {

void set_predicate(Warp& warp, Slot slot, std::uint32_t value) {
  std::uint32_t& destination = warp.predicates[slot.offset];
  destination = (destination & ~warp.mask) | (value & warp.mask);
  warp.written[slot.id] |= warp.mask;
}

void check_all_members(const Warp& warp, const Instruction& in, Slot members) {
  const auto* names = const_cast<Warp&>(warp).values<std::uint32_t>(members);
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    if (names[lane] != kAllLanes || warp.mask != kAllLanes) check_members(warp, in, lane, names[lane]);
  }
}

// shfl.sync d|p, a, b, c, members. operands: {p, members}; p has id 0 if absent.
template <ShuffleMode kMode>
void execute_shfl(Warp& warp, const Instruction& in) {
  const Slot* more = &warp.program->operands[in.operands];
  check_all_members(warp, in, more[1]);
  const auto* a = warp.values<std::uint32_t>(in.a);
  const auto* b = warp.values<std::uint32_t>(in.b);
  const auto* c = warp.values<std::uint32_t>(in.c);
  std::uint32_t from[kLanes];
  std::uint32_t valid = 0;
  for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
    const std::uint32_t by = b[lane] & 31U;
    const std::uint32_t segment = c[lane] >> 8 & 31U;
    const std::uint32_t clamp = c[lane] & 31U;
    const std::uint32_t lowest = lane & segment;
    const std::uint32_t highest = lowest | (clamp & ~segment);
    std::uint32_t source = lane;
    bool in_range = false;
    // up compares with its clamp value as a lower bound, the other modes as an upper one.
    if constexpr (kMode == ShuffleMode::up) {
      in_range = static_cast<std::int32_t>(lane - by) >= static_cast<std::int32_t>(highest);
      source = lane - by;
    } else if constexpr (kMode == ShuffleMode::down) {
      source = lane + by;
      in_range = source <= highest;
    } else if constexpr (kMode == ShuffleMode::bfly) {
      source = lane ^ by;
      in_range = source <= highest;
    } else {
      source = lowest | (by & ~segment);
      in_range = source <= highest;
    }
    from[lane] = in_range ? source & 31U : lane;
    valid |= in_range ? 1U << lane : 0U;
  }
  std::uint32_t values[kLanes];
  std::uint32_t written = 0;
  // A lane that is not here has no value to give: what it would give counts as unwritten.
  const std::uint32_t readable = warp.written[in.a.id] & warp.mask;
  for (int lane = 0; lane < kLanes; ++lane) {
    values[lane] = a[from[lane]];
    written |= (readable >> from[lane] & 1U) << lane;
  }
  if (more[0].id != kConstantId) set_predicate(warp, more[0], valid);
  if (in.dst.id == kConstantId) return;
  std::uint32_t& state = warp.written[in.dst.id];
  state = (state & ~warp.mask) | (written & warp.mask);
  for_lanes(warp, warp.values<std::uint32_t>(in.dst), [&](int lane) { return values[lane]; });
}

std::uint32_t voters(Warp& warp, const Instruction& in) {
  check_all_members(warp, in, in.b);
  return warp.predicates[in.a.offset] ^ ((in.flags & kNegateFirst) != 0 ? ~0U : 0U);
}

// The lanes that lane's mask names and that are here.
std::uint32_t present(const Warp& warp, const std::uint32_t* members, int lane) { return members[lane] & warp.mask; }

template <Opcode kOp>
void execute_vote(Warp& warp, const Instruction& in) {
  const std::uint32_t yes = voters(warp, in);
  const auto* members = warp.values<std::uint32_t>(in.b);
  if constexpr (kOp == Opcode::vote_ballot) {
    for_lanes(warp, warp.values<std::uint32_t>(in.dst), [&](int lane) { return yes & present(warp, members, lane); });
    warp.written[in.dst.id] |= warp.mask;
  } else {
    std::uint32_t result = 0;
    for (int lane = 0; lane < kLanes; ++lane) {
      const std::uint32_t here = present(warp, members, lane);
      const bool all = (yes & here) == here;
      const bool any = (yes & here) != 0;
      const bool outcome = kOp == Opcode::vote_all ? all : kOp == Opcode::vote_any ? any : (all || !any);
      result |= outcome ? 1U << lane : 0U;
    }
    set_predicate(warp, in.dst, result);
  }
}

void execute_activemask(Warp& warp, const Instruction& in) {
  const std::uint32_t mask = warp.mask;
  for_lanes(warp, warp.values<std::uint32_t>(in.dst), [=](int) { return mask; });
}

// match.any d, a, members; match.all d|p, a, members with operands {p}.
template <typename T, bool kAll>
void execute_match(Warp& warp, const Instruction& in) {
  check_all_members(warp, in, in.b);
  const auto* a = warp.values<T>(in.a);
  const auto* members = warp.values<std::uint32_t>(in.b);
  std::uint32_t same[kLanes] = {};
  std::uint32_t agreed = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    const std::uint32_t here = present(warp, members, lane);
    for (std::uint32_t rest = here; rest != 0; rest &= rest - 1) {
      const int other = std::countr_zero(rest);
      if (a[other] == a[lane]) same[lane] |= 1U << other;
    }
    if (same[lane] == here) agreed |= 1U << lane;
  }
  if constexpr (kAll) {
    const Slot predicate = warp.program->operands[in.operands];
    if (predicate.id != kConstantId) set_predicate(warp, predicate, agreed);
  }
  for_lanes(warp, warp.values<std::uint32_t>(in.dst),
            [&](int lane) { return !kAll || (agreed >> lane & 1U) != 0 ? same[lane] : 0U; });
}

template <typename T>
T reduce_two(AtomicOp op, T a, T b) {
  switch (op) {
    case AtomicOp::add: return static_cast<T>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
    case AtomicOp::min: return a < b ? a : b;
    case AtomicOp::max: return a > b ? a : b;
    case AtomicOp::and_: return static_cast<T>(a & b);
    case AtomicOp::or_: return static_cast<T>(a | b);
    default: return static_cast<T>(a ^ b);
  }
}

// redux.sync; flags: the AtomicOp.
template <typename T>
void execute_redux(Warp& warp, const Instruction& in) {
  check_all_members(warp, in, in.b);
  const auto* a = warp.values<T>(in.a);
  const auto* members = warp.values<std::uint32_t>(in.b);
  T results[kLanes] = {};
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    std::uint32_t others = present(warp, members, lane);
    T result = a[std::countr_zero(others)];
    for (others &= others - 1; others != 0; others &= others - 1) {
      result = reduce_two(static_cast<AtomicOp>(in.flags), result, a[std::countr_zero(others)]);
    }
    results[lane] = result;
  }
  for_lanes(warp, warp.values<T>(in.dst), [&](int lane) { return results[lane]; });
}

// elect.sync d|p, members: the lowest member is the leader. operands: {p}.
void execute_elect(Warp& warp, const Instruction& in) {
  check_all_members(warp, in, in.a);
  const auto* members = warp.values<std::uint32_t>(in.a);
  std::uint32_t leaders = 0;
  std::uint32_t leader[kLanes] = {};
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    leader[lane] = static_cast<std::uint32_t>(std::countr_zero(present(warp, members, lane)));
    if (leader[lane] == static_cast<std::uint32_t>(lane)) leaders |= 1U << lane;
  }
  set_predicate(warp, warp.program->operands[in.operands], leaders);
  if (in.dst.id == kConstantId) return;
  for_lanes(warp, warp.values<std::uint32_t>(in.dst), [&](int lane) { return leader[lane]; });
}

// The only collective that orders memory; shuffles and votes do not.
void execute_warp_sync(Warp& warp, const Instruction& in) {
  check_all_members(warp, in, in.a);
  if (warp.block->races == nullptr) return;
  const auto* members = warp.values<std::uint32_t>(in.a);
  for (std::uint32_t rest = warp.mask; rest != 0;) {
    const std::uint32_t lanes = members[std::countr_zero(rest)] & warp.mask;
    warp.block->races->warp_sync(warp, lanes);
    rest &= ~lanes;
  }
}

Handler find_match(const OpKey& key) {
  const bool wide = type_bytes(key.type) == 8;
  if (key.op == Opcode::match_any)
    return wide ? execute_match<std::uint64_t, false> : execute_match<std::uint32_t, false>;
  return wide ? execute_match<std::uint64_t, true> : execute_match<std::uint32_t, true>;
}

Handler find_shuffle(std::uint8_t mode) {
  switch (static_cast<ShuffleMode>(mode)) {
    case ShuffleMode::up: return execute_shfl<ShuffleMode::up>;
    case ShuffleMode::down: return execute_shfl<ShuffleMode::down>;
    case ShuffleMode::bfly: return execute_shfl<ShuffleMode::bfly>;
    case ShuffleMode::idx: return execute_shfl<ShuffleMode::idx>;
  }
  return nullptr;
}

}  // namespace

Handler find_collective(const OpKey& key) {
  switch (key.op) {
    case Opcode::shfl: return find_shuffle(key.variant);
    case Opcode::vote_all: return execute_vote<Opcode::vote_all>;
    case Opcode::vote_any: return execute_vote<Opcode::vote_any>;
    case Opcode::vote_uni: return execute_vote<Opcode::vote_uni>;
    case Opcode::vote_ballot: return execute_vote<Opcode::vote_ballot>;
    case Opcode::activemask: return execute_activemask;
    case Opcode::match_any:
    case Opcode::match_all: return find_match(key);
    case Opcode::redux: return key.type == Type::s32 ? execute_redux<std::int32_t> : execute_redux<std::uint32_t>;
    case Opcode::elect: return execute_elect;
    case Opcode::warp_sync: return execute_warp_sync;
    default: return nullptr;
  }
}

}  // namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA

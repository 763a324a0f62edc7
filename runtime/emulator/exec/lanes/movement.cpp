// Moves, packing and unpacking, address-space conversions. None of them uses a value, so an unwritten one may pass
// through; its destination then counts as unwritten. Registers that decode/parts.cpp tracks have an id for each part:
// Instruction::target is the first one's (0: there are none).
#include "runtime/emulator/exec/exchange.h"
#include "runtime/emulator/exec/lanes.h"

namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA {
namespace {

void copy_written(Warp& warp, std::uint16_t id, std::uint32_t value) {
  std::uint32_t& destination = warp.written[id];
  destination = (destination & ~warp.mask) | (value & warp.mask);
}

template <typename T>
void execute_mov(Warp& warp, const Instruction& in) {
  const auto* a = warp.values<T>(in.a);
  copy_written(warp, in.dst.id, warp.written[in.a.id]);
  if constexpr (sizeof(T) == 8) {
    if (in.target != 0) [[unlikely]] {  // from the parts at target_count
      for (std::uint32_t part = 0; part < in.count; ++part)
        copy_written(warp, static_cast<std::uint16_t>(in.target + part), warp.written[in.target_count + part]);
    }
  }
  for_lanes(warp, warp.values<T>(in.dst), [=](int lane) { return a[lane]; });
}

void execute_mov_predicate(Warp& warp, const Instruction& in) {
  const std::uint32_t a = warp.predicates[in.a.offset] ^ ((in.flags & kNegateFirst) != 0 ? ~0U : 0U);
  std::uint32_t& destination = warp.predicates[in.dst.offset];
  destination = (destination & ~warp.mask) | (a & warp.mask);
  copy_written(warp, in.dst.id, warp.written[in.a.id]);
}

// flags: bytes of an element.
template <typename D>
void execute_pack(Warp& warp, const Instruction& in) {
  const Slot* parts = &warp.program->operands[in.operands];
  const unsigned width = in.flags * 8U;
  std::uint32_t written = kAllLanes;
  for (std::uint32_t part = 0; part < in.count; ++part) {
    written &= warp.written[parts[part].id];
    if (in.target != 0) copy_written(warp, static_cast<std::uint16_t>(in.target + part), warp.written[parts[part].id]);
  }
  copy_written(warp, in.dst.id, written);
  D packed[kLanes] = {};
  for (int part = 0; part < in.count; ++part) {
    const auto* a = warp.values<std::uint32_t>(parts[part]);
    const D keep = width >= 32 ? static_cast<D>(0xffffffffU) : static_cast<D>((D{1} << width) - 1);
    const unsigned shift = width * static_cast<unsigned>(part);
    for (int lane = 0; lane < kLanes; ++lane) packed[lane] |= static_cast<D>((static_cast<D>(a[lane]) & keep) << shift);
  }
  for_lanes(warp, warp.values<D>(in.dst), [&](int lane) { return packed[lane]; });
}

template <typename S>
void execute_unpack(Warp& warp, const Instruction& in) {
  const Slot* parts = &warp.program->operands[in.operands];
  const unsigned width = in.flags * 8U;
  // The source may be one of the destinations.
  S source[kLanes];
  std::memcpy(source, warp.values<S>(in.a), sizeof(source));
  const std::uint32_t written = warp.written[in.a.id];
  for (int part = 0; part < in.count; ++part) {
    if (parts[part].id == kConstantId) continue;  // '_'
    const unsigned shift = width * static_cast<unsigned>(part);
    const std::uint32_t keep = width >= 32 ? 0xffffffffU : (1U << width) - 1U;
    const std::uint32_t place = in.target + static_cast<std::uint32_t>(part);
    copy_written(warp, parts[part].id, in.target != 0 ? warp.written[place] : written);
    for_lanes(warp, warp.values<std::uint32_t>(parts[part]),
              [&](int lane) { return static_cast<std::uint32_t>(source[lane] >> shift) & keep; });
  }
}

// 128 bits are two halves of 64.
void execute_pack_128(Warp& warp, const Instruction& in) {
  const Slot* parts = &warp.program->operands[in.operands];
  copy_written(warp, in.dst.id, warp.written[parts[0].id] & warp.written[parts[1].id]);
  const auto* low = warp.values<std::uint64_t>(parts[0]);
  const auto* high = warp.values<std::uint64_t>(parts[1]);
  for_lanes(warp, warp.values<Word128>(in.dst), [&](int lane) { return Word128{low[lane], high[lane]}; });
}
void execute_unpack_128(Warp& warp, const Instruction& in) {
  const Slot* parts = &warp.program->operands[in.operands];
  const auto* source = warp.values<Word128>(in.a);
  for (int part = 0; part < 2; ++part) {
    if (parts[part].id == kConstantId) continue;  // '_'
    copy_written(warp, parts[part].id, warp.written[in.a.id]);
    for_lanes(warp, warp.values<std::uint64_t>(parts[part]),
              [&](int lane) { return part == 0 ? source[lane].low : source[lane].high; });
  }
}

// flags: 1 for the upper half of the counter.
template <typename D>
void execute_clock(Warp& warp, const Instruction& in) {
  const std::uint64_t now = warp.block->instructions >> ((in.flags & 1U) != 0 ? 32 : 0);
  for_lanes(warp, warp.values<D>(in.dst), [=](int) { return static_cast<D>(now); });
}

// Where each lane's own window of a state space begins, as host addresses.
std::uint64_t window(const Warp& warp, Space space, int lane) {
  switch (space) {
    case Space::shared: return reinterpret_cast<std::uint64_t>(warp.block->shared);
    case Space::param: return reinterpret_cast<std::uint64_t>(warp.block->launch->parameters);
    case Space::local:
      return reinterpret_cast<std::uint64_t>(warp.block->local) +
             static_cast<std::uint64_t>(warp.first_thread + static_cast<std::uint32_t>(lane)) * warp.block->local_bytes;
    default: return 0;
  }
}

template <typename S, typename D, bool kToGeneric>
void execute_cvta(Warp& warp, const Instruction& in) {
  const auto space = static_cast<Space>(in.flags);
  const auto* a = warp.values<S>(in.a);
  for_lanes(warp, warp.values<D>(in.dst), [&](int lane) {
    const std::uint64_t base = window(warp, space, lane);
    return static_cast<D>(kToGeneric ? a[lane] + base : a[lane] - base);
  });
}

std::uint64_t window_bytes(const Warp& warp, Space space) {
  switch (space) {
    case Space::shared: return warp.block->launch->shared_bytes;
    case Space::param: return warp.program->parameter_bytes;
    case Space::local: return warp.block->local_bytes;
    default: return 0;
  }
}

void execute_isspacep(Warp& warp, const Instruction& in) {
  const auto space = static_cast<Space>(in.flags);
  const auto* a = warp.values<std::uint64_t>(in.a);
  std::uint32_t result = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    const auto inside = [&](Space candidate) {
      return a[lane] - window(warp, candidate, lane) < window_bytes(warp, candidate);
    };
    const bool elsewhere = inside(Space::shared) || inside(Space::local) || inside(Space::param);
    if (space == Space::global ? !elsewhere : inside(space)) result |= 1U << lane;
  }
  std::uint32_t& destination = warp.predicates[in.dst.offset];
  destination = (destination & ~warp.mask) | (result & warp.mask);
}

template <bool kToGeneric>
Handler pick_cvta(const OpKey& key) {
  if (key.wide_address)
    return key.wide_register ? execute_cvta<std::uint64_t, std::uint64_t, kToGeneric>
                             : execute_cvta<std::uint64_t, std::uint32_t, kToGeneric>;
  return key.wide_register ? execute_cvta<std::uint32_t, std::uint64_t, kToGeneric>
                           : execute_cvta<std::uint32_t, std::uint32_t, kToGeneric>;
}

}  // namespace

Handler find_movement(const OpKey& key) {
  const bool wide = type_bytes(key.type) == 8;
  if (key.type == Type::b128) {
    if (key.op == Opcode::mov) return execute_mov<Word128>;
    if (key.op == Opcode::pack) return execute_pack_128;
    return key.op == Opcode::unpack ? execute_unpack_128 : nullptr;
  }
  switch (key.op) {
    case Opcode::mov:
      if (key.type == Type::pred) return execute_mov_predicate;
      return wide ? execute_mov<std::uint64_t> : execute_mov<std::uint32_t>;
    case Opcode::pack: return wide ? execute_pack<std::uint64_t> : execute_pack<std::uint32_t>;
    case Opcode::unpack: return wide ? execute_unpack<std::uint64_t> : execute_unpack<std::uint32_t>;
    case Opcode::clock: return wide ? execute_clock<std::uint64_t> : execute_clock<std::uint32_t>;
    case Opcode::cvta_to_generic: return pick_cvta<true>(key);
    case Opcode::cvta_from_generic: return pick_cvta<false>(key);
    case Opcode::isspacep: return execute_isspacep;
    default: return nullptr;
  }
}

}  // namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA

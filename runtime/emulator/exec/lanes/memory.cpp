// ld and st.
#include "runtime/emulator/exec/access.h"

namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA {
namespace {

// E: the element in memory, D: the lane of the register, which may be wider.
template <typename E, typename D>
D widen(E value) {
  if constexpr (std::is_signed_v<E>) return static_cast<D>(static_cast<std::int64_t>(value));
  return static_cast<D>(value);
}

// Kernels may race with themselves, as spinning ones do: elements are loaded and stored as relaxed atomics, which
// costs nothing and keeps that from being undefined behaviour of the host program.
template <typename E>
E load(const Access& access, int lane, std::uint32_t element) {
  return __atomic_load_n(reinterpret_cast<const E*>(access.host[lane]) + element, __ATOMIC_RELAXED);
}

template <typename E, typename D>
void load_one(Warp& warp, const Access& access, Slot slot, std::uint32_t element) {
  D* destination = warp.values<D>(slot);
  if (warp.mask == kAllLanes) {
    for (int lane = 0; lane < kLanes; ++lane) destination[lane] = widen<E, D>(load<E>(access, lane, element));
    return;
  }
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    destination[lane] = widen<E, D>(load<E>(access, lane, element));
  }
}

template <typename E, typename D, Space kSpace, bool kWide>
void execute_ld(Warp& warp, const Instruction& in) {
  Access access;
  resolve(warp, in, kSpace, kWide, AccessKind::load, static_cast<std::uint32_t>(sizeof(E)) * in.count, access);
  const StrongGuard guard(warp, in, access);
  if (in.count == 1) {
    load_one<E, D>(warp, access, in.dst, 0);
    warp.written[in.dst.id] |= warp.mask;
    return guard.note_all(warp, in, access, true);
  }
  const Slot* slots = &warp.program->operands[in.operands];
  for (std::uint32_t element = 0; element < in.count; ++element) {
    if (slots[element].id == kConstantId) continue;  // '_'
    load_one<E, D>(warp, access, slots[element], element);
    warp.written[slots[element].id] |= warp.mask;
  }
  guard.note_all(warp, in, access, true);
}

template <typename E, typename S>
void store_one(Warp& warp, const Access& access, Slot slot, std::uint32_t element) {
  const S* source = warp.values<S>(slot);
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    __atomic_store_n(reinterpret_cast<E*>(access.host[lane]) + element, static_cast<E>(source[lane]), __ATOMIC_RELAXED);
  }
}

template <typename E, typename S>
void check_overlap(Warp& warp, const Instruction& in, const Access& access, const Slot* slots, std::uint32_t lanes) {
  for (; lanes != 0; lanes &= lanes - 1) {
    const int lane = std::countr_zero(lanes);
    for (std::uint32_t element = 0; element < in.count; ++element) {
      const auto value = static_cast<E>(warp.values<S>(slots[element])[lane]);
      if (load<E>(access, lane, element) != value) fault_overlap(warp, in, lane, access);
    }
  }
}

template <typename E, typename S, Space kSpace, bool kWide>
void execute_st(Warp& warp, const Instruction& in) {
  const Slot single = in.b;
  const Slot* slots = in.count == 1 ? &single : &warp.program->operands[in.operands];
  for (std::uint32_t element = 0; element < in.count; ++element) {
    const std::uint32_t undefined = warp.mask & ~warp.written[slots[element].id];
    if (undefined != 0) fault_undefined(warp, in, undefined, slots[element].id);
  }
  Access access;
  resolve(warp, in, kSpace, kWide, AccessKind::store, static_cast<std::uint32_t>(sizeof(E)) * in.count, access);
  const StrongGuard guard(warp, in, access);
  for (std::uint32_t element = 0; element < in.count; ++element) store_one<E, S>(warp, access, slots[element], element);
  if (const std::uint32_t lanes = overlapping_lanes(warp, access, static_cast<std::uint32_t>(sizeof(E)) * in.count))
    check_overlap<E, S>(warp, in, access, slots, lanes);
  guard.note_all(warp, in, access, false);
}

template <typename E, typename D, bool kStore>
Handler pick_space(const OpKey& key) {
  const auto pick = [&]<Space kSpace>() -> Handler {
    if constexpr (kStore) return key.wide_address ? execute_st<E, D, kSpace, true> : execute_st<E, D, kSpace, false>;
    return key.wide_address ? execute_ld<E, D, kSpace, true> : execute_ld<E, D, kSpace, false>;
  };
  switch (key.space) {
    case Space::generic: return pick.template operator()<Space::generic>();
    case Space::shared: return pick.template operator()<Space::shared>();
    case Space::cluster: return pick.template operator()<Space::cluster>();
    case Space::local: return pick.template operator()<Space::local>();
    case Space::param: return pick.template operator()<Space::param>();
    case Space::global:
    case Space::constant: return pick.template operator()<Space::global>();
  }
  return nullptr;
}

template <typename E>
Handler pick_load(const OpKey& key) {
  return key.wide_register ? pick_space<E, std::uint64_t, false>(key) : pick_space<E, std::uint32_t, false>(key);
}

Handler find_ld(const OpKey& key) {
  switch (type_bytes(key.type)) {
    case 1: return is_signed(key.type) ? pick_load<std::int8_t>(key) : pick_load<std::uint8_t>(key);
    case 2: return is_signed(key.type) ? pick_load<std::int16_t>(key) : pick_load<std::uint16_t>(key);
    case 4: return is_signed(key.type) ? pick_load<std::int32_t>(key) : pick_load<std::uint32_t>(key);
    case 8: return key.wide_register ? pick_space<std::uint64_t, std::uint64_t, false>(key) : nullptr;
    default: return nullptr;
  }
}

template <typename E>
Handler pick_store(const OpKey& key) {
  return key.wide_register ? pick_space<E, std::uint64_t, true>(key) : pick_space<E, std::uint32_t, true>(key);
}

Handler find_st(const OpKey& key) {
  switch (type_bytes(key.type)) {
    case 1: return pick_store<std::uint8_t>(key);
    case 2: return pick_store<std::uint16_t>(key);
    case 4: return pick_store<std::uint32_t>(key);
    case 8: return key.wide_register ? pick_space<std::uint64_t, std::uint64_t, true>(key) : nullptr;
    default: return nullptr;
  }
}

void execute_prefetch(Warp&, const Instruction&) {}

}  // namespace

Handler find_memory(const OpKey& key) {
  switch (key.op) {
    case Opcode::ld: return find_ld(key);
    case Opcode::st: return find_st(key);
    case Opcode::prefetch: return execute_prefetch;
    default: return nullptr;
  }
}

}  // namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA

// atom and red. Lanes take turns in lane order; blocks on other cores are held off by host atomics.
#include <atomic>

#include "runtime/emulator/exec/access.h"
#include "runtime/emulator/semantics/floating.h"
#include "runtime/emulator/semantics/integers.h"

namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA {
namespace {

template <typename T, AtomicOp kOp>
T combine(T old, T operand) {
  if constexpr (kOp == AtomicOp::add && std::is_floating_point_v<T>) return canonical(old + operand);
  if constexpr (kOp == AtomicOp::add && std::is_integral_v<T>) return wrap_add(old, operand);
  if constexpr (kOp == AtomicOp::min) return operand < old ? operand : old;
  if constexpr (kOp == AtomicOp::max) return operand > old ? operand : old;
  if constexpr (kOp == AtomicOp::exch) return operand;
  if constexpr (std::is_integral_v<T>) {
    if constexpr (kOp == AtomicOp::and_) return old & operand;
    if constexpr (kOp == AtomicOp::or_) return old | operand;
    if constexpr (kOp == AtomicOp::xor_) return old ^ operand;
    if constexpr (kOp == AtomicOp::inc) return old >= operand ? 0 : wrap_add<T>(old, 1);
    if constexpr (kOp == AtomicOp::dec) return old == 0 || old > operand ? operand : wrap_sub<T>(old, 1);
  }
}

// flags: 1 if the old value is wanted (atom), 0 for red.
template <typename T, AtomicOp kOp, Space kSpace>
void execute(Warp& warp, const Instruction& in) {
  Access access;
  resolve(warp, in, kSpace, in.count != 0, AccessKind::atomic, sizeof(T), access);
  const StrongGuard guard(warp, in, access);
  const T* operand = warp.values<T>(in.b);
  const T* replacement = warp.values<T>(in.c);
  T* destination = warp.values<T>(in.dst);
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    std::atomic_ref<T> target(*reinterpret_cast<T*>(access.host[lane]));
    T old = target.load();
    if constexpr (kOp == AtomicOp::cas) {
      old = operand[lane];
      const bool swapped = target.compare_exchange_strong(old, replacement[lane]);
      guard.note(warp, in, lane, access.host[lane], true, swapped);
    } else {
      while (!target.compare_exchange_weak(old, combine<T, kOp>(old, operand[lane]))) {
      }
      guard.note(warp, in, lane, access.host[lane], true, true);
    }
    if ((in.flags & 1U) != 0) destination[lane] = old;
  }
}

template <typename T, AtomicOp kOp>
Handler pick_space(Space space) {
  switch (space) {
    case Space::generic: return execute<T, kOp, Space::generic>;
    case Space::global: return execute<T, kOp, Space::global>;
    case Space::shared: return execute<T, kOp, Space::shared>;
    case Space::cluster: return execute<T, kOp, Space::cluster>;
    default: return nullptr;
  }
}

template <AtomicOp kOp>
Handler pick_bits(const OpKey& key) {
  if (type_bytes(key.type) == 8) return pick_space<std::uint64_t, kOp>(key.space);
  return type_bytes(key.type) == 4 ? pick_space<std::uint32_t, kOp>(key.space) : nullptr;
}

template <AtomicOp kOp>
Handler pick_ordered(const OpKey& key) {
  switch (key.type) {
    case Type::u32: return pick_space<std::uint32_t, kOp>(key.space);
    case Type::s32: return pick_space<std::int32_t, kOp>(key.space);
    case Type::u64: return pick_space<std::uint64_t, kOp>(key.space);
    case Type::s64: return pick_space<std::int64_t, kOp>(key.space);
    default: return nullptr;
  }
}

Handler find_add(const OpKey& key) {
  if (key.type == Type::f32) return pick_space<float, AtomicOp::add>(key.space);
  if (key.type == Type::f64) return pick_space<double, AtomicOp::add>(key.space);
  return is_integer(key.type) ? pick_bits<AtomicOp::add>(key) : nullptr;
}

}  // namespace

Handler find_atomic(const OpKey& key) {
  if (key.op != Opcode::atom) return nullptr;
  switch (key.atomic) {
    case AtomicOp::add: return find_add(key);
    case AtomicOp::min: return pick_ordered<AtomicOp::min>(key);
    case AtomicOp::max: return pick_ordered<AtomicOp::max>(key);
    case AtomicOp::and_: return pick_bits<AtomicOp::and_>(key);
    case AtomicOp::or_: return pick_bits<AtomicOp::or_>(key);
    case AtomicOp::xor_: return pick_bits<AtomicOp::xor_>(key);
    case AtomicOp::exch: return pick_bits<AtomicOp::exch>(key);
    case AtomicOp::cas: return pick_bits<AtomicOp::cas>(key);
    case AtomicOp::inc: return key.type == Type::u32 ? pick_space<std::uint32_t, AtomicOp::inc>(key.space) : nullptr;
    case AtomicOp::dec: return key.type == Type::u32 ? pick_space<std::uint32_t, AtomicOp::dec>(key.space) : nullptr;
  }
  return nullptr;
}

}  // namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA

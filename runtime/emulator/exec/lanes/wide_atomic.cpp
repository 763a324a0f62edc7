// atom and red of 16-bit floats, of vectors, of 16 and 128 bits; ld and st of 128 bits. Elements of a vector are
// updated one by one: each is atomic, the vector is not.
#include <atomic>

#include "runtime/emulator/exec/access.h"
#include "runtime/emulator/exec/exchange.h"
#include "runtime/emulator/semantics/packed.h"

namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA {
namespace {

using U = std::uint32_t;

template <typename Format, AtomicOp kOp>
U combine_half(U old, U operand) {
  if constexpr (kOp == AtomicOp::add) return Format::add(Format::widen(old), Format::widen(operand));
  return extreme_16<Format>(old & 0xffffU, operand & 0xffffU, kOp == AtomicOp::max, false, false);
}

// How elements of an instruction's type are combined: f16 and bf16, alone or in pairs, and f32.
template <typename Format, AtomicOp kOp>
struct Single {
  using Element = std::uint16_t;
  static U combine(U old, U operand) { return combine_half<Format, kOp>(old, operand); }
};
template <typename Format, AtomicOp kOp>
struct Pair {
  using Element = std::uint32_t;
  static U combine(U old, U operand) {
    return combine_half<Format, kOp>(old, operand) | combine_half<Format, kOp>(old >> 16, operand >> 16) << 16;
  }
};
// In global memory subnormal operands and results are flushed.
struct Float {
  using Element = std::uint32_t;
  static U combine(U old, U operand) {
    return bits_of(canonical(flush(flush(float_of(old)) + flush(float_of(operand)))));
  }
};

// flags: 1 if the old values are wanted. operands: destinations, then sources.
template <typename Rule, Space kSpace>
void execute(Warp& warp, const Instruction& in) {
  using Element = typename Rule::Element;
  const Slot* destinations = &warp.program->operands[in.operands];
  const Slot* sources = destinations + in.count;
  for (U i = 0; i < in.count; ++i) {
    const U undefined = warp.mask & ~warp.written[sources[i].id];
    if (undefined != 0) fault_undefined(warp, in, undefined, sources[i].id);
  }
  Access access;
  const auto bytes = static_cast<U>(sizeof(Element) * in.count);
  resolve(warp, in, kSpace, in.target != 0, AccessKind::atomic, bytes, access);
  for (U rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    for (U i = 0; i < in.count; ++i) {
      std::atomic_ref<Element> target(reinterpret_cast<Element*>(access.host[lane])[i]);
      const U operand = warp.values<U>(sources[i])[lane];
      Element old = target.load();
      while (!target.compare_exchange_weak(old, static_cast<Element>(Rule::combine(old, operand)))) {
      }
      if ((in.flags & 1U) != 0) warp.values<U>(destinations[i])[lane] = old;
    }
  }
  if ((in.flags & 1U) == 0) return;
  for (U i = 0; i < in.count; ++i) {
    if (destinations[i].id != kConstantId) warp.written[destinations[i].id] |= warp.mask;
  }
}

template <Space kSpace>
void execute_cas_16(Warp& warp, const Instruction& in) {
  Access access;
  resolve(warp, in, kSpace, in.target != 0, AccessKind::atomic, 2, access);
  const auto* expected = warp.values<U>(in.b);
  const auto* value = warp.values<U>(in.c);
  auto* destination = warp.values<U>(in.dst);
  for (U rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    std::atomic_ref<std::uint16_t> target(*reinterpret_cast<std::uint16_t*>(access.host[lane]));
    auto old = static_cast<std::uint16_t>(expected[lane]);
    target.compare_exchange_strong(old, static_cast<std::uint16_t>(value[lane]));
    if ((in.flags & 1U) != 0) destination[lane] = old;
  }
}

template <Space kSpace>
void execute_128(Warp& warp, const Instruction& in) {
  Access access;
  resolve(warp, in, kSpace, in.target != 0, AccessKind::atomic, 16, access);
  const bool compares = in.count == 2;
  const auto* first = warp.values<Word128>(in.b);
  const auto* second = warp.values<Word128>(in.c);
  auto* destination = warp.values<Word128>(in.dst);
  for (U rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    auto* address = reinterpret_cast<std::byte*>(access.host[lane]);
    const Word128 old =
        compares ? exchange_128(address, &first[lane], second[lane]) : exchange_128(address, nullptr, first[lane]);
    if ((in.flags & 1U) != 0) destination[lane] = old;
  }
}

template <Space kSpace>
void execute_ld_128(Warp& warp, const Instruction& in) {
  Access access;
  resolve(warp, in, kSpace, in.target != 0, AccessKind::load, 16, access);
  auto* destination = warp.values<Word128>(in.dst);
  for (U rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    const auto* words = reinterpret_cast<const std::uint64_t*>(access.host[lane]);
    destination[lane] = {__atomic_load_n(words, __ATOMIC_RELAXED), __atomic_load_n(words + 1, __ATOMIC_RELAXED)};
  }
}

template <Space kSpace>
void execute_st_128(Warp& warp, const Instruction& in) {
  Access access;
  resolve(warp, in, kSpace, in.target != 0, AccessKind::store, 16, access);
  const auto* source = warp.values<Word128>(in.b);
  for (U rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    auto* words = reinterpret_cast<std::uint64_t*>(access.host[lane]);
    __atomic_store_n(words, source[lane].low, __ATOMIC_RELAXED);
    __atomic_store_n(words + 1, source[lane].high, __ATOMIC_RELAXED);
  }
}

template <typename F>
Handler pick_space(Space space, F pick) {
  switch (space) {
    case Space::generic: return pick.template operator()<Space::generic>();
    case Space::global:
    case Space::constant: return pick.template operator()<Space::global>();
    case Space::shared: return pick.template operator()<Space::shared>();
    case Space::cluster: return pick.template operator()<Space::cluster>();
    case Space::local: return pick.template operator()<Space::local>();
    case Space::param: return pick.template operator()<Space::param>();
  }
  return nullptr;
}

template <typename Rule>
Handler pick_rule(Space space) {
  return pick_space(space, []<Space kSpace>() -> Handler { return execute<Rule, kSpace>; });
}

template <AtomicOp kOp>
Handler pick_type(const OpKey& key) {
  switch (key.type) {
    case Type::f16: return pick_rule<Single<F16, kOp>>(key.space);
    case Type::bf16: return pick_rule<Single<Bf16, kOp>>(key.space);
    case Type::f16x2: return pick_rule<Pair<F16, kOp>>(key.space);
    case Type::bf16x2: return pick_rule<Pair<Bf16, kOp>>(key.space);
    case Type::f32: return kOp == AtomicOp::add ? pick_rule<Float>(key.space) : nullptr;
    default: return nullptr;
  }
}

Handler find_vector(const OpKey& key) {
  switch (key.atomic) {
    case AtomicOp::add: return pick_type<AtomicOp::add>(key);
    case AtomicOp::min: return pick_type<AtomicOp::min>(key);
    case AtomicOp::max: return pick_type<AtomicOp::max>(key);
    case AtomicOp::cas:
      if (key.type != Type::b16) return nullptr;
      return pick_space(key.space, []<Space kSpace>() -> Handler { return execute_cas_16<kSpace>; });
    default: return nullptr;
  }
}

}  // namespace

Handler find_wide_atomic(const OpKey& key) {
  switch (key.op) {
    case Opcode::atom_vector: return find_vector(key);
    case Opcode::atom_128: return pick_space(key.space, []<Space kSpace>() -> Handler { return execute_128<kSpace>; });
    case Opcode::ld_128: return pick_space(key.space, []<Space kSpace>() -> Handler { return execute_ld_128<kSpace>; });
    case Opcode::st_128: return pick_space(key.space, []<Space kSpace>() -> Handler { return execute_st_128<kSpace>; });
    default: return nullptr;
  }
}

}  // namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA

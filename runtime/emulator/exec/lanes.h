// Loops over the 32 lanes of a warp. Included by the files that are compiled once per instruction set.
#pragma once

#include <type_traits>

#include "runtime/emulator/exec/handlers.h"

namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA {

// Values of fewer than 32 bits live in 32-bit lanes; readers cut them to size, so upper bits do not matter.
template <typename T>
using Stored = std::conditional_t<(sizeof(T) < 4), std::uint32_t, T>;

// Writes f(lane) to the active lanes. Source and destination may be one register.
template <typename D, typename F>
static inline void for_lanes(const Warp& warp, D* destination, F f) {
  const std::uint32_t mask = warp.mask;
  if (mask == kAllLanes) {
#pragma GCC ivdep
    for (int lane = 0; lane < kLanes; ++lane) destination[lane] = f(lane);
  } else {
#pragma GCC ivdep
    for (int lane = 0; lane < kLanes; ++lane) {
      const D value = f(lane);
      destination[lane] = (mask >> lane & 1U) != 0 ? value : destination[lane];
    }
  }
}

template <typename T>
static inline Stored<T> stored(T value) {
  if constexpr (sizeof(T) < 4) {
    return static_cast<std::uint32_t>(static_cast<std::make_unsigned_t<T>>(value));
  } else {
    return value;
  }
}

template <typename T>
static inline T loaded(Stored<T> value) {
  return static_cast<T>(value);
}

template <typename A, typename D, typename F>
static inline void unary(Warp& warp, const Instruction& in, F f) {
  const auto* a = warp.values<Stored<A>>(in.a);
  for_lanes(warp, warp.values<Stored<D>>(in.dst), [&](int lane) { return stored<D>(f(loaded<A>(a[lane]))); });
}

template <typename T, typename D, typename F>
static inline void binary(Warp& warp, const Instruction& in, F f) {
  const auto* a = warp.values<Stored<T>>(in.a);
  const auto* b = warp.values<Stored<T>>(in.b);
  for_lanes(warp, warp.values<Stored<D>>(in.dst),
            [&](int lane) { return stored<D>(f(loaded<T>(a[lane]), loaded<T>(b[lane]))); });
}

template <typename A, typename B, typename C, typename D, typename F>
static inline void ternary(Warp& warp, const Instruction& in, F f) {
  const auto* a = warp.values<Stored<A>>(in.a);
  const auto* b = warp.values<Stored<B>>(in.b);
  const auto* c = warp.values<Stored<C>>(in.c);
  for_lanes(warp, warp.values<Stored<D>>(in.dst),
            [&](int lane) { return stored<D>(f(loaded<A>(a[lane]), loaded<B>(b[lane]), loaded<C>(c[lane]))); });
}

// The families. Each answers for its opcodes only.
Handler find_packed(const OpKey& key);
Handler find_wide_atomic(const OpKey& key);
Handler find_narrow(const OpKey& key);
Handler find_floating(const OpKey& key);
Handler find_integer(const OpKey& key);
Handler find_bits(const OpKey& key);
Handler find_compare(const OpKey& key);
Handler find_convert(const OpKey& key);
Handler find_movement(const OpKey& key);
Handler find_memory(const OpKey& key);
Handler find_atomic(const OpKey& key);
Handler find_collective(const OpKey& key);
Handler find_control(const OpKey& key);
Handler find_tensor(const OpKey& key);
Handler find_matrix(const OpKey& key);

Handler find(const OpKey& key);
std::uint32_t run_warp(Warp& warp, std::uint32_t quantum);

}  // namespace gdnjit::emulator::GDNJIT_EMULATOR_ISA

// The vocabulary of PTX that parser, decoder and execution share.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace gdnjit::emulator {

inline constexpr int kLanes = 32;
inline constexpr std::uint32_t kAllLanes = 0xffffffffU;

enum class Type : std::uint8_t {
  none,
  pred,
  b8,
  b16,
  b32,
  b64,
  u8,
  u16,
  u32,
  u64,
  s8,
  s16,
  s32,
  s64,
  f16,
  bf16,
  f16x2,
  bf16x2,
  tf32,
  f32,
  f64,
  f32x2,
  e4m3,
  e5m2,
  e2m3,
  e3m2,
  e2m1,
  ue8m0,
  e4m3x2,
  e5m2x2,
  e2m3x2,
  e3m2x2,
  e2m1x2,
  ue8m0x2,
  e4m3x4,
  e5m2x4,
  e2m3x4,
  e3m2x4,
  e2m1x4,
  u16x2,
  s16x2,
  b128,
};

constexpr int type_bytes(Type type) {
  switch (type) {
    case Type::b8:
    case Type::u8:
    case Type::s8:
    case Type::e4m3:
    case Type::e5m2:
    case Type::e2m3:
    case Type::e3m2:
    case Type::e2m1:
    case Type::ue8m0:
    case Type::e2m1x2: return 1;
    case Type::b16:
    case Type::u16:
    case Type::s16:
    case Type::f16:
    case Type::bf16:
    case Type::e4m3x2:
    case Type::e5m2x2:
    case Type::e2m3x2:
    case Type::e3m2x2:
    case Type::ue8m0x2:
    case Type::e2m1x4: return 2;
    case Type::b32:
    case Type::u32:
    case Type::s32:
    case Type::f16x2:
    case Type::bf16x2:
    case Type::tf32:
    case Type::f32:
    case Type::e4m3x4:
    case Type::e5m2x4:
    case Type::e2m3x4:
    case Type::e3m2x4:
    case Type::u16x2:
    case Type::s16x2: return 4;
    case Type::b64:
    case Type::u64:
    case Type::s64:
    case Type::f64:
    case Type::f32x2: return 8;
    case Type::b128: return 16;
    case Type::none:
    case Type::pred: return 0;
  }
  return 0;
}
constexpr bool is_signed(Type type) {
  return type == Type::s8 || type == Type::s16 || type == Type::s32 || type == Type::s64;
}
constexpr bool is_unsigned(Type type) {
  return type == Type::u8 || type == Type::u16 || type == Type::u32 || type == Type::u64;
}
constexpr bool is_integer(Type type) { return is_signed(type) || is_unsigned(type); }
// Types with arithmetic; the formats of 8 bits and fewer are only converted and multiplied by tensor cores.
constexpr bool is_float(Type type) { return type >= Type::f16 && type <= Type::f32x2; }
constexpr bool is_bits(Type type) { return (type >= Type::b8 && type <= Type::b64) || type == Type::b128; }

// "f32" -> Type::f32.
std::optional<Type> find_type(std::string_view name);
std::string_view type_name(Type type);

// cluster: shared memory of any block of the cluster.
enum class Space : std::uint8_t { generic, global, shared, cluster, local, param, constant };

// rni..rpi round to an integral value.
enum class Round : std::uint8_t { none, rn, rz, rm, rp, rni, rzi, rmi, rpi, rna };

enum class Compare : std::uint8_t { eq, ne, lt, le, gt, ge, equ, neu, ltu, leu, gtu, geu, num, nan };

// How a memory access orders others, and which threads it includes. weak is the default of ld and st.
enum class Order : std::uint8_t { weak, relaxed, acquire, release, acq_rel };
enum class Scope : std::uint8_t { cta, cluster, gpu };

enum class BoolOp : std::uint8_t { none, land, lor, lxor };

}  // namespace gdnjit::emulator

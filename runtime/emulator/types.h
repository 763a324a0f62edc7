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
};

constexpr int type_bytes(Type type) {
  switch (type) {
    case Type::b8:
    case Type::u8:
    case Type::s8: return 1;
    case Type::b16:
    case Type::u16:
    case Type::s16:
    case Type::f16:
    case Type::bf16: return 2;
    case Type::b32:
    case Type::u32:
    case Type::s32:
    case Type::f16x2:
    case Type::bf16x2:
    case Type::tf32:
    case Type::f32: return 4;
    case Type::b64:
    case Type::u64:
    case Type::s64:
    case Type::f64: return 8;
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
constexpr bool is_float(Type type) { return type >= Type::f16; }
constexpr bool is_bits(Type type) { return type >= Type::b8 && type <= Type::b64; }

// "f32" -> Type::f32.
std::optional<Type> find_type(std::string_view name);
std::string_view type_name(Type type);

enum class Space : std::uint8_t { generic, global, shared, local, param, constant };

// rni..rpi round to an integral value.
enum class Round : std::uint8_t { none, rn, rz, rm, rp, rni, rzi, rmi, rpi, rna };

enum class Compare : std::uint8_t { eq, ne, lt, le, gt, ge, equ, neu, ltu, leu, gtu, geu, num, nan };

enum class BoolOp : std::uint8_t { none, land, lor, lxor };

}  // namespace gdnjit::emulator

// Inputs of matrix cases, the same on every machine.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

namespace gdnjit::vectors {

enum class Element : unsigned char { f16, bf16, tf32, e4m3, e5m2, s8, u8 };

constexpr int element_bytes(Element element) {
  return element == Element::tf32 ? 4 : element == Element::f16 || element == Element::bf16 ? 2 : 1;
}

// Encodings of -3..3 in steps of one: sums of their products are exact in fp32 in any order.
inline std::uint32_t small_integer(Element element, int value) {
  static constexpr std::uint32_t kHalf[] = {0, 0x3c00, 0x4000, 0x4200};
  static constexpr std::uint32_t kE4m3[] = {0, 0x38, 0x40, 0x44};
  static constexpr std::uint32_t kE5m2[] = {0, 0x3c, 0x40, 0x42};
  const int size = value < 0 ? -value : value;
  const std::uint32_t negative = value < 0 ? 1 : 0;
  switch (element) {
    case Element::f16: return kHalf[size] | negative << 15;
    case Element::e4m3: return kE4m3[size] | negative << 7;
    case Element::e5m2: return kE5m2[size] | negative << 7;
    case Element::s8: return static_cast<std::uint32_t>(value) & 0xffU;
    case Element::u8: return static_cast<std::uint32_t>(size);
    default: break;
  }
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
  return element == Element::tf32 ? bits : bits >> 16;
}

// Any finite values of moderate size.
inline std::uint32_t ordinary(Element element, std::uint32_t random) {
  switch (element) {
    case Element::f16: return (random & 0x83ffU) | (11 + (random >> 16) % 8) << 10;
    case Element::bf16: return (random & 0x807fU) | (123 + (random >> 16) % 8) << 7;
    case Element::tf32: return (random & 0x807fe000U) | (123 + (random >> 8) % 8) << 23;
    case Element::e4m3: return (random & 0x87U) | (4 + (random >> 16) % 6) << 3;
    case Element::e5m2: return (random & 0x83U) | (12 + (random >> 16) % 6) << 2;
    default: return random & 0xffU;
  }
}

inline std::vector<std::byte> matrix_bytes(Element element, std::size_t count, bool small, std::uint32_t seed) {
  std::mt19937 random(seed);
  const auto size = static_cast<std::size_t>(element_bytes(element));
  std::vector<std::byte> bytes(count * size);
  for (std::size_t i = 0; i < count; ++i) {
    const auto draw = static_cast<std::uint32_t>(random());
    const std::uint32_t value =
        small ? small_integer(element, static_cast<int>(draw % 7) - 3) : ordinary(element, draw);
    std::memcpy(bytes.data() + i * size, &value, size);
  }
  return bytes;
}

}  // namespace gdnjit::vectors

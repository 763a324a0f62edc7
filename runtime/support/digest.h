// 128-bit content digests (XXH3). They detect accidents, not attackers: a cache is trusted by its owner and mode.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace gdnjit {

struct Digest {
  std::uint64_t high = 0;
  std::uint64_t low = 0;

  std::string hex() const;  // 32 lower-case digits
  friend bool operator==(const Digest&, const Digest&) = default;
};

Digest digest_of(std::span<const std::byte> bytes);
Digest digest_of(std::string_view text);

// Digest of several texts; each is preceded by its length, so ("ab","c") and ("a","bc") differ.
Digest digest_of_parts(std::span<const std::string_view> parts);

struct DigestHash {
  std::size_t operator()(const Digest& digest) const noexcept { return static_cast<std::size_t>(digest.low); }
};

}  // namespace gdnjit

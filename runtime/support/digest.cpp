#include "runtime/support/digest.h"

#define XXH_INLINE_ALL
#include <fmt/format.h>
#include <xxhash.h>

namespace gdnjit {

std::string Digest::hex() const { return fmt::format("{:016x}{:016x}", high, low); }

Digest digest_of(std::span<const std::byte> bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.high64, hash.low64};
}

Digest digest_of(std::string_view text) { return digest_of(std::as_bytes(std::span(text.data(), text.size()))); }

Digest digest_of_parts(std::span<const std::string_view> parts) {
  std::string joined;
  for (std::string_view part : parts) {
    joined += fmt::format("{}:", part.size());
    joined += part;
  }
  return digest_of(std::string_view(joined));
}

}  // namespace gdnjit

// Cache hints, as a field of kernel configs. Host code includes this file too.
#pragma once

namespace gdnjit::device {

// How long a line should live in the caches.
enum class CacheHint : unsigned char {
  normal,
  streaming,  // touched once: evict first
};

}  // namespace gdnjit::device

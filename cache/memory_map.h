// The records this process holds, up to a number of bytes; beyond it the ones not asked for lately go.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <shared_mutex>
#include <string_view>
#include <unordered_map>

#include "cache/record.h"

namespace gdnjit::cache {

// Thread-safe; a hit takes a shared lock and copies one shared_ptr.
class MemoryMap {
 public:
  using BinaryPtr = std::shared_ptr<const BinaryRecord>;

  explicit MemoryMap(std::int64_t limit_bytes) : limit_bytes_(limit_bytes) {}

  // Null also if the key is there with another signature.
  BinaryPtr find(const Digest& key, std::string_view signature) const;
  // The newest ready record of a request.
  BinaryPtr find_request(const Digest& request, std::string_view signature) const;
  void put(BinaryPtr record);

  std::shared_mutex& mutex() const { return mutex_; }  // for fork

 private:
  struct Entry {
    BinaryPtr record;
    std::list<Digest>::iterator place;
    mutable std::atomic<bool> used{false};
  };
  void evict();

  mutable std::shared_mutex mutex_;
  std::unordered_map<Digest, Entry, DigestHash> entries_;
  std::list<Digest> order_;  // second chance: the front goes next unless used since it was last considered
  std::int64_t bytes_ = 0;
  std::int64_t limit_bytes_;
};

}  // namespace gdnjit::cache

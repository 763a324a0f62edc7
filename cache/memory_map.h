// The records this process holds, up to a number of bytes; beyond it the ones not asked for lately go.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string_view>
#include <unordered_map>

#include "cache/record.h"

namespace gdnjit::cache {

// Thread-safe; a hit copies one shared_ptr under a mutex. (Not a shared_mutex: glibc cannot unlock one in the child
// of a fork.)
class MemoryMap {
 public:
  using BinaryPtr = std::shared_ptr<const BinaryRecord>;

  explicit MemoryMap(std::int64_t limit_bytes) : limit_bytes_(limit_bytes) {}

  // Null also if the key is there with another signature.
  BinaryPtr find(const Digest& key, std::string_view signature) const;
  // The newest ready record of a request.
  BinaryPtr find_request(const Digest& request, std::string_view signature) const;
  void put(BinaryPtr record);

  std::mutex& mutex() const { return mutex_; }  // for fork

 private:
  struct Entry {
    BinaryPtr record;
    std::list<Digest>::iterator place;
    mutable bool used = false;
  };
  void evict();

  mutable std::mutex mutex_;
  std::unordered_map<Digest, Entry, DigestHash> entries_;
  std::list<Digest> order_;  // second chance: the front goes next unless used since it was last considered
  std::int64_t bytes_ = 0;
  std::int64_t limit_bytes_;
};

}  // namespace gdnjit::cache

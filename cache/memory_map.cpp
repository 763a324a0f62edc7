#include "cache/memory_map.h"

#include <utility>

namespace gdnjit::cache {
namespace {

std::int64_t bytes_of(const BinaryRecord& r) {
  return static_cast<std::int64_t>(sizeof(r) + r.signature.size() + r.source.size() + r.ptx.size() + r.cubin.size() +
                                   r.log.size());
}

}  // namespace

MemoryMap::BinaryPtr MemoryMap::find(const Digest& key, std::string_view signature) const {
  std::lock_guard lock(mutex_);
  const auto found = entries_.find(key);
  if (found == entries_.end() || found->second.record->signature != signature) return nullptr;
  found->second.used = true;
  return found->second.record;
}

MemoryMap::BinaryPtr MemoryMap::find_request(const Digest& request, std::string_view signature) const {
  std::lock_guard lock(mutex_);
  BinaryPtr best;
  for (const auto& [key, entry] : entries_) {
    const BinaryRecord& r = *entry.record;
    if (r.request != request || r.status != BinaryStatus::ready || r.signature != signature) continue;
    if (!best || r.created_unix_s > best->created_unix_s) best = entry.record;
  }
  return best;
}

void MemoryMap::put(BinaryPtr record) {
  std::lock_guard lock(mutex_);
  bytes_ += bytes_of(*record);
  const auto [found, added] = entries_.try_emplace(record->key);
  Entry& entry = found->second;
  if (added) {
    entry.place = order_.insert(order_.end(), record->key);
  } else {
    bytes_ -= bytes_of(*entry.record);
  }
  entry.record = std::move(record);
  evict();
}

void MemoryMap::evict() {
  while (bytes_ > limit_bytes_ && order_.size() > 1) {
    const auto found = entries_.find(order_.front());
    if (std::exchange(found->second.used, false)) {
      order_.splice(order_.end(), order_, order_.begin());
      continue;
    }
    bytes_ -= bytes_of(*found->second.record);
    order_.pop_front();
    entries_.erase(found);
  }
}

}  // namespace gdnjit::cache

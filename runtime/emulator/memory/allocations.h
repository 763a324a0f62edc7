// The emulator's device memory: named host allocations with a record of what has been written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/emulator/memory/ranges.h"
#include "runtime/emulator/memory/shadow.h"

namespace gdnjit::emulator {

// Thread-safe. Shadows handed out stay valid while somebody holds the shared pointers of `hold`.
class Allocations {
 public:
  ~Allocations();

  // 256-byte aligned, poisoned with NaN. Throws Error(out_of_memory).
  void* allocate(std::size_t bytes, std::string_view name);
  void release(void* memory) noexcept;

  // The bytes lie inside one live allocation; they are marked as written. Throws Error(device_failed) saying `doing`.
  void check_and_mark(void* memory, std::size_t bytes, std::string_view doing);
  void check(const void* memory, std::size_t bytes, std::string_view doing) const;

  // Poisons the bytes; those of a live allocation are unwritten from now on. Other memory has no record of writes.
  void discard(void* memory, std::size_t bytes);

  // Every live allocation, as a range table takes it; `hold` keeps their shadows alive.
  std::vector<BufferSource> sources(std::vector<std::shared_ptr<ShadowBits>>& hold) const;

 private:
  struct Allocation {
    std::size_t bytes = 0;
    std::string name;
    std::shared_ptr<ShadowBits> shadow;
  };
  const Allocation& find(std::uint64_t begin, std::size_t bytes, std::string_view doing, std::uint64_t& offset) const;

  mutable std::mutex mutex_;
  std::map<std::uint64_t, Allocation> live_;
};

}  // namespace gdnjit::emulator

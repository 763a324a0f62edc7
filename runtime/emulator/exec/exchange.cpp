#include "runtime/emulator/exec/exchange.h"

#include <atomic>
#include <mutex>

namespace gdnjit::emulator {

Word128 exchange_128(std::byte* address, const Word128* expected, const Word128& value) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  auto* words = reinterpret_cast<std::uint64_t*>(address);
  const Word128 old{std::atomic_ref(words[0]).load(), std::atomic_ref(words[1]).load()};
  if (expected == nullptr || old == *expected) {
    std::atomic_ref(words[0]).store(value.low);
    std::atomic_ref(words[1]).store(value.high);
  }
  return old;
}

}  // namespace gdnjit::emulator

#include "runtime/emulator/memory/allocations.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "runtime/support/check.h"

namespace gdnjit::emulator {
namespace {

constexpr std::size_t kAlignment = 256;
constexpr std::size_t kMaxBytes = 1ULL << 40;  // more than any machine has
constexpr int kPoison = 0xff;                  // NaN in every floating-point format

std::uint64_t address_of(const void* memory) { return reinterpret_cast<std::uint64_t>(memory); }

}  // namespace

Allocations::~Allocations() {
  for (const auto& [begin, allocation] : live_) std::free(reinterpret_cast<void*>(begin));
}

void* Allocations::allocate(std::size_t bytes, std::string_view name) {
  if (bytes > kMaxBytes) fail(ErrorCode::out_of_memory, "emulator: allocating {} bytes for '{}'", bytes, name);
  const std::size_t size = (std::max<std::size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  void* memory = std::aligned_alloc(kAlignment, size);
  if (memory == nullptr)
    fail(ErrorCode::out_of_memory, "emulator: allocating {} bytes for '{}': this machine has no more memory", bytes,
         name);
  std::memset(memory, kPoison, size);
  try {
    const std::lock_guard lock(mutex_);
    live_[address_of(memory)] = {bytes, std::string(name), std::make_shared<ShadowBits>(bytes)};
  } catch (...) {
    std::free(memory);
    throw;
  }
  return memory;
}

void Allocations::release(void* memory) noexcept {
  if (memory == nullptr) return;
  const std::lock_guard lock(mutex_);
  if (live_.erase(address_of(memory)) != 0) std::free(memory);
}

const Allocations::Allocation& Allocations::find(std::uint64_t begin, std::size_t bytes, std::string_view doing,
                                                 std::uint64_t& offset) const {
  auto above = live_.upper_bound(begin);
  if (above == live_.begin()) fail(ErrorCode::device_failed, "emulator: {}: 0x{:x} is not device memory", doing, begin);
  const auto& [start, allocation] = *std::prev(above);
  offset = begin - start;
  if (offset > allocation.bytes || (offset == allocation.bytes && bytes != 0)) {
    fail(ErrorCode::device_failed, "emulator: {}: 0x{:x} is not device memory", doing, begin);
  }
  if (bytes > allocation.bytes - offset) {
    fail(ErrorCode::device_failed, "emulator: {}: {} bytes at offset {} of '{}', which has {} bytes", doing, bytes,
         offset, allocation.name, allocation.bytes);
  }
  return allocation;
}

void Allocations::check(const void* memory, std::size_t bytes, std::string_view doing) const {
  if (bytes == 0) return;
  std::uint64_t offset = 0;
  const std::lock_guard lock(mutex_);
  find(address_of(memory), bytes, doing, offset);
}

void Allocations::check_and_mark(void* memory, std::size_t bytes, std::string_view doing) {
  if (bytes == 0) return;
  std::uint64_t offset = 0;
  const std::lock_guard lock(mutex_);
  find(address_of(memory), bytes, doing, offset).shadow->mark(offset, bytes);
}

void Allocations::discard(void* memory, std::size_t bytes) {
  if (bytes == 0) return;
  std::memset(memory, kPoison, bytes);
  const std::uint64_t begin = address_of(memory);
  const std::lock_guard lock(mutex_);
  const auto above = live_.upper_bound(begin);
  if (above == live_.begin()) return;
  const auto& [start, allocation] = *std::prev(above);
  if (begin - start + bytes <= allocation.bytes) allocation.shadow->unmark(begin - start, bytes);
}

std::vector<BufferSource> Allocations::sources(std::vector<std::shared_ptr<ShadowBits>>& hold) const {
  std::vector<BufferSource> result;
  const std::lock_guard lock(mutex_);
  for (const auto& [begin, allocation] : live_) {
    hold.push_back(allocation.shadow);
    result.push_back({.begin = begin,
                      .end = begin + allocation.bytes,
                      .name = allocation.name,
                      .readable = true,
                      .writable = true,
                      .shadow = allocation.shadow.get(),
                      .shadow_begin = begin});
  }
  return result;
}

}  // namespace gdnjit::emulator

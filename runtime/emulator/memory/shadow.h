// One bit per byte of memory: has it been written?
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace gdnjit::emulator {

// Marking is safe from several threads at once; blocks of a launch share global memory.
class ShadowBits {
 public:
  ShadowBits() = default;
  explicit ShadowBits(std::uint64_t bytes) : words_(new std::uint64_t[words_of(bytes)]()), bytes_(bytes) {}

  explicit operator bool() const { return words_ != nullptr; }
  std::uint64_t bytes() const { return bytes_; }

  void clear() {
    for (std::uint64_t word = 0; word < words_of(bytes_); ++word) words_[word] = 0;
  }

  // REQUIRES: begin + count <= bytes(), count > 0.
  void mark(std::uint64_t begin, std::uint64_t count) {
    visit(begin, count, [](std::uint64_t& word, std::uint64_t bits) {
      std::atomic_ref<std::uint64_t> shared(word);
      if (bits == ~0ULL) {
        shared.store(bits, std::memory_order_relaxed);
      } else if ((shared.load(std::memory_order_relaxed) & bits) != bits) {
        shared.fetch_or(bits, std::memory_order_relaxed);
      }
      return true;
    });
  }

  void unmark(std::uint64_t begin, std::uint64_t count) {
    visit(begin, count, [](std::uint64_t& word, std::uint64_t bits) {
      std::atomic_ref<std::uint64_t>(word).fetch_and(~bits, std::memory_order_relaxed);
      return true;
    });
  }

  bool all_marked(std::uint64_t begin, std::uint64_t count) const {
    return visit(begin, count, [](std::uint64_t& word, std::uint64_t bits) {
      return (std::atomic_ref<std::uint64_t>(word).load(std::memory_order_relaxed) & bits) == bits;
    });
  }

 private:
  static std::uint64_t words_of(std::uint64_t bytes) { return bytes / 64 + 1; }

  // Calls visitor(word, bits) until it says false; returns whether it never did.
  template <typename Visitor>
  bool visit(std::uint64_t begin, std::uint64_t count, Visitor visitor) const {
    const std::uint64_t end = begin + count;
    for (std::uint64_t at = begin; at < end;) {
      const std::uint64_t first = at % 64;
      const std::uint64_t take = end - at < 64 - first ? end - at : 64 - first;
      const std::uint64_t bits = (take == 64 ? ~0ULL : (1ULL << take) - 1) << first;
      if (!visitor(words_[at / 64], bits)) return false;
      at += take;
    }
    return true;
  }

  std::unique_ptr<std::uint64_t[]> words_;
  std::uint64_t bytes_ = 0;
};

}  // namespace gdnjit::emulator

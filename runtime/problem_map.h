// A map from a typed problem to what was prepared for it, fast enough to stand before every launch: a packing of the
// fields, a hash and a comparison with what the thread found last under that hash; else a look-up under a shared lock.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace gdnjit {

// The bits of all fields, each at its natural alignment, and zeros between them: equal problems have equal words.
// The words are put together in registers: stored byte by byte and read as words they would cost ten times as much.
template <typename Problem>
struct ProblemKey {
  static constexpr std::size_t kWords = (sizeof(Problem) + 7) / 8;
  std::array<std::uint64_t, kWords> words{};

  explicit ProblemKey(const Problem& problem) {
    std::size_t offset = 0;
    visit_fields(
        problem, [&](std::string_view, const auto& value) __attribute__((always_inline)) {
          constexpr std::size_t kBytes = sizeof(value);
          offset = (offset + kBytes - 1) / kBytes * kBytes;
          words[offset / 8] |= std::uint64_t{bits_of(value)} << (offset % 8 * 8);
          offset += kBytes;
        });
  }
  friend bool operator==(const ProblemKey&, const ProblemKey&) = default;

 private:
  template <typename T>
  static auto bits_of(const T& value) {
    if constexpr (sizeof(T) == 8) {
      return std::bit_cast<std::uint64_t>(value);
    } else if constexpr (sizeof(T) == 4) {
      return std::bit_cast<std::uint32_t>(value);
    } else {
      static_assert(sizeof(T) == 1, "a field of a problem is 1, 4 or 8 bytes wide");
      return std::bit_cast<std::uint8_t>(value);
    }
  }
};

template <typename Problem>
struct ProblemKeyHash {
  // A sum of folded 64 x 64 bit products, each word with a secret of its own: the products do not wait for each other.
  std::size_t operator()(const ProblemKey<Problem>& key) const noexcept {
    std::uint64_t hash = 0;
    std::uint64_t secret = kGolden;
    for (const std::uint64_t word : key.words) {
      hash += folded_product(word ^ secret, secret * kGolden | 1);
      secret += kGolden;
    }
    return static_cast<std::size_t>(folded_product(hash, kGolden));
  }

 private:
  static constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15ULL;

  static std::uint64_t folded_product(std::uint64_t left, std::uint64_t right) {
    const unsigned __int128 product = static_cast<unsigned __int128>(left) * right;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  }
};

// Thread-safe. Entries live as long as the map.
template <typename Problem, typename Value>
class ProblemMap {
 public:
  ProblemMap() : id_(next_id()) {}
  ProblemMap(const ProblemMap&) = delete;
  ProblemMap& operator=(const ProblemMap&) = delete;

  // nullptr if absent. The reference stays valid as long as the map.
  const std::shared_ptr<const Value>* find(const Problem& problem) const {
    const Key key(problem);
    Memo& memo = memos_[Hash{}(key) % kMemos];
    if (memo.map_id == id_ && memo.words == key.words) return memo.entry;
    const std::shared_lock lock(mutex_);
    const auto found = entries_.find(key);
    if (found == entries_.end()) return nullptr;
    memo = {id_, key.words, &found->second};
    return &found->second;
  }

  // The entry now in the map: another thread's if it came first.
  const std::shared_ptr<const Value>& insert(const Problem& problem, std::shared_ptr<const Value> value) {
    const std::unique_lock lock(mutex_);
    return entries_.try_emplace(Key(problem), std::move(value)).first->second;
  }

 private:
  using Key = ProblemKey<Problem>;
  using Hash = ProblemKeyHash<Problem>;

  // The thread's latest finds, which need no lock. Ids are never used twice and begin at 1, so a memo cannot outlive
  // its map unnoticed.
  struct Memo {
    std::uint64_t map_id;
    std::array<std::uint64_t, Key::kWords> words;
    const std::shared_ptr<const Value>* entry;
  };
  static constexpr std::size_t kMemos = 16;
  static inline thread_local constinit std::array<Memo, kMemos> memos_{};

  static std::uint64_t next_id() {
    static std::atomic<std::uint64_t> last{0};
    return ++last;
  }

  const std::uint64_t id_;
  mutable std::shared_mutex mutex_;
  std::unordered_map<Key, std::shared_ptr<const Value>, Hash> entries_;  // never moved, never erased
};

}  // namespace gdnjit

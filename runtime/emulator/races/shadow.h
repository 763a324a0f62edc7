// What the race detector remembers of memory: for each cell its last write and, by warp, its last reads.
//
// A cell is a power of two of bytes, as large as the accesses allow: a warp that moves 512 bytes in a row is one cell.
// Where accesses do not fit, the cells of the region are divided, down to single bytes, which loses nothing.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/emulator/races/clock.h"
#include "runtime/emulator/types.h"

namespace gdnjit::emulator {

// Flags of an access.
inline constexpr std::uint8_t kStrong = 1;       // atomic, volatile, relaxed or stronger
inline constexpr std::uint8_t kScopeShift = 1;   // two bits: Scope
inline constexpr std::uint8_t kAsyncProxy = 8;   // made by the async proxy
inline constexpr std::uint8_t kAsyncAgent = 16;  // made by an asynchronous operation
inline constexpr std::uint8_t kUpdate = 32;      // reads and writes

// One side of a conflict. With a spread, the cell is divided evenly among 2^spread threads; thread and index are
// those of the first.
struct Who {
  std::uint32_t thread = 0;  // of the group: who issued it
  std::uint32_t index = 0;   // of the clock's entry: the thread, or the agent that made the access
  std::uint32_t instruction = 0;
  std::uint8_t spread = 0;
  std::uint8_t flags = 0;
};

// Who is about to access: lanes of one warp that know the same.
struct Accessor {
  const Clock* clock = nullptr;
  const Clock* visible = nullptr;  // of the async proxy's accesses: which writes that proxy can see
  Stamp visible_own = 0;           // of these, the issuer's own
  // Each lane's own agent, which it waits for itself.
  std::uint32_t copy_agent = 0;  // of lane 0; 0: none
  const Stamp* copied = nullptr;
  const Stamp* copied_visible = nullptr;
  std::uint32_t group = 0;
  Stamp stamp = 0;           // of this execution of the instruction, and of no other
  Stamp released = 0;        // the last time that the warp handed on what it did
  std::uint32_t thread = 0;  // of lane 0
  std::uint32_t index = 0;   // of lane 0
  std::uint32_t instruction = 0;
  std::uint8_t flags = 0;
  bool writes = false;
  std::uint32_t block_threads = 1;  // of a block of the group
  Scope peer_scope = Scope::gpu;    // that reaches the other blocks of the group
};

// Bytes that lanes touch. width: bytes of each lane, lane after lane; 0: every lane touches all of them.
struct AccessSpan {
  std::uint64_t begin = 0;
  std::uint64_t bytes = 0;
  std::uint32_t lanes = 0;
  std::uint32_t width = 0;
};

struct Conflict {
  std::uint64_t address = 0;  // the first byte, in the terms of the access
  bool wrote = false;         // the earlier access
  bool proxy = false;         // in order, but not visible to the async proxy
  std::uint32_t group = 0;    // of the earlier access
  Who earlier;
  Who first;  // the earlier group's first access to the byte, as far as it is known
  Stamp first_stamp = 0;
  int lane = 0;
};

// Told of every conflict; may throw.
class ConflictSink {
 public:
  virtual void conflict(const Accessor& accessor, const Conflict& conflict) = 0;

 protected:
  ~ConflictSink() = default;
};

class ShadowRegion {
 public:
  static constexpr int kShift = 11;
  static constexpr std::uint64_t kBytes = 1ULL << kShift;

  // Reports conflicts with earlier accesses and remembers this one. REQUIRES: the span lies in a region that begins at
  // `base`. `most_layers` bounds the warps whose reads are remembered, 0: all; those of the lowest groups are kept.
  void access(const Accessor& accessor, const AccessSpan& span, std::uint64_t base, std::size_t most_layers,
              ConflictSink& sink);

  // Forgets all accesses, not the size of the cells.
  void clear();
  bool unused() const { return unused_; }

 private:
  static constexpr int kWidestShift = 9;

  struct WriteCell {
    std::uint32_t group = 0;
    Stamp stamp = 0;  // 0: none
    Stamp first_stamp = 0;
    Who last, first;  // first: since the group took the cell over from another one
  };
  struct ReadCell {
    Stamp stamp = 0;
    std::uint32_t lanes = 0;  // readers; with a spread: those that the cell is divided among
    Stamp first_stamp = 0;
    std::uint32_t first_lanes = 0;
    Who last, first;  // thread: of lane 0
  };
  // The reads of one warp, or of one agent; or its atomics and other strong writes, which do not take the place of the
  // last plain write, since they hide no race with it.
  struct Layer {
    std::uint32_t group = 0;
    std::uint32_t warp = 0;  // clock index / 32
    bool strong_writes = false;
    Stamp latest = 0;
    std::vector<ReadCell> cells;
  };
  // The lanes of an access that touch one cell.
  struct Touch {
    std::uint32_t lanes = 0;
    int lowest = 0;
    std::uint8_t spread = 0;
  };

  Touch touch(const AccessSpan& span, std::uint64_t cell) const;
  void divide(int shift);
  void fit(const AccessSpan& span);
  void check_write(const Accessor& accessor, const Touch& touch, std::uint64_t cell, std::uint64_t base,
                   ConflictSink& sink) const;
  void check_reads(const Accessor& accessor, const AccessSpan& span, std::uint64_t base, ConflictSink& sink) const;
  void check_read(const Accessor& accessor, const Touch& touch, const Layer& layer, std::uint64_t cell,
                  std::uint64_t base, ConflictSink& sink) const;
  void remember_write(const Accessor& accessor, const Touch& touch, WriteCell& cell);
  // False if the cells must be divided first; `shift` is the size they need.
  bool remember_read(const Accessor& accessor, const Touch& touch, Layer& layer, ReadCell& cell, int& shift);
  void remember_reads(const Accessor& accessor, const AccessSpan& span, std::size_t most_layers);
  Layer* layer_of(const Accessor& accessor, std::size_t most_layers);

  bool unused_ = true;
  int shift_ = kWidestShift;
  std::vector<WriteCell> writes_;
  std::vector<Layer> layers_;
};

}  // namespace gdnjit::emulator

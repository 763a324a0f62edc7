// Where a block of gdn.chunk's scan works: its sequence, its head, and what belongs to them in memory.
#pragma once

#include "device/warp.cuh"
#include "gdn/chunk_config.cuh"
#include "gdn/layer.cuh"

namespace gdnjit::gdn {

template <ChunkConfig c>
struct ChunkPlace {
  int b;  // sequence
  ValueHead head;
  int tokens;             // T of this sequence
  long long first_token;  // ragged: where it starts in the tensors
  long long first_slot;   // of its chunks in the workspace
  const void* state_in;   // the head's state, from its first element on; null if it starts from zeros
  void* state_out;        // null if the final state is not stored
  bool padded;            // the row holds no sequence: nothing is read, no state is touched, zeros may be written

  __device__ __forceinline__ int chunks() const { return static_cast<int>((tokens + (kChunk - 1u)) / kChunk); }

  // Element of token t of the sequence: for q and k the head's first, for the others (their strides' key_head and group
  // name the value head) the value head's first.
  __device__ __forceinline__ long long token_offset(const HeadStrides& strides, long long t) const {
    return (c.ragged ? 0 : b * strides.batch) + (first_token + t) * strides.token;
  }
  __device__ __forceinline__ long long key_head_offset(const HeadStrides& strides, long long t) const {
    return token_offset(strides, t) + head.h * strides.key_head;
  }
  __device__ __forceinline__ long long value_head_offset(const HeadStrides& strides, long long t) const {
    return key_head_offset(strides, t) + head.j * strides.group;
  }
  // Of the output, whose key_head is the stride from one value head to the next.
  __device__ __forceinline__ long long output_offset(const HeadStrides& strides, long long t) const {
    return token_offset(strides, t) + head.hv * strides.key_head;
  }

  static __device__ __forceinline__ const unsigned char* record(const ChunkParams& p, long long slot, int hv) {
    return p.workspace + (slot * c.heads_v + hv) * ChunkRecord::bytes(c);
  }
  // Tile `which` of the chunk (see chunk_tile_count).
  static __device__ __forceinline__ unsigned char* tile(const ChunkParams& p, long long slot, const ValueHead& head,
                                                        int which) {
    constexpr bool kByValueHead = c.tiles == ChunkTiles::value_head;
    const long long row = slot * (kByValueHead ? c.heads_v : c.heads_k) + (kByValueHead ? head.hv : head.h);
    constexpr long long kTileBytes = 2LL * kChunk * c.padded_k();
    return p.workspace + p.tiles_offset + (row * chunk_tile_count(c.tiles) + which) * kTileBytes;
  }

  static __device__ __forceinline__ long long load_slot(const IndexArray& slots, int b, long long token) {
    return device::load_index<c.slot_dtype>(slots.data, b * slots.row + token * slots.token);
  }

  // Where the state after `count` chunks is kept as a checkpoint; null if it is none, or its slot is a sentinel. It is
  // the state after count * kChunk tokens: the end of a sequence in the middle of a chunk has none.
  __device__ __forceinline__ void* checkpoint(const ChunkParams& p, int count) const {
    if constexpr (c.checkpoints == StatePlace::none) {
      return nullptr;
    } else {
      const int column = count / c.checkpoint_chunks - 1;
      if (count % c.checkpoint_chunks != 0 || column >= p.checkpoint_count || count * kChunk > tokens) return nullptr;
      long long row = b;
      if constexpr (c.checkpoints == StatePlace::pool) {
        row = load_slot(p.checkpoint_slot, b, column);
        if (row < gdn::first_slot<c>()) return nullptr;
      }
      const StateStrides& strides = p.checkpoint_strides;
      const long long offset = row * strides.row + column * strides.token + head.hv * strides.head;
      return device::element<c.state_dtype>(p.checkpoints, offset);
    }
  }

  // The tokens and slots of sequence b.
  __device__ __forceinline__ void set_sequence(const ChunkParams& p, int sequence) {
    b = sequence;
    if constexpr (c.ragged) {
      first_token = device::load_index<DType::i32>(p.cu_seqlens.data, b * p.cu_seqlens.row);
      const long long end = device::load_index<DType::i32>(p.cu_seqlens.data, (b + 1LL) * p.cu_seqlens.row);
      tokens = static_cast<int>(end - first_token);
      first_slot = first_token / kChunk + b;
    } else {
      first_token = 0;
      tokens = static_cast<int>(p.tokens);
      first_slot = static_cast<long long>(b) * chunks();
    }
  }

  // Parts of `part_tokens` tokens (chunks or segments) that sequences are cut into: those of sequence n begin at slot
  // first_token / part_tokens + n, and an empty sequence may have one too. Sets the sequence that a slot belongs to and
  // returns its part there; -1 if the slot is behind those of its sequence. Every lane of the warp takes part.
  __device__ __forceinline__ int set_slot(const ChunkParams& p, unsigned slot, unsigned part_tokens) {
    if constexpr (!c.ragged) {
      const unsigned parts = (static_cast<unsigned>(p.tokens) + (part_tokens - 1u)) / part_tokens;
      const unsigned per_sequence = parts == 0 ? 1 : parts;
      set_sequence(p, static_cast<int>(slot / per_sequence));
      return static_cast<int>(slot % per_sequence);
    } else {
      // The last sequence of [low, high) that begins at or before the slot: 32 of them are looked at together.
      int low = 0, high = static_cast<int>(p.sequences);
      do {
        const int step = (high - low + 31) / 32;
        const int n = low + static_cast<int>(threadIdx.x % 32) * step;
        const bool begun =
            n < high &&
            device::load_index<DType::i32>(p.cu_seqlens.data, n * p.cu_seqlens.row) / part_tokens + n <= slot;
        const int count = __popc(device::lanes_where(begun));
        if (count == 0) return -1;
        low += (count - 1) * step;
        high = low + step < high ? low + step : high;
      } while (high - low > 1);
      set_sequence(p, low);
      const int part = static_cast<int>(slot - (first_token / part_tokens + low));
      return part == 0 || part * part_tokens < static_cast<unsigned>(tokens) ? part : -1;
    }
  }

  static __device__ __forceinline__ ChunkPlace locate(const ChunkParams& p, int b, int hv) {
    ChunkPlace at;
    at.set_sequence(p, b);
    at.head = value_head<c>(hv);
    at.padded = false;
    at.state_in = nullptr;
    at.state_out = nullptr;
    if constexpr (c.initial_state != StatePlace::none) {
      long long row = b;
      if constexpr (c.initial_state == StatePlace::pool) {
        row = load_slot(p.read_slot, b, 0);
        at.padded = row < gdn::first_slot<c>();
      }
      const long long offset = row * p.state_in_strides.row + hv * p.state_in_strides.head;
      at.state_in = device::element<c.state_dtype>(p.state_in, offset);
    }
    if constexpr (c.final_state != StatePlace::none) {
      long long row = b;
      if constexpr (c.final_state == StatePlace::pool) row = load_slot(p.write_slot, b, 0);
      const long long offset = row * p.state_out_strides.row + hv * p.state_out_strides.head;
      if (c.final_state == StatePlace::dense || row >= gdn::first_slot<c>()) {
        at.state_out = device::element<c.state_dtype>(p.state_out, offset);
      }
    }
    return at;
  }
};

// What a block of the scan walks over: a sequence, or a segment of one (see ChunkSegments).
template <ChunkConfig c>
struct ChunkSpan {
  ChunkPlace<c> at;
  int begin;                            // where the block begins; the chunks ahead of `first` only warm its state up
  int first, end;                       // the chunks that are its own
  long long slot;                       // among the segments
  long long sequence;                   // slot of the sequence's first segment
  bool starts_sequence, ends_sequence;  // its own chunks do

  // False if the slot belongs to no segment. Every lane of the warp takes part.
  __device__ __forceinline__ bool locate(const ChunkParams& p, int unit, int hv) {
    starts_sequence = ends_sequence = true;
    if constexpr (c.pass == ChunkPass::whole) {
      at = ChunkPlace<c>::locate(p, unit, hv);
      begin = first = 0;
      end = at.chunks();
    } else {
      const int chunks = static_cast<int>(p.segment_chunks);
      ChunkPlace<c> probe;
      const int segment = probe.set_slot(p, unit, kChunk * chunks);
      at.padded = false;
      if (segment < 0) return false;
      at = ChunkPlace<c>::locate(p, probe.b, hv);
      first = segment * chunks;
      end = min(first + chunks, at.chunks());
      begin = c.pass == ChunkPass::warmup ? max(first - static_cast<int>(p.warmup_chunks), 0) : first;
      slot = unit;
      sequence = unit - segment;
      starts_sequence = segment == 0;
      ends_sequence = end == at.chunks();
    }
    return true;
  }

  // A state in the workspace, of this head.
  __device__ __forceinline__ const void* start(const ChunkParams& p, long long segment_slot) const {
    return p.workspace + p.starts_offset + (segment_slot * c.heads_v + at.head.hv) * ChunkSegments::start_bytes(c);
  }
  // Of pass warmup: whether the initial state is to be taken from the workspace, since another block may have stored
  // over it.
  __device__ __forceinline__ bool initial_state_is_kept() const {
    return c.keeps_initial_states() && !(starts_sequence && ends_sequence);
  }
};

}  // namespace gdnjit::gdn

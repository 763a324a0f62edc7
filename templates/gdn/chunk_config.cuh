// The compile-time side of gdn.chunk: what shapes its kernels, the workspace between them, and the formulas that host
// and device share.
//
// A call is a sequence of kernels in one stream:
//   prepare  token-parallel, a block for each (chunk, key head): norms, cumulative decay, the inverse A and the
//   products
//            P = q k^T, both with the gate applied, into a ChunkRecord for each (chunk, value head)
//   scan     a block for each (sequence, value head, block of V), over the chunks in order, the state in registers
//
// With G_i the cumulative log decay in the chunk, r the norms' factors (rq with the scale), kC = 64:
//   A_ij = [(I + strict_lower(beta_i rk_i rk_j <k_i, k_j>))^-1]_ij e^(G_i - G_j) beta_j      j <= i, else 0
//   P_ij = rq_i rk_j <q_i, k_j> e^(G_i - G_j)                                               j <= i, else 0
//   W  = v - e^(G_i) rk_i (k S)
//   D  = A W
//   o  = e^(G_i) rq_i (q S) + P D
//   S  = e^(G_last) S + k^T (e^(G_last - G_i) rk_i D)
// with k and q as they are in memory. Tokens past a sequence's end have zero rows and columns in A and P and zero
// factors. Per-channel gates are part of k and q: see ChunkConfig::tiles.
#pragma once

#include <gdnjit/dtype.h>
#include <gdnjit/gdn_options.h>

#include "gdn/strides.cuh"

namespace gdnjit::gdn {

inline constexpr int kChunk = 64;  // tokens of a chunk

// Where the scan takes its rows of q and k from.
enum class ChunkTiles : unsigned char {
  input,       // the caller's q and k: 16-bit, rows and strides of whole 16 bytes
  key_head,    // copies in the workspace, one for each key head: other dtypes, dimensions and alignments
  value_head,  // copies with the gate applied, one for each value head: per-channel gates
};

struct ChunkConfig {
  // The problem. Fields that a choice makes meaningless for a kernel hold their defaults in its config.
  bool ragged = false;
  int heads_k = 16;
  int heads_v = 32;
  int head_dim_k = 128;
  int head_dim_v = 128;
  DType io_dtype = DType::bf16;
  DType state_dtype = DType::f32;
  DType output_dtype = DType::bf16;
  DType gate_dtype = DType::bf16;
  DType beta_dtype = DType::bf16;
  DType a_log_dtype = DType::f32;
  DType dt_bias_dtype = DType::f32;
  DType slot_dtype = DType::i32;
  float scale = 1.0f;
  Norm norm = Norm::sumsq_eps;
  float norm_eps = 1e-6f;
  Gate gate = Gate::raw;
  float gate_lower_bound = -5.0f;
  Beta beta = Beta::sigmoid;
  HeadMap head_map = HeadMap::grouped;
  StateLayout state_layout = StateLayout::vk;
  StatePlace initial_state = StatePlace::none;
  StatePlace final_state = StatePlace::dense;
  StatePlace checkpoints = StatePlace::none;  // the state after every checkpoint_chunks chunks
  int checkpoint_chunks = 1;
  bool write_output = true;
  PadSentinel pad_sentinel = PadSentinel::negative;
  PadPolicy pad_policy = PadPolicy::zero;
  bool programmatic = false;  // prepare starts while its predecessor ends; the later kernels always do
  ChunkTiles tiles = ChunkTiles::input;
  int io_vector = 8;     // elements of q, k, v and o in one access, from dimensions and alignment
  int state_vector = 2;  // elements of a state along its contiguous dimension in one access, at most 2
  // Tiles of the scan.
  int block_v = 64;  // BV: rows of S^T of a block, 16 for each warp (mma.sync) or 64 for each warpgroup (wgmma)
  int split_k = 1;   // warps that share rows of S^T along K (mma.sync only)
  int stages = 2;    // chunks in flight

  // The element type of the products: that of 16-bit inputs; fp32 is rounded to bf16.
  constexpr DType operand_dtype() const { return io_dtype == DType::f32 ? DType::bf16 : io_dtype; }
  // K as the products see it: whole k-steps, zeros behind K.
  constexpr int padded_k() const { return (head_dim_k + 15) / 16 * 16; }
  constexpr bool per_channel() const { return gate_is_per_channel(gate); }
};

// ---- the workspace

// A and P as their lower triangles in 16-bit elements: strip j (columns 16 j .. 16 j + 15) holds rows from 16 j on; in
// a strip groups of 8 rows follow each other, in a group first columns 0-7 then 8-15 of the strip, and of these 8 rows
// of 16 bytes: a core matrix of wgmma (K-major without swizzle: leading 128 bytes, stride 256), eight rows of ldmatrix,
// and a coalesced store of an mma.sync accumulator.
struct ChunkTriangle {
  static constexpr int strip_offset(int j) { return 32 * (kChunk * j - 8 * j * (j - 1)); }
  enum : int { kBytes = 32 * (64 + 48 + 32 + 16) };
  // Byte offset of element (i, j), j / 16 <= i / 16.
  static constexpr int offset(int i, int j) {
    return strip_offset(j / 16) + (i - j / 16 * 16) / 8 * 256 + j % 16 / 8 * 128 + i % 8 * 16 + j % 8 * 2;
  }
};
static_assert(ChunkTriangle::strip_offset(4) == ChunkTriangle::kBytes);

// Factors of a chunk's tokens, fp32, for scalar gates; then the state's decay. Byte offsets.
struct ChunkFactors {
  enum : int {
    kState = 0,                    // [64] e^(G_i) rk_i
    kQuery = kState + 4 * kChunk,  // [64] e^(G_i) rq_i
    kKey = kQuery + 4 * kChunk,    // [64] e^(G_last - G_i) rk_i
    kDecay = kKey + 4 * kChunk,    // e^(G_last): one, or one for each channel
  };
  static constexpr int bytes(const ChunkConfig& c) { return kDecay + (c.per_channel() ? 4 * c.padded_k() : 16); }
};

// What prepare says of one (chunk, value head); byte offsets in the record.
struct ChunkRecord {
  enum : int {
    kA = 0,
    kP = kA + ChunkTriangle::kBytes,
    kFactors = kP + ChunkTriangle::kBytes,
  };
  static constexpr int bytes(const ChunkConfig& c) { return (kFactors + ChunkFactors::bytes(c) + 127) / 128 * 128; }
};

// Copies of q and k, 16-bit rows of padded_k elements, 64 rows a tile, zeros past the sequence's end and past K:
// tiles [slot][head][kTiles][64][padded_k].
//   key_head:   k, q
//   value_head: k e^(G_i) rk, q e^(G_i) rq, k e^(G_last - G_i) rk; all factors of the record are then 1
constexpr int chunk_tile_count(ChunkTiles tiles) {
  return tiles == ChunkTiles::input ? 0 : tiles == ChunkTiles::key_head ? 2 : 3;
}

// The chunks of sequence n begin at slot first_token / 64 + n (dense: n * ceil(T / 64)); slots of different sequences
// are different, and none depends on a number that only the device knows.
constexpr long long chunk_slots(bool ragged, long long sequences, long long tokens) {
  return ragged ? tokens / kChunk + sequences : sequences * ((tokens + kChunk - 1) / kChunk);
}

struct ChunkWorkspace {
  long long tiles;  // byte offset of the tiles; the records lie at 0, [slot][hv]
  long long bytes;
};
constexpr ChunkWorkspace chunk_workspace(const ChunkConfig& c, long long slots) {
  const long long records = slots * c.heads_v * ChunkRecord::bytes(c);
  const int heads = c.tiles == ChunkTiles::key_head ? c.heads_k : c.heads_v;
  const long long tile_bytes = 2LL * kChunk * c.padded_k();
  return {records, records + slots * heads * chunk_tile_count(c.tiles) * tile_bytes};
}

// ---- the parameter block of every kernel of a call

struct ChunkParams {
  const void* q;        // [B,T,H,K]
  const void* k;        // [B,T,H,K]
  const void* v;        // [B,T,HV,V]
  const void* gate;     // a, g or alpha: [B,T,HV] or [B,T,HV,K]; null for Gate::none
  const void* beta;     // b or beta: [B,T,HV]; null for Beta::none
  const void* a_log;    // [HV]
  const void* dt_bias;  // [HV] or [HV,K], dense
  const void* state_in;
  void* state_out;
  void* checkpoints;  // [B,any,HV,..] or, with slots, the pool
  void* o;
  unsigned char* workspace;  // 128-byte aligned
  HeadStrides q_strides, k_strides, v_strides, gate_strides, beta_strides;
  HeadStrides o_strides;  // key_head: from one value head to the next
  StateStrides state_in_strides, state_out_strides, checkpoint_strides;
  IndexArray read_slot, write_slot, checkpoint_slot;
  IndexArray cu_seqlens;       // [B + 1] int32, ragged
  long long sequences;         // B
  long long tokens;            // T; of a ragged batch all tokens
  long long tiles_offset;      // ChunkWorkspace::tiles
  long long checkpoint_count;  // columns of checkpoints: later ones are not stored
};

}  // namespace gdnjit::gdn

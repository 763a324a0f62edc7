// The compile-time side of gdn.chunk: what shapes its kernels, the workspace between them, and the formulas that host
// and device share.
//
// A call is a sequence of kernels in one stream:
//   prepare  token-parallel, a block for each (chunk, key head): norms, cumulative decay, the inverse A and the
//            products P = q k^T, both with the gate applied, into a ChunkRecord for each (chunk, value head)
//   scan     a block for each (sequence, value head, block of V), over the chunks in order, the state in registers
//
// With G_i the cumulative log decay in the chunk, r the norms' factors (rq with the scale), kC = 64:
//   A_ij = [(I + strict_lower(beta_i rk_i rk_j <k_i, k_j>))^-1]_ij e^(G_i - G_j) beta_j      j < i, else 0
//   P_ij = rq_i rk_j <q_i, k_j> e^(G_i - G_j)                                               j <= i, else 0
//   W  = v - e^(G_i) rk_i (k S)
//   D  = beta W + A W
//   o  = e^(G_i) rq_i (q S) + P D
//   S  = e^(G_last) S + k^T (e^(G_last - G_i) rk_i D)
// (the diagonal of the inverse is 1, so beta stays fp32) with k and q as they are in memory. Tokens past a sequence's
// end have zero rows and columns in A and P and zero factors. Per-channel gates are part of k and q: see
// ChunkConfig::tiles.
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

// What a kernel of the scan walks over.
enum class ChunkPass : unsigned char {
  whole,     // sequences
  transfer,  // segments of sequences, for what they make of the state that comes in: no outputs
  segment,   // segments, each from the state that it starts with
  warmup,    // segments, each from zeros some chunks ahead of it
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
  ChunkPass pass = ChunkPass::whole;
  // Tiles of the scan.
  int block_v = 64;  // BV: rows of S^T of a block, 16 for each warp (mma.sync) or 64 for each warpgroup (wgmma)
  int split_k = 1;   // warps that share rows of S^T along K (mma.sync only)
  int stages = 2;    // chunks in flight

  // The element type of the products: that of 16-bit inputs; fp32 is rounded to bf16.
  constexpr DType operand_dtype() const { return io_dtype == DType::f32 ? DType::bf16 : io_dtype; }
  // K as the products see it: whole k-steps, zeros behind K.
  constexpr int padded_k() const { return (head_dim_k + 15) / 16 * 16; }
  constexpr bool per_channel() const { return gate_is_per_channel(gate); }
  constexpr int blocks_v() const { return (head_dim_v + block_v - 1) / block_v; }
  // Of a kernel of the scan.
  constexpr bool writes_output() const { return write_output && pass != ChunkPass::transfer; }
  // Of pass warmup: whether a block may store a state where another block has yet to read the initial one.
  constexpr bool keeps_initial_states() const {
    return pass == ChunkPass::warmup && initial_state != StatePlace::none &&
           (final_state != StatePlace::none || checkpoints == StatePlace::pool);
  }

  // Why the sm_90a scan cannot serve this, or nullptr.
  constexpr const char* sm90_fault() const {
    if (io_dtype == DType::f32 || output_dtype == DType::f32) return "wgmma's path takes 16-bit inputs and outputs";
    if (padded_k() > 128) return "wgmma's path holds the state in registers: K up to 128";
    if (head_dim_v % 8 != 0 || io_vector < 8) return "wgmma's path copies v and o in whole 16 bytes";
    if (block_v != 64 && block_v != 128) return "block_v must be 64 or 128 (one or two warpgroups)";
    if (stages < 2) return "stages must be at least 2";
    return nullptr;
  }
};

// The fields in canonical order; Self is ChunkConfig or const ChunkConfig.
template <typename Self, typename Visitor>
constexpr void visit_chunk_config(Self& c, Visitor&& visit) {
  visit("ragged", c.ragged);
  visit("heads_k", c.heads_k);
  visit("heads_v", c.heads_v);
  visit("head_dim_k", c.head_dim_k);
  visit("head_dim_v", c.head_dim_v);
  visit("io_dtype", c.io_dtype);
  visit("state_dtype", c.state_dtype);
  visit("output_dtype", c.output_dtype);
  visit("gate_dtype", c.gate_dtype);
  visit("beta_dtype", c.beta_dtype);
  visit("a_log_dtype", c.a_log_dtype);
  visit("dt_bias_dtype", c.dt_bias_dtype);
  visit("slot_dtype", c.slot_dtype);
  visit("scale", c.scale);
  visit("norm", c.norm);
  visit("norm_eps", c.norm_eps);
  visit("gate", c.gate);
  visit("gate_lower_bound", c.gate_lower_bound);
  visit("beta", c.beta);
  visit("head_map", c.head_map);
  visit("state_layout", c.state_layout);
  visit("initial_state", c.initial_state);
  visit("final_state", c.final_state);
  visit("checkpoints", c.checkpoints);
  visit("checkpoint_chunks", c.checkpoint_chunks);
  visit("write_output", c.write_output);
  visit("pad_sentinel", c.pad_sentinel);
  visit("pad_policy", c.pad_policy);
  visit("programmatic", c.programmatic);
  visit("tiles", c.tiles);
  visit("io_vector", c.io_vector);
  visit("state_vector", c.state_vector);
  visit("pass", c.pass);
  visit("block_v", c.block_v);
  visit("split_k", c.split_k);
  visit("stages", c.stages);
}

// Visits every field under its member name.
template <typename Visitor>
constexpr void visit_fields(ChunkConfig& c, Visitor&& visit) {
  visit_chunk_config(c, visit);
}
template <typename Visitor>
constexpr void visit_fields(const ChunkConfig& c, Visitor&& visit) {
  visit_chunk_config(c, visit);
}

// The kernel of prepare: a block for each (slot, key head).
constexpr int chunk_prepare_threads() { return 128; }

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
    kState = 0,                       // [64] e^(G_i) rk_i
    kQuery = kState + 4 * kChunk,     // [64] e^(G_i) rq_i
    kKey = kQuery + 4 * kChunk,       // [64] e^(G_last - G_i) rk_i
    kStrength = kKey + 4 * kChunk,    // [64] beta_i, also for gates per channel
    kDecay = kStrength + 4 * kChunk,  // e^(G_last): one, or one for each channel
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

// Long sequences in few heads leave SMs idle, so they are cut into segments of segment_chunks chunks. A segment is
// affine in the state: S_end^T = S_start^T M + N. Pass transfer computes M (the segment's end for S_start^T = I and v =
// 0) and N (for S_start = 0; of the first segment for the sequence's initial state, so that it is the end itself), for
// all segments at once; chunk_compose.cuh walks over the segments for the states they start with; pass segment then is
// the scan. All of it is exact; M, N and the states between are fp32.
//
// Pass warmup is the approximate way, one launch: each segment begins warmup_chunks ahead of its own chunks, from
// zeros, or from the initial state where it would begin at or before the sequence's start, and stores nothing until it
// reaches its own chunks. What it leaves out is the state at its beginning, S_w, which tokens w .. t - 1 have decayed
// by then:
//   E_t = S_t - S~_t = prod_j (I - beta_j kn_j kn_j^T) diag(e^(g_j)) S_w
// For |kn| <= 1 and beta in [0, 2] no factor I - beta kn kn^T makes a vector longer, so for each column v of V
//   |E_t[:, v]| <= e^(sum_j max_channel g_j) |S_w[:, v]|    and    |o_t[v] - o~_t[v]| <= |qs_t| |E_(t+1)[:, v]|.
struct ChunkSegments {
  // Rows of M, then of N, each of padded_k elements, of one (segment, value head); the states that segments start with
  // are [V, padded_k]. Segments' slots are those of chunks, counted in segments.
  static constexpr long long transfer_rows(const ChunkConfig& c) { return c.padded_k() + c.head_dim_v; }
  static constexpr long long transfer_bytes(const ChunkConfig& c) { return 4 * transfer_rows(c) * c.padded_k(); }
  static constexpr long long start_bytes(const ChunkConfig& c) { return 4LL * c.head_dim_v * c.padded_k(); }
  static constexpr long long slots(bool ragged, long long sequences, long long tokens, long long segment_chunks) {
    const long long segment = segment_chunks * kChunk;
    const long long parts = (tokens + segment - 1) / segment;
    return ragged ? tokens / segment + sequences : sequences * (parts == 0 ? 1 : parts);
  }
};

// The kernel that composes them: a block for each (sequence, value head, rows of S^T), the rows fastest.
inline constexpr int kChunkComposeRows = 8;
constexpr int chunk_compose_threads(const ChunkConfig& c) { return (c.padded_k() + 31) / 32 * 32; }
constexpr int chunk_compose_blocks(const ChunkConfig& c) {
  return (c.head_dim_v + kChunkComposeRows - 1) / kChunkComposeRows;
}

struct ChunkWorkspace {
  // Byte offsets; the records lie at 0, [slot][hv].
  long long tiles;
  long long transfers;  // [segment slot][hv]
  long long starts;     // [segment slot][hv]; with warm-up initial states alone, in the sequence's first slot
  long long bytes;
};
// `segment_slots` is 0 where sequences are not cut. Segments that warm up need no more than initial states.
constexpr ChunkWorkspace chunk_workspace(const ChunkConfig& c, long long slots, long long segment_slots,
                                         bool warms_up = false) {
  const long long records = slots * c.heads_v * ChunkRecord::bytes(c);
  const int heads = c.tiles == ChunkTiles::key_head ? c.heads_k : c.heads_v;
  const long long tile_bytes = 2LL * kChunk * c.padded_k();
  const long long transfers = records + slots * heads * chunk_tile_count(c.tiles) * tile_bytes;
  const long long parts = segment_slots * c.heads_v;
  const long long starts = transfers + (warms_up ? 0 : parts * ChunkSegments::transfer_bytes(c));
  const bool kept = !warms_up || c.initial_state != StatePlace::none;
  return {records, transfers, starts, starts + (kept ? parts * ChunkSegments::start_bytes(c) : 0)};
}

// States in the workspace, of `rows` rows of S^T, as a config that ChunkFragments reads and writes them by.
constexpr ChunkConfig chunk_start_config(ChunkConfig c, int rows) {
  c.state_dtype = DType::f32;
  c.state_layout = StateLayout::vk;
  c.state_vector = 2;
  c.head_dim_k = c.padded_k();
  c.head_dim_v = rows;
  return c;
}

// The state's update rounds D times k's factor, up to 1 / eps for tiny keys: past fp16's range. Copies of fp16 keys are
// therefore scaled by powers of two to lengths of 1 to 2 (their factors say the rest), and a norm that may need it
// needs copies: tiles must not be input then.
constexpr bool chunk_scales_keys(const ChunkConfig& c) {
  return c.tiles == ChunkTiles::key_head && c.io_dtype == DType::f16 && c.norm != Norm::none;
}
constexpr bool chunk_needs_copies(DType io_dtype, Norm norm, float norm_eps) {
  constexpr float kLargest = 1024.0f;  // leaves D 64
  if (io_dtype == DType::f32) return true;
  if (io_dtype != DType::f16 || norm == Norm::none) return false;
  return norm == Norm::sumsq_eps ? norm_eps * kLargest * kLargest < 1.0f : norm_eps * kLargest < 1.0f;
}

// ---- the portable scan

// Rows of 16-byte units in shared memory, one behind the other. Units are exchanged with their neighbours in 128, 64 or
// 32 bytes, the most that divide a row, so that the same unit of eight rows lies in different banks.
struct ChunkRows {
  int row_bytes;  // a multiple of 32, or of 16 where rows are not read in units
  constexpr int bytes() const { return kChunk * row_bytes; }
  // Where `byte` of a row is.
  constexpr unsigned offset(unsigned row, unsigned byte) const {
    const unsigned exchange = row_bytes % 128 == 0  ? row % 8
                              : row_bytes % 64 == 0 ? row / 2 % 4
                              : row_bytes % 32 == 0 ? row / 4 % 2
                                                    : 0;
    return row * static_cast<unsigned>(row_bytes) + (byte ^ exchange * 16);
  }
};

// The shared memory of the mma.sync scan: `stages` times everything of a chunk, then sums that warps exchange.
struct ChunkScanPlan {
  ChunkRows keys;    // of k and q
  ChunkRows values;  // of v: fp32 rows are read as words, two apart, so they have 16 bytes more instead
  int k, q, next_k, v, a, p, factors;  // offsets in a stage; next_k: of the state's update
  int stage_bytes;
  int exchange_bytes;
  int shared_bytes;
};
constexpr ChunkScanPlan chunk_scan_plan(const ChunkConfig& c) {
  ChunkScanPlan plan{};
  const bool fp32 = c.io_dtype == DType::f32;
  plan.keys = {2 * c.padded_k()};
  plan.values = {c.block_v * (fp32 ? 4 : 2) + (fp32 ? 16 : 0)};
  int end = 0;
  const auto place = [&end](int bytes) {
    const int start = end;
    end += (bytes + 127) / 128 * 128;
    return start;
  };
  plan.k = place(plan.keys.bytes());
  plan.next_k = c.tiles == ChunkTiles::value_head ? place(plan.keys.bytes()) : plan.k;
  plan.q = place(c.write_output ? plan.keys.bytes() : 0);
  plan.v = place(plan.values.bytes());
  plan.a = place(ChunkTriangle::kBytes);
  plan.p = place(c.write_output ? ChunkTriangle::kBytes : 0);
  plan.factors = place(ChunkFactors::bytes(c));
  plan.stage_bytes = end;
  plan.exchange_bytes = c.split_k > 1 ? c.block_v / 16 * c.split_k * 16 * kChunk * 4 : 0;
  plan.shared_bytes = c.stages * end + plan.exchange_bytes;
  return plan;
}
constexpr int chunk_scan_threads(const ChunkConfig& c) { return c.block_v / 16 * c.split_k * 32; }
constexpr long long chunk_scan_grid(const ChunkConfig& c, long long sequences) {
  return sequences * c.heads_v * c.blocks_v();
}

// Why the tiles cannot work, or nullptr.
constexpr const char* chunk_scan_fault(const ChunkConfig& c) {
  if (c.block_v < 16 || c.block_v % 16 != 0) return "block_v must be a multiple of 16";
  if (c.split_k != 1 && c.split_k != 2 && c.split_k != 4) return "split_k must be 1, 2 or 4";
  if (c.split_k * 16 > c.padded_k()) return "split_k must not be more than K / 16";
  if (chunk_scan_threads(c) > 512) return "block_v / 16 * split_k warps must not be more than 16";
  if (c.stages < 1 || c.stages > 4) return "stages must be 1 to 4";
  return nullptr;
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
  long long transfers_offset;  // ChunkWorkspace::transfers
  long long starts_offset;     // ChunkWorkspace::starts
  long long segment_chunks;    // chunks of a segment, where sequences are cut
  long long warmup_chunks;     // ahead of a segment, in pass warmup
  long long checkpoint_count;  // columns of checkpoints: later ones are not stored
};

}  // namespace gdnjit::gdn

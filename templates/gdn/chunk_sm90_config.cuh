// The shared-memory plan and the parameters of the sm_90a scan of gdn.chunk. Host code includes this file too.
#pragma once

#include "device/tensor_map.cuh"
#include "gdn/chunk_config.cuh"

namespace gdnjit::gdn {

// Byte offsets. A ring of stages, each with what one chunk needs; then a tile of o for each warpgroup; then an mbarrier
// pair for each stage.
struct ChunkSm90Plan {
  // Rows of q and k lie in boxes of 64, 32 or 16 columns, the widest that fill padded_k: a row of a box is the
  // swizzle's width.
  int box_columns;
  int boxes;
  int row_bytes;
  int box_bytes;
  int warpgroups;   // consumers
  int threads;      // consumers, and two warps that load and store (a warpgroup where registers are moved)
  int value_bytes;  // a warpgroup's v [token, 64], or its o
  int query_bytes;  // q
  // In a stage.
  int key;  // tiles of k and q, then of k with the gate for per-channel gates
  int query;
  int decayed;  // the tile of k that the state's update takes
  int value;
  int square_a;  // A and P, 64 x 64: ChunkTriangle's strips with whole columns
  int square_p;
  int strip_bytes;
  int factors;  // ChunkFactors
  int factor_bytes;
  int load_bytes;
  int stage_bytes;
  // In the block.
  int output;
  int barriers;
  int shared_bytes;

  constexpr explicit ChunkSm90Plan(const ChunkConfig& c)
      : box_columns(c.padded_k() % 64 == 0   ? 64
                    : c.padded_k() % 32 == 0 ? 32
                                             : 16),
        boxes(c.padded_k() / box_columns),
        row_bytes(2 * box_columns),
        box_bytes(kChunk * row_bytes),
        warpgroups(c.block_v / 64),
        threads(128 * warpgroups + (warpgroups > 1 ? 128 : 64)),
        value_bytes(kChunk * 128),
        query_bytes(boxes * box_bytes),
        key(0),
        query(query_bytes),
        decayed(c.tiles == ChunkTiles::value_head ? 2 * query : key),
        value((c.tiles == ChunkTiles::value_head ? 3 : 2) * query),
        square_a(value + warpgroups * value_bytes),
        square_p(square_a + 4 * kChunk * 32),
        strip_bytes(kChunk * 32),
        factors(square_p + 4 * strip_bytes),
        factor_bytes(ChunkFactors::bytes(c)),
        load_bytes(loaded(c)),
        stage_bytes((factors + factor_bytes + 1023) / 1024 * 1024),
        output(c.stages * stage_bytes),
        barriers(output + warpgroups * value_bytes),
        shared_bytes(barriers + 16 * (c.stages + warpgroups)) {}

 private:
  // q and P only serve the output.
  constexpr int loaded(const ChunkConfig& c) const {
    const int triangles = c.writes_output() ? 2 : 1;
    return value - (c.writes_output() ? 0 : query) + warpgroups * value_bytes + triangles * ChunkTriangle::kBytes +
           factor_bytes;
  }
};

struct ChunkSm90Params {
  device::TensorMap q, k;  // tiles = input: [K, H, T, B]; else k alone: [padded_k, rows of all tiles]
  device::TensorMap v;     // [V, HV / H, H, T, B]
  device::TensorMap o;     // [V, HV, T, B]
  ChunkParams call;
};

}  // namespace gdnjit::gdn

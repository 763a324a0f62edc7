// The states that segments start with (see ChunkSegments): S_(n+1)^T = S_n^T M_n + N_n, segment after segment, from the
// sequence's initial state. That is copied too: its memory may be the final state's, which a later segment may store
// before the first one starts; for segments that warm up, of sequences with more than one, this is all there is to do.
// Rows of S^T do not depend on each other, so a block of one thread a key takes kRows of them. fp32.
#pragma once

#include "device/grid.cuh"
#include "gdn/chunk_fragments.cuh"
#include "gdn/chunk_place.cuh"

namespace gdnjit::gdn {

template <ChunkConfig c>
struct ChunkCompose {
  using Place = ChunkPlace<c>;
  enum : int {
    kK = c.padded_k(),
    kRows = kChunkComposeRows,
    kThreads = chunk_compose_threads(c),
    kDepth = kK % 32 == 0 ? 32 : 16,  // rows of M in flight: they come from the L2, and little else is to do meanwhile
  };

  static __device__ __forceinline__ void run(const ChunkParams& p) {
    __shared__ __align__(16) float state[kRows][kK];
    device::let_next_grid_start();
    device::wait_for_previous_grid();
    constexpr int kBlocksV = chunk_compose_blocks(c);
    const int block = static_cast<int>(blockIdx.x);
    const int first_row = block % kBlocksV * kRows, hv = block / kBlocksV % c.heads_v,
              b = block / (kBlocksV * c.heads_v);
    const Place at = Place::locate(p, b, hv);
    if (at.padded) return;
    const int segments = (at.chunks() + static_cast<int>(p.segment_chunks) - 1) / static_cast<int>(p.segment_chunks);
    const long long slot = c.ragged ? at.first_token / (kChunk * p.segment_chunks) + b
                                    : static_cast<long long>(b) * (segments == 0 ? 1 : segments);
    if (c.pass == ChunkPass::warmup && segments < 2) return;
    const int k = static_cast<int>(threadIdx.x);
    const bool works = k < kK;  // a warp's last lanes may have no key

    float* starts = reinterpret_cast<float*>(p.workspace + p.starts_offset +
                                             (slot * c.heads_v + hv) * ChunkSegments::start_bytes(c));
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const int v = first_row + row;
      if (!works || v >= c.head_dim_v) continue;
      const bool given = at.state_in != nullptr && k < c.head_dim_k;
      starts[v * kK + k] =
          given ? device::load_scalar<c.state_dtype>(at.state_in, ChunkFragments<c>::state_index(v, k)) : 0.0f;
    }
    if constexpr (c.pass == ChunkPass::warmup) return;
    for (int n = 0; n + 1 < segments; ++n) {
      const long long index = (slot + n) * c.heads_v + hv;
      const float* transfer =
          reinterpret_cast<const float*>(p.workspace + p.transfers_offset + index * ChunkSegments::transfer_bytes(c));
      float sums[kRows];
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        const bool inside = works && first_row + row < c.head_dim_v;
        sums[row] = inside ? transfer[(kK + first_row + row) * kK + k] : 0.0f;
      }
      if (n > 0) {
        for (int r = 0; r < kK; r += kDepth) {
          float m[kDepth];
#pragma unroll
          for (int i = 0; i < kDepth; ++i) m[i] = works ? transfer[(r + i) * kK + k] : 0.0f;
#pragma unroll
          for (int i = 0; i < kDepth; i += 4) {
#pragma unroll
            for (int row = 0; row < kRows; ++row) {
              const float4 s = *reinterpret_cast<const float4*>(&state[row][r + i]);
              sums[row] = fmaf(s.x, m[i], sums[row]);
              sums[row] = fmaf(s.y, m[i + 1], sums[row]);
              sums[row] = fmaf(s.z, m[i + 2], sums[row]);
              sums[row] = fmaf(s.w, m[i + 3], sums[row]);
            }
          }
        }
        __syncthreads();
      }
      starts += c.heads_v * (ChunkSegments::start_bytes(c) / 4);
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        if (!works) continue;
        state[row][k] = sums[row];
        if (first_row + row < c.head_dim_v) starts[(first_row + row) * kK + k] = sums[row];
      }
      __syncthreads();
    }
  }
};

}  // namespace gdnjit::gdn

// gdn.chunk on the host. Its templates are templates/gdn/chunk_*.cuh, chunk_config.cuh first; what it shares with
// gdn.recurrent is codegen/gdn/sequence_args.h.
#pragma once

#include <gdnjit/gdn_chunk.h>

#include <concepts>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "codegen/gdn/layer_args.h"
#include "codegen/operator.h"
#include "gdn/chunk_config.cuh"
#include "gdn/chunk_sm90_config.cuh"

namespace gdnjit::gdn {

const Operator& chunk_operator();

// Fills in the scale and checks every rule. Throws invalid_argument.
ChunkProblem complete_chunk(ChunkProblem problem);

// Which template makes the scan.
enum class ChunkPath : unsigned char {
  mma,    // chunk_scan.cuh: mma.sync, everywhere
  wgmma,  // chunk_scan_sm90.cuh: sm_90a, and only what ChunkConfig::sm90_fault lets pass
};

// What the tuner may choose: everything is about the scan.
struct ChunkScanTiles {
  ChunkPath path = ChunkPath::mma;
  int block_v = 64;
  int split_k = 1;  // mma
  int stages = 2;
  // Parts into which long sequences in few heads are cut, at most kMaxChunkSegments; mma: only with a warm-up.
  int segments = 1;

  friend bool operator==(const ChunkScanTiles&, const ChunkScanTiles&) = default;
};

template <typename Self, typename Visitor>
requires std::same_as<std::remove_const_t<Self>, ChunkScanTiles>
constexpr void visit_fields(Self& tiles, Visitor&& visit) {
  visit("path", tiles.path);
  visit("block_v", tiles.block_v);
  visit("split_k", tiles.split_k);
  visit("stages", tiles.stages);
  visit("segments", tiles.segments);
}

inline constexpr int kMaxChunkSegments = 8;

// A completed problem as its kernels see it, made once. `layer` describes the layer as for gdn.step; the configs hold
// what concerns a kernel and defaults elsewhere, so that problems and tiles share the kernels in which they do not
// differ.
struct ChunkLayout {
  ChunkProblem problem;
  StepProblem layer;
  ChunkConfig prepare;

  explicit ChunkLayout(const ChunkProblem& completed);
  ChunkConfig scan(const ChunkScanTiles& tiles, ChunkPass pass) const;
  ChunkConfig compose() const;  // with a warm-up: of the kernel that keeps the initial states

  bool warms_up() const { return problem.warmup > 0; }
  std::int64_t warmup_chunks() const { return problem.warmup / kChunk; }

  InputVectors vectors() const;  // what the kernels demand of q, k, v and o
  int state_vector() const;      // and of the states
};

// Candidates in the order that decides ties, the default first. Throws unsupported if no block's shared memory holds a
// chunk.
ChunkScanTiles default_chunk_tiles(const ChunkLayout& layout, const DeviceTraits& device);
std::vector<ChunkScanTiles> chunk_search_space(const ChunkLayout& layout, const DeviceTraits& device);

// How a call's sequences are cut into segments; not where that could not pay.
struct ChunkCuts {
  bool cut = false;
  std::int64_t chunks = 0;  // of a segment
  std::int64_t slots = 0;   // of segments
};
ChunkCuts chunk_cuts(const ChunkLayout& layout, const ChunkScanTiles& tiles, std::int64_t sequences,
                     std::int64_t tokens);

// The tensors that the problem uses, in call order.
std::vector<TensorSpec> chunk_tensors(const ChunkProblem& problem);

CallDescription describe_chunk(ChunkProblem problem, std::span<const TensorView> tensors);

inline constexpr std::size_t kMaxChunkTensors = 16;

// Puts the arguments into the order of chunk_tensors and returns their number. Allocates nothing.
std::size_t gather_chunk_args(const ChunkProblem& problem, const ChunkArgs& args,
                              std::span<TensorView, kMaxChunkTensors> tensors);

// The parameter block but for the workspace's parts, from tensors in that order, and the workspace's size. Returns the
// number of sequences.
std::int64_t pack_chunk(const ChunkLayout& layout, std::span<const TensorView> tensors, ChunkParams& params,
                        std::int64_t& given_workspace_bytes);

// Sets the workspace's parts. Throws invalid_argument if it is too small, naming the bytes that it must have.
void place_workspace(const ChunkLayout& layout, const ChunkCuts& cuts, std::int64_t given_bytes, ChunkParams& params);

}  // namespace gdnjit::gdn

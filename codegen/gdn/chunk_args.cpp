// The tensors of gdn.chunk: which there are, whether a call's are right, how they become kernel parameters, and how
// much workspace lies between the kernels.
#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "codegen/gdn/chunk.h"
#include "codegen/gdn/chunk_names.h"
#include "codegen/gdn/sequence_args.h"
#include "runtime/support/check.h"

namespace gdnjit::gdn {
namespace {

constexpr std::int64_t kWorkspaceAlignment = 128;

// Cutting pays where the plain scan, 64 rows of V a block, has no more than kFewBlocks blocks, and is carried to no
// more than kManyBlocks. Shorter segments than kLeastSegmentChunks do not outweigh their composition.
constexpr std::int64_t kFewBlocks = 64;
constexpr std::int64_t kManyBlocks = 256;
constexpr std::int64_t kLeastSegmentChunks = 8;

// Which tensors beside the layer's inputs and the sequences' states a problem has; the one place that says so.
struct Uses {
  bool checkpoints;      // or
  bool checkpoint_slot;  // with the pool of the states
  bool output;

  explicit Uses(const ChunkProblem& problem)
      : checkpoints(problem.checkpoints == StatePlace::dense),
        checkpoint_slot(problem.checkpoints == StatePlace::pool),
        output(problem.write_output) {}

  std::size_t count() const { return 1U + (checkpoints ? 1U : 0U) + (checkpoint_slot ? 1U : 0U) + (output ? 1U : 0U); }
};

std::size_t tensor_count(const ChunkLayout& layout) {
  return LayerUses(layout.layer).count() + SequenceUses(layout.problem).count() + Uses(layout.problem).count();
}

std::int64_t blocks_of_values(const ChunkProblem& problem) { return (problem.head_dim_v + 63) / 64; }

// Whether a path that cuts can serve the problem: with a warm-up all do, else wgmma's on a device that has it.
bool may_be_cut(const ChunkLayout& layout) {
  return layout.warms_up() || layout.scan({.path = ChunkPath::wgmma}, ChunkPass::whole).sm90_fault() == nullptr;
}

// As many segments and heads as any choice of tiles cuts a call into; grows with sequences and tokens.
std::int64_t most_segments(const ChunkLayout& layout, std::int64_t sequences, std::int64_t tokens) {
  const ChunkProblem& problem = layout.problem;
  if (!may_be_cut(layout) || problem.heads_v * blocks_of_values(problem) > kFewBlocks) return 0;
  const std::int64_t shortest = ChunkSegments::slots(problem.ragged, sequences, tokens, kLeastSegmentChunks);
  return std::min((kManyBlocks + kFewBlocks) / blocks_of_values(problem), shortest * problem.heads_v);
}

void pack_checkpoints(const ChunkLayout& layout, int state_vector, std::int64_t B, const SequenceTensors& states,
                      TensorReader& reader, ChunkParams& params) {
  const Uses uses(layout.problem);
  if (uses.checkpoints) {
    const TensorView& kept = take_states(reader, "checkpoints", layout.layer, state_vector, {B, kAnyExtent});
    params.checkpoints = kept.data;
    params.checkpoint_strides = state_strides(kept);
    params.checkpoint_count = kept.shape[1];
  }
  if (uses.checkpoint_slot) {
    const TensorView& slots = reader.take("checkpoint_slot", layout.problem.slot_dtype, {B, kAnyExtent});
    params.checkpoint_slot = index_array(slots);
    params.checkpoints = states.pool;
    params.checkpoint_strides = states.pool_strides;
    params.checkpoint_count = slots.shape[1];
  }
}

std::int64_t pack_workspace(TensorReader& reader, ChunkParams& params) {
  const std::int64_t given = reader.peek().rank == 1 ? std::max<std::int64_t>(reader.peek().shape[0], 0) : 0;
  const TensorView& workspace = reader.take("workspace", DType::u8, {given});
  require(given <= 1 || workspace.strides[0] == 1, "workspace: stride {} of dimension 0 must be 1",
          workspace.strides[0]);
  require(reinterpret_cast<std::uintptr_t>(workspace.data) % kWorkspaceAlignment == 0,
          "workspace: address {} is not a multiple of {} bytes", workspace.data, kWorkspaceAlignment);
  params.workspace = static_cast<unsigned char*>(workspace.data);
  return given;
}

}  // namespace

ChunkCuts chunk_cuts(const ChunkLayout& layout, const ChunkScanTiles& tiles, std::int64_t sequences,
                     std::int64_t tokens) {
  const ChunkProblem& problem = layout.problem;
  const std::int64_t blocks = sequences * problem.heads_v * blocks_of_values(problem);
  const std::int64_t of_one = problem.ragged ? tokens / std::max<std::int64_t>(sequences, 1) : tokens;
  const std::int64_t chunks = (of_one + kChunk - 1) / kChunk;
  std::int64_t segments = std::min<std::int64_t>(tiles.segments, chunks / kLeastSegmentChunks);
  if (blocks > 0) segments = std::min(segments, kManyBlocks / blocks);
  ChunkCuts cuts;
  if (segments <= 1 || blocks > kFewBlocks) return cuts;
  cuts.chunks = (chunks + segments - 1) / segments;
  // A segment takes its own chunks and those that warm it up.
  cuts.cut = cuts.chunks + layout.warmup_chunks() < chunks;
  if (!cuts.cut) return {};
  cuts.slots = ChunkSegments::slots(problem.ragged, sequences, tokens, cuts.chunks);
  return cuts;
}

namespace {

std::vector<TensorSpec> tensors_of(const ChunkProblem& problem, const Extents& extents) {
  const std::int64_t B = problem.batch, T = problem.tokens;
  const StepProblem layer = ChunkLayout(problem).layer;
  const Uses uses(problem);
  std::vector<TensorSpec> tensors;
  add_input_specs(layer, extents, tensors);
  const auto add = [&](std::string_view name, DType dtype, std::vector<std::int64_t> shape,
                       TensorRole role = TensorRole::input) {
    tensors.push_back({std::string(name), dtype, std::move(shape), role});
  };
  const std::int64_t columns = std::max<std::int64_t>(T / problem.checkpoint_every, 1);
  // Room for other sequences' states.
  const std::int64_t pool_rows = 2 * B + 3 + (uses.checkpoint_slot ? B * columns : 0);
  add_sequence_specs(layer, SequenceUses(problem), B, pool_rows, tensors);
  // Columns behind a sequence's length are not written.
  if (uses.checkpoints) add("checkpoints", problem.state_dtype, state_shape(layer, {B, columns}), TensorRole::in_out);
  if (uses.checkpoint_slot) {
    add("checkpoint_slot", problem.slot_dtype, {B, columns});
    tensors.back().indexes = SequenceUses(problem).pool();
  }
  add("workspace", DType::u8, {workspace_bytes(problem, B, extents.T)}, TensorRole::scratch);
  if (uses.output) {
    add("o", problem.output_dtype, {extents.B, extents.T, problem.heads_v, problem.head_dim_v}, TensorRole::output);
  }
  return tensors;
}

}  // namespace

std::vector<TensorSpec> chunk_tensors(const ChunkProblem& problem) { return tensors_of(problem, extents_of(problem)); }

CallDescription describe_chunk(ChunkProblem problem, std::span<const TensorView> tensors) {
  const ChunkLayout layout(problem);
  const TensorReader number("gdn.chunk", tensors, tensor_count(layout));
  const Extents extents = describe_sequences(layout.layer, tensors, problem);
  std::vector<TensorSpec> specs = tensors_of(problem, extents);
  take_pool_rows(SequenceUses(problem), tensors, specs);
  take_extent("checkpoints", 1, tensors, specs);
  take_extent("checkpoint_slot", 1, tensors, specs);
  return {to_fields(complete_chunk(problem)), std::move(specs)};
}

std::size_t gather_chunk_args(const ChunkProblem& problem, const ChunkArgs& args,
                              std::span<TensorView, kMaxChunkTensors> tensors) {
  const Uses uses(problem);
  StepProblem layer;  // what says which inputs there are
  layer.input_layout = problem.input_layout;
  layer.write_output = problem.write_output;
  layer.gate = problem.gate;
  layer.beta = problem.beta;
  std::size_t count = gather_sequence_args(layer, problem, args, tensors);
  const auto add = [&](bool used, const TensorView& view) {
    if (used) tensors[count++] = view;
  };
  add(uses.checkpoints, args.checkpoints);
  add(uses.checkpoint_slot, args.checkpoint_slot);
  add(true, args.workspace);
  add(uses.output, args.o);
  return count;
}

std::int64_t pack_chunk(const ChunkLayout& layout, std::span<const TensorView> tensors, ChunkParams& params,
                        std::int64_t& given_workspace_bytes) {
  const ChunkProblem& problem = layout.problem;
  const StepProblem& layer = layout.layer;
  const SequenceUses uses(problem);
  TensorReader reader("gdn.chunk", tensors, tensor_count(layout));
  const Extents extents = read_extents(layer, tensors);
  const std::int64_t B = count_sequences(layer, problem.ragged, extents, tensors);
  if (B == 0) return 0;  // nothing to do, and nothing to check: an empty batch has no memory
  constexpr int kMost = std::numeric_limits<int>::max();
  require(extents.T <= kMost, "T={}: must be 0 to {}", extents.T, kMost);

  StepParams inputs{};
  pack_inputs(layer, layout.vectors(), extents, reader, inputs);
  params.q = inputs.q, params.k = inputs.k, params.v = inputs.v;
  params.gate = inputs.gate, params.beta = inputs.beta;
  params.a_log = inputs.a_log, params.dt_bias = inputs.dt_bias;
  params.q_strides = inputs.q_strides, params.k_strides = inputs.k_strides, params.v_strides = inputs.v_strides;
  params.gate_strides = inputs.gate_strides, params.beta_strides = inputs.beta_strides;

  const int state_vector = layout.state_vector();
  const SequenceTensors states = take_sequence_tensors(layer, uses, state_vector, B, reader);
  params.cu_seqlens = states.cu_seqlens;
  params.state_in = states.state_in, params.state_out = states.state_out;
  params.state_in_strides = states.state_in_strides, params.state_out_strides = states.state_out_strides;
  params.read_slot = states.read_slot, params.write_slot = states.write_slot;
  pack_checkpoints(layout, state_vector, B, states, reader, params);
  given_workspace_bytes = pack_workspace(reader, params);
  pack_output(layer, std::min(layout.vectors().values, 16 / dtype_bytes(problem.output_dtype)), extents, reader,
              inputs);
  params.o = inputs.o;
  params.o_strides = inputs.o_strides;
  params.sequences = B;
  params.tokens = extents.T;
  return B;
}

void place_workspace(const ChunkLayout& layout, const ChunkCuts& cuts, std::int64_t given_bytes, ChunkParams& params) {
  const bool ragged = layout.problem.ragged;
  const ChunkWorkspace parts =
      chunk_workspace(layout.scan({}, ChunkPass::whole), chunk_slots(ragged, params.sequences, params.tokens),
                      cuts.slots, layout.warms_up());
  require(given_bytes >= parts.bytes,
          "workspace: has {} bytes, {} sequences with {} tokens{} need {}; gdn::workspace_bytes() says how many",
          given_bytes, params.sequences, params.tokens, ragged ? " together" : " each", parts.bytes);
  params.tiles_offset = parts.tiles;
  params.transfers_offset = parts.transfers;
  params.starts_offset = parts.starts;
  params.segment_chunks = cuts.chunks;
  params.warmup_chunks = layout.warmup_chunks();
}

std::int64_t workspace_bytes(const ChunkProblem& problem, std::int64_t sequences, std::int64_t tokens) {
  require(sequences >= 0, "sequences={}: must not be negative", sequences);
  require(tokens >= 0, "tokens={}: must not be negative", tokens);
  const ChunkLayout layout(complete_chunk(problem));
  const ChunkConfig config = layout.scan({}, ChunkPass::whole);
  const std::int64_t chunks = chunk_workspace(config, chunk_slots(problem.ragged, sequences, tokens), 0).bytes;
  const bool warms_up = layout.warms_up();
  const std::int64_t transfer = warms_up ? 0 : ChunkSegments::transfer_bytes(config);
  const bool kept = !warms_up || problem.initial_state != StatePlace::none;
  return chunks +
         most_segments(layout, sequences, tokens) * (transfer + (kept ? ChunkSegments::start_bytes(config) : 0));
}

}  // namespace gdnjit::gdn

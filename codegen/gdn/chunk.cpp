#include "codegen/gdn/chunk.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <string>
#include <utility>

#include "codegen/fields.h"
#include "codegen/gdn/chunk_names.h"
#include "codegen/gdn/chunk_sm90.h"
#include "codegen/gdn/layer.h"
#include "codegen/gdn/sequence_args.h"
#include "runtime/support/check.h"

namespace gdnjit::gdn {
namespace {

constexpr std::string_view kName = "gdn.chunk";

// What a block may have on sm_90.
constexpr int kSm90SharedBytes = 232448;

// T beyond this changes nothing about the best tiles.
constexpr std::int64_t kLargestBucketTokens = 8192;

constexpr KernelText text_of(std::string_view entry, std::string_view header, std::string_view kernel) {
  return {.space = "gdn",
          .operator_name = kName,
          .entry = entry,
          .header = header,
          .kernel = kernel,
          .config = "ChunkConfig",
          .params = "ChunkParams",
          .parameter_bytes = sizeof(ChunkParams)};
}
constexpr KernelText bounded(KernelText text) {
  text.bounds = "Kernel::kThreads, Kernel::kMinBlocks";
  return text;
}
constexpr KernelText sm90_text_of(std::string_view entry) {
  KernelText text = text_of(entry, "gdn/chunk_scan_sm90.cuh", "ChunkScanSm90");
  text.params = "ChunkSm90Params";
  text.parameter_bytes = sizeof(ChunkSm90Params);
  return text;
}

constexpr KernelText kPrepare = bounded(text_of("gdnjit_gdn_chunk_prepare", "gdn/chunk_prepare.cuh", "ChunkPrepare"));
constexpr KernelText kPrepareChannel =
    bounded(text_of("gdnjit_gdn_chunk_prepare_channel", "gdn/chunk_prepare_channel.cuh", "ChunkPrepareChannel"));
constexpr KernelText kScan = bounded(text_of("gdnjit_gdn_chunk_scan", "gdn/chunk_scan.cuh", "ChunkScan"));
constexpr KernelText kScanSm90 = sm90_text_of("gdnjit_gdn_chunk_scan_sm90");
constexpr KernelText kTransfer = sm90_text_of("gdnjit_gdn_chunk_transfer_sm90");
constexpr KernelText kCompose = text_of("gdnjit_gdn_chunk_compose", "gdn/chunk_compose.cuh", "ChunkCompose");
constexpr KernelText kSegment = sm90_text_of("gdnjit_gdn_chunk_segment_sm90");
constexpr KernelText kInitial = text_of("gdnjit_gdn_chunk_initial", "gdn/chunk_compose.cuh", "ChunkCompose");
constexpr KernelText kWarmup = bounded(text_of("gdnjit_gdn_chunk_warmup", "gdn/chunk_scan.cuh", "ChunkScan"));
constexpr KernelText kWarmupSm90 = sm90_text_of("gdnjit_gdn_chunk_warmup_sm90");

std::string tiles_text(const ChunkScanTiles& tiles) { return fields_text(to_fields(tiles)); }

// Throws invalid_argument for tiles that cannot work, unsupported for what the target lacks.
void check_tiles(const ChunkLayout& layout, const ChunkScanTiles& tiles, const Target& target) {
  const ChunkConfig config = layout.scan(tiles, ChunkPass::whole);
  const bool wgmma = tiles.path == ChunkPath::wgmma;
  const char* fault = wgmma ? config.sm90_fault() : chunk_scan_fault(config);
  require(fault == nullptr, "tiles {}: {}", tiles_text(tiles), fault == nullptr ? "" : fault);
  require(tiles.segments >= 1 && tiles.segments <= kMaxChunkSegments, "tiles {}: segments must be 1 to {}",
          tiles_text(tiles), kMaxChunkSegments);
  require(wgmma || tiles.segments == 1 || layout.warms_up(),
          "tiles {}: path=mma does not cut sequences without a warmup: segments must be 1", tiles_text(tiles));
  require(!wgmma || tiles.split_k == 1, "tiles {}: path=wgmma does not split K: split_k must be 1", tiles_text(tiles));
  if (wgmma && target.arch != "sm_90a") {
    fail(ErrorCode::unsupported, "tiles {}: {} has no wgmma, sm_90a does", tiles_text(tiles), target.arch);
  }
  check_programmatic(layout.problem.programmatic, target);
}

class ChunkInstance : public Instance {
 public:
  ChunkInstance(const ChunkProblem& problem, const ChunkScanTiles& tiles, const Target& target)
      : layout_(problem), tiles_(tiles), overlapping_(has_programmatic_launch(target)) {
    check_tiles(layout_, tiles, target);
    scan_ = layout_.scan(tiles, ChunkPass::whole);
    const bool per_channel = layout_.prepare.per_channel();
    add_kernel(per_channel ? kPrepareChannel : kPrepare, layout_.prepare, chunk_prepare_threads(), target);
    add_scan(kScan, kScanSm90, scan_, target);
    if (tiles.segments == 1) return;
    // A call uses these in place of the scan, or none of them.
    const ChunkConfig compose = layout_.compose();
    if (layout_.warms_up()) {
      const ChunkConfig warmup = layout_.scan(tiles, ChunkPass::warmup);
      if (warmup.keeps_initial_states()) add_kernel(kInitial, compose, chunk_compose_threads(compose), target);
      add_scan(kWarmup, kWarmupSm90, warmup, target);
      return;
    }
    transfer_ = layout_.scan(tiles, ChunkPass::transfer);
    add_sm90_kernel(kTransfer, transfer_, target);
    add_kernel(kCompose, compose, chunk_compose_threads(compose), target);
    add_sm90_kernel(kSegment, layout_.scan(tiles, ChunkPass::segment), target);
  }

  std::span<const KernelSpec> kernels() const override { return kernels_; }

  std::int64_t workspace_bytes(std::int64_t sequences, std::int64_t tokens) const override {
    return gdn::workspace_bytes(layout_.problem, sequences, tokens);
  }

  std::vector<LaunchGeometry> geometries() const override {
    const ChunkProblem& problem = layout_.problem;
    const std::int64_t tokens = problem.tokens * (problem.ragged ? problem.batch : 1);
    const Geometries made = geometries_of(problem.batch, tokens, chunk_cuts(layout_, tiles_, problem.batch, tokens));
    return {made.begin(), made.begin() + static_cast<std::ptrdiff_t>(kernels_.size())};
  }

  void pack(std::span<const TensorView> tensors, TensorMapEncoder& encoder, Call& call) const override {
    ChunkSm90Params* const sm90 = tiles_.path == ChunkPath::wgmma ? &call.add_block<ChunkSm90Params>() : nullptr;
    ChunkParams& params = sm90 != nullptr ? sm90->call : call.add_block<ChunkParams>();
    std::int64_t workspace_bytes = 0;
    const std::int64_t B = pack_chunk(layout_, tensors, params, workspace_bytes);
    if (B == 0) return;
    const ChunkCuts cuts = chunk_cuts(layout_, tiles_, B, params.tokens);
    place_workspace(layout_, cuts, workspace_bytes, params);
    if (sm90 != nullptr) {
      set_chunk_maps(scan_, chunk_slots(layout_.problem.ragged, B, params.tokens), encoder, *sm90);
    }
    const Geometries geometries = geometries_of(B, params.tokens, cuts);
    for (std::size_t kernel = 0; kernel < kernels_.size(); ++kernel) {
      if (takes_maps_[kernel]) {
        call.add_launch(geometries[kernel], *sm90);
      } else {
        call.add_launch(geometries[kernel], params);
      }
    }
  }

 private:
  using Geometries = std::array<LaunchGeometry, Call::kMaxKernels>;

  void add_kernel(const KernelText& text, const ChunkConfig& config, int threads, const Target& target) {
    const std::string signature = fmt::format("{}.{} {}", kName, text.kernel, fields_text(to_fields(config)));
    kernels_.push_back(kernel_spec(text, signature, designated_initializer(config), threads, target));
    takes_maps_.push_back(false);
    threads_.push_back(threads);
  }
  void add_sm90_kernel(const KernelText& text, const ChunkConfig& config, const Target& target) {
    add_kernel(text, config, ChunkSm90Plan(config).threads, target);
    takes_maps_.back() = true;
  }

  void add_scan(const KernelText& mma, const KernelText& wgmma, const ChunkConfig& config, const Target& target) {
    if (tiles_.path == ChunkPath::mma) {
      add_kernel(mma, config, chunk_scan_threads(config), target);
    } else {
      add_sm90_kernel(wgmma, config, target);
    }
  }

  // Of the kernels in order; the rest is not looked at.
  Geometries geometries_of(std::int64_t sequences, std::int64_t tokens, const ChunkCuts& cuts) const {
    const ChunkConfig& prepare = layout_.prepare;
    const std::int64_t slots = chunk_slots(prepare.ragged, sequences, tokens);
    const int heads = prepare.per_channel() ? prepare.heads_v : prepare.heads_k;
    Geometries made;
    made[0] = geometry(0, slots * heads, 0, sequences);
    made[0].programmatic = prepare.programmatic;
    const bool mma = tiles_.path == ChunkPath::mma;
    const int shared = mma ? chunk_scan_plan(scan_).shared_bytes : ChunkSm90Plan(scan_).shared_bytes;
    const std::int64_t HV = scan_.heads_v, blocks = scan_.blocks_v();
    made[1] = geometry(1, cuts.cut ? 0 : sequences * HV * blocks, shared, sequences);
    made[1].programmatic = overlapping_;
    if (tiles_.segments == 1) return made;
    const std::int64_t copied = cuts.cut ? sequences * HV * chunk_compose_blocks(scan_) : 0;
    if (layout_.warms_up()) {
      const std::size_t last = kernels_.size() - 1;
      if (last == 3) made[2] = geometry(2, copied, 0, sequences);
      made[last] = geometry(last, cuts.slots * HV * blocks, shared, sequences);
      made[last].programmatic = overlapping_;
      return made;
    }
    // Not programmatic: blocks that wait hold the shared memory that those in front of them need.
    const std::int64_t blocks_k = (scan_.padded_k() + transfer_.block_v - 1) / transfer_.block_v;
    made[2] = geometry(2, cuts.slots * HV * (blocks_k + transfer_.blocks_v()), ChunkSm90Plan(transfer_).shared_bytes,
                       sequences);
    made[3] = geometry(3, copied, 0, sequences);
    made[4] = geometry(4, cuts.slots * HV * blocks, shared, sequences);
    return made;
  }

  LaunchGeometry geometry(std::size_t kernel, std::int64_t blocks, int shared_bytes, std::int64_t sequences) const {
    require(blocks <= std::numeric_limits<int>::max(), "B={}: a grid of {} blocks is more than a launch can hold",
            sequences, blocks);
    LaunchGeometry made;
    made.grid[0] = static_cast<std::uint32_t>(blocks);
    made.block[0] = static_cast<std::uint32_t>(threads_[kernel]);
    made.shared_bytes = static_cast<std::uint32_t>(shared_bytes);
    return made;
  }

  ChunkLayout layout_;
  ChunkScanTiles tiles_;
  ChunkConfig scan_;  // of the kernel, or of all passes but
  ChunkConfig transfer_;
  bool overlapping_;  // the target has programmatic launches
  std::vector<KernelSpec> kernels_;
  std::vector<bool> takes_maps_;
  std::vector<int> threads_;
};

class ChunkOperator : public Operator {
 public:
  std::string_view name() const override { return kName; }

  FieldMap complete(const FieldMap& problem) const override { return to_fields(parse(problem)); }

  FieldMap tuning_bucket(const FieldMap& problem) const override {
    ChunkProblem bucket = parse(problem);
    const auto rounded = [](std::int64_t value) {
      return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(value, 1))));
    };
    bucket.batch = rounded(bucket.batch);
    bucket.tokens = std::min(rounded(bucket.tokens), kLargestBucketTokens);
    return to_fields(bucket);
  }

  FieldMap default_tiles(const FieldMap& problem, const DeviceTraits& device) const override {
    return to_fields(default_chunk_tiles(ChunkLayout(parse(problem)), device));
  }

  std::vector<FieldMap> search_space(const FieldMap& problem, const DeviceTraits& device) const override {
    std::vector<FieldMap> space;
    for (const ChunkScanTiles& tiles : chunk_search_space(ChunkLayout(parse(problem)), device)) {
      space.push_back(to_fields(tiles));
    }
    return space;
  }

  std::shared_ptr<const Instance> instantiate(const FieldMap& problem, const FieldMap& tiles,
                                              const Target& target) const override {
    return std::make_shared<ChunkInstance>(parse(problem), from_fields<ChunkScanTiles>(tiles), target);
  }

  std::vector<TensorSpec> tensors(const FieldMap& problem) const override { return chunk_tensors(parse(problem)); }

  CallDescription describe_call(const FieldMap& fields, std::span<const TensorView> tensors) const override {
    return describe_chunk(parse(fields), tensors);
  }

  Footprint footprint(const FieldMap& fields) const override {
    const ChunkProblem problem = parse(fields);
    std::int64_t written = problem.final_state != StatePlace::none ? 1 : 0;
    if (problem.checkpoints != StatePlace::none) written += problem.tokens / problem.checkpoint_every;
    return layer_footprint(ChunkLayout(problem).layer, chunk_tensors(problem),
                           problem.initial_state != StatePlace::none ? 1 : 0, written, problem.tokens);
  }

 private:
  static ChunkProblem parse(const FieldMap& fields) { return complete_chunk(from_fields<ChunkProblem>(fields)); }
};

}  // namespace

ChunkProblem complete_chunk(ChunkProblem problem) {
  constexpr int kMost = std::numeric_limits<int>::max();
  require(problem.tokens >= 0 && problem.tokens <= kMost, "T={}: must be 0 to {}", problem.tokens, kMost);
  require(problem.checkpoint_every > 0 && problem.checkpoint_every % kChunk == 0,
          "checkpoint_every={}: must be a multiple of {}", problem.checkpoint_every, kChunk);
  require(problem.warmup >= 0 && problem.warmup <= kMost - kChunk, "warmup={}: must be 0 (exact) to {}", problem.warmup,
          kMost - kChunk);
  require(problem.warmup == 0 || problem.gate != Gate::none,
          "warmup={}: must be 0 with gate=none, whose states never fade", problem.warmup);
  problem.warmup = (problem.warmup + kChunk - 1) / kChunk * kChunk;
  const bool pool = problem.initial_state == StatePlace::pool || problem.final_state == StatePlace::pool;
  require(pool || problem.checkpoints != StatePlace::pool,
          "checkpoints=pool: needs initial_state=pool or final_state=pool");
  require(problem.write_output || problem.final_state != StatePlace::none || problem.checkpoints != StatePlace::none,
          "write_output=false: with final_state=none and checkpoints=none nothing is left to compute");
  StepProblem layer = with_fields_of<StepProblem>(problem);
  complete_layer(layer);
  problem.scale = layer.scale;
  return problem;
}

ChunkLayout::ChunkLayout(const ChunkProblem& completed)
    : problem(completed), layer(with_fields_of<StepProblem>(completed)) {
  const bool per_channel = gate_is_per_channel(problem.gate);
  prepare.ragged = problem.ragged;
  prepare.heads_k = problem.heads_k;
  prepare.heads_v = problem.heads_v;
  prepare.head_dim_k = problem.head_dim_k;
  prepare.io_dtype = problem.io_dtype;
  prepare.norm = problem.norm;
  prepare.gate = problem.gate;
  prepare.beta = problem.beta;
  prepare.head_map = problem.head_map;
  prepare.write_output = problem.write_output;
  prepare.programmatic = problem.programmatic;
  if (problem.write_output) prepare.scale = problem.scale;
  if (problem.norm != Norm::none) prepare.norm_eps = problem.norm_eps;
  if (problem.gate != Gate::none) prepare.gate_dtype = problem.gate_dtype;
  if (problem.gate == Gate::channel_sigmoid) prepare.gate_lower_bound = problem.gate_lower_bound;
  if (problem.beta != Beta::none) prepare.beta_dtype = problem.beta_dtype;
  if (gate_has_parameters(problem.gate)) {
    prepare.a_log_dtype = problem.a_log_dtype;
    prepare.dt_bias_dtype = problem.dt_bias_dtype;
  }
  const int vector = key_vector(layer);
  const bool whole_units = vector * dtype_bytes(problem.io_dtype) == 16;
  const bool copies = !whole_units || chunk_needs_copies(problem.io_dtype, problem.norm, problem.norm_eps);
  prepare.tiles = per_channel ? ChunkTiles::value_head : copies ? ChunkTiles::key_head : ChunkTiles::input;
  if (prepare.tiles != ChunkTiles::input) prepare.io_vector = vector;
}

ChunkConfig ChunkLayout::scan(const ChunkScanTiles& tiles, ChunkPass pass) const {
  ChunkConfig config;
  config.ragged = problem.ragged;
  config.heads_k = problem.heads_k;
  config.heads_v = problem.heads_v;
  config.head_dim_k = problem.head_dim_k;
  config.head_dim_v = problem.head_dim_v;
  config.io_dtype = problem.io_dtype;
  config.state_dtype = problem.state_dtype;
  if (prepare.per_channel()) config.gate = Gate::channel_log;  // which one is prepare's affair
  config.head_map = problem.head_map;
  config.state_layout = problem.state_layout;
  config.initial_state = problem.initial_state;
  config.tiles = prepare.tiles;
  config.io_vector = vectors().values;
  config.state_vector = state_vector();
  config.pass = pass;
  config.block_v = tiles.block_v;
  config.split_k = tiles.split_k;
  config.stages = tiles.stages;
  const bool ends = pass != ChunkPass::transfer;  // the others leave nothing but the workspace
  // M's rows come to V's, so there are blocks enough for two warpgroups each.
  if (pass == ChunkPass::transfer && std::max(config.padded_k(), problem.head_dim_v) > 64) {
    config.block_v = 128;
    config.write_output = false;
    while (config.stages > 2 && ChunkSm90Plan(config).shared_bytes > kSm90SharedBytes) --config.stages;
    if (ChunkSm90Plan(config).shared_bytes > kSm90SharedBytes) config.block_v = 64;
  }
  config.write_output = ends && problem.write_output;
  if (config.write_output) config.output_dtype = problem.output_dtype;
  if (ends) config.final_state = problem.final_state;
  if (ends && problem.checkpoints != StatePlace::none) {
    config.checkpoints = problem.checkpoints;
    config.checkpoint_chunks = problem.checkpoint_every / kChunk;
  }
  const bool slots = config.initial_state == StatePlace::pool || config.final_state == StatePlace::pool ||
                     config.checkpoints == StatePlace::pool;
  if (slots) config.slot_dtype = problem.slot_dtype;
  if (slots) config.pad_sentinel = problem.pad_sentinel;
  if (config.initial_state == StatePlace::pool && config.write_output) config.pad_policy = problem.pad_policy;
  return config;
}

ChunkConfig ChunkLayout::compose() const {
  ChunkConfig config;
  config.ragged = problem.ragged;
  config.heads_k = 1;  // it looks at no keys
  config.heads_v = problem.heads_v;
  config.head_dim_k = problem.head_dim_k;
  config.head_dim_v = problem.head_dim_v;
  config.initial_state = problem.initial_state;
  config.final_state = StatePlace::none;
  if (warms_up()) config.pass = ChunkPass::warmup;
  if (problem.initial_state != StatePlace::none) {
    config.state_dtype = problem.state_dtype;
    config.state_layout = problem.state_layout;
  }
  if (problem.initial_state == StatePlace::pool) {
    config.slot_dtype = problem.slot_dtype;
    config.pad_sentinel = problem.pad_sentinel;
  }
  return config;
}

InputVectors ChunkLayout::vectors() const {
  int values = vector_elements(problem.io_dtype, problem.head_dim_v, problem.io_alignment);
  // In packed rows v begins behind keys.
  if (problem.input_layout != InputLayout::separate) values = std::min(values, key_vector(layer));
  return {.keys = prepare.tiles == ChunkTiles::input ? 8 : prepare.io_vector, .values = values};
}

int ChunkLayout::state_vector() const {
  if (problem.state_layout == StateLayout::kv) return 1;  // a lane's elements are columns
  return std::min(2, vector_elements(problem.state_dtype, problem.head_dim_k, problem.state_alignment));
}

const Operator& chunk_operator() {
  static const ChunkOperator instance;
  return instance;
}

}  // namespace gdnjit::gdn

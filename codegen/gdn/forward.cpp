#include "codegen/gdn/forward.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "codegen/fields.h"
#include "codegen/gdn/chunk_names.h"
#include "codegen/gdn/recurrent.h"
#include "codegen/gdn/sequence_args.h"
#include "codegen/gdn/step.h"
#include "runtime/support/check.h"

namespace gdnjit::gdn {
namespace {

constexpr std::string_view kName = "gdn.forward";
constexpr std::array<std::string_view, 3> kPartNames{"step", "recurrent", "chunk"};  // in the order of ForwardPath

// For which T the tiles of the parts are chosen where the problem's own T is the other's affair.
constexpr std::int64_t kShortTokens = 32;
constexpr std::int64_t kLongTokens = 256;

// The T of the tuning bucket: a crossover holds for every T.
constexpr std::int64_t kBucketTokens = 1024;

std::string_view name_of(ForwardPath path) { return kPartNames[static_cast<std::size_t>(path)]; }

std::int64_t average(std::int64_t tokens, std::int64_t sequences) {
  return sequences == 0 ? 0 : (tokens + sequences - 1) / sequences;
}

// gdn.chunk keeps no fixed order of sums and multiplies in 16 bits, which is not what fp32 tensors are for; but it
// alone stores checkpoints.
bool chunk_serves(const ForwardProblem& problem) {
  return problem.sum_lanes == 0 && (problem.io_dtype != DType::f32 || problem.checkpoints != StatePlace::none);
}

StepProblem layer_of(const ForwardProblem& problem) { return with_fields_of<StepProblem>(problem); }

// gdn.step knows one pool, and always an initial state.
std::optional<StepProblem> step_of(const ForwardProblem& problem) {
  const StatePlace initial = problem.initial_state, final = problem.final_state;
  if (problem.ragged || initial == StatePlace::none || (final != initial && final != StatePlace::none)) return {};
  StepProblem step = layer_of(problem);
  step.tokens = problem.tokens >= 1 && problem.tokens <= kMaxStepTokens ? static_cast<int>(problem.tokens) : 1;
  step.state_store = initial == StatePlace::pool ? StateStore::pool : StateStore::dense;
  step.update_state = final != StatePlace::none;
  return complete_step(step);
}

// Which of a call's tensors a part takes, in its own order.
class PartInstance {
 public:
  PartInstance(std::shared_ptr<const Instance> instance, const std::vector<TensorSpec>& own,
               const std::vector<TensorSpec>& all, std::size_t first_kernel)
      : instance_(std::move(instance)), first_kernel_(first_kernel) {
    for (const TensorSpec& spec : own) {
      const auto place =
          std::find_if(all.begin(), all.end(), [&](const auto& other) { return other.name == spec.name; });
      GDNJIT_CHECK(place != all.end() && count_ < places_.size(), "gdn.forward has no tensor {}", spec.name);
      places_[count_++] = static_cast<std::size_t>(place - all.begin());
    }
  }

  const Instance& instance() const { return *instance_; }

  void pack(std::span<const TensorView> tensors, TensorMapEncoder& encoder, Call& call) const {
    std::array<TensorView, kMaxChunkTensors> own;
    for (std::size_t i = 0; i < count_; ++i) own[i] = tensors[places_[i]];
    call.start_at(first_kernel_);
    instance_->pack(std::span<const TensorView>(own).first(count_), encoder, call);
  }

 private:
  std::shared_ptr<const Instance> instance_;
  std::array<std::size_t, kMaxChunkTensors> places_{};
  std::size_t count_ = 0;
  std::size_t first_kernel_;
};

// The kernels of all parts, of which a call launches those of one.
class ForwardInstance : public Instance {
 public:
  ForwardInstance(const ForwardProblem& problem, const FieldMap& tiles, const Target& target)
      : problem_(problem),
        layer_(layer_of(problem)),
        paths_(problem),
        specs_(forward_tensors(problem)),
        crossover_(from_fields<ForwardTiles>(without_subfields(tiles)).crossover) {
    require(crossover_ >= 0, "crossover={}: must not be negative", crossover_);
    // Tiles for gdn.chunk are missing where no device of this kind can run it.
    if (subfields(tiles, name_of(ForwardPath::chunk)).empty() && paths_.recurrent) paths_.chunk.reset();
    for (const OperatorPart& part : paths_.parts()) {
      const std::shared_ptr<const Instance> instance =
          part.op->instantiate(part.problem, subfields(tiles, part.name), target);
      const auto path = std::find(kPartNames.begin(), kPartNames.end(), part.name) - kPartNames.begin();
      parts_[static_cast<std::size_t>(path)].emplace(instance, part.op->tensors(part.problem), specs_, kernels_.size());
      kernels_.insert(kernels_.end(), instance->kernels().begin(), instance->kernels().end());
    }
  }

  std::span<const KernelSpec> kernels() const override { return kernels_; }

  // Those of the parts that the problem's own B and T do not take are empty.
  std::vector<LaunchGeometry> geometries() const override {
    const auto chosen = static_cast<std::size_t>(paths_.choose(problem_.tokens, crossover_));
    std::vector<LaunchGeometry> all;
    for (std::size_t path = 0; path < parts_.size(); ++path) {
      if (!parts_[path]) continue;
      for (LaunchGeometry geometry : parts_[path]->instance().geometries()) {
        if (path != chosen) geometry.grid[0] = 0;
        all.push_back(geometry);
      }
    }
    return all;
  }

  void pack(std::span<const TensorView> tensors, TensorMapEncoder& encoder, Call& call) const override {
    require(tensors.size() == specs_.size(), "{}: {} tensors given, the problem has {}", kName, tensors.size(),
            specs_.size());
    const Extents extents = read_extents(layer_, tensors);
    const std::int64_t sequences = count_sequences(layer_, problem_.ragged, extents, tensors);
    const std::int64_t tokens = problem_.ragged ? average(extents.T, sequences) : extents.T;
    parts_[static_cast<std::size_t>(paths_.choose(tokens, crossover_))]->pack(tensors, encoder, call);
  }

  std::int64_t workspace_bytes(std::int64_t sequences, std::int64_t tokens) const override {
    // The most that a sequence may have on the average: all tokens of a ragged batch, if it is the only one.
    if (!paths_.chunk || (paths_.recurrent && tokens <= crossover_)) return 0;
    return parts_[static_cast<std::size_t>(ForwardPath::chunk)]->instance().workspace_bytes(sequences, tokens);
  }

 private:
  ForwardProblem problem_;
  StepProblem layer_;
  ForwardPaths paths_;
  std::vector<TensorSpec> specs_;
  int crossover_;
  std::array<std::optional<PartInstance>, kPartNames.size()> parts_;  // by ForwardPath
  std::vector<KernelSpec> kernels_;
};

class ForwardOperator : public Operator {
 public:
  std::string_view name() const override { return kName; }

  FieldMap complete(const FieldMap& problem) const override { return to_fields(parse(problem)); }

  FieldMap tuning_bucket(const FieldMap& problem) const override {
    ForwardProblem bucket = parse(problem);
    const auto batch = static_cast<std::uint64_t>(std::max<std::int64_t>(bucket.batch, 1));
    bucket.batch = static_cast<std::int64_t>(std::bit_ceil(batch));
    bucket.tokens = kBucketTokens;
    bucket.ragged = false;
    return to_fields(bucket);
  }

  FieldMap default_tiles(const FieldMap& problem, const DeviceTraits& device) const override {
    const ForwardProblem parsed = parse(problem);
    return with_crossover(default_crossover(parsed, device), parsed, device);
  }

  // The default, and what takes either way for every T.
  std::vector<FieldMap> search_space(const FieldMap& problem, const DeviceTraits& device) const override {
    const ForwardProblem parsed = parse(problem);
    std::vector<FieldMap> space;
    for (const int crossover : {default_crossover(parsed, device), 0, std::numeric_limits<int>::max()}) {
      space.push_back(with_crossover(crossover, parsed, device));
    }
    return space;
  }

  std::shared_ptr<const Instance> instantiate(const FieldMap& problem, const FieldMap& tiles,
                                              const Target& target) const override {
    return std::make_shared<ForwardInstance>(parse(problem), tiles, target);
  }

  std::vector<TensorSpec> tensors(const FieldMap& problem) const override { return forward_tensors(parse(problem)); }

  CallDescription describe_call(const FieldMap& problem, std::span<const TensorView> tensors) const override {
    const ForwardProblem parsed = parse(problem);
    const OperatorPart widest = ForwardPaths(parsed).parts().back();
    CallDescription call = widest.op->describe_call(widest.problem, tensors);
    FieldMap described = to_fields(parsed);
    for (const char* field : {"B", "T"}) set_field(described, field, std::string(*find_field(call.problem, field)));
    return {to_fields(parse(described)), std::move(call.tensors)};
  }

  Footprint footprint(const FieldMap& problem) const override {
    const ForwardProblem parsed = parse(problem);
    OperatorPart widest = ForwardPaths(parsed).parts().back();
    set_field(widest.problem, "T", value_text(parsed.tokens));
    return widest.op->footprint(widest.problem);
  }

  std::vector<OperatorPart> parts(const FieldMap& problem) const override {
    return ForwardPaths(parse(problem)).parts();
  }

  std::optional<Crossover> crossover(const FieldMap& problem) const override {
    const ForwardPaths paths(parse(problem));
    if (!paths.recurrent || !paths.chunk) return std::nullopt;
    return Crossover{.tile = "crossover",
                     .field = "T",
                     .below = std::string(name_of(ForwardPath::recurrent)),
                     .above = std::string(name_of(ForwardPath::chunk))};
  }

  std::string decision(const FieldMap& problem, const FieldMap& tiles) const override {
    const ForwardProblem parsed = parse(problem);
    const int crossover = from_fields<ForwardTiles>(without_subfields(tiles)).crossover;
    ForwardPaths paths(parsed);
    if (subfields(tiles, name_of(ForwardPath::chunk)).empty() && paths.recurrent) paths.chunk.reset();
    const ForwardPath chosen = paths.choose(parsed.tokens, crossover);
    const std::string what = fmt::format("gdn.{}: ", name_of(chosen));
    if (chosen == ForwardPath::step) return what + fmt::format("T={} is baked into its kernel", parsed.tokens);
    if (!paths.chunk) return what + "gdn.chunk cannot serve these options or this device";
    if (!paths.recurrent) return what + "it alone stores checkpoints";
    return what + fmt::format("T={} is {} crossover={}", parsed.tokens,
                              chosen == ForwardPath::chunk ? "above" : "not above", crossover);
  }

 private:
  static ForwardProblem parse(const FieldMap& fields) { return complete_forward(from_fields<ForwardProblem>(fields)); }

  static FieldMap with_crossover(int crossover, const ForwardProblem& problem, const DeviceTraits& device) {
    FieldMap tiles = to_fields(ForwardTiles{crossover});
    const ForwardPaths paths(problem);
    for (const OperatorPart& part : paths.parts()) {
      try {
        add_subfields(tiles, part.name, part.op->default_tiles(part.problem, device));
      } catch (const Error& error) {
        const bool may_go = error.code() == ErrorCode::unsupported && part.name == name_of(ForwardPath::chunk);
        if (!may_go || !paths.recurrent) throw;
      }
    }
    return tiles;
  }
};

}  // namespace

ForwardProblem complete_forward(ForwardProblem problem) {
  require(problem.sum_lanes == 0 || problem.checkpoints == StatePlace::none,
          "sum_lanes={}: gdn.chunk alone stores checkpoints, and sums in an order of its own", problem.sum_lanes);
  if (chunk_serves(problem)) {
    const ChunkProblem chunk = complete_chunk(with_fields_of<ChunkProblem>(problem));
    problem.scale = chunk.scale;
    problem.warmup = chunk.warmup;
  } else {
    require(problem.warmup == 0, "warmup={}: must be 0 with {}, which rules out gdn.chunk", problem.warmup,
            problem.sum_lanes != 0 ? "sum_lanes" : "io=f32");
    problem.scale = complete_recurrent(with_fields_of<RecurrentProblem>(problem)).scale;
  }
  return problem;
}

// On an H200, H = 16, HV = 32, K = V = 128: gdn.recurrent takes 2.3 + 0.57 T us for one sequence and 12 us a token for
// 64; two kernels of gdn.chunk for one chunk start at some 12 us, and the traffic of 64 sequences' states and records
// is 85 us.
int default_crossover(const ForwardProblem& problem, const DeviceTraits& device) {
  return problem.batch * problem.heads_v < 4 * device.sm_count ? 16 : 8;
}

ForwardPaths::ForwardPaths(const ForwardProblem& problem) {
  if (chunk_serves(problem)) {
    chunk = with_fields_of<ChunkProblem>(problem);
    chunk->tokens = std::max(problem.tokens, kLongTokens);
  }
  if (problem.checkpoints == StatePlace::none) {
    recurrent = with_fields_of<RecurrentProblem>(problem);
    if (chunk) recurrent->tokens = std::min(problem.tokens, kShortTokens);
    step = step_of(problem);
  }
}

ForwardPath ForwardPaths::choose(std::int64_t tokens, int crossover) const {
  if (step && tokens == step->tokens) return ForwardPath::step;
  if (!recurrent) return ForwardPath::chunk;
  return chunk && tokens > crossover ? ForwardPath::chunk : ForwardPath::recurrent;
}

std::vector<OperatorPart> ForwardPaths::parts() const {
  std::vector<OperatorPart> parts;
  const auto add = [&](ForwardPath path, const Operator& op, const auto& problem) {
    if (problem) parts.push_back({std::string(name_of(path)), &op, to_fields(*problem)});
  };
  add(ForwardPath::step, step_operator(), step);
  add(ForwardPath::recurrent, recurrent_operator(), recurrent);
  add(ForwardPath::chunk, chunk_operator(), chunk);
  return parts;
}

std::vector<TensorSpec> forward_tensors(const ForwardProblem& problem) {
  if (chunk_serves(problem)) return chunk_tensors(with_fields_of<ChunkProblem>(problem));
  return recurrent_tensors(with_fields_of<RecurrentProblem>(problem));
}

std::size_t gather_forward_args(const ForwardProblem& problem, const ForwardArgs& args,
                                std::span<TensorView, kMaxChunkTensors> tensors) {
  StepProblem layer;  // what says which inputs there are
  layer.input_layout = problem.input_layout;
  layer.write_output = problem.write_output;
  layer.gate = problem.gate;
  layer.beta = problem.beta;
  std::size_t count = gather_sequence_args(layer, problem, args, tensors);
  const auto add = [&](bool used, const TensorView& view) {
    if (used) tensors[count++] = view;
  };
  add(problem.checkpoints == StatePlace::dense, args.checkpoints);
  add(problem.checkpoints == StatePlace::pool, args.checkpoint_slot);
  add(chunk_serves(problem), args.workspace);
  add(problem.write_output, args.o);
  return count;
}

const Operator& forward_operator() {
  static const ForwardOperator instance;
  return instance;
}

}  // namespace gdnjit::gdn

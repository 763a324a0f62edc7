#include "codegen/gdn/step.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <string>

#include "codegen/fields.h"
#include "codegen/gdn/options_names.h"
#include "runtime/support/check.h"

namespace gdnjit::gdn {
namespace {

constexpr std::string_view kName = "gdn.step";
constexpr std::string_view kEntry = "gdnjit_gdn_step";
constexpr int kMaxHeadDim = 8192;

bool is_float(DType dtype) { return dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16; }

void require_float(std::string_view name, DType dtype) {
  require(is_float(dtype), "{}={}: must be f32, bf16 or f16", name, enum_name(dtype));
}

void require_alignment(std::string_view name, int bytes, DType dtype) {
  require(bytes > 0 && std::has_single_bit(static_cast<unsigned>(bytes)), "{}={}: must be a power of two", name, bytes);
  require(bytes >= dtype_bytes(dtype), "{}={}: must hold one element of {} bytes", name, bytes, dtype_bytes(dtype));
}

// The largest power of two of elements, up to 16 bytes, that divides `extent` and keeps to `alignment` bytes.
int vector_elements(DType dtype, int extent, int alignment) {
  int elements = 16 / dtype_bytes(dtype);
  while (extent % elements != 0 || alignment % (elements * dtype_bytes(dtype)) != 0) elements /= 2;
  return elements;
}

// Elements of q and k that one access may take: heads start at multiples of the head stride.
int io_vector(const StepProblem& problem) {
  const int vector = vector_elements(problem.io_dtype, problem.head_dim_k, problem.io_alignment);
  if (problem.input_layout != InputLayout::qkvz) return vector;
  const int group = problem.heads_v / problem.heads_k;
  const int head_stride = 2 * problem.head_dim_k + 2 * group * problem.head_dim_v;
  return std::min(vector, vector_elements(problem.io_dtype, head_stride, problem.io_alignment));
}

std::string source_text(const StepConfig& config) {
  return fmt::format(
      "// {name}, generated from its signature.\n"
      "#include \"gdn/step.cuh\"\n\n"
      "using Kernel = gdnjit::gdn::Step<gdnjit::gdn::StepConfig{config}>;\n\n"
      "static_assert(sizeof(gdnjit::gdn::StepParams) == {bytes}, \"host and device disagree on the parameter "
      "block\");\n\n"
      "extern \"C\" __global__ void __launch_bounds__(Kernel::kThreads)\n"
      "    {entry}(const __grid_constant__ gdnjit::gdn::StepParams params) {{\n"
      "  Kernel::run(params);\n}}\n",
      fmt::arg("name", kName), fmt::arg("config", designated_initializer(config)),
      fmt::arg("bytes", sizeof(StepParams)), fmt::arg("entry", kEntry));
}

class StepInstance : public Instance {
 public:
  StepInstance(const StepProblem& problem, const StepTiles& tiles, const Target& target)
      : problem_(problem), config_(step_config(problem, tiles)) {
    const char* fault = config_.fault();
    require(fault == nullptr, "tiles {}: {}", fields_text(to_fields(tiles)), fault == nullptr ? "" : fault);
    spec_.operator_name = kName;
    spec_.signature = fmt::format("{} {} arch={}", kName, fields_text(to_fields(config_)), target.arch);
    spec_.source = source_text(config_);
    spec_.entry = kEntry;
    spec_.target = target;
  }

  const KernelSpec& spec() const override { return spec_; }

  LaunchGeometry geometry(std::int64_t batch) const override {
    const long long blocks = config_.grid(batch);
    require(blocks <= 0x7fffffffLL, "B={}: a grid of {} blocks is more than a launch can hold", batch, blocks);
    LaunchGeometry geometry;
    geometry.grid[0] = static_cast<std::uint32_t>(blocks);
    geometry.block[0] = static_cast<std::uint32_t>(config_.threads());
    return geometry;
  }

  std::size_t parameter_bytes() const override { return sizeof(StepParams); }

  std::int64_t pack(std::span<const TensorView> tensors, std::span<std::byte> parameters) const override {
    GDNJIT_CHECK(parameters.size() >= sizeof(StepParams), "parameter block of {} bytes", parameters.size());
    StepParams params{};
    const std::int64_t batch = pack_step(problem_, config_, tensors, params);
    std::memcpy(parameters.data(), &params, sizeof(params));
    return batch;
  }

 private:
  StepProblem problem_;
  StepConfig config_;
  KernelSpec spec_;
};

class StepOperator : public Operator {
 public:
  std::string_view name() const override { return kName; }

  FieldMap complete(const FieldMap& problem) const override { return to_fields(parse(problem)); }

  FieldMap tuning_bucket(const FieldMap& problem) const override {
    StepProblem bucket = parse(problem);
    const auto batch = static_cast<std::uint64_t>(std::max<std::int64_t>(bucket.batch, 1));
    if (!bucket.exact_batch) bucket.batch = static_cast<std::int64_t>(std::bit_ceil(batch));
    return to_fields(bucket);
  }

  FieldMap default_tiles(const FieldMap& problem, const DeviceTraits& device) const override {
    return to_fields(default_step_tiles(parse(problem), device));
  }

  std::vector<FieldMap> search_space(const FieldMap& problem, const DeviceTraits& device) const override {
    std::vector<FieldMap> space;
    for (const StepTiles& tiles : step_search_space(parse(problem), device)) space.push_back(to_fields(tiles));
    return space;
  }

  std::shared_ptr<const Instance> instantiate(const FieldMap& problem, const FieldMap& tiles,
                                              const Target& target) const override {
    return std::make_shared<StepInstance>(parse(problem), from_fields<StepTiles>(tiles), target);
  }

  std::vector<TensorSpec> tensors(const FieldMap& problem) const override { return step_tensors(parse(problem)); }

  Footprint footprint(const FieldMap& fields) const override {
    const StepProblem problem = parse(fields);
    Footprint footprint;
    for (const TensorSpec& tensor : step_tensors(problem)) {
      const bool is_state = tensor.name.starts_with("state");
      std::int64_t elements = is_state ? problem.batch : 1;  // of a pool, B slots are touched
      for (std::size_t axis = is_state ? 1 : 0; axis < tensor.shape.size(); ++axis) elements *= tensor.shape[axis];
      const std::int64_t bytes = elements * dtype_bytes(tensor.dtype);
      if (tensor.role != TensorRole::output) footprint.bytes_read += bytes;
      if (tensor.role != TensorRole::input) footprint.bytes_written += bytes;
    }
    // Two sums, the decay and the update: 2 + 2 + 1 + 2 operations a state element.
    footprint.flops = 7 * problem.batch * problem.heads_v * problem.head_dim_k * problem.head_dim_v;
    return footprint;
  }

 private:
  static StepProblem parse(const FieldMap& fields) { return complete_step(from_fields<StepProblem>(fields)); }
};

}  // namespace

StepProblem complete_step(StepProblem problem) {
  require(problem.batch >= 0, "B={}: must not be negative", problem.batch);
  require(problem.tokens == 1, "T={}: gdn.step serves T=1", problem.tokens);
  require(problem.heads_k >= 1, "H={}: must be at least 1", problem.heads_k);
  require(problem.heads_v >= 1, "HV={}: must be at least 1", problem.heads_v);
  require(problem.heads_v % problem.heads_k == 0, "HV={}: must be a multiple of H={}", problem.heads_v,
          problem.heads_k);
  require(problem.head_dim_k >= 1 && problem.head_dim_k <= kMaxHeadDim, "K={}: must be 1 to {}", problem.head_dim_k,
          kMaxHeadDim);
  require(problem.head_dim_v >= 1 && problem.head_dim_v <= kMaxHeadDim, "V={}: must be 1 to {}", problem.head_dim_v,
          kMaxHeadDim);
  require_float("io", problem.io_dtype);
  require_float("state", problem.state_dtype);
  require_float("output", problem.output_dtype);
  require_float("gate_dtype", problem.gate_dtype);
  require_float("beta_dtype", problem.beta_dtype);
  require_float("a_log_dtype", problem.a_log_dtype);
  require_float("dt_bias_dtype", problem.dt_bias_dtype);
  require(!is_float(problem.slot_dtype), "slot_dtype={}: must be i32 or i64", enum_name(problem.slot_dtype));
  require(std::isfinite(problem.scale), "scale={}: must be finite", problem.scale);
  require(std::isfinite(problem.norm_eps) && problem.norm_eps >= 0, "norm_eps={}: must not be negative",
          problem.norm_eps);
  require(std::isfinite(problem.gate_lower_bound) && problem.gate_lower_bound <= 0,
          "gate_lower_bound={}: must not be positive", problem.gate_lower_bound);
  require_alignment("state_alignment", problem.state_alignment, problem.state_dtype);
  require_alignment("io_alignment", problem.io_alignment, problem.io_dtype);
  if (problem.input_layout == InputLayout::qkvz) {
    require(!gate_is_per_channel(problem.gate),
            "gate={}: not with input_layout=qkvz, whose ba holds one a per value head", enum_name(problem.gate));
    require(problem.gate == Gate::none || problem.beta == Beta::none || problem.gate_dtype == problem.beta_dtype,
            "gate_dtype={}: must equal beta_dtype={} with input_layout=qkvz, where ba holds both",
            enum_name(problem.gate_dtype), enum_name(problem.beta_dtype));
  }
  if (problem.scale == 0.0F) problem.scale = 1.0F / std::sqrt(static_cast<float>(problem.head_dim_k));
  return problem;
}

StepConfig step_config(const StepProblem& problem, const StepTiles& tiles) {
  StepConfig config;
  config.batch = problem.exact_batch ? static_cast<int>(problem.batch) : 0;
  config.tokens = problem.tokens;
  config.heads_k = problem.heads_k;
  config.heads_v = problem.heads_v;
  config.head_dim_k = problem.head_dim_k;
  config.head_dim_v = problem.head_dim_v;
  config.io_dtype = problem.io_dtype;
  config.state_dtype = problem.state_dtype;
  config.output_dtype = problem.output_dtype;
  config.scale = problem.scale;
  config.norm = problem.norm;
  config.gate = problem.gate;
  config.beta = problem.beta;
  config.head_map = problem.head_map;
  config.state_layout = problem.state_layout;
  config.state_store = problem.state_store;
  if (problem.norm != Norm::none) config.norm_eps = problem.norm_eps;
  if (problem.gate != Gate::none) config.gate_dtype = problem.gate_dtype;
  if (problem.gate == Gate::channel_sigmoid) config.gate_lower_bound = problem.gate_lower_bound;
  if (problem.beta != Beta::none) config.beta_dtype = problem.beta_dtype;
  if (gate_has_parameters(problem.gate)) {
    config.a_log_dtype = problem.a_log_dtype;
    config.dt_bias_dtype = problem.dt_bias_dtype;
  }
  if (problem.state_store == StateStore::pool) {
    config.slot_dtype = problem.slot_dtype;
    config.pad_sentinel = problem.pad_sentinel;
    config.pad_policy = problem.pad_policy;
  }

  config.block_v = tiles.block_v;
  config.block_k = tiles.block_k;
  config.lanes_k = tiles.lanes_k;
  config.warps = tiles.warps;
  config.cache_hint = tiles.cache_hint;

  const bool is_vk = problem.state_layout == StateLayout::vk;
  config.state_vector =
      vector_elements(problem.state_dtype, is_vk ? problem.head_dim_k : problem.head_dim_v, problem.state_alignment);
  const int vector = io_vector(problem);
  if (is_vk) {
    config.key_chunk = config.state_vector;
    config.key_vector = std::min(vector, config.key_chunk);
  } else {
    // Any chunk of keys serves layout kv; take the widest that q, k and the lane's share of a pass allow.
    config.key_chunk = vector;
    while (config.key_chunk > 1 && (tiles.lanes_k < 1 || tiles.block_k % (tiles.lanes_k * config.key_chunk) != 0))
      config.key_chunk /= 2;
    config.key_vector = config.key_chunk;
  }
  return config;
}

const Operator& step_operator() {
  static const StepOperator instance;
  return instance;
}

}  // namespace gdnjit::gdn

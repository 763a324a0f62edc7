// The tensors of gdn.step: which there are, whether a call's are right, and how they become kernel parameters.
#include <array>
#include <cstdint>
#include <initializer_list>

#include "codegen/fields.h"
#include "codegen/gdn/options_names.h"
#include "codegen/gdn/step.h"
#include "runtime/support/check.h"

namespace gdnjit::gdn {
namespace {

// Extent of a dimension that the caller chooses: the slots of a pool.
constexpr std::int64_t kAnyExtent = -1;

// Takes tensors one by one and checks each against what the problem says.
class Reader {
 public:
  Reader(std::span<const TensorView> tensors, std::size_t expected) : tensors_(tensors) {
    require(tensors.size() == expected, "gdn.step: {} tensors given, the problem has {}", tensors.size(), expected);
  }

  const TensorView& take(std::string_view name, DType dtype, std::initializer_list<std::int64_t> shape) {
    const TensorView& view = tensors_[next_++];
    require(view.data != nullptr, "{}: is null; the problem needs it", name);
    require(view.dtype == dtype, "{}: has dtype {}, the problem says {}", name, enum_name(view.dtype),
            enum_name(dtype));
    require(view.rank == static_cast<int>(shape.size()), "{}: has rank {}, must be {}", name, view.rank, shape.size());
    std::size_t axis = 0;
    for (const std::int64_t extent : shape) {
      require(extent == kAnyExtent ? view.shape[axis] >= 1 : view.shape[axis] == extent,
              "{}: dimension {} is {}, must be {}", name, axis, view.shape[axis], extent == kAnyExtent ? 1 : extent);
      ++axis;
    }
    require(reinterpret_cast<std::uintptr_t>(view.data) % static_cast<std::uintptr_t>(dtype_bytes(dtype)) == 0,
            "{}: address {} is not a multiple of its element size {}", name, view.data, dtype_bytes(dtype));
    return view;
  }

 private:
  std::span<const TensorView> tensors_;
  std::size_t next_ = 0;
};

// Which of the optional tensors a problem has; the one place that says so.
struct Uses {
  bool separate;    // q, k, v; else packed
  bool a;           // a, g or alpha; with qkvz ba, which holds b too
  bool b;           // b or beta as a tensor of its own
  bool parameters;  // a_log, dt_bias
  bool pool;        // read_slot, write_slot; else state_out

  explicit Uses(const StepProblem& problem)
      : separate(problem.input_layout == InputLayout::separate),
        a(problem.gate != Gate::none || (problem.input_layout == InputLayout::qkvz && problem.beta != Beta::none)),
        b(problem.beta != Beta::none && problem.input_layout != InputLayout::qkvz),
        parameters(gate_has_parameters(problem.gate)),
        pool(problem.state_store == StateStore::pool) {}

  // With state_in and o, which every problem has.
  std::size_t count() const {
    return (separate ? 3U : 1U) + (a ? 1U : 0U) + (b ? 1U : 0U) + (parameters ? 2U : 0U) + (pool ? 2U : 1U) + 2U;
  }
};

std::int64_t stride(const TensorView& view, int axis) { return view.strides[static_cast<std::size_t>(axis)]; }
std::int64_t extent(const TensorView& view, int axis) { return view.shape[static_cast<std::size_t>(axis)]; }

// The last `axes` dimensions are one dense run.
void require_dense(std::string_view name, const TensorView& view, int axes) {
  std::int64_t expected = 1;
  for (int axis = view.rank - 1; axis >= view.rank - axes; --axis) {
    require(extent(view, axis) == 1 || stride(view, axis) == expected, "{}: stride {} of dimension {} must be {} ({})",
            name, stride(view, axis), axis, expected,
            axes == 1 ? "the last dimension is contiguous" : "the last dimensions are dense");
    expected *= extent(view, axis);
  }
}

// Address and outer strides keep vector accesses aligned.
void require_aligned(std::string_view name, const TensorView& view, int outer_axes, int vector,
                     std::string_view field) {
  const int bytes = vector * dtype_bytes(view.dtype);
  require(reinterpret_cast<std::uintptr_t>(view.data) % static_cast<std::uintptr_t>(bytes) == 0,
          "{}: address {} is not a multiple of {} bytes; align it or plan with a smaller {}", name, view.data, bytes,
          field);
  for (int axis = 0; axis < outer_axes; ++axis) {
    require(extent(view, axis) <= 1 || stride(view, axis) % vector == 0,
            "{}: stride {} of dimension {} is not a multiple of {} elements; pad it or plan with a smaller {}", name,
            stride(view, axis), axis, vector, field);
  }
}

// Strides of value head hv = (h, j) in a tensor whose heads lie `head` apart.
HeadStrides by_head(const StepProblem& problem, std::int64_t batch, std::int64_t head) {
  const std::int64_t group = problem.heads_v / problem.heads_k;
  if (problem.head_map == HeadMap::grouped) return {batch, group * head, head};
  return {batch, head, problem.heads_k * head};
}

const void* offset(const TensorView& view, std::int64_t elements) {
  return static_cast<const std::byte*>(view.data) + elements * dtype_bytes(view.dtype);
}

void pack_qkv(const StepProblem& problem, const StepConfig& config, std::int64_t B, Reader& reader,
              StepParams& params) {
  const std::int64_t T = problem.tokens, H = problem.heads_k, HV = problem.heads_v;
  const std::int64_t K = problem.head_dim_k, V = problem.head_dim_v, r = HV / H;
  if (problem.input_layout == InputLayout::separate) {
    const TensorView& q = reader.take("q", problem.io_dtype, {B, T, H, K});
    const TensorView& k = reader.take("k", problem.io_dtype, {B, T, H, K});
    const TensorView& v = reader.take("v", problem.io_dtype, {B, T, HV, V});
    require_dense("q", q, 1);
    require_dense("k", k, 1);
    require_dense("v", v, 1);
    require_aligned("q", q, 3, config.key_vector, "io_alignment");
    require_aligned("k", k, 3, config.key_vector, "io_alignment");
    params.q = q.data;
    params.k = k.data;
    params.v = v.data;
    params.q_batch = stride(q, 0);
    params.q_head = stride(q, 2);
    params.k_batch = stride(k, 0);
    params.k_head = stride(k, 2);
    params.v_strides = by_head(problem, stride(v, 0), stride(v, 2));
    return;
  }
  const bool mixed = problem.input_layout == InputLayout::mixed_qkv;
  const std::int64_t row = mixed ? 2 * H * K + HV * V : H * (2 * K + 2 * r * V);
  const TensorView& packed = reader.take("packed", problem.io_dtype, {B, T, row});
  require_dense("packed", packed, 1);
  require_aligned("packed", packed, 2, config.key_vector, "io_alignment");
  params.q_batch = params.k_batch = stride(packed, 0);
  params.q = packed.data;
  if (mixed) {
    params.k = offset(packed, H * K);
    params.v = offset(packed, 2 * H * K);
    params.q_head = params.k_head = K;
    params.v_strides = by_head(problem, stride(packed, 0), V);
  } else {
    params.k = offset(packed, K);
    params.v = offset(packed, 2 * K);
    params.q_head = params.k_head = 2 * K + 2 * r * V;
    params.v_strides = {stride(packed, 0), 2 * K + 2 * r * V, V};
  }
}

void pack_gates(const StepProblem& problem, std::int64_t B, Reader& reader, StepParams& params) {
  const std::int64_t T = problem.tokens, H = problem.heads_k, HV = problem.heads_v, K = problem.head_dim_k;
  const std::int64_t r = HV / H;
  const bool has_gate = problem.gate != Gate::none;
  const bool has_beta = problem.beta != Beta::none;
  if (problem.input_layout == InputLayout::qkvz) {
    if (has_gate || has_beta) {
      const TensorView& ba = reader.take("a", has_gate ? problem.gate_dtype : problem.beta_dtype, {B, T, H, 2 * r});
      require_dense("a", ba, 1);
      params.beta = ba.data;
      params.gate = offset(ba, r);
      params.gate_strides = params.beta_strides = {stride(ba, 0), stride(ba, 2), 1};
    }
  } else {
    if (has_gate) {
      const bool per_channel = gate_is_per_channel(problem.gate);
      const TensorView& a = per_channel ? reader.take("a", problem.gate_dtype, {B, T, HV, K})
                                        : reader.take("a", problem.gate_dtype, {B, T, HV});
      if (per_channel) require_dense("a", a, 1);
      params.gate = a.data;
      params.gate_strides = by_head(problem, stride(a, 0), stride(a, 2));
    }
    if (has_beta) {
      const TensorView& b = reader.take("b", problem.beta_dtype, {B, T, HV});
      params.beta = b.data;
      params.beta_strides = by_head(problem, stride(b, 0), stride(b, 2));
    }
  }
  if (gate_has_parameters(problem.gate)) {
    const TensorView& a_log = reader.take("a_log", problem.a_log_dtype, {HV});
    require_dense("a_log", a_log, 1);
    params.a_log = a_log.data;
    const bool per_channel = gate_is_per_channel(problem.gate);
    const TensorView& dt_bias = per_channel ? reader.take("dt_bias", problem.dt_bias_dtype, {HV, K})
                                            : reader.take("dt_bias", problem.dt_bias_dtype, {HV});
    require_dense("dt_bias", dt_bias, per_channel ? 2 : 1);
    params.dt_bias = dt_bias.data;
  }
}

void pack_state(const StepProblem& problem, const StepConfig& config, std::int64_t B, Reader& reader,
                StepParams& params) {
  const bool pool = problem.state_store == StateStore::pool;
  const bool vk = problem.state_layout == StateLayout::vk;
  const std::int64_t rows = pool ? kAnyExtent : B;
  const std::int64_t outer = vk ? problem.head_dim_v : problem.head_dim_k;
  const std::int64_t inner = vk ? problem.head_dim_k : problem.head_dim_v;
  const TensorView& in = reader.take("state_in", problem.state_dtype, {rows, problem.heads_v, outer, inner});
  const TensorView& out =
      pool ? in : reader.take("state_out", problem.state_dtype, {rows, problem.heads_v, outer, inner});
  require_dense("state_in", in, 2);
  require_dense("state_out", out, 2);
  require_aligned("state_in", in, 2, config.state_vector, "state_alignment");
  require_aligned("state_out", out, 2, config.state_vector, "state_alignment");
  params.state_in = in.data;
  params.state_out = out.data;
  params.state_in_row = stride(in, 0);
  params.state_in_head = stride(in, 1);
  params.state_out_row = stride(out, 0);
  params.state_out_head = stride(out, 1);
  if (pool) {
    const TensorView& read_slot = reader.take("read_slot", problem.slot_dtype, {B});
    const TensorView& write_slot = reader.take("write_slot", problem.slot_dtype, {B});
    params.read_slot = read_slot.data;
    params.write_slot = write_slot.data;
    params.read_slot_stride = stride(read_slot, 0);
    params.write_slot_stride = stride(write_slot, 0);
  }
}

}  // namespace

std::vector<TensorSpec> step_tensors(const StepProblem& problem) {
  const std::int64_t B = problem.batch, T = problem.tokens, H = problem.heads_k, HV = problem.heads_v;
  const std::int64_t K = problem.head_dim_k, V = problem.head_dim_v, r = HV / H;
  const bool has_gate = problem.gate != Gate::none;
  const bool has_beta = problem.beta != Beta::none;
  const bool per_channel = gate_is_per_channel(problem.gate);
  const bool pool = problem.state_store == StateStore::pool;

  std::vector<TensorSpec> tensors;
  const auto add = [&](std::string_view name, DType dtype, std::vector<std::int64_t> shape,
                       TensorRole role = TensorRole::input) {
    tensors.push_back({std::string(name), dtype, std::move(shape), role});
  };
  switch (problem.input_layout) {
    case InputLayout::separate:
      add("q", problem.io_dtype, {B, T, H, K});
      add("k", problem.io_dtype, {B, T, H, K});
      add("v", problem.io_dtype, {B, T, HV, V});
      break;
    case InputLayout::mixed_qkv: add("packed", problem.io_dtype, {B, T, 2 * H * K + HV * V}); break;
    case InputLayout::qkvz: add("packed", problem.io_dtype, {B, T, H * (2 * K + 2 * r * V)}); break;
  }
  if (problem.input_layout == InputLayout::qkvz) {
    if (has_gate || has_beta) add("a", has_gate ? problem.gate_dtype : problem.beta_dtype, {B, T, H, 2 * r});
  } else {
    if (has_gate) add("a", problem.gate_dtype, per_channel ? std::vector{B, T, HV, K} : std::vector{B, T, HV});
    if (has_beta) add("b", problem.beta_dtype, {B, T, HV});
  }
  if (gate_has_parameters(problem.gate)) {
    add("a_log", problem.a_log_dtype, {HV});
    add("dt_bias", problem.dt_bias_dtype, per_channel ? std::vector{HV, K} : std::vector{HV});
  }
  const std::int64_t rows = pool ? 2 * B + 3 : B;  // of a pool: room for other sequences' states
  const bool vk = problem.state_layout == StateLayout::vk;
  const std::vector<std::int64_t> state{rows, HV, vk ? V : K, vk ? K : V};
  add("state_in", problem.state_dtype, state, pool ? TensorRole::in_out : TensorRole::input);
  if (pool) {
    add("read_slot", problem.slot_dtype, {B});
    add("write_slot", problem.slot_dtype, {B});
  } else {
    add("state_out", problem.state_dtype, state, TensorRole::output);
  }
  add("o", problem.output_dtype, {B, T, HV, V}, TensorRole::output);
  return tensors;
}

std::size_t gather_step_args(const StepProblem& problem, const StepArgs& args,
                             std::span<TensorView, kMaxStepTensors> tensors) {
  const Uses uses(problem);
  std::size_t count = 0;
  const auto add = [&](const TensorView& view) { tensors[count++] = view; };
  if (uses.separate) {
    add(args.q);
    add(args.k);
    add(args.v);
  } else {
    add(args.packed);
  }
  if (uses.a) add(args.a);
  if (uses.b) add(args.b);
  if (uses.parameters) {
    add(args.a_log);
    add(args.dt_bias);
  }
  add(args.state_in);
  if (uses.pool) {
    require(!args.state_out || args.state_out.data == args.state_in.data,
            "state_out: a pool is updated in place; leave it empty or pass state_in");
    add(args.read_slot);
    add(args.write_slot);
  } else {
    add(args.state_out ? args.state_out : args.state_in);
  }
  add(args.o);
  return count;
}

std::int64_t pack_step(const StepProblem& problem, const StepConfig& config, std::span<const TensorView> tensors,
                       StepParams& params) {
  Reader reader(tensors, Uses(problem).count());
  const TensorView& o = tensors.back();
  require(o.rank == 4, "o: has rank {}, must be 4", o.rank);
  const std::int64_t B = o.shape[0];
  require(!problem.exact_batch || B == problem.batch, "o: B={}, the plan was made for exactly B={}", B, problem.batch);
  if (B == 0) return 0;  // nothing to do, and nothing to check: an empty batch has no memory

  pack_qkv(problem, config, B, reader, params);
  pack_gates(problem, B, reader, params);
  pack_state(problem, config, B, reader, params);
  reader.take("o", problem.output_dtype, {B, problem.tokens, problem.heads_v, problem.head_dim_v});
  require_dense("o", o, 1);
  params.o = o.data;
  params.o_batch = stride(o, 0);
  params.o_head = stride(o, 2);
  return B;
}

}  // namespace gdnjit::gdn

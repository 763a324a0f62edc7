#include "tests/gdn/chunk_fixture.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>

#include "runtime/support/check.h"
#include "tests/emulator/fixture.h"
#include "tests/reference/gdn_draw.h"
#include "tests/reference/numeric.h"

namespace gdnjit::tests {

using gdn::ChunkConfig;
using gdn::ChunkFactors;
using gdn::ChunkRecord;
using gdn::ChunkTriangle;
using gdn::kChunk;
using gdn::StatePlace;
using reference::HeadState;

namespace {

constexpr int kGapTokens = 3;  // behind the last token of every sequence (dense) or of all (ragged)

gdn::StepProblem layer_of(const ChunkConfig& c) {
  gdn::StepProblem layer;
  layer.heads_k = c.heads_k, layer.heads_v = c.heads_v;
  layer.head_dim_k = c.head_dim_k, layer.head_dim_v = c.head_dim_v;
  layer.io_dtype = c.io_dtype, layer.state_dtype = c.state_dtype, layer.output_dtype = c.output_dtype;
  layer.scale = c.scale;
  layer.norm = c.norm, layer.norm_eps = c.norm_eps;
  layer.gate = c.gate, layer.gate_lower_bound = c.gate_lower_bound, layer.beta = c.beta;
  layer.head_map = c.head_map, layer.state_layout = c.state_layout;
  layer.pad_sentinel = c.pad_sentinel, layer.pad_policy = c.pad_policy;
  layer.write_output = c.write_output;
  return layer;
}

// A tensor in host memory with the device's copy.
struct Tensor {
  std::string name;
  DType dtype = DType::f32;
  TensorRole role = TensorRole::input;
  std::vector<std::byte> bytes;  // as before the launches
  DeviceBuffer buffer;
  std::int64_t origin = 0;  // the element that pointers name

  double at(const std::vector<std::byte>& from, std::int64_t element) const {
    return reference::load_element(dtype, from.data(), origin + element);
  }
  void set(std::int64_t element, double number) {
    reference::store_element(dtype, bytes.data(), origin + element, number);
  }
  void* data() const {
    return buffer.bytes() == 0 ? nullptr : static_cast<std::byte*>(buffer.data()) + origin * dtype_bytes(dtype);
  }
};

// Compares elements that a kernel writes, and notes which ones it may.
class Judge {
 public:
  Judge(const Tensor& tensor, std::vector<std::byte> after)
      : tensor_(&tensor),
        after_(std::move(after)),
        may_change_(after_.size() / static_cast<std::size_t>(dtype_bytes(tensor.dtype))) {}

  void expect(std::int64_t element, double reference) {
    may_change_[static_cast<std::size_t>(tensor_->origin + element)] = true;
    const double error = tensor_->at(after_, element) - reference;
    if (!std::isfinite(error)) finite_ = false;
    error_ += error * error;
    reference_ += reference * reference;
  }
  double ratio() const {
    const auto width = static_cast<std::size_t>(dtype_bytes(tensor_->dtype));
    for (std::size_t i = 0; i < may_change_.size(); ++i) {
      if (!may_change_[i] && std::memcmp(&after_[i * width], &tensor_->bytes[i * width], width) != 0) {
        return std::numeric_limits<double>::infinity();
      }
    }
    if (!finite_) return std::numeric_limits<double>::infinity();
    return reference_ == 0 ? std::sqrt(error_) : std::sqrt(error_ / reference_);
  }

 private:
  const Tensor* tensor_;
  std::vector<std::byte> after_;
  std::vector<bool> may_change_;
  bool finite_ = true;
  double error_ = 0, reference_ = 0;
};

double norm_factor(const gdn::StepProblem& layer, std::span<const double> x) {
  const double squares = std::inner_product(x.begin(), x.end(), x.begin(), 0.0), eps = layer.norm_eps;
  switch (layer.norm) {
    case gdn::Norm::none: return 1;
    case gdn::Norm::sumsq_eps: return 1 / std::sqrt(squares + eps);
    case gdn::Norm::max_eps: return 1 / std::max(std::sqrt(squares), eps);
    case gdn::Norm::add_eps: return 1 / (std::sqrt(squares) + eps);
  }
  GDNJIT_CHECK(false, "unknown norm {}", static_cast<int>(layer.norm));
}

Device& device_of(const std::string& arch, bool check_races) {
  static std::map<std::pair<std::string, bool>, std::unique_ptr<Device>> devices;
  std::unique_ptr<Device>& device = devices[{arch, check_races}];
  if (device == nullptr) device = make_emulator(arch, check_races ? EmulatorChecks::races : EmulatorChecks::memory);
  return *device;
}

}  // namespace

struct ChunkCall::Parts {
  ChunkSource source;
  ChunkConfig c;
  gdn::StepProblem layer;
  std::string arch;
  Device* device;
  std::vector<int> lengths;
  std::vector<std::int64_t> starts;  // first token in the numbers, and in ragged tensors
  std::int64_t longest = 0;
  reference::LayerInputs numbers;
  Tensor q, k, v, gate, beta, a_log, dt_bias, state_in, state_out, checkpoints, o, workspace;
  Tensor cu_seqlens, read_slot, write_slot, checkpoint_slot;
  std::vector<std::int64_t> read_slots, write_slots, checkpoint_slots;
  std::int64_t columns = 0;  // of checkpoints
  gdn::ChunkParams params{};
  bool uploaded = false;

  std::vector<Tensor*> tensors() {
    return {&q,         &k,           &v, &gate,      &beta,       &a_log,     &dt_bias,    &state_in,
            &state_out, &checkpoints, &o, &workspace, &cu_seqlens, &read_slot, &write_slot, &checkpoint_slot};
  }
  std::int64_t sequences() const { return static_cast<std::int64_t>(lengths.size()); }
  std::int64_t total() const { return starts.back(); }
  std::int64_t slots() const { return gdn::chunk_slots(c.ragged, sequences(), c.ragged ? total() : longest); }
  std::int64_t first_slot(std::int64_t b) const {
    return c.ragged ? starts[static_cast<std::size_t>(b)] / kChunk + b : b * ((longest + kChunk - 1) / kChunk);
  }
  bool padded(std::int64_t b) const {
    return c.initial_state == StatePlace::pool &&
           reference::is_sentinel(layer, read_slots[static_cast<std::size_t>(b)]);
  }
  int key_head(int hv) const {
    return c.head_map == gdn::HeadMap::modulo ? hv % c.heads_k : hv / (c.heads_v / c.heads_k);
  }
  std::span<const double> row(const std::vector<double>& matrix, std::int64_t at, int width) const {
    return {matrix.data() + at * width, static_cast<std::size_t>(width)};
  }

  // ---- tensors -------------------------------------------------------------------------------------------------

  // Room for `elements`, poisoned; `shift` elements before the first.
  void make(Tensor& tensor, const char* name, DType dtype, std::int64_t elements, TensorRole role,
            std::int64_t shift = 0) {
    tensor.name = name, tensor.dtype = dtype, tensor.role = role, tensor.origin = shift;
    tensor.bytes.assign(static_cast<std::size_t>((elements + shift) * dtype_bytes(dtype)), reference::kPoison);
    tensor.buffer = DeviceBuffer(*device, tensor.bytes.size(), name);
  }

  // [B,T,heads,width] with gaps, which keep a row's alignment of `unit` elements, and whole sectors whole.
  gdn::HeadStrides make_tokens(Tensor& tensor, const char* name, DType dtype, int heads, int width, int unit,
                               TensorRole role) {
    const int gap = unit * dtype_bytes(dtype) == 16 && width * dtype_bytes(dtype) % 32 == 0 ? 2 * unit : unit;
    gdn::HeadStrides strides{};
    strides.token = std::int64_t{heads} * (width + gap) + gap;
    strides.key_head = width + gap;
    strides.batch = c.ragged ? 0 : (longest + kGapTokens) * strides.token;
    const std::int64_t tokens = (c.ragged ? total() : sequences() * (longest + kGapTokens)) + kGapTokens;
    make(tensor, name, dtype, tokens * strides.token, role, gap);
    return strides;
  }
  std::int64_t element(const gdn::HeadStrides& strides, std::int64_t b, std::int64_t token, int head) const {
    const std::int64_t t = c.ragged ? starts[static_cast<std::size_t>(b)] + token : token;
    return b * strides.batch + t * strides.token + head * strides.key_head;
  }
  // Strides by value head as the parameters want them: key head, and place in its group.
  gdn::HeadStrides grouped(gdn::HeadStrides strides) const {
    const std::int64_t head = strides.key_head, group = c.heads_v / c.heads_k;
    const bool modulo = c.head_map == gdn::HeadMap::modulo;
    strides.key_head = modulo ? head : group * head;
    strides.group = modulo ? c.heads_k * head : head;
    return strides;
  }

  gdn::StateStrides make_states(Tensor& tensor, const char* name, std::int64_t rows, std::int64_t tokens,
                                TensorRole role) {
    gdn::StateStrides strides{};
    const int gap = c.state_vector == 2 ? 8 : 1;
    strides.head = std::int64_t{c.head_dim_k} * c.head_dim_v + gap;
    strides.token = c.heads_v * strides.head + 2 * gap;
    strides.row = tokens * strides.token;
    make(tensor, name, c.state_dtype, rows * strides.row, role, gap);
    return strides;
  }

  void set_indices(Tensor& tensor, const char* name, DType dtype, const std::vector<std::int64_t>& numbers_in) {
    make(tensor, name, dtype, static_cast<std::int64_t>(numbers_in.size()), TensorRole::input);
    for (std::size_t i = 0; i < numbers_in.size(); ++i) {
      tensor.set(static_cast<std::int64_t>(i), static_cast<double>(numbers_in[i]));
    }
  }

  void draw_numbers(reference::Inputs inputs, std::uint64_t seed) {
    const reference::Draw draw(layer, inputs, seed);
    const auto count = static_cast<std::size_t>(total()), heads = static_cast<std::size_t>(c.heads_v);
    const std::size_t channels = c.per_channel() ? static_cast<std::size_t>(c.head_dim_k) : 1;
    if (c.write_output) numbers.q = draw.query_or_key("q", total() * c.heads_k);
    numbers.k = draw.query_or_key("k", total() * c.heads_k);
    numbers.v = draw.value(total() * c.heads_v);
    if (c.gate != gdn::Gate::none) numbers.a = draw.gate(count * heads * channels);
    if (c.beta != gdn::Beta::none) numbers.b = draw.strength(count * heads);
    if (gate_has_parameters(c.gate)) {
      numbers.a_log = draw.a_log(heads);
      numbers.dt_bias = draw.dt_bias(heads * channels);
    }
    if (c.initial_state == StatePlace::none) return;
    const auto size = static_cast<std::size_t>(c.head_dim_k) * static_cast<std::size_t>(c.head_dim_v);
    const std::vector<double> states = draw.state(static_cast<std::size_t>(sequences()) * heads * size);
    for (std::int64_t b = 0; b < sequences(); ++b) {
      const std::int64_t state_row = c.initial_state == StatePlace::pool ? read_slots[static_cast<std::size_t>(b)] : b;
      if (padded(b)) continue;
      for (int hv = 0; hv < c.heads_v; ++hv) {
        for (std::size_t i = 0; i < size; ++i) {
          state_in.set(state_row * params.state_in_strides.row + hv * params.state_in_strides.head +
                           static_cast<std::int64_t>(i),
                       states[(static_cast<std::size_t>(b) * heads + static_cast<std::size_t>(hv)) * size + i]);
        }
      }
    }
  }

  // Numbers into a tensor and, as they are stored, back.
  void put_tokens(Tensor& tensor, const gdn::HeadStrides& strides, std::vector<double>& from, int heads, int width) {
    if (from.empty()) return;
    for (std::int64_t b = 0; b < sequences(); ++b) {
      for (std::int64_t t = 0; t < lengths[static_cast<std::size_t>(b)]; ++t) {
        for (int head = 0; head < heads; ++head) {
          for (int i = 0; i < width; ++i) {
            const std::int64_t place = element(strides, b, t, head) + i;
            double& number =
                from[static_cast<std::size_t>(((starts[static_cast<std::size_t>(b)] + t) * heads + head) * width + i)];
            tensor.set(place, number);
            number = tensor.at(tensor.bytes, place);
          }
        }
      }
    }
  }
  void put_plain(Tensor& tensor, std::vector<double>& from) {
    for (std::size_t i = 0; i < from.size(); ++i) {
      tensor.set(static_cast<std::int64_t>(i), from[i]);
      from[i] = tensor.at(tensor.bytes, static_cast<std::int64_t>(i));
    }
  }

  gdn::HeadStrides q_plain, k_plain, v_plain, gate_plain, beta_plain;  // by value head, where there are such
  void put_numbers() {
    const int channels = c.per_channel() ? c.head_dim_k : 1;
    put_tokens(q, q_plain, numbers.q, c.heads_k, c.head_dim_k);
    put_tokens(k, k_plain, numbers.k, c.heads_k, c.head_dim_k);
    put_tokens(v, v_plain, numbers.v, c.heads_v, c.head_dim_v);
    put_tokens(gate, gate_plain, numbers.a, c.heads_v, channels);
    put_tokens(beta, beta_plain, numbers.b, c.heads_v, 1);
    put_plain(a_log, numbers.a_log);
    put_plain(dt_bias, numbers.dt_bias);
  }

  void choose_slots() {
    const std::int64_t sentinel = c.pad_sentinel == gdn::PadSentinel::zero ? 0 : -1;
    const std::int64_t n = sequences();
    for (std::int64_t b = 0; b < n; ++b) {
      read_slots.push_back(2 * n - b);  // out of order, in rows 1 .. 2 n
      write_slots.push_back(b % 2 == 0 ? n - b : read_slots.back());
      for (std::int64_t i = 0; i < columns; ++i) {
        checkpoint_slots.push_back(i % 3 == 1 ? sentinel : 2 * n + 1 + (n - 1 - b) * columns + i);
      }
    }
    if (n >= 3) read_slots[static_cast<std::size_t>(n / 2)] = sentinel;
    if (n >= 5) write_slots.back() = sentinel;
  }
  std::int64_t pool_rows() const { return 2 * sequences() + 1 + sequences() * columns; }

  void build() {
    columns = c.checkpoints == StatePlace::none ? 0 : std::max<std::int64_t>(longest / kChunk / c.checkpoint_chunks, 1);
    choose_slots();
    const int io = c.io_vector;
    q_plain = make_tokens(q, "q", c.io_dtype, c.heads_k, c.head_dim_k, io, TensorRole::input);
    k_plain = make_tokens(k, "k", c.io_dtype, c.heads_k, c.head_dim_k, io, TensorRole::input);
    v_plain = make_tokens(v, "v", c.io_dtype, c.heads_v, c.head_dim_v, io, TensorRole::input);
    gate_plain =
        make_tokens(gate, "gate", c.gate_dtype, c.heads_v, c.per_channel() ? c.head_dim_k : 1, 1, TensorRole::input);
    beta_plain = make_tokens(beta, "beta", c.beta_dtype, c.heads_v, 1, 1, TensorRole::input);
    params.o_strides = make_tokens(o, "o", c.output_dtype, c.heads_v, c.head_dim_v, io, TensorRole::in_out);
    params.q_strides = q_plain, params.k_strides = k_plain;
    params.v_strides = grouped(v_plain), params.gate_strides = grouped(gate_plain);
    params.beta_strides = grouped(beta_plain);
    make(a_log, "a_log", c.a_log_dtype, c.heads_v, TensorRole::input);
    make(dt_bias, "dt_bias", c.dt_bias_dtype, std::int64_t{c.heads_v} * (c.per_channel() ? c.head_dim_k : 1),
         TensorRole::input);

    const auto rows = [&](StatePlace place) { return place == StatePlace::pool ? pool_rows() : sequences(); };
    params.state_in_strides = make_states(state_in, "state_in", rows(c.initial_state), 1, TensorRole::input);
    params.state_out_strides = make_states(state_out, "state_out", rows(c.final_state), 1, TensorRole::in_out);
    const bool dense = c.checkpoints == StatePlace::dense;
    params.checkpoint_strides =
        make_states(checkpoints, "checkpoints", rows(c.checkpoints), dense ? columns : 1, TensorRole::in_out);
    if (!dense) params.checkpoint_strides.token = 0;
    params.checkpoint_count = columns;
    set_indices(read_slot, "read_slot", c.slot_dtype, read_slots);
    set_indices(write_slot, "write_slot", c.slot_dtype, write_slots);
    set_indices(checkpoint_slot, "checkpoint_slot", c.slot_dtype, checkpoint_slots);
    set_indices(cu_seqlens, "cu_seqlens", DType::i32, starts);

    const gdn::ChunkWorkspace size = gdn::chunk_workspace(c, slots(), 0);
    workspace.name = "workspace", workspace.role = TensorRole::in_out;
    workspace.buffer = DeviceBuffer(*device, static_cast<std::size_t>(size.bytes), "workspace");
    params.tiles_offset = size.tiles;
    params.sequences = sequences();
    params.tokens = c.ragged ? total() : longest;
  }

  void upload() {
    if (uploaded) return;
    uploaded = true;
    for (Tensor* tensor : tensors()) {
      if (!tensor->bytes.empty()) {
        device->copy_in(tensor->buffer.data(), tensor->bytes.data(), tensor->bytes.size(), nullptr);
      }
    }
    params.q = q.data(), params.k = k.data(), params.v = v.data();
    params.gate = gate.data(), params.beta = beta.data(), params.a_log = a_log.data(), params.dt_bias = dt_bias.data();
    params.state_in = state_in.data(), params.state_out = state_out.data(), params.checkpoints = checkpoints.data();
    params.o = o.data();
    params.workspace = static_cast<unsigned char*>(workspace.buffer.data());
    params.read_slot = {read_slot.data(), 1, 0}, params.write_slot = {write_slot.data(), 1, 0};
    params.checkpoint_slot = {checkpoint_slot.data(), columns, 1};
    params.cu_seqlens = {cu_seqlens.data(), 1, 0};
  }

  LaunchCounters launch(const std::string& header, const std::string& kernel, int threads, std::int64_t blocks,
                        int shared_bytes) {
    upload();
    const std::string text =
        "#include \"gdn/" + header + "\"\nusing namespace gdnjit;\nusing namespace gdnjit::gdn;\n" +
        "using Kernel = " + kernel + "<" + source.text + ">;\n" +
        "extern \"C\" __global__ void __launch_bounds__(Kernel::kThreads, Kernel::kMinBlocks) chunk(const " +
        "__grid_constant__ ChunkParams p) {\n  Kernel::run(p);\n}\n";
    Launch geometry{.blocks = static_cast<std::uint32_t>(blocks),
                    .threads = static_cast<std::uint32_t>(threads),
                    .shared_bytes = static_cast<std::uint32_t>(shared_bytes)};
    for (Tensor* tensor : tensors()) {
      if (tensor->buffer.bytes() > 0)
        geometry.buffers.push_back({tensor->buffer.data(), tensor->buffer.bytes(), tensor->name, tensor->role});
    }
    std::vector<std::byte> parameters(sizeof params);
    std::memcpy(parameters.data(), &params, sizeof params);
    return run(*device, compile_ptx(text, "chunk", arch, true), "chunk", parameters, geometry);
  }

  std::vector<std::byte> after(const Tensor& tensor) const {
    std::vector<std::byte> bytes(tensor.buffer.bytes());
    device->copy_out(bytes.data(), tensor.buffer.data(), bytes.size(), nullptr);
    return bytes;
  }
};

ChunkCall::ChunkCall(const ChunkSource& source, const std::vector<int>& lengths, reference::Inputs inputs,
                     std::uint64_t seed, const std::string& arch, bool check_races)
    : parts_(std::make_unique<Parts>()) {
  Parts& parts = *parts_;
  parts.source = source, parts.c = source.config, parts.layer = layer_of(source.config);
  parts.arch = arch, parts.device = &device_of(arch, check_races);
  parts.lengths = lengths;
  parts.starts = {0};
  for (int length : lengths) {
    parts.starts.push_back(parts.starts.back() + length);
    parts.longest = std::max<std::int64_t>(parts.longest, length);
  }
  parts.build();
  parts.draw_numbers(inputs, seed);
  round();
}
ChunkCall::~ChunkCall() = default;

reference::LayerInputs& ChunkCall::numbers() { return parts_->numbers; }
void ChunkCall::round() { parts_->put_numbers(); }

LaunchCounters ChunkCall::prepare() {
  const Parts& parts = *parts_;
  return parts_->launch(parts.c.per_channel() ? "chunk_prepare_channel.cuh" : "chunk_prepare.cuh",
                        parts.c.per_channel() ? "ChunkPrepareChannel" : "ChunkPrepare", gdn::chunk_prepare_threads(),
                        parts.slots() * (parts.c.per_channel() ? parts.c.heads_v : parts.c.heads_k), 0);
}

LaunchCounters ChunkCall::scan() {
  const Parts& parts = *parts_;
  return parts_->launch("chunk_scan.cuh", "ChunkScan", gdn::chunk_scan_threads(parts.c),
                        gdn::chunk_scan_grid(parts.c, parts.sequences()), gdn::chunk_scan_plan(parts.c).shared_bytes);
}

Device& ChunkCall::device() const { return *parts_->device; }

ChunkCall::Record ChunkCall::record(int sequence, int chunk, int hv) const {
  const Parts& parts = *parts_;
  const std::vector<std::byte> bytes = parts.after(parts.workspace);
  const std::byte* at =
      bytes.data() + ((parts.first_slot(sequence) + chunk) * parts.c.heads_v + hv) * ChunkRecord::bytes(parts.c);
  Record result;
  for (int i = 0; i < kChunk; ++i) {
    for (int j = 0; j < kChunk; ++j) {
      const bool stored = j / 16 <= i / 16;
      const auto number = [&](int triangle) {
        const std::byte* element = at + triangle + ChunkTriangle::offset(i, j);
        return stored ? reference::load_element(parts.c.operand_dtype(), element, 0) : 0.0;
      };
      result.a.push_back(number(ChunkRecord::kA));
      if (parts.c.write_output) result.p.push_back(number(ChunkRecord::kP));
    }
  }
  const auto factor = [&](int offset, int i) {
    return reference::load_element(DType::f32, at + ChunkRecord::kFactors + offset, i);
  };
  for (int i = 0; i < kChunk; ++i) {
    result.state.push_back(factor(ChunkFactors::kState, i));
    if (parts.c.write_output) result.query.push_back(factor(ChunkFactors::kQuery, i));
    result.key.push_back(factor(ChunkFactors::kKey, i));
    result.strength.push_back(factor(ChunkFactors::kStrength, i));
  }
  result.decay = factor(ChunkFactors::kDecay, 0);
  return result;
}

ChunkCall::Record ChunkCall::expected_record(int sequence, int chunk, int hv) const {
  const Parts& parts = *parts_;
  const ChunkConfig& c = parts.c;
  const auto index = static_cast<std::size_t>(sequence);
  const int valid = std::min(kChunk, parts.lengths[index] - chunk * kChunk);
  const std::int64_t first = parts.starts[index] + std::int64_t{chunk} * kChunk;
  constexpr auto kRows = static_cast<std::size_t>(kChunk);
  const int h = parts.key_head(hv);

  Record result;
  result.a.assign(kRows * kRows, 0.0), result.p.assign(c.write_output ? kRows * kRows : 0, 0.0);
  result.state.assign(kRows, 0.0), result.key.assign(kRows, 0.0);
  result.query.assign(c.write_output ? kRows : 0, 0.0);
  std::vector<double> alpha, beta, rk, rq, key_lengths;
  // What a row of k was divided by before it was copied: a power of two, at most its length.
  const auto scale_of_copy = [&](std::span<const double> x) {
    const double squares = std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
    if (!chunk_scales_keys(c)) return 1.0;
    return squares == 0 ? 0x1p-64 : std::exp2(std::floor(std::ilogb(squares) / 2.0));
  };
  const auto key = [&](int i) { return parts.row(parts.numbers.k, (first + i) * c.heads_k + h, c.head_dim_k); };
  const auto query = [&](int i) { return parts.row(parts.numbers.q, (first + i) * c.heads_k + h, c.head_dim_k); };
  for (int i = 0; i < valid; ++i) {
    alpha.push_back(reference::decay(parts.layer, parts.numbers, first + i, hv)[0]);
    beta.push_back(reference::write_strength(parts.layer, parts.numbers, first + i, hv));
    rk.push_back(norm_factor(parts.layer, key(i)));
    key_lengths.push_back(scale_of_copy(key(i)));
    if (c.write_output) rq.push_back(norm_factor(parts.layer, query(i)) * reference::scale_of(parts.layer));
  }
  const auto dot = [](std::span<const double> x, std::span<const double> y) {
    return std::inner_product(x.begin(), x.end(), y.begin(), 0.0);
  };
  // Column j of the inverse by forward substitution, then the decays from j to i.
  for (int j = 0; j < valid; ++j) {
    std::vector<double> x(kRows, 0.0);
    double weight = 1;
    for (int i = j; i < valid; ++i) {
      const auto ui = static_cast<std::size_t>(i), uj = static_cast<std::size_t>(j);
      x[ui] = i == j ? 1 : 0;
      for (auto m = uj; m < ui; ++m) x[ui] -= beta[ui] * rk[ui] * rk[m] * dot(key(i), key(static_cast<int>(m))) * x[m];
      if (i > j) weight *= alpha[ui];
      result.a[ui * kRows + uj] = uj < ui ? x[ui] * weight * beta[uj] : 0.0;  // the diagonal is beta, a factor
      if (c.write_output) result.p[ui * kRows + uj] = rq[ui] * rk[uj] * dot(query(i), key(j)) * weight;
    }
  }
  double forward = 1, backward = 1;
  for (std::size_t i = 0; i < alpha.size(); ++i) {
    forward *= alpha[i];
    result.state[i] = forward * rk[i] * key_lengths[i];
    if (c.write_output) result.query[i] = forward * rq[i];
    const std::size_t last = alpha.size() - 1 - i;
    result.key[last] = backward * rk[last] * key_lengths[last];
    backward *= alpha[last];
  }
  result.strength = beta;
  result.strength.resize(kRows, 0.0);
  result.decay = forward;
  return result;
}

ChunkCall::Errors ChunkCall::errors() const {
  const Parts& parts = *parts_;
  const ChunkConfig& c = parts.c;
  Judge o(parts.o, parts.after(parts.o));
  Judge final_states(parts.state_out, parts.after(parts.state_out));
  Judge checkpoints(parts.checkpoints, parts.after(parts.checkpoints));
  const std::int64_t size = std::int64_t{c.head_dim_k} * c.head_dim_v;
  std::vector<double> stored(static_cast<std::size_t>(size));
  const auto expect_state = [&](Judge& judge, HeadState& state, const gdn::StateStrides& strides, std::int64_t row,
                                std::int64_t column, int hv) {
    state.store(parts.layer, stored.data());
    for (std::int64_t i = 0; i < size; ++i) {
      judge.expect(row * strides.row + column * strides.token + hv * strides.head + i,
                   stored[static_cast<std::size_t>(i)]);
    }
  };

  for (std::int64_t b = 0; b < parts.sequences(); ++b) {
    const auto index = static_cast<std::size_t>(b);
    const bool padded = parts.padded(b);
    for (int hv = 0; hv < c.heads_v; ++hv) {
      HeadState state(parts.layer);
      if (c.initial_state != StatePlace::none && !padded) {
        const std::int64_t row = c.initial_state == StatePlace::pool ? parts.read_slots[index] : b;
        const gdn::StateStrides& strides = parts.params.state_in_strides;
        for (std::int64_t i = 0; i < size; ++i) {
          stored[static_cast<std::size_t>(i)] =
              parts.state_in.at(parts.state_in.bytes, row * strides.row + hv * strides.head + i);
        }
        state = HeadState(parts.layer, stored.data());
      }
      for (std::int64_t t = 0; t < parts.lengths[index]; ++t) {
        std::vector<double> output(static_cast<std::size_t>(c.head_dim_v), 0.0);
        if (!padded) output = reference::advance(parts.layer, parts.numbers, parts.starts[index] + t, hv, state);
        for (int i = 0; c.write_output && i < c.head_dim_v; ++i) {
          if (padded && c.pad_policy == gdn::PadPolicy::skip) break;
          o.expect(parts.element(parts.params.o_strides, b, t, hv) + i, output[static_cast<std::size_t>(i)]);
        }
        const std::int64_t step = std::int64_t{kChunk} * c.checkpoint_chunks, column = (t + 1) / step - 1;
        if (padded || c.checkpoints == StatePlace::none || (t + 1) % step != 0 || column >= parts.columns) continue;
        std::int64_t row = b;
        if (c.checkpoints == StatePlace::pool) {
          row = parts.checkpoint_slots[static_cast<std::size_t>(b * parts.columns + column)];
          if (reference::is_sentinel(parts.layer, row)) continue;
        }
        expect_state(checkpoints, state, parts.params.checkpoint_strides, row, column, hv);
      }
      if (padded || c.final_state == StatePlace::none) continue;
      const std::int64_t row = c.final_state == StatePlace::pool ? parts.write_slots[index] : b;
      if (c.final_state == StatePlace::pool && reference::is_sentinel(parts.layer, row)) continue;
      expect_state(final_states, state, parts.params.state_out_strides, row, 0, hv);
    }
  }
  return {o.ratio(), final_states.ratio(), checkpoints.ratio()};
}

double rms_ratio(const std::vector<double>& x, const std::vector<double>& reference) {
  double error = 0, size = 0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    error += (x[i] - reference[i]) * (x[i] - reference[i]);
    size += reference[i] * reference[i];
  }
  if (!std::isfinite(error)) return std::numeric_limits<double>::infinity();
  return size == 0 ? std::sqrt(error) : std::sqrt(error / size);
}

}  // namespace gdnjit::tests

#include "tests/autotune/fakes.h"

#include <cmath>
#include <cstdlib>
#include <cstring>

#include "runtime/support/check.h"
#include "tests/reference/compare.h"
#include "tests/reference/numeric.h"

namespace gdnjit::tests {
namespace {

// The kernel's parameter block.
struct Parameters {
  const float* in;
  float* out;
  std::int64_t count;
};

struct FakeKernel : Kernel {
  Behaviour behaviour;
  mutable int runs = 0;
};

Behaviour behaviour_of(std::string_view source) {
  const FieldMap fields = parse_fields(source);
  Behaviour behaviour{.does = std::string(*find_field(fields, "does"))};
  behaviour.time_us = std::stod(std::string(*find_field(fields, "time_us")));
  behaviour.jitter_us = std::stod(std::string(*find_field(fields, "jitter_us")));
  return behaviour;
}

void execute(const FakeKernel& kernel, const Parameters& p) {
  const std::string& does = kernel.behaviour.does;
  for (std::int64_t i = 0; i < p.count; ++i) p.out[i] = 2 * p.in[i];
  if (does == "wrong") p.out[p.count / 2] *= 1.5F;
  if (does == "unwritten") p.out[p.count - 1] = std::nanf("");
  if (does == "outside") p.out[p.count] = 0;
  if (does == "unstable") p.out[0] = std::nextafter(p.out[0], kernel.runs % 2 == 0 ? 0.0F : 100.0F);
}

class FakeEvent : public Event {
 public:
  explicit FakeEvent(const double& clock) : clock_(clock) {}
  void record(Stream) override { at_ = clock_; }
  double microseconds_since(const Event& earlier) const override {
    return at_ - dynamic_cast<const FakeEvent&>(earlier).at_;
  }

 private:
  const double& clock_;
  double at_ = 0;
};

class FakeGraph : public Graph {
 public:
  FakeGraph(std::vector<std::function<void()>> work, int& launches) : work_(std::move(work)), launches_(launches) {}
  void launch(Stream) override {
    ++launches_;
    for (const auto& step : work_) step();
  }

 private:
  std::vector<std::function<void()>> work_;
  int& launches_;
};

class FakeInstance : public Instance {
 public:
  FakeInstance(std::vector<KernelSpec> kernels, std::vector<TensorSpec> tensors)
      : kernels_(std::move(kernels)), tensors_(std::move(tensors)) {}
  std::span<const KernelSpec> kernels() const override { return kernels_; }
  std::vector<LaunchGeometry> geometries() const override {
    return std::vector<LaunchGeometry>(kernels_.size(), geometry(tensors_[0].shape[0]));
  }
  void pack(std::span<const TensorView> tensors, TensorMapEncoder&, Call& call) const override {
    auto& p = call.add_block<Parameters>();
    p = {static_cast<const float*>(tensors[0].data), static_cast<float*>(tensors[1].data), tensors[0].elements()};
    for (std::size_t kernel = 0; kernel < kernels_.size(); ++kernel) call.add_launch(geometry(tensors[0].shape[0]), p);
  }

 private:
  static LaunchGeometry geometry(std::int64_t batch) {
    return {.grid = {static_cast<std::uint32_t>(batch), 1, 1}, .block = {128, 1, 1}};
  }

  std::vector<KernelSpec> kernels_;
  std::vector<TensorSpec> tensors_;
};

KernelSpec fake_spec(std::string_view name, const Behaviour& behaviour, const Target& target) {
  KernelSpec spec;
  spec.operator_name = "fake.double";
  spec.entry = "fake";
  spec.target = target;
  spec.signature = fmt::format("fake.double kernel={}", name);
  spec.source = fmt::format("kernel={} does={} time_us={} jitter_us={}", name, behaviour.does, behaviour.time_us,
                            behaviour.jitter_us);
  return spec;
}

std::int64_t batch_of(const FieldMap& problem) { return std::stoll(std::string(*find_field(problem, "B"))); }

}  // namespace

FakeDevice::FakeDevice(DeviceKind kind) {
  info_.kind = kind;
  info_.name = kind == DeviceKind::cuda ? "Fake H200" : "emulator of sm_90a";
  info_.memory_bytes = 141LL << 30;
  info_.traits.l2_bytes = 4096;
  counters_.blocks = 2;
  counters_.warps = 8;
  counters_.sectors_read = counters_.sectors_written = 1000;
  counters_.global_load_instructions = 100;
}

FakeDevice::~FakeDevice() = default;

void* FakeDevice::allocate(std::size_t bytes, std::string_view) {
  ++live_allocations;
  return std::aligned_alloc(256, (bytes + 255) / 256 * 256);
}

void FakeDevice::release(void* memory) noexcept {
  --live_allocations;
  std::free(memory);
}

void FakeDevice::copy_in(void* device, const void* host, std::size_t bytes, Stream) {
  std::memcpy(device, host, bytes);
}
void FakeDevice::copy_out(void* host, const void* device, std::size_t bytes, Stream) {
  std::memcpy(host, device, bytes);
}
void FakeDevice::fill(void* device, std::uint8_t value, std::size_t bytes, Stream) {
  std::memset(device, value, bytes);
}

void FakeDevice::synchronize(Stream) {
  if (lost_) fail(ErrorCode::device_failed, "synchronizing: an earlier kernel failed");
}

std::unique_ptr<Kernel> FakeDevice::load(const KernelImage& image) {
  auto kernel = std::make_unique<FakeKernel>();
  kernel->behaviour = behaviour_of(image.ptx);
  return kernel;
}

void FakeDevice::launch(const Kernel& any, const LaunchGeometry&, std::span<const std::byte> parameters, Stream,
                        std::span<const BufferRange>) {
  const auto& kernel = dynamic_cast<const FakeKernel&>(any);
  Parameters p;
  std::memcpy(&p, parameters.data(), sizeof(p));
  const auto run = [this, &kernel, p] {
    const Behaviour& behaviour = kernel.behaviour;
    lost_ = lost_ || behaviour.does == "lost";
    if (behaviour.does == "fault" || lost_) fail(ErrorCode::device_failed, "launching: an illegal address");
    ++kernel.runs;
    ++launches;
    execute(kernel, p);
    inputs_seen.push_back(p.in);
    const double jitter = (kernel.runs / 10) % 2 == 0 ? behaviour.jitter_us : -behaviour.jitter_us;
    clock_us += behaviour.time_us + jitter + drift_per_launch_us * launches;
  };
  if (recording_ != nullptr) {
    recording_->push_back(run);
  } else {
    run();
  }
}

std::unique_ptr<Event> FakeDevice::create_event() { return std::make_unique<FakeEvent>(clock_us); }

std::unique_ptr<Graph> FakeDevice::capture(Stream stream, const std::function<void(Stream)>& work) {
  std::vector<std::function<void()>> steps;
  recording_ = &steps;
  work(stream);
  recording_ = nullptr;
  return std::make_unique<FakeGraph>(std::move(steps), graph_launches);
}

const LaunchCounters* FakeDevice::last_counters() const {
  return info_.kind == DeviceKind::emulator ? &counters_ : nullptr;
}

FieldMap FakeOperator::complete(const FieldMap& problem) const {
  FieldMap all{{"B", "4"}, {"n", "64"}};
  for (const auto& [field, value] : problem) {
    require(find_field(all, field).has_value(), "unknown field '{}'", field);
    set_field(all, field, value);
  }
  return all;
}

FieldMap FakeOperator::tuning_bucket(const FieldMap& problem) const {
  FieldMap bucket = problem;
  std::int64_t batch = 1;
  while (batch < batch_of(problem)) batch *= 2;
  set_field(bucket, "B", std::to_string(batch));
  return bucket;
}

FieldMap FakeOperator::default_tiles(const FieldMap&, const DeviceTraits&) const { return tiles(default_name()); }

std::vector<FieldMap> FakeOperator::search_space(const FieldMap&, const DeviceTraits&) const {
  std::vector<FieldMap> all;
  for (const auto& [kernel, behaviour] : space) {
    if (list_default || kernel != default_name()) all.push_back(tiles(kernel));
  }
  return all;
}

std::shared_ptr<const Instance> FakeOperator::instantiate(const FieldMap& problem, const FieldMap& chosen,
                                                          const Target& target) const {
  const std::string kernel(*find_field(chosen, "kernel"));
  for (const auto& [candidate, behaviour] : space) {
    if (candidate != kernel) continue;
    require(behaviour.does != "unfit", "kernel={}: does not fit", kernel);
    std::vector<KernelSpec> kernels;
    if (prepared) kernels.push_back(fake_spec("prepare", {.time_us = 3}, target));
    kernels.push_back(fake_spec(kernel, behaviour, target));
    return std::make_shared<FakeInstance>(std::move(kernels), tensors(complete(problem)));
  }
  fail(ErrorCode::invalid_argument, "kernel={}: unknown", kernel);
}

std::vector<TensorSpec> FakeOperator::tensors(const FieldMap& problem) const {
  const std::vector<std::int64_t> shape{batch_of(problem), std::stoll(std::string(*find_field(problem, "n")))};
  return {{.name = "in", .dtype = DType::f32, .shape = shape, .role = TensorRole::input},
          {.name = "out", .dtype = DType::f32, .shape = shape, .role = TensorRole::output}};
}

Footprint FakeOperator::footprint(const FieldMap& problem) const {
  const std::int64_t bytes = 4 * batch_of(problem) * std::stoll(std::string(*find_field(problem, "n")));
  return {.bytes_read = bytes, .bytes_written = bytes, .flops = bytes / 4};
}

CompileResult FakeCompiler::compile(const KernelSpec& spec) {
  if (spec.source.find("does=uncompilable") != std::string::npos) {
    return CompileFailure{.first_error = "fake.cuh(7): error: no", .log = "fake.cuh(7): error: no"};
  }
  CompiledKernel kernel;
  kernel.ptx = spec.source;
  kernel.cubin.resize(123);
  kernel.report.registers = 32;
  return kernel;
}

FakeWorkload::FakeWorkload(const Operator& op, const FieldMap& problem) {
  for (const TensorSpec& spec : op.tensors(problem)) {
    const std::int64_t count = spec.shape[0] * spec.shape[1];
    reference::HostTensor tensor{spec, std::vector<std::byte>(static_cast<std::size_t>(count) * 4, std::byte{0xff})};
    for (std::int64_t i = 0; spec.role == TensorRole::input && i < count; ++i) {
      reference::store_element(spec.dtype, tensor.bytes.data(), i, static_cast<double>(i % 1000 + 1));
    }
    tensors_.push_back(std::move(tensor));
  }
}

std::vector<reference::OutputError> FakeWorkload::compare(const std::vector<reference::HostTensor>& results) const {
  reference::ErrorMeter meter;
  const auto count = static_cast<std::int64_t>(results[1].bytes.size() / 4);
  for (std::int64_t i = 0; i < count; ++i) {
    meter.add(reference::load_element(DType::f32, results[1].bytes.data(), i), 2.0 * static_cast<double>(i % 1000 + 1));
  }
  return {meter.finish("out", DType::f32, 1e-6)};
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "gdnjit-autotune-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) fail(ErrorCode::io, "no temporary folder {}", pattern);
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

FakeRuntime::FakeRuntime(DeviceKind kind, const std::filesystem::path& cache, const std::string& toolchain,
                         const std::vector<std::filesystem::path>& layers) {
  Options options;
  options.read_only_caches = layers;
  options.cache_directory = cache;
  options.compile_threads = 1;
  auto own = std::make_unique<FakeDevice>(kind);
  device = own.get();
  impl = std::make_unique<Runtime::Impl>(options, std::move(own), std::make_unique<FakeCompiler>(toolchain));
}

CountingEvaluator::CountingEvaluator(Runtime::Impl& runtime, const Operator& op)
    : local_(runtime, [&op](std::string_view, const FieldMap& problem, reference::Inputs, std::uint64_t) {
        return std::make_unique<FakeWorkload>(op, problem);
      }) {}

autotune::Checked CountingEvaluator::check(const Operator& op, const FieldMap& problem, const FieldMap& tiles) {
  checked.push_back(fields_text(tiles));
  return local_.check(op, problem, tiles);
}

std::vector<autotune::Timed> CountingEvaluator::time(const Operator& op, const FieldMap& problem,
                                                     const std::vector<FieldMap>& tiles,
                                                     const autotune::TimingOptions& options) {
  ++races;
  return local_.time(op, problem, tiles, options);
}

}  // namespace gdnjit::tests

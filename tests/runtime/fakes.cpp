#include "tests/runtime/fakes.h"

#include <bit>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "runtime/support/check.h"

namespace gdnjit::fakes {
namespace {

class FakeKernel : public Kernel {
 public:
  FakeKernel(std::shared_ptr<DeviceLog> log, std::string entry) : log_(std::move(log)), entry_(std::move(entry)) {}
  ~FakeKernel() override { ++log_->unloads; }
  const std::string& entry() const { return entry_; }

 private:
  std::shared_ptr<DeviceLog> log_;
  std::string entry_;
};

class FakeDevice : public Device {
 public:
  FakeDevice(std::shared_ptr<DeviceLog> log, DeviceInfo info) : log_(std::move(log)), info_(std::move(info)) {}

  const DeviceInfo& info() const override { return info_; }
  void* allocate(std::size_t bytes, std::string_view) override { return std::malloc(bytes); }
  void release(void* memory) noexcept override { std::free(memory); }
  void copy_in(void* device, const void* host, std::size_t bytes, Stream) override { std::memcpy(device, host, bytes); }
  void copy_out(void* host, const void* device, std::size_t bytes, Stream) override {
    ++log_->copies_out;
    std::memcpy(host, device, bytes);
  }
  void fill(void* device, std::uint8_t value, std::size_t bytes, Stream) override { std::memset(device, value, bytes); }
  void discard(void*, std::size_t bytes, Stream) override { log_->discarded_bytes += bytes; }
  Stream create_stream() override { return this; }
  void destroy_stream(Stream) noexcept override {}
  void synchronize(Stream) override {}
  bool capturing(Stream) const override { return log_->capturing; }

  std::unique_ptr<Kernel> load(const KernelImage& image) override {
    GDNJIT_CHECK(!image.ptx.empty() && !image.cubin.empty(), "an image without code");
    ++log_->loads;
    return std::make_unique<FakeKernel>(log_, std::string(image.entry));
  }

  void launch(const Kernel& kernel, const LaunchGeometry& geometry, std::span<const std::byte> parameters, Stream,
              std::span<const BufferRange> buffers) override {
    if (log_->launch_fails) fail(ErrorCode::device_failed, "the fake device refuses");
    if (log_->listing) log_->entries.push_back(static_cast<const FakeKernel&>(kernel).entry());
    if (++log_->launches > 1) return;  // the first is looked at; later ones may come from many threads
    log_->entry = static_cast<const FakeKernel&>(kernel).entry();
    log_->geometry = geometry;
    log_->parameters.assign(parameters.begin(), parameters.end());
    log_->ranges.assign(buffers.begin(), buffers.end());
  }

  std::unique_ptr<Event> create_event() override { fail(ErrorCode::unsupported, "the fake device has no events"); }
  std::unique_ptr<Graph> capture(Stream, const std::function<void(Stream)>&) override {
    fail(ErrorCode::unsupported, "the fake device has no graphs");
  }

 private:
  std::shared_ptr<DeviceLog> log_;
  DeviceInfo info_;
};

class FakeCompiler : public Compiler {
 public:
  explicit FakeCompiler(std::shared_ptr<CompilerLog> log) : log_(std::move(log)) {}

  std::string toolchain() override {
    if (log_->missing) fail(ErrorCode::nvrtc_missing, "no NVRTC in the fake's pockets");
    return log_->toolchain;
  }

  CompileResult compile(const KernelSpec& spec) override {
    ++log_->compiles;
    if (log_->refuses) {
      return CompileFailure{.first_error = "fake/scale.cuh(7): error: expected a ';'",
                            .log = "fake/scale.cuh(7): error: expected a ';'\n1 error detected\n"};
    }
    const std::string code = fmt::format("// {} by {}", spec.signature, log_->toolchain);
    const auto bytes = std::as_bytes(std::span(code));
    return CompiledKernel{.ptx = code,
                          .cubin = {bytes.begin(), bytes.end()},
                          .report = {.registers = 24},
                          .log = "",
                          .milliseconds = 0.5};
  }

 private:
  std::shared_ptr<CompilerLog> log_;
};

struct ScaleProblem {
  std::int64_t batch = 1;
  int columns = 64;
  float factor = 2;
  bool prepared = false;
};

template <typename Self, typename Visitor>
requires std::same_as<std::remove_const_t<Self>, ScaleProblem>
constexpr void visit_fields(Self& problem, Visitor&& visit) {
  visit("B", problem.batch);
  visit("N", problem.columns);
  visit("factor", problem.factor);
  visit("prepared", problem.prepared);
}

struct ScaleParams {
  const void* x;
  void* y;
  std::int64_t rows;
};

class ScaleInstance : public Instance {
 public:
  ScaleInstance(const ScaleProblem& problem, int width, const Target& target) : problem_(problem) {
    if (problem.prepared) add_kernel("fake_prepare", fmt::format("fake.scale.prepare N={}", problem.columns), target);
    add_kernel("fake_scale", fmt::format("fake.scale N={} factor={} width={}", problem.columns, problem.factor, width),
               target);
  }

  std::span<const KernelSpec> kernels() const override { return kernels_; }
  std::vector<LaunchGeometry> geometries() const override {
    return std::vector<LaunchGeometry>(kernels_.size(), geometry(problem_.batch));
  }

  void pack(std::span<const TensorView> tensors, TensorMapEncoder&, Call& call) const override {
    const TensorView& x = tensors[0];
    require(x.rank == 2 && x.shape[1] == problem_.columns, "x: shape must be [B,{}]", problem_.columns);
    auto& params = call.add_block<ScaleParams>();
    params = {x.data, tensors[1].data, x.shape[0]};
    for (std::size_t kernel = 0; kernel < kernels_.size(); ++kernel) call.add_launch(geometry(x.shape[0]), params);
  }

 private:
  void add_kernel(std::string_view entry, const std::string& text, const Target& target) {
    KernelSpec spec;
    spec.operator_name = "fake.scale";
    spec.signature = fmt::format("{} arch={}", text, target.arch);
    spec.source = "// " + spec.signature + "\n";
    spec.entry = entry;
    spec.target = target;
    kernels_.push_back(std::move(spec));
  }

  static LaunchGeometry geometry(std::int64_t batch) {
    LaunchGeometry geometry;
    geometry.grid[0] = static_cast<std::uint32_t>(batch);
    geometry.shared_bytes = 256;
    return geometry;
  }

  ScaleProblem problem_;
  std::vector<KernelSpec> kernels_;
};

class ScaleOperator : public Operator {
 public:
  std::string_view name() const override { return "fake.scale"; }
  FieldMap complete(const FieldMap& fields) const override {
    const auto problem = from_fields<ScaleProblem>(fields);
    require(problem.columns > 0, "N={}: must be positive", problem.columns);
    return to_fields(problem);
  }
  FieldMap tuning_bucket(const FieldMap& fields) const override {
    auto problem = from_fields<ScaleProblem>(fields);
    problem.batch = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(problem.batch)));
    return to_fields(problem);
  }
  FieldMap default_tiles(const FieldMap&, const DeviceTraits&) const override { return {{"width", "1"}}; }
  std::vector<FieldMap> search_space(const FieldMap&, const DeviceTraits&) const override {
    return {{{"width", "1"}}, {{"width", "2"}}};
  }
  std::shared_ptr<const Instance> instantiate(const FieldMap& fields, const FieldMap& tiles,
                                              const Target& target) const override {
    const auto problem = from_fields<ScaleProblem>(fields);
    int width = 0;
    parse_field("width", find_field(tiles, "width").value_or("missing"), width);
    require(width > 0 && problem.columns % width == 0, "width={}: must divide N={}", width, problem.columns);
    return std::make_shared<ScaleInstance>(problem, width, target);
  }
  std::vector<TensorSpec> tensors(const FieldMap& fields) const override {
    const auto problem = from_fields<ScaleProblem>(fields);
    std::vector<TensorSpec> tensors{{"x", DType::f32, {problem.batch, problem.columns}, TensorRole::input},
                                    {"y", DType::f32, {problem.batch, problem.columns}, TensorRole::output}};
    if (problem.prepared) tensors.push_back({"workspace", DType::f32, {problem.columns}, TensorRole::scratch});
    return tensors;
  }
  CallDescription describe_call(const FieldMap& fields, std::span<const TensorView> views) const override {
    FieldMap problem = fields;
    set_field(problem, "B", std::to_string(views[0].shape[0]));
    return {problem, tensors(problem)};
  }
  Footprint footprint(const FieldMap&) const override { return {}; }
};

std::shared_ptr<CompilerLog> compiler_log(CompilerLog* settings) {
  auto log = std::make_shared<CompilerLog>();
  if (settings == nullptr) return log;
  log->toolchain = settings->toolchain;
  log->missing = settings->missing;
  log->refuses = settings->refuses;
  return log;
}

}  // namespace

DeviceInfo emulator_info(std::string arch) {
  DeviceInfo info;
  info.kind = DeviceKind::emulator;
  info.name = "emulator of " + arch;
  info.traits.arch = std::move(arch);
  info.memory_bytes = 16LL << 30;
  return info;
}

DeviceInfo gpu_info(std::string name, std::string arch) {
  DeviceInfo info;
  info.kind = DeviceKind::cuda;
  info.name = std::move(name);
  info.traits.arch = std::move(arch);
  info.memory_bytes = 141LL << 30;
  return info;
}

std::unique_ptr<Device> make_device(std::shared_ptr<DeviceLog> log, DeviceInfo info) {
  return std::make_unique<FakeDevice>(std::move(log), std::move(info));
}

std::unique_ptr<Compiler> make_compiler(std::shared_ptr<CompilerLog> log) {
  return std::make_unique<FakeCompiler>(std::move(log));
}

const Operator& scale_operator() {
  static const ScaleOperator op;
  return op;
}

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "gdnjit_runtime_test_XXXXXX").string();
  GDNJIT_CHECK(mkdtemp(name.data()) != nullptr, "making a temporary folder");
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Bench::Bench(Options options, DeviceInfo info, CompilerLog* settings)
    : compiler(compiler_log(settings)),
      runtime(options, make_device(device, std::move(info)), make_compiler(compiler)) {}

}  // namespace gdnjit::fakes

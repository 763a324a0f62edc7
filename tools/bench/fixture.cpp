#include "tools/bench/fixture.h"

#include <unistd.h>

#include <algorithm>
#include <string>
#include <system_error>
#include <vector>

#include "runtime/runtime_impl.h"
#include "runtime/support/check.h"
#include "tools/bench/null_device.h"

namespace gdnjit::bench {

ScratchFolder::ScratchFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "gdnjit_bench_XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) fail(ErrorCode::io, "making a scratch folder like {} failed", pattern);
  path_ = pattern;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

gdn::StepProblem qwen3_next_step(std::int64_t batch) { return {.batch = batch, .heads_k = 16, .heads_v = 32}; }

Runtime null_runtime(const std::filesystem::path& cache_directory) {
  Options options = Options::from_environment();
  options.cache_directory = cache_directory;
  return Runtime(std::make_unique<Runtime::Impl>(options, make_null_device(), nullptr));
}

StepTensors::StepTensors(Runtime& runtime, const gdn::StepProblem& problem) : runtime_(runtime) {
  const std::int64_t b = problem.batch;
  const std::int64_t h = problem.heads_k;
  const std::int64_t hv = problem.heads_v;
  const std::int64_t k = problem.head_dim_k;
  const std::int64_t v = problem.head_dim_v;
  args_.q = make("q", problem.io_dtype, {b, 1, h, k});
  args_.k = make("k", problem.io_dtype, {b, 1, h, k});
  args_.v = make("v", problem.io_dtype, {b, 1, hv, v});
  args_.a = make("a", problem.gate_dtype, {b, 1, hv});
  args_.b = make("b", problem.beta_dtype, {b, 1, hv});
  args_.a_log = make("a_log", problem.a_log_dtype, {hv});
  args_.dt_bias = make("dt_bias", problem.dt_bias_dtype, {hv});
  args_.state_in = make("state", problem.state_dtype, {b, hv, v, k});
  args_.o = make("o", problem.output_dtype, {b, 1, hv, v});
}

StepTensors::~StepTensors() {
  for (void* memory : memory_) runtime_.release(memory);
}

TensorView StepTensors::make(const char* name, DType dtype, std::initializer_list<std::int64_t> shape) {
  TensorView view = TensorView::dense(nullptr, dtype, shape);
  const std::vector<std::byte> zeros(static_cast<std::size_t>(view.elements() * dtype_bytes(dtype)));
  view.data = runtime_.allocate(zeros.size(), name);
  memory_.push_back(view.data);
  runtime_.copy_in(view.data, zeros.data(), zeros.size());
  return view;
}

Runtime& machine_runtime() {
  static Runtime runtime = [] {
    Options options = Options::from_environment();
    if (options.device == "auto") options.device = "cuda";
    return Runtime(options);
  }();
  return runtime;
}

double replay_us(Device& device, const std::function<void(Stream)>& calls) {
  constexpr int kWarmUps = 3, kSamples = 15;
  const Stream stream = device.create_stream();
  double result = 0;
  {
    const auto graph = device.capture(stream, calls);
    const auto start = device.create_event(), end = device.create_event();
    std::vector<double> samples;
    for (int i = 0; i < kWarmUps + kSamples; ++i) {
      start->record(stream);
      graph->launch(stream);
      end->record(stream);
      const double time = end->microseconds_since(*start);
      if (i >= kWarmUps) samples.push_back(time);
    }
    std::nth_element(samples.begin(), samples.begin() + kSamples / 2, samples.end());
    result = samples[kSamples / 2];
  }
  device.destroy_stream(stream);
  return result;
}

double replay_us(Device& device, const OperatorPlan& plan, std::span<const TensorView> tensors) {
  return replay_us(device, [&](Stream stream) { plan.run(tensors, stream); });
}

}  // namespace gdnjit::bench

// The whole path with nothing faked: operator, templates, NVRTC, cache, emulator; each step compared with the
// double-precision reference.
#include <doctest/doctest.h>
#include <gdnjit/gdnjit.h>

#include <array>
#include <cstdio>

#include "codegen/gdn/options_names.h"
#include "codegen/registry.h"
#include "runtime/nvrtc.h"
#include "runtime/plan.h"
#include "runtime/runtime_impl.h"
#include "runtime/support/check.h"
#include "tests/reference/workload.h"
#include "tests/runtime/fakes.h"

using namespace gdnjit;
using gdn::StepProblem;

namespace {

Options emulator_options(const std::filesystem::path& cache) {
  Options options = Options::from_environment();
  options.device = "emulator";
  options.policy = Policy::cached;
  options.cache_directory = cache;
  options.read_only_caches.clear();
  options.templates_directory.clear();
  options.miss_file.clear();
  return options;
}

// No NVRTC anywhere: the library asked for does not exist.
Options without_nvrtc(const std::filesystem::path& cache) {
  Options options = emulator_options(cache);
  options.nvrtc_library = cache / "libnvrtc.so.none";
  return options;
}

// False, and said, on a machine without NVRTC.
bool has_nvrtc() {
  try {
    Runtime runtime(emulator_options({}));
    runtime.impl().compiler();
    return true;
  } catch (const Error& error) {
    MESSAGE("SKIPPED: ", error.what());
    return false;
  }
}

StepProblem small_problem() { return {.batch = 3, .heads_k = 2, .heads_v = 4, .head_dim_k = 64, .head_dim_v = 32}; }

// Runs a workload through `plan` in host memory, which the emulator takes, and judges it.
std::string judge(const OperatorPlan& plan, const StepProblem& problem) {
  const auto workload =
      reference::make_workload("gdn.step", to_fields(problem), reference::Inputs::typical, /*seed=*/7);
  std::vector<reference::HostTensor> tensors = workload->tensors();
  std::vector<TensorView> views;
  for (reference::HostTensor& tensor : tensors) {
    TensorView view{.data = tensor.bytes.data(), .dtype = tensor.spec.dtype};
    view.rank = static_cast<int>(tensor.spec.shape.size());
    std::int64_t stride = 1;
    for (std::size_t axis = tensor.spec.shape.size(); axis-- > 0;) {
      view.shape[axis] = tensor.spec.shape[axis];
      view.strides[axis] = stride;
      stride *= view.shape[axis];
    }
    views.push_back(view);
  }
  plan.run(views, nullptr);
  std::string faults;
  for (const reference::OutputError& error : workload->compare(tensors)) {
    if (!error.passed()) faults += fmt::format("{} {:.1e} > {:.1e}; ", error.tensor, error.rms_ratio, error.tolerance);
  }
  return faults;
}

std::shared_ptr<const OperatorPlan> plan_of(Runtime& runtime, const StepProblem& problem) {
  return find_or_make_plan(runtime.impl(), find_operator("gdn.step"), to_fields(problem));
}

}  // namespace

TEST_CASE("a cold runtime compiles, a warm one loads, and both agree with the reference") {
  if (!has_nvrtc()) return;
  fakes::TemporaryFolder folder;
  const StepProblem problem = small_problem();
  Runtime cold(emulator_options(folder.path()));
  const auto compiled = plan_of(cold, problem);
  CHECK(compiled->info().compiled());
  CHECK(compiled->info().kernels[0].registers > 0);
  CHECK(judge(*compiled, problem) == "");
  StepProblem more = problem;
  more.batch = 5;
  CHECK(judge(*compiled, more) == "");

  Runtime warm(emulator_options(folder.path()));
  const auto loaded = plan_of(warm, problem);
  CHECK_FALSE(loaded->info().compiled());
  CHECK(loaded->info().kernels[0].key == compiled->info().kernels[0].key);
  CHECK(loaded->info().kernels[0].registers == compiled->info().kernels[0].registers);
  CHECK(judge(*loaded, problem) == "");
}

TEST_CASE("without NVRTC a warm cache serves, and a cold one says what to do") {
  if (!has_nvrtc()) return;
  fakes::TemporaryFolder folder;
  const StepProblem problem = small_problem();
  {
    Runtime runtime(emulator_options(folder.path()));
    plan_of(runtime, problem);
  }
  Runtime runtime(without_nvrtc(folder.path()));
  const auto plan = plan_of(runtime, problem);
  CHECK_FALSE(plan->info().compiled());
  CHECK(judge(*plan, problem) == "");
  StepProblem other = problem;
  other.norm = gdn::Norm::max_eps;
  try {
    plan_of(runtime, other);
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::nvrtc_missing);
    const std::string message = error.what();
    CHECK(message.starts_with("gdn.step for sm_90a is not in the cache and must be compiled: "));
    CHECK(message.find("libnvrtc.so.none") != std::string::npos);
  }
}

TEST_CASE("the cache remembers which toolchain NVRTC is, and a library asked for by path counts alone") {
  if (!has_nvrtc()) return;
  fakes::TemporaryFolder folder;
  Options options = emulator_options(folder.path());
  Runtime cold(options);
  CHECK(remembered_toolchain(options, cold.impl().cache()) == "");
  const std::string toolchain = cold.impl().compiler().toolchain();
  CHECK(toolchain.starts_with("nvrtc "));

  Runtime warm(options);
  cache::KernelCache& cache = warm.impl().cache();
  CHECK(remembered_toolchain(options, cache) == toolchain);
  const auto last = cache.last_toolchain();
  REQUIRE(last.has_value());
  options.nvrtc_library = last->first.path;
  CHECK(remembered_toolchain(options, cache) == toolchain);
  options.nvrtc_library = folder.path() / "libnvrtc.so.other";
  CHECK(remembered_toolchain(options, cache) == "");
}

TEST_CASE("problems of different dtype, norm and layout take turns in one process") {
  if (!has_nvrtc()) return;
  Runtime runtime(emulator_options({}));
  StepProblem half = small_problem();
  half.io_dtype = half.output_dtype = half.gate_dtype = half.beta_dtype = DType::f16;
  StepProblem kv = small_problem();
  kv.state_layout = gdn::StateLayout::kv;
  kv.norm = gdn::Norm::none;
  StepProblem pool = small_problem();
  pool.state_store = gdn::StateStore::pool;
  for (int round = 0; round < 2; ++round) {
    for (const StepProblem& problem : {small_problem(), half, kv, pool}) {
      CHECK(judge(*plan_of(runtime, problem), problem) == "");
    }
  }
}

TEST_CASE("two runtimes emulate two architectures side by side") {
  if (!has_nvrtc()) return;
  Options options = emulator_options({});
  options.device = "emulator:sm_80";
  Runtime ampere(options);
  options.device = "emulator:sm_120";
  Runtime blackwell(options);
  const StepProblem problem = small_problem();
  const auto left = plan_of(ampere, problem);
  const auto right = plan_of(blackwell, problem);
  CHECK(left->info().kernels[0].key != right->info().kernels[0].key);
  CHECK(judge(*left, problem) == "");
  CHECK(judge(*right, problem) == "");
}

TEST_CASE("a template with an error is named with file and line, twice the same, and the others go on") {
  if (!has_nvrtc()) return;
  fakes::TemporaryFolder cache;
  fakes::TemporaryFolder templates;
  {
    std::filesystem::create_directories(templates.path() / "gdn");
    std::FILE* file = std::fopen((templates.path() / "gdn" / "step.cuh").c_str(), "w");
    REQUIRE(file != nullptr);
    std::fputs("#pragma once\n#include \"gdn/step_config.cuh\"\nthis is not C++\n", file);
    std::fclose(file);
  }
  Options options = emulator_options(cache.path());
  options.templates_directory = templates.path();
  std::array<std::string, 2> messages;
  for (std::string& message : messages) {
    Runtime broken(options);
    try {
      plan_of(broken, small_problem());
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::compile_failed);
      message = error.what();
    }
  }
  CHECK(messages[0].find("gdn/step.cuh(3): error: ") != std::string::npos);
  CHECK(messages[0].find("gdn-tune explain --op gdn.step") != std::string::npos);
  CHECK(messages[0] == messages[1]);
  Runtime sound(emulator_options(cache.path()));
  CHECK(judge(*plan_of(sound, small_problem()), small_problem()) == "");
}

TEST_CASE("from C++: drafted tokens, a step each, and a prompt leave the same state") {
  if (!has_nvrtc()) return;
  Runtime runtime(emulator_options({}));
  constexpr std::int64_t B = 2, T = 3, H = 1, HV = 2, K = 32, V = 16;
  std::array<float, B * T * H * K> q{}, k{};
  std::array<float, B * T * HV * V> v{}, o_verify{}, o_steps{}, o_prompt{};
  std::array<float, B * HV * V * K> verified{}, stepped{}, prompted{};
  for (std::size_t i = 0; i < q.size(); ++i) {
    q[i] = 0.1F * static_cast<float>(i % 7) - 0.3F;
    k[i] = 0.05F * static_cast<float>(i % 11) - 0.2F;
  }
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = 0.2F * static_cast<float>(i % 5) - 0.4F;
  const auto view = [](auto& numbers, std::initializer_list<std::int64_t> shape) {
    return TensorView::dense(numbers.data(), DType::f32, shape);
  };
  const auto at_token = [](TensorView tensor, std::int64_t t) {
    tensor.data = static_cast<float*>(tensor.data) + t * tensor.strides[1];
    tensor.shape[1] = 1;
    return tensor;
  };

  StepProblem problem{.batch = B, .tokens = T, .heads_k = H, .heads_v = HV, .head_dim_k = K, .head_dim_v = V};
  problem.io_dtype = problem.output_dtype = DType::f32;
  problem.gate = gdn::Gate::none;
  problem.beta = gdn::Beta::none;
  gdn::StepArgs args{.q = view(q, {B, T, H, K}), .k = view(k, {B, T, H, K}), .v = view(v, {B, T, HV, V})};
  args.state_in = view(verified, {B, HV, V, K});
  args.o = view(o_verify, {B, T, HV, V});
  gdn::step(runtime, problem, args);

  problem.tokens = 1;
  for (std::int64_t t = 0; t < T; ++t) {
    gdn::StepArgs one{.q = at_token(args.q, t), .k = at_token(args.k, t), .v = at_token(args.v, t)};
    one.state_in = view(stepped, {B, HV, V, K});
    one.o = at_token(view(o_steps, {B, T, HV, V}), t);
    gdn::step(runtime, problem, one);
  }

  gdn::RecurrentProblem prompt{.batch = B, .heads_k = H, .heads_v = HV, .head_dim_k = K, .head_dim_v = V};
  prompt.io_dtype = prompt.output_dtype = DType::f32;
  prompt.gate = gdn::Gate::none;
  prompt.beta = gdn::Beta::none;
  gdn::RecurrentArgs whole{.q = args.q, .k = args.k, .v = args.v};
  whole.state_out = view(prompted, {B, HV, V, K});
  whole.o = view(o_prompt, {B, T, HV, V});
  const gdn::RecurrentPlan plan = gdn::plan(runtime, prompt);
  plan.run(whole);
  CHECK(plan.info().operator_name == "gdn.recurrent");

  CHECK(stepped != std::array<float, B * HV * V * K>{});
  CHECK(verified == stepped);
  CHECK(prompted == stepped);
  CHECK(o_verify == o_steps);
  CHECK(o_prompt == o_steps);
}

#include "runtime/plan.h"

#include <doctest/doctest.h>

#include <array>
#include <cstring>
#include <fstream>
#include <thread>

#include "runtime/plan_cache.h"
#include "runtime/support/check.h"
#include "runtime/support/log.h"
#include "runtime/tile_lookup.h"
#include "tests/runtime/fakes.h"

using namespace gdnjit;
using fakes::Bench;

namespace {

const Operator& op() { return fakes::scale_operator(); }

std::shared_ptr<const OperatorPlan> plan_of(Bench& bench, const FieldMap& problem) {
  return make_plan(bench.runtime, op(), problem);
}

Options in_folder(const fakes::TemporaryFolder& folder, Policy policy = Policy::cached) {
  Options options;
  options.cache_directory = folder.path();
  options.policy = policy;
  return options;
}

Error error_of(Bench& bench, const FieldMap& problem) {
  try {
    plan_of(bench, problem);
  } catch (const Error& error) {
    return error;
  }
  return Error(ErrorCode::ok, "no error");
}

std::vector<std::string> lines_of(const std::filesystem::path& file) {
  std::vector<std::string> lines;
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

cache::TuningRecord tuned(const DeviceInfo& device, const FieldMap& problem, const char* tiles) {
  cache::TuningRecord row;
  row.operator_name = op().name();
  row.problem = fields_text(op().tuning_bucket(op().complete(problem)));
  row.device = device.tuning_identity();
  row.arch = device.traits.arch;
  row.deployment = "graph";
  row.tiles = tiles;
  row.basis = tuning_basis_of(device);
  row.chosen = true;
  return row;
}

void store(cache::KernelCache& cache, const cache::TuningRecord& row) {
  cache.put_tuning(row);
  cache.choose_tuning(row);
}

}  // namespace

TEST_CASE("a plan says what it is and where its kernel came from") {
  fakes::TemporaryFolder folder;
  Bench cold(in_folder(folder));
  const auto plan = plan_of(cold, {{"N", "32"}});
  CHECK(plan->info().operator_name == "fake.scale");
  CHECK(plan->info().problem == "B=1 N=32 factor=2 prepared=false");
  REQUIRE(plan->info().kernels.size() == 1);
  const KernelInfo& kernel = plan->info().kernels[0];
  CHECK(kernel.entry == "fake_scale");
  CHECK(kernel.signature == "fake.scale N=32 factor=2 width=1 arch=sm_90a");
  CHECK(kernel.key.size() == 32);
  CHECK(plan->info().tiles == "width=1");
  CHECK(plan->info().tiles_from == TilesFrom::heuristic);
  CHECK(kernel.compiled);
  CHECK(kernel.registers == 24);
  CHECK(kernel.shared_bytes == 256);
  CHECK(cold.compiler->compiles == 1);

  Bench warm(in_folder(folder));
  const auto again = plan_of(warm, {{"N", "32"}});
  CHECK_FALSE(again->info().compiled());
  CHECK(again->info().kernels[0].key == kernel.key);
  CHECK(again->info().kernels[0].registers == 24);
  CHECK(warm.compiler->compiles == 0);
}

TEST_CASE("run packs, launches, and names the memory to the emulator") {
  Bench bench;
  const auto plan = plan_of(bench, {{"N", "32"}});
  std::array<float, 3 * 40> x{};
  std::array<float, 3 * 32> y{};
  TensorView strided = TensorView::dense(x.data(), DType::f32, {3, 32});
  strided.strides[0] = 40;
  const std::array<TensorView, 2> tensors{strided, TensorView::dense(y.data(), DType::f32, {3, 32})};
  plan->run(tensors, nullptr);
  CHECK(bench.device->launches == 1);
  CHECK(bench.device->entry == "fake_scale");
  CHECK(bench.device->geometry.grid[0] == 3);
  REQUIRE(bench.device->parameters.size() == 24);
  const void* first = nullptr;
  std::memcpy(&first, bench.device->parameters.data(), sizeof(first));
  CHECK(first == x.data());
  REQUIRE(bench.device->ranges.size() == 2);
  CHECK(bench.device->ranges[0].name == "x");
  CHECK(bench.device->ranges[0].begin == x.data());
  CHECK(bench.device->ranges[0].bytes == (2 * 40 + 32) * sizeof(float));
  CHECK(bench.device->ranges[0].role == TensorRole::input);
  CHECK(bench.device->ranges[1].role == TensorRole::output);
}

TEST_CASE("a call of several kernels launches them in order, discards scratch memory and tells the observer") {
  Bench bench;
  const auto plan = plan_of(bench, {{"N", "32"}, {"prepared", "true"}});
  REQUIRE(plan->info().kernels.size() == 2);
  CHECK(plan->info().kernels[0].entry == "fake_prepare");
  CHECK(plan->info().kernels[1].entry == "fake_scale");
  CHECK(plan->info().compiled());
  CHECK(bench.compiler->compiles == 2);
  bench.device->listing = true;
  std::array<float, 64> x{}, y{};
  std::array<float, 32> workspace{};
  const auto run = [&](float* scratch) {
    std::vector<std::size_t> observed;
    const LaunchObserver observer = [&](std::size_t kernel) { observed.push_back(kernel); };
    plan->run(
        std::array{TensorView::dense(x.data(), DType::f32, {2, 32}), TensorView::dense(y.data(), DType::f32, {2, 32}),
                   TensorView::dense(scratch, DType::f32, {32})},
        nullptr, &observer);
    CHECK(observed == std::vector<std::size_t>{0, 1});
  };
  run(workspace.data());
  CHECK(bench.device->entries == std::vector<std::string>{"fake_prepare", "fake_scale"});
  CHECK(bench.device->discarded_bytes == sizeof(workspace));
  REQUIRE(bench.device->ranges.size() == 3);
  CHECK(bench.device->ranges[2].role == TensorRole::scratch);
  run(x.data());  // scratch memory inside an input: the call would destroy what it reads, so nothing is discarded
  CHECK(bench.device->discarded_bytes == sizeof(workspace));
}

TEST_CASE("tiles that share a kernel compile and load it once") {
  Bench bench;
  const FieldMap problem{{"prepared", "true"}};
  const auto one = make_plan(bench.runtime, op(), problem, FieldMap{{"width", "1"}});
  const auto two = make_plan(bench.runtime, op(), problem, FieldMap{{"width", "2"}});
  CHECK(bench.compiler->compiles == 3);
  CHECK(bench.device->loads == 3);
  CHECK(one->info().kernels[0].key == two->info().kernels[0].key);
  CHECK(one->info().kernels[1].key != two->info().kernels[1].key);
  CHECK_FALSE(two->info().kernels[0].compiled);
  CHECK(two->info().kernels[1].compiled);
  CHECK(two->info().compiled());
}

TEST_CASE("a device without tensor maps says so") {
  Bench bench;
  CHECK_THROWS_WITH_AS(bench.runtime.device().encode_tensor_map({}), "encoding a tensor map: this device has none",
                       Error);
}

TEST_CASE("ranges of different roles that overlap become in_out") {
  Bench bench;
  const auto plan = plan_of(bench, {{"N", "32"}});
  std::array<float, 2 * 32> x{};
  const auto view = TensorView::dense(x.data(), DType::f32, {2, 32});
  plan->run(std::array{view, view}, nullptr);
  REQUIRE(bench.device->ranges.size() == 2);
  CHECK(bench.device->ranges[0].role == TensorRole::in_out);
  CHECK(bench.device->ranges[1].role == TensorRole::in_out);
}

TEST_CASE("a GPU is given no ranges") {
  Bench bench({}, fakes::gpu_info());
  const auto plan = plan_of(bench, {});
  std::array<float, 64> x{};
  const auto view = TensorView::dense(x.data(), DType::f32, {1, 64});
  plan->run(std::array{view, view}, nullptr);
  CHECK(bench.device->launches == 1);
  CHECK(bench.device->ranges.empty());
}

TEST_CASE("a batch of zero launches nothing; bad tensors are rejected before any launch") {
  Bench bench;
  const auto plan = plan_of(bench, {});
  const auto empty = TensorView::dense(nullptr, DType::f32, {0, 64});
  plan->run(std::array{empty, empty}, nullptr);
  const auto wrong = TensorView::dense(nullptr, DType::f32, {1, 63});
  CHECK_THROWS_WITH_AS(plan->run(std::array{wrong, wrong}, nullptr), "x: shape must be [B,64]", Error);
  CHECK_THROWS_WITH_AS(plan->run(std::array{wrong}, nullptr), "1 tensors given: fake.scale takes 2", Error);
  CHECK(bench.device->launches == 0);
}

TEST_CASE("problems that differ in B share one loaded kernel; the last plan unloads it") {
  auto bench = std::make_unique<Bench>();
  auto one = plan_of(*bench, {{"B", "1"}});
  auto two = plan_of(*bench, {{"B", "2"}});
  CHECK(one->info().kernels[0].key == two->info().kernels[0].key);
  CHECK(bench->device->loads == 1);
  one.reset();
  CHECK(bench->device->unloads == 0);
  two.reset();
  CHECK(bench->device->unloads == 1);
}

TEST_CASE("a failed compile names the first error, and comes back the same without a second compile") {
  fakes::TemporaryFolder folder;
  fakes::CompilerLog settings;
  settings.refuses = true;
  Bench bench(in_folder(folder), fakes::emulator_info(), &settings);
  const Error first = error_of(bench, {});
  CHECK(first.code() == ErrorCode::compile_failed);
  const std::string message = first.what();
  CHECK(message.find("compiling fake.scale for sm_90a with nvrtc 13.0.1: fake/scale.cuh(7): error: expected a ';'") ==
        0);
  CHECK(message.find("gdn-tune explain --op fake.scale") != std::string::npos);
  CHECK(message.find("fake.scale N=64 factor=2 width=1 arch=sm_90a") != std::string::npos);
  CHECK(error_of(bench, {}).what() == message);
  CHECK(bench.compiler->compiles == 1);

  Bench later(in_folder(folder), fakes::emulator_info(), &settings);
  CHECK(error_of(later, {}).what() == message);
  CHECK(later.compiler->compiles == 0);

  // The failure belongs to its toolchain.
  settings.refuses = false;
  settings.toolchain = "nvrtc 13.1.0";
  Bench newer(in_folder(folder), fakes::emulator_info(), &settings);
  CHECK(plan_of(newer, {})->info().compiled());
}

TEST_CASE("without NVRTC a cached kernel of any toolchain serves, and a missing one says what is missing") {
  fakes::TemporaryFolder folder;
  Bench filled(in_folder(folder));
  plan_of(filled, {});
  fakes::CompilerLog settings;
  settings.missing = true;
  Bench bench(in_folder(folder), fakes::emulator_info(), &settings);
  CHECK_FALSE(plan_of(bench, {})->info().compiled());
  const Error error = error_of(bench, {{"N", "32"}});
  CHECK(error.code() == ErrorCode::nvrtc_missing);
  CHECK(std::string(error.what()) ==
        "fake.scale for sm_90a is not in the cache and must be compiled: no NVRTC in the fake's pockets");
}

TEST_CASE("another toolchain has its own binary") {
  fakes::TemporaryFolder folder;
  Bench filled(in_folder(folder));
  const std::string key = plan_of(filled, {})->info().kernels[0].key;
  fakes::CompilerLog settings;
  settings.toolchain = "nvrtc 12.9.86";
  Bench bench(in_folder(folder), fakes::emulator_info(), &settings);
  const auto plan = plan_of(bench, {});
  CHECK(plan->info().compiled());
  CHECK(plan->info().kernels[0].key != key);
}

TEST_CASE("policy cached takes the record's tiles, heuristic the default") {
  fakes::TemporaryFolder folder;
  Bench cached(in_folder(folder));
  store(cached.runtime.cache(), tuned(cached.runtime.device().info(), {}, "width=2"));
  CHECK(plan_of(cached, {})->info().tiles == "width=2");
  CHECK(plan_of(cached, {})->info().tiles_from == TilesFrom::exact);
  Bench heuristic(in_folder(folder, Policy::heuristic));
  CHECK(plan_of(heuristic, {})->info().tiles == "width=1");
  const auto given = make_plan(cached.runtime, op(), {}, FieldMap{{"width", "4"}});
  CHECK(given->info().tiles == "width=4");
  CHECK(given->info().tiles_from == TilesFrom::given);
}

TEST_CASE("policy strict fails on a miss, which it notes once in the miss file") {
  fakes::TemporaryFolder folder;
  Options options = in_folder(folder, Policy::strict);
  {
    Bench strict(options);
    const Error error = error_of(strict, {{"N", "32"}});
    CHECK(error.code() == ErrorCode::strict_miss);
    CHECK(std::string(error.what()).find("'fake.scale N=32 factor=2 width=1 arch=sm_90a'") != std::string::npos);
    CHECK(std::string(error.what()).find((folder.path() / "misses.jsonl").string()) != std::string::npos);
    error_of(strict, {{"N", "32"}});
    error_of(strict, {{"N", "16"}});
    CHECK(strict.compiler->compiles == 0);
  }
  CHECK(lines_of(folder.path() / "misses.jsonl") ==
        std::vector<std::string>{R"({"operator":"fake.scale","problem":"B=1 N=32 factor=2 prepared=false",)"
                                 R"("signature":"fake.scale N=32 factor=2 width=1 arch=sm_90a","arch":"sm_90a"})",
                                 R"({"operator":"fake.scale","problem":"B=1 N=16 factor=2 prepared=false",)"
                                 R"("signature":"fake.scale N=16 factor=2 width=1 arch=sm_90a","arch":"sm_90a"})"});

  // Once compiled, strict is content; so is a strict process with another NVRTC.
  Bench filled(in_folder(folder));
  plan_of(filled, {{"N", "32"}});
  fakes::CompilerLog settings;
  settings.toolchain = "nvrtc 12.9.86";
  Bench strict(options, fakes::emulator_info(), &settings);
  CHECK_FALSE(plan_of(strict, {{"N", "32"}})->info().compiled());
}

TEST_CASE("a miss file that cannot be written is said in the error") {
  Options options;
  options.policy = Policy::strict;
  options.miss_file = "/proc/no/such/folder/misses.jsonl";
  Bench bench(options);
  CHECK(std::string(error_of(bench, {}).what()).find("it could not be noted: /proc/no/such") != std::string::npos);
  options.miss_file.clear();
  Bench without(options);
  CHECK(std::string(error_of(without, {}).what()).find("set GDNJIT_MISS_FILE") != std::string::npos);
}

TEST_CASE("policy tune_on_miss calls the tuner once per bucket, and never under NoTuning") {
  Options options;
  options.policy = Policy::tune_on_miss;
  Bench bench(options);
  int calls = 0;
  bench.runtime.set_tune_hook([&](Runtime::Impl& runtime, const Operator& asked, const FieldMap& problem) {
    ++calls;
    CHECK(&asked == &op());
    store(runtime.cache(), tuned(runtime.device().info(), problem, "width=2"));
  });
  {
    NoTuning scope;
    CHECK(plan_of(bench, {{"B", "5"}})->info().tiles_from == TilesFrom::heuristic);
    CHECK(calls == 0);
  }
  CHECK(plan_of(bench, {{"B", "5"}})->info().tiles_from == TilesFrom::exact);
  CHECK(plan_of(bench, {{"B", "6"}})->info().tiles == "width=2");
  CHECK(calls == 1);
  plan_of(bench, {{"B", "64"}});
  CHECK(calls == 2);
}

TEST_CASE("a tuner that fails, or none, costs the gain and not the plan") {
  Options options;
  options.policy = Policy::tune_on_miss;
  std::string warning;
  set_warning_sink([&](std::string_view message) { warning = message; });
  Bench bench(options);
  CHECK(plan_of(bench, {})->info().tiles_from == TilesFrom::heuristic);
  CHECK(warning.find("acts as cached") != std::string::npos);
  bench.runtime.set_tune_hook(
      [](Runtime::Impl&, const Operator&, const FieldMap&) { fail(ErrorCode::device_failed, "the device fell over"); });
  CHECK(plan_of(bench, {})->info().tiles_from == TilesFrom::heuristic);
  CHECK(warning.find("the device fell over") != std::string::npos);
  set_warning_sink({});
}

TEST_CASE("find_or_make_plan gives equal problems one plan, from any number of threads") {
  Bench bench;
  const auto plan = find_or_make_plan(bench.runtime, op(), {{"N", "32"}});
  CHECK(find_or_make_plan(bench.runtime, op(), {{"B", "1"}, {"N", "32"}}) == plan);
  CHECK(find_or_make_plan(bench.runtime, op(), {{"N", "16"}}) != plan);

  std::array<std::shared_ptr<const OperatorPlan>, 8> plans;
  std::vector<std::thread> threads;
  for (auto& place : plans) {
    threads.emplace_back([&] { place = find_or_make_plan(bench.runtime, op(), {{"N", "8"}}); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& other : plans) CHECK(other == plans[0]);
  CHECK(bench.compiler->compiles == 3);
}

TEST_CASE("two runtimes stand side by side") {
  Bench left({}, fakes::emulator_info("sm_80"));
  Bench right({}, fakes::emulator_info("sm_90a"));
  CHECK(plan_of(left, {})->info().kernels[0].signature == "fake.scale N=64 factor=2 width=1 arch=sm_80");
  CHECK(plan_of(right, {})->info().kernels[0].signature == "fake.scale N=64 factor=2 width=1 arch=sm_90a");
  CHECK(left.device->loads == 1);
  CHECK(right.device->loads == 1);
}

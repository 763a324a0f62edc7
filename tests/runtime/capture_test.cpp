#include "runtime/capture.h"

#include <doctest/doctest.h>
#include <gdnjit/gdnjit.h>

#include <array>
#include <cstring>
#include <numeric>
#include <set>

#include "runtime/dense_copy.h"
#include "runtime/plan.h"
#include "runtime/support/log.h"
#include "tests/runtime/fakes.h"
#include "tests/runtime/file_size_limit.h"
#include "tests/support/error_of.h"

using namespace gdnjit;
using fakes::Bench;

namespace {

// A captured file, with what it points into.
struct CallFile {
  std::vector<std::byte> content;
  Safetensors parsed;

  explicit CallFile(const std::filesystem::path& path)
      : content(read_file(path)), parsed(parse_safetensors(content, path.string())) {}

  std::string metadata(const std::string& name) const {
    const auto found = parsed.metadata.find(name);
    return found == parsed.metadata.end() ? "(none)" : found->second;
  }
  std::vector<std::string> names() const {
    std::set<std::string> names;
    for (const SafetensorsTensor& tensor : parsed.tensors) names.insert(tensor.name);
    return {names.begin(), names.end()};
  }
  template <typename T>
  std::vector<T> values(const std::string& name) const {
    const SafetensorsTensor* tensor = parsed.find(name);
    REQUIRE_MESSAGE(tensor != nullptr, name);
    std::vector<T> values(tensor->bytes.size() / sizeof(T));
    std::memcpy(values.data(), tensor->bytes.data(), tensor->bytes.size());
    return values;
  }
};

std::vector<std::filesystem::path> files_in(const std::filesystem::path& folder) {
  std::set<std::filesystem::path> files;
  if (!std::filesystem::exists(folder)) return {};
  for (const auto& entry : std::filesystem::directory_iterator(folder)) files.insert(entry.path());
  return {files.begin(), files.end()};
}

Options into(const std::filesystem::path& folder) {
  Options options;
  options.capture_directory = folder;
  return options;
}

// Warnings while it lives. warn_once() tells each topic once in a process, so a topic is tested in one place only.
struct Warnings {
  Warnings() {
    set_warning_sink([this](std::string_view message) { messages.emplace_back(message); });
  }
  ~Warnings() { set_warning_sink({}); }
  Warnings(const Warnings&) = delete;
  Warnings& operator=(const Warnings&) = delete;
  std::vector<std::string> messages;
};

// y = 2 x on rows of 4, as far as the fake device computes: not at all.
struct Scale {
  std::array<float, 12> x{};
  std::array<float, 12> y{};
  std::shared_ptr<const OperatorPlan> plan;

  explicit Scale(Bench& bench) : plan(make_plan(bench.runtime, fakes::scale_operator(), {{"N", "4"}, {"B", "9"}})) {
    std::iota(x.begin(), x.end(), 1.0F);
    y.fill(7.0F);
  }
  std::array<TensorView, 2> tensors() {
    return {TensorView::dense(x.data(), DType::f32, {3, 4}), TensorView::dense(y.data(), DType::f32, {3, 4})};
  }
  void run() { plan->run(tensors(), nullptr); }
};

}  // namespace

TEST_CASE("a call becomes a file: its problem, what it read, what it wrote") {
  for (const DeviceInfo& device : {fakes::emulator_info(), fakes::gpu_info()}) {
    fakes::TemporaryFolder folder;
    Bench bench(into(folder.path() / "made" / "on the way"), device);
    Scale scale(bench);
    scale.run();
    CHECK(bench.device->launches == 1);
    const auto files = files_in(folder.path() / "made" / "on the way");
    REQUIRE(files.size() == 1);
    CHECK(files[0].filename().string().ends_with("-000001-fake.scale.safetensors"));
    const CallFile file(files[0]);
    CHECK(file.metadata("format") == "gdnjit.capture 1");
    CHECK(file.metadata("operator") == "fake.scale");
    CHECK(file.metadata("problem") == "B=3 N=4 factor=2 prepared=false");
    CHECK(file.metadata("tiles") == "width=1");
    CHECK(file.metadata("device") ==
          (device.kind == DeviceKind::emulator ? "emulator of sm_90a" : "NVIDIA H200 (sm_90a)"));
    CHECK(file.metadata("failed") == "(none)");
    CHECK(file.metadata("strides.x") == "(none)");
    CHECK(file.names() == std::vector<std::string>{"x", "y"});
    CHECK(file.values<float>("x") == std::vector<float>(scale.x.begin(), scale.x.end()));
    CHECK(file.values<float>("y") == std::vector<float>(12, 7.0F));
    CHECK(file.parsed.find("x")->shape == std::vector<std::int64_t>{3, 4});
  }
}

TEST_CASE("scratch memory is not stored") {
  fakes::TemporaryFolder folder;
  Bench bench(into(folder.path()));
  const auto plan = make_plan(bench.runtime, fakes::scale_operator(), {{"N", "4"}, {"prepared", "true"}});
  std::array<float, 4> x{}, y{};
  std::array<float, 4> workspace{};
  plan->run(std::array{TensorView::dense(x.data(), DType::f32, {1, 4}), TensorView::dense(y.data(), DType::f32, {1, 4}),
                       TensorView::dense(workspace.data(), DType::f32, {4})},
            nullptr);
  CHECK(bench.device->launches == 2);
  CHECK(CallFile(files_in(folder.path()).at(0)).names() == std::vector<std::string>{"x", "y"});
}

TEST_CASE("without the option there is no file, and an empty batch makes none") {
  fakes::TemporaryFolder folder;
  Bench off;
  Scale(off).run();
  Bench on(into(folder.path()));
  Scale scale(on);
  scale.plan->run(
      std::array{TensorView::dense(nullptr, DType::f32, {0, 4}), TensorView::dense(nullptr, DType::f32, {0, 4})},
      nullptr);
  CHECK(on.device->launches == 0);
  CHECK(files_in(folder.path()).empty());
}

TEST_CASE("a strided view is stored dense, and its strides as text") {
  fakes::TemporaryFolder folder;
  Bench bench(into(folder.path()));
  Scale scale(bench);
  auto tensors = scale.tensors();
  tensors[0].shape[0] = 2;
  tensors[0].strides[0] = 6;
  tensors[1].shape[0] = 2;
  scale.plan->run(tensors, nullptr);
  const CallFile file(files_in(folder.path()).at(0));
  CHECK(file.values<float>("x") == std::vector<float>{1, 2, 3, 4, 7, 8, 9, 10});
  CHECK(file.metadata("strides.x") == "6 1");
}

TEST_CASE("a call that fails is stored with what it read and the message") {
  for (const DeviceInfo& device : {fakes::emulator_info(), fakes::gpu_info()}) {
    fakes::TemporaryFolder folder;
    Bench bench(into(folder.path()), device);
    Scale scale(bench);
    bench.device->launch_fails = true;
    CHECK(says(error_of([&] { scale.run(); }), "the fake device refuses"));
    const CallFile file(files_in(folder.path()).at(0));
    CHECK(file.metadata("failed") == "the fake device refuses");
    CHECK(file.names() == std::vector<std::string>{"x"});
  }
}

TEST_CASE("two runtimes of one process never take each other's names") {
  fakes::TemporaryFolder folder;
  Bench first(into(folder.path())), second(into(folder.path()));
  for (int round = 0; round < 3; ++round) {
    Scale(first).run();
    Scale(second).run();
  }
  CHECK(files_in(folder.path()).size() == 6);
}

TEST_CASE("a stream under capture, a call beyond the limit and the limits themselves cost one warning each, no call") {
  fakes::TemporaryFolder folder;
  const Warnings warnings;
  Options options = into(folder.path() / "few");
  options.capture_files = 2;
  Bench few(options);
  Scale scale(few);
  few.device->capturing = true;
  scale.run();
  scale.run();
  REQUIRE(warnings.messages.size() == 1);
  CHECK(warnings.messages[0].find("its stream is captured into a graph") != std::string::npos);
  few.device->capturing = false;
  for (int round = 0; round < 5; ++round) scale.run();
  REQUIRE(warnings.messages.size() == 2);
  CHECK(warnings.messages[1].find("capture_files=2 are written") != std::string::npos);
  CHECK(few.device->launches == 7);
  CHECK(files_in(folder.path() / "few").size() == 2);

  options = into(folder.path() / "small");
  options.capture_limit_bytes = 100;  // a call has two tensors of 48 bytes
  Bench small(options);
  Scale once(small);
  once.run();
  once.run();
  once.run();
  CHECK(files_in(folder.path() / "small").size() == 1);
  REQUIRE(warnings.messages.size() == 3);
  CHECK(warnings.messages[2].find("capture_limit_mb=0 is reached") != std::string::npos);
  options = into(folder.path() / "none");
  options.capture_limit_bytes = 95;
  Bench none(options);
  Scale never(none);
  never.run();
  never.run();
  CHECK(files_in(folder.path() / "none").empty());
  REQUIRE(warnings.messages.size() == 4);
  CHECK(warnings.messages[3].find("beyond capture_limit_mb") != std::string::npos);
}

TEST_CASE("a disk that is full and a folder that cannot be made end the capturing, not the call") {
  fakes::TemporaryFolder folder;
  const Warnings warnings;
  {
    Bench bench(into(folder.path() / "full"));
    Scale scale(bench);
    const FileSizeLimit limit(64);
    scale.run();
    scale.run();
    CHECK(bench.device->launches == 2);
    CHECK(files_in(folder.path() / "full").empty());
  }
  REQUIRE(warnings.messages.size() == 1);
  CHECK(warnings.messages[0].find("no more calls are captured") != std::string::npos);
  CHECK(warnings.messages[0].find("writing ") != std::string::npos);
  Bench bench(into("/proc/no folder here"));
  Scale scale(bench);
  scale.run();
  scale.run();
  CHECK(bench.device->launches == 2);
  CHECK(warnings.messages.size() == 2);
}

TEST_CASE("of a pool the rows are kept that slots name, and the slots are renumbered") {
  fakes::TemporaryFolder folder;
  auto log = std::make_shared<fakes::DeviceLog>();
  Runtime runtime(std::make_unique<Runtime::Impl>(into(folder.path()), fakes::make_device(log),
                                                  fakes::make_compiler(std::make_shared<fakes::CompilerLog>())));
  const gdn::StepProblem problem{.heads_k = 1,
                                 .heads_v = 1,
                                 .head_dim_k = 16,
                                 .head_dim_v = 4,
                                 .state_store = gdn::StateStore::pool,
                                 .pad_sentinel = gdn::PadSentinel::zero};
  alignas(256) std::array<std::uint16_t, 1024> zeros{};
  alignas(256) std::array<float, 16> parameters{};
  alignas(256) std::array<float, 10 * 100> pool;  // 10 rows of 64, 100 elements apart
  std::iota(pool.begin(), pool.end(), 0.0F);
  alignas(16) std::array<std::int32_t, 5> read{7, 3, 0, -2, 12};
  alignas(16) std::array<std::int32_t, 5> write{3, 9, 0, -2, 1};
  gdn::StepArgs args;
  args.q = args.k = TensorView::dense(zeros.data(), DType::bf16, {5, 1, 1, 16});
  args.v = args.o = TensorView::dense(zeros.data(), DType::bf16, {5, 1, 1, 4});
  args.a = args.b = TensorView::dense(zeros.data(), DType::bf16, {5, 1, 1});
  args.a_log = args.dt_bias = TensorView::dense(parameters.data(), DType::f32, {1});
  args.state_in = TensorView::dense(pool.data(), DType::f32, {10, 1, 4, 16});
  args.state_in.strides[0] = 100;
  args.read_slot = TensorView::dense(read.data(), DType::i32, {5});
  args.write_slot = TensorView::dense(write.data(), DType::i32, {5});
  gdn::step(runtime, problem, args);

  const CallFile file(files_in(folder.path()).at(0));
  CHECK(file.metadata("rows.state_in") == "0 1 3 7 9");
  CHECK(file.metadata("strides.state_in") == "100 64 16 1");
  CHECK(file.values<std::int32_t>("read_slot") == std::vector<std::int32_t>{3, 2, 0, -2, 7});  // 12 is 2 beyond
  CHECK(file.values<std::int32_t>("write_slot") == std::vector<std::int32_t>{2, 4, 0, -2, 1});
  REQUIRE(file.parsed.find("state_in")->shape == std::vector<std::int64_t>{5, 1, 4, 16});
  const auto states = file.values<float>("state_in");
  for (std::size_t row = 0; row < 5; ++row) {
    constexpr std::array<float, 5> kFirst{0, 100, 300, 700, 900};
    CHECK(states[row * 64] == kFirst[row]);
    CHECK(states[row * 64 + 63] == kFirst[row] + 63);
  }
  CHECK(file.parsed.find("after/state_in")->shape[0] == 5);
  CHECK(read[0] == 7);  // the call's own slots stay
  CHECK(log->launches == 1);
}

TEST_CASE("of a pool whose rows belong to another's the same rows are kept") {
  fakes::TemporaryFolder folder;
  auto log = std::make_shared<fakes::DeviceLog>();
  Runtime runtime(std::make_unique<Runtime::Impl>(into(folder.path()), fakes::make_device(log),
                                                  fakes::make_compiler(std::make_shared<fakes::CompilerLog>())));
  const gdn::StepProblem problem{.heads_k = 1,
                                 .heads_v = 1,
                                 .head_dim_k = 16,
                                 .head_dim_v = 4,
                                 .state_store = gdn::StateStore::pool,
                                 .conv_width = 2,
                                 .conv_state_dtype = DType::f32};
  alignas(256) std::array<std::uint16_t, 1024> zeros{};
  alignas(256) std::array<float, 16> parameters{};
  alignas(256) std::array<float, 10 * 64> pool{};
  alignas(256) std::array<float, 10 * 36> conv_pool;  // of 36 channels
  std::iota(conv_pool.begin(), conv_pool.end(), 0.0F);
  alignas(16) std::array<std::int32_t, 2> slots{7, 3};
  gdn::StepArgs args;
  args.q = args.k = TensorView::dense(zeros.data(), DType::bf16, {2, 1, 1, 16});
  args.v = args.o = TensorView::dense(zeros.data(), DType::bf16, {2, 1, 1, 4});
  args.a = args.b = TensorView::dense(zeros.data(), DType::bf16, {2, 1, 1});
  args.a_log = args.dt_bias = TensorView::dense(parameters.data(), DType::f32, {1});
  args.state_in = TensorView::dense(pool.data(), DType::f32, {10, 1, 4, 16});
  args.read_slot = args.write_slot = TensorView::dense(slots.data(), DType::i32, {2});
  args.conv_weight = TensorView::dense(zeros.data(), DType::bf16, {36, 2});
  args.conv_state_in = TensorView::dense(conv_pool.data(), DType::f32, {10, 36, 1});
  args.conv_ticket = TensorView::dense(zeros.data(), DType::i32, {2, 1});
  gdn::step(runtime, problem, args);

  const CallFile file(files_in(folder.path()).at(0));
  CHECK(file.metadata("rows.conv_state_in") == "0 3 7");
  REQUIRE(file.parsed.find("conv_state_in")->shape == std::vector<std::int64_t>{3, 36, 1});
  const auto states = file.values<float>("conv_state_in");
  CHECK(states[36] == 3 * 36);
  CHECK(states[72 + 35] == 7 * 36 + 35);
  CHECK(file.parsed.find("after/conv_state_in")->shape[0] == 3);
}

TEST_CASE("a view becomes dense whatever its strides, in few copies where that is cheaper") {
  auto log = std::make_shared<fakes::DeviceLog>();
  std::vector<std::int32_t> memory(4096);
  std::iota(memory.begin(), memory.end(), 0);
  struct Case {
    std::vector<std::int64_t> shape, strides;
    int copies;  // on a GPU
  };
  const Case cases[] = {{{2, 3, 4}, {12, 4, 1}, 1},   // dense
                        {{2, 1, 4}, {12, 99, 1}, 2},  // rows apart
                        {{3, 2, 4}, {4, 0, 1}, 6},    // the same rows twice
                        {{100, 3}, {40, 1}, 1},       // many runs close together: with what lies between
                        {{70, 1}, {55, 1}, 70},       // many runs far apart
                        {{4, 5}, {1, 4}, 20},         // transposed
                        {{3, 4}, {-4, 1}, 3},         // backwards
                        {{0, 7}, {7, 1}, 0}};
  for (const DeviceInfo& info : {fakes::emulator_info(), fakes::gpu_info()}) {
    const auto device = fakes::make_device(log, info);
    for (const Case& one : cases) {
      TensorView view{.data = memory.data() + 16, .dtype = DType::i32, .rank = static_cast<int>(one.shape.size())};
      std::copy(one.shape.begin(), one.shape.end(), view.shape.begin());
      std::copy(one.strides.begin(), one.strides.end(), view.strides.begin());
      log->copies_out = 0;
      const std::vector<std::byte> bytes = dense_copy(*device, view, nullptr);
      CHECK(log->copies_out == (info.kind == DeviceKind::emulator ? 0 : one.copies));
      std::vector<std::int32_t> expected;
      for (std::int64_t i = 0; i < one.shape[0]; ++i) {
        for (std::int64_t j = 0; j < one.shape[1]; ++j) {
          for (std::int64_t k = 0; k < (one.shape.size() > 2 ? one.shape[2] : 1); ++k) {
            expected.push_back(static_cast<std::int32_t>(16 + i * one.strides[0] + j * one.strides[1] +
                                                         (one.shape.size() > 2 ? k * one.strides[2] : 0)));
          }
        }
      }
      REQUIRE(bytes.size() == expected.size() * 4);
      CHECK((bytes.empty() || std::memcmp(bytes.data(), expected.data(), bytes.size()) == 0));
    }
  }
}

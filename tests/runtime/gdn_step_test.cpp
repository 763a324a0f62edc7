// gdn::plan(), gdn::step() and StepPlan::run() with the real operator, over a fake device and compiler.
#include <doctest/doctest.h>
#include <gdnjit/gdnjit.h>

#include <array>
#include <functional>
#include <thread>
#include <vector>

#include "codegen/registry.h"
#include "runtime/plan.h"
#include "runtime/support/check.h"
#include "tests/runtime/fakes.h"

using namespace gdnjit;
using gdn::StepArgs;
using gdn::StepProblem;

namespace {

// A runtime over fakes as a user holds it.
struct Desk {
  explicit Desk(Options options = {})
      : runtime(std::make_unique<Runtime::Impl>(options, fakes::make_device(device), fakes::make_compiler(compiler))) {}

  std::shared_ptr<fakes::DeviceLog> device = std::make_shared<fakes::DeviceLog>();
  std::shared_ptr<fakes::CompilerLog> compiler = std::make_shared<fakes::CompilerLog>();
  Runtime runtime;
};

constexpr int kBatch = 2;
constexpr StepProblem kProblem{.batch = kBatch, .heads_k = 2, .heads_v = 4, .head_dim_k = 64, .head_dim_v = 32};

// Tensors of kProblem over one block of memory; nobody reads or writes it.
struct Tensors {
  alignas(256) std::array<std::byte, 1 << 17> memory{};
  StepArgs args;

  Tensors() {
    args.q = TensorView::dense(at(0), DType::bf16, {kBatch, 1, 2, 64});
    args.k = TensorView::dense(at(1), DType::bf16, {kBatch, 1, 2, 64});
    args.v = TensorView::dense(at(2), DType::bf16, {kBatch, 1, 4, 32});
    args.a = TensorView::dense(at(3), DType::bf16, {kBatch, 1, 4});
    args.b = TensorView::dense(at(4), DType::bf16, {kBatch, 1, 4});
    args.a_log = TensorView::dense(at(5), DType::f32, {4});
    args.dt_bias = TensorView::dense(at(6), DType::f32, {4});
    args.o = TensorView::dense(at(7), DType::bf16, {kBatch, 1, 4, 32});
    args.state_in = TensorView::dense(at(8), DType::f32, {kBatch, 4, 32, 64});
  }
  std::byte* at(std::size_t place) { return memory.data() + place * 1024; }
};

// The message of a run whose arguments `spoil` changed; the device must not have been touched.
std::string refused(const std::function<void(StepArgs&)>& spoil) {
  Desk desk;
  const gdn::StepPlan plan = gdn::plan(desk.runtime, kProblem);
  Tensors tensors;
  spoil(tensors.args);
  try {
    plan.run(tensors.args);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_argument);
    CHECK(desk.device->launches == 0);
    return error.what();
  }
  return "not refused";
}

std::string problem_refused(const StepProblem& problem) {
  Desk desk;
  try {
    gdn::plan(desk.runtime, problem);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_argument);
    CHECK(desk.compiler->compiles == 0);
    return error.what();
  }
  return "not refused";
}

}  // namespace

TEST_CASE("an equal problem gives the same plan, typed or as text, and one compile") {
  Desk desk;
  const gdn::StepPlan first = gdn::plan(desk.runtime, kProblem);
  CHECK(&gdn::plan(desk.runtime, kProblem).info() == &first.info());
  const auto by_text =
      find_or_make_plan(desk.runtime.impl(), find_operator("gdn.step"), parse_fields("B=2 H=2 HV=4 K=64 V=32"));
  CHECK(&by_text->info() == &first.info());
  StepProblem other = kProblem;
  other.norm = gdn::Norm::none;
  CHECK(&gdn::plan(desk.runtime, other).info() != &first.info());
  CHECK(desk.compiler->compiles == 2);
  CHECK(first.info().problem.find("HV=4") != std::string::npos);
}

TEST_CASE("threads that plan the same problems at once share plans") {
  Desk desk;
  std::array<std::array<const PlanInfo*, 4>, 8> seen{};
  std::vector<std::thread> threads;
  for (auto& row : seen) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        for (int index = 0; index < 4; ++index) {
          StepProblem problem = kProblem;
          problem.heads_v = 2 << index;
          row[static_cast<std::size_t>(index)] = &gdn::plan(desk.runtime, problem).info();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& row : seen) CHECK(row == seen[0]);
  CHECK(desk.compiler->compiles == 4);
}

TEST_CASE("a run in place names one state to the device, readable and writable") {
  Desk desk;
  Tensors tensors;
  gdn::step(desk.runtime, kProblem, tensors.args);
  REQUIRE(desk.device->launches == 1);
  CHECK(desk.device->ranges.size() == 10);
  for (const BufferRange& range : desk.device->ranges) {
    CAPTURE(range.name);
    const bool is_state = range.name.starts_with("state");
    CHECK(range.role == (is_state ? TensorRole::in_out : range.name == "o" ? TensorRole::output : TensorRole::input));
    if (is_state) CHECK(range.bytes == sizeof(float) * kBatch * 4 * 32 * 64);
  }
}

TEST_CASE("one plan serves every batch, and a batch of zero is a no-op") {
  Desk desk;
  const gdn::StepPlan plan = gdn::plan(desk.runtime, kProblem);
  Tensors tensors;
  plan.run(tensors.args);
  const std::uint32_t blocks_of_two = desk.device->geometry.grid[0];
  StepArgs empty;
  empty.o = TensorView::dense(nullptr, DType::bf16, {0, 1, 4, 32});
  plan.run(empty);
  CHECK(desk.device->launches == 1);
  CHECK(blocks_of_two % 2 == 0);
}

TEST_CASE("a problem that breaks a rule is refused with argument, value and rule") {
  CHECK(problem_refused({.heads_k = 16, .heads_v = 20}) == "HV=20: must be a multiple of H=16");
  CHECK(problem_refused({.io_dtype = DType::i32}) == "io=i32: must be f32, bf16 or f16");
  CHECK(problem_refused({.head_dim_k = 0}).starts_with("K=0: must be"));
  CHECK(problem_refused({.batch = -1}).starts_with("B=-1: must not be negative"));
  Desk desk;
  const Operator& op = find_operator("gdn.step");
  CHECK_THROWS_AS(find_or_make_plan(desk.runtime.impl(), op, {{"io", "fp8"}}), Error);
  CHECK_THROWS_WITH_AS(find_or_make_plan(desk.runtime.impl(), op, {{"HH", "2"}}),
                       "unknown field 'HH' (did you mean 'H'?)", Error);
}

TEST_CASE("tensors that break a rule are refused before any device work") {
  CHECK(refused([](StepArgs& args) { args.k = {}; }) == "k: is null; the problem needs it");
  CHECK(refused([](StepArgs& args) {
          args.q.dtype = DType::f32;
        }).starts_with("q: has dtype f32, the problem says bf16"));
  CHECK(refused([](StepArgs& args) { args.v.shape[3] = 33; }) == "v: dimension 3 is 33, must be 32");
  CHECK(refused([](StepArgs& args) { args.q.rank = 3; }) == "q: has rank 3, must be 4");
  CHECK(refused([](StepArgs& args) { args.q.strides[3] = 2; }).starts_with("q: stride 2 of dimension 3 must be 1"));
  CHECK(refused([](StepArgs& args) {
          args.q.data = static_cast<std::byte*>(args.q.data) + 2;
        }).find("is not a multiple of 8 bytes; align it") != std::string::npos);  // 4 keys a lane and access
  CHECK(refused([](StepArgs& args) {
          args.k.strides[2] = 65;
        }).starts_with("k: stride 65 of dimension 2 is not a multiple"));
  CHECK(
      refused([](StepArgs& args) { args.state_in.strides[2] = 65; }).starts_with("state_in: stride 65 of dimension 2"));
  CHECK(refused([](StepArgs& args) { args.b.shape[0] = 3; }) == "b: dimension 0 is 3, must be 2");
}

TEST_CASE("an empty plan says how to make one") {
  const gdn::StepPlan plan;
  CHECK_FALSE(plan);
  CHECK_THROWS_WITH_AS(plan.run({}), "StepPlan: it is empty; make it with gdnjit::gdn::plan()", Error);
  CHECK_THROWS_AS(plan.info(), Error);
}

TEST_CASE("a recurrent plan serves every B and T, and is found again by its problem") {
  Desk desk;
  const gdn::RecurrentProblem problem{.heads_k = 2, .heads_v = 4, .head_dim_k = 64, .head_dim_v = 32};
  const gdn::RecurrentPlan plan = gdn::plan(desk.runtime, problem);
  CHECK(&gdn::plan(desk.runtime, problem).info() == &plan.info());
  gdn::RecurrentProblem longer = problem;
  longer.tokens = 500;
  CHECK(gdn::plan(desk.runtime, longer).info().kernels[0].key == plan.info().kernels[0].key);

  Tensors tensors;
  const StepArgs& step = tensors.args;
  gdn::RecurrentArgs args{.q = step.q, .k = step.k, .v = step.v, .a = step.a, .b = step.b};
  args.a_log = step.a_log;
  args.dt_bias = step.dt_bias;
  args.state_out = step.state_in;
  args.o = step.o;
  plan.run(args);
  CHECK(desk.device->launches == 1);
  args.o.shape[0] = 0;
  plan.run(args);
  CHECK(desk.device->launches == 1);
  args.o.shape[0] = kBatch + 1;
  CHECK_THROWS_WITH_AS(plan.run(args), "q: dimension 0 is 2, must be 3", Error);
  CHECK_THROWS_WITH_AS(gdn::RecurrentPlan().run({}), "RecurrentPlan: it is empty; make it with gdnjit::gdn::plan()",
                       Error);
}

TEST_CASE("a programmatic problem asks the device for a programmatic launch") {
  for (const bool programmatic : {false, true}) {
    Desk desk;
    Tensors tensors;
    StepProblem problem = kProblem;
    problem.programmatic = programmatic;
    gdn::step(desk.runtime, problem, tensors.args);
    CHECK(desk.device->geometry.programmatic == programmatic);
  }
}

TEST_CASE("step() never tunes while its stream is captured") {
  Options options;
  options.policy = Policy::tune_on_miss;
  Desk desk(options);
  int tunings = 0;
  desk.runtime.impl().set_tune_hook([&](Runtime::Impl&, const Operator&, const FieldMap&) { ++tunings; });
  Tensors tensors;
  desk.device->capturing = true;
  gdn::step(desk.runtime, kProblem, tensors.args, &desk);
  CHECK(tunings == 0);
  desk.device->capturing = false;
  StepProblem other = kProblem;
  other.batch = 64;
  gdn::plan(desk.runtime, other);
  CHECK(tunings == 1);
}

TEST_CASE("a plan keeps its kernel loaded after the runtime's cache has given it out, and a runtime can be moved") {
  Desk desk;
  Runtime moved = std::move(desk.runtime);
  Tensors tensors;
  gdn::step(moved, kProblem, tensors.args);
  gdn::step(moved, kProblem, tensors.args);
  CHECK(desk.device->launches == 2);
  CHECK(desk.device->loads == 1);
  CHECK(moved.device_name() == "emulator of sm_90a");
  CHECK(moved.is_emulator());
}

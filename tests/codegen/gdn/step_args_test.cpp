#include <doctest/doctest.h>

#include <array>
#include <functional>
#include <string>

#include "codegen/gdn/options_names.h"
#include "codegen/gdn/step.h"

using namespace gdnjit;
using namespace gdnjit::gdn;

namespace {

alignas(256) std::byte memory[4096];

StepArgs valid_args(std::int64_t B) {
  StepArgs args;
  args.q = TensorView::dense(memory, DType::bf16, {B, 1, 2, 16});
  args.k = TensorView::dense(memory, DType::bf16, {B, 1, 2, 16});
  args.v = TensorView::dense(memory, DType::bf16, {B, 1, 4, 8});
  args.a = TensorView::dense(memory, DType::bf16, {B, 1, 4});
  args.b = TensorView::dense(memory, DType::bf16, {B, 1, 4});
  args.a_log = TensorView::dense(memory, DType::f32, {4});
  args.dt_bias = TensorView::dense(memory, DType::f32, {4});
  args.state_in = TensorView::dense(memory, DType::f32, {B, 4, 8, 16});
  args.state_out = TensorView::dense(memory, DType::f32, {B, 4, 8, 16});
  args.o = TensorView::dense(memory, DType::bf16, {B, 1, 4, 8});
  return args;
}

StepProblem small_problem() { return complete_step({.heads_k = 2, .heads_v = 4, .head_dim_k = 16, .head_dim_v = 8}); }

std::int64_t pack(const StepProblem& problem, const StepArgs& args, StepParams& params) {
  std::array<TensorView, kMaxStepTensors> tensors;
  const std::size_t count = gather_step_args(problem, args, tensors);
  const StepConfig config = step_config(problem, default_step_tiles(problem, {}));
  return pack_step(problem, config, std::span(tensors).first(count), params);
}

std::string message(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_argument);
    return error.what();
  }
  return "no error";
}

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("bad problems are refused by name, value and rule") {
  CHECK(message([] { complete_step({.heads_k = 16, .heads_v = 20}); }) == "HV=20: must be a multiple of H=16");
  CHECK(contains(message([] { complete_step({.batch = -1}); }), "B=-1"));
  CHECK(contains(message([] { complete_step({.head_dim_k = 0}); }), "K=0: must be 1 to"));
  CHECK(contains(message([] { complete_step({.io_dtype = DType::i32}); }), "io=i32: must be f32, bf16 or f16"));
  CHECK(contains(message([] { complete_step({.slot_dtype = DType::bf16}); }), "slot_dtype=bf16"));
  CHECK(
      contains(message([] { complete_step({.state_alignment = 12}); }), "state_alignment=12: must be a power of two"));
  CHECK(contains(message([] { complete_step({.io_dtype = DType::f32, .io_alignment = 2}); }), "io_alignment=2"));
  CHECK(contains(message([] { complete_step({.gate = Gate::channel_raw, .input_layout = InputLayout::qkvz}); }),
                 "gate=channel_raw"));
  CHECK(contains(message([] {
                   from_fields<StepProblem>({{"state", "fp32"}});
                 }),
                 "state=fp32: unknown value (did you mean 'f32'?)"));
  CHECK(contains(message([] {
                   from_fields<StepProblem>({{"HVV", "3"}});
                 }),
                 "unknown field 'HVV' (did you mean 'HV'?)"));
}

TEST_CASE("valid arguments become parameters with their strides") {
  StepParams params{};
  CHECK(pack(small_problem(), valid_args(3), params) == 3);
  CHECK(params.q_batch == 32);
  CHECK(params.q_head == 16);
  CHECK(params.v_strides.batch == 32);
  CHECK(params.v_strides.key_head == 16);
  CHECK(params.v_strides.group == 8);
  CHECK(params.state_in_row == 4 * 8 * 16);
  CHECK(params.o_head == 8);
}

TEST_CASE("packed layouts become pointers and strides of one row") {
  StepProblem problem = small_problem();
  problem.input_layout = InputLayout::mixed_qkv;
  StepArgs args = valid_args(2);
  args.packed = TensorView::dense(memory, DType::bf16, {2, 1, 2 * 2 * 16 + 4 * 8});
  StepParams params{};
  pack(problem, args, params);
  CHECK(static_cast<const std::byte*>(params.k) - memory == 2 * 16 * 2);
  CHECK(static_cast<const std::byte*>(params.v) - memory == 2 * 2 * 16 * 2);

  problem.input_layout = InputLayout::qkvz;
  args.packed = TensorView::dense(memory, DType::bf16, {2, 1, 2 * (2 * 16 + 2 * 2 * 8)});
  args.a = TensorView::dense(memory, DType::bf16, {2, 1, 2, 4});
  pack(problem, args, params);
  CHECK(params.q_head == 2 * 16 + 2 * 2 * 8);
  CHECK(params.v_strides.key_head == 2 * 16 + 2 * 2 * 8);
  CHECK(params.v_strides.group == 8);
  CHECK(static_cast<const std::byte*>(params.gate) - static_cast<const std::byte*>(params.beta) == 2 * 2);
}

TEST_CASE("an empty state_out means in place") {
  StepArgs args = valid_args(2);
  args.state_out = {};
  StepParams params{};
  pack(small_problem(), args, params);
  CHECK(params.state_out == args.state_in.data);
}

TEST_CASE("an empty batch needs no memory") {
  StepArgs args;
  args.o = TensorView{.dtype = DType::bf16, .rank = 4, .shape = {0, 1, 4, 8}};
  StepParams params{};
  CHECK(pack(small_problem(), args, params) == 0);
}

TEST_CASE("each bad argument is refused by name before any device work") {
  const auto refused = [](const std::function<void(StepArgs&)>& spoil) {
    StepArgs args = valid_args(2);
    spoil(args);
    StepParams params{};
    return message([&] { pack(small_problem(), args, params); });
  };
  CHECK(refused([](StepArgs& args) { args.k.data = nullptr; }) == "k: is null; the problem needs it");
  CHECK(
      contains(refused([](StepArgs& args) { args.v.dtype = DType::f16; }), "v: has dtype f16, the problem says bf16"));
  CHECK(contains(refused([](StepArgs& args) { args.q.shape[3] = 15; }), "q: dimension 3 is 15, must be 16"));
  CHECK(contains(refused([](StepArgs& args) { args.q.rank = 3; }), "q: has rank 3, must be 4"));
  CHECK(contains(refused([](StepArgs& args) { args.q.strides[3] = 2; }), "q: stride 2 of dimension 3 must be 1"));
  CHECK(contains(refused([](StepArgs& args) { args.q.strides[0] = 33; }),
                 "q: stride 33 of dimension 0 is not a multiple of"));
  CHECK(contains(refused([](StepArgs& args) { args.q.data = memory + 2; }), "io_alignment"));
  CHECK(contains(refused([](StepArgs& args) { args.state_in.data = memory + 4; }), "state_in: address"));
  CHECK(contains(refused([](StepArgs& args) { args.state_in.strides[2] = 17; }),
                 "state_in: stride 17 of dimension 2 must be 16"));
  CHECK(contains(refused([](StepArgs& args) { args.state_out.strides[0] = 513; }), "state_out: stride 513"));
  CHECK(contains(refused([](StepArgs& args) { args.o.strides[3] = 4; }), "o: stride 4"));
  CHECK(contains(refused([](StepArgs& args) { args.o.shape[2] = 5; }), "o: dimension 2 is 5, must be 4"));
  CHECK(contains(refused([](StepArgs& args) { args.dt_bias.strides[0] = 2; }), "dt_bias: stride 2"));
}

TEST_CASE("a pool refuses a second state") {
  StepProblem problem = small_problem();
  problem.state_store = StateStore::pool;
  StepArgs args = valid_args(2);
  args.state_out.data = memory + 512;
  StepParams params{};
  CHECK(contains(message([&] { pack(problem, args, params); }), "state_out: a pool is updated in place"));
}

TEST_CASE("a plan for exactly B refuses another B") {
  StepProblem problem = small_problem();
  problem.exact_batch = true;
  problem.batch = 3;
  StepParams params{};
  CHECK(contains(message([&] { pack(problem, valid_args(2), params); }), "o: B=2, the plan was made for exactly B=3"));
}

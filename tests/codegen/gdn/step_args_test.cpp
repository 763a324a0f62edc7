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
  CHECK(params.q_strides.batch == 32);
  CHECK(params.q_strides.key_head == 16);
  CHECK(params.v_strides.batch == 32);
  CHECK(params.v_strides.key_head == 16);
  CHECK(params.v_strides.group == 8);
  CHECK(params.state_in_strides.row == 4 * 8 * 16);
  CHECK(params.o_strides.key_head == 8);
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
  CHECK(params.q_strides.key_head == 2 * 16 + 2 * 2 * 8);
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

TEST_CASE("tensors of several tokens, their states and slots become parameters") {
  StepProblem problem = small_problem();
  problem.tokens = 3;
  problem.state_store = StateStore::pool;
  problem.state_steps = StatePlace::pool;
  problem.num_accepted = StatePlace::pool;
  problem.tree = true;
  StepArgs args;
  args.q = args.k = TensorView::dense(memory, DType::bf16, {2, 3, 2, 16});
  args.v = args.o = TensorView::dense(memory, DType::bf16, {2, 3, 4, 8});
  args.a = args.b = TensorView::dense(memory, DType::bf16, {2, 3, 4});
  args.a_log = args.dt_bias = TensorView::dense(memory, DType::f32, {4});
  args.state_in = TensorView::dense(memory, DType::f32, {1, 4, 8, 16});
  args.read_slot = args.write_slot = args.num_accepted = TensorView::dense(memory, DType::i32, {2});
  args.accepted_slot = TensorView::dense(memory, DType::i32, {2, 5});
  args.step_slot = args.parent = TensorView::dense(memory, DType::i32, {2, 3});
  StepParams params{};
  CHECK(pack(problem, args, params) == 2);
  CHECK(params.q_strides.token == 32);
  CHECK(params.v_strides.token == 32);
  CHECK(params.o_strides.token == 32);
  CHECK(params.gate_strides.token == 4);
  CHECK(params.accepted_slot.row == 5);
  CHECK(params.step_slot.row == 3);
  CHECK(params.parent.token == 1);
  CHECK(params.step_states == args.state_in.data);

  const auto refused = [&](const std::function<void(StepArgs&)>& spoil) {
    StepArgs spoiled = args;
    spoil(spoiled);
    return message([&] { pack(problem, spoiled, params); });
  };
  CHECK(refused([](StepArgs& a) { a.q.shape[1] = 2; }) == "q: dimension 1 is 2, must be 3");
  CHECK(refused([](StepArgs& a) { a.parent.dtype = DType::i64; }) == "parent: has dtype i64, the problem says i32");
  CHECK(refused([](StepArgs& a) { a.step_slot.shape[1] = 4; }) == "step_slot: dimension 1 is 4, must be 3");
  CHECK(refused([](StepArgs& a) { a.accepted_slot.shape[1] = 0; }) ==
        "accepted_slot: dimension 1 is 0, must be at least 1");
  CHECK(refused([](StepArgs& a) { a.num_accepted = {}; }) == "num_accepted: is null; the problem needs it");
  CHECK(contains(refused([](StepArgs& a) { a.k.strides[1] = 33; }), "k: stride 33 of dimension 1"));

  problem.state_steps = StatePlace::dense;
  problem.num_accepted = StatePlace::dense;
  args.step_states = TensorView::dense(memory, DType::f32, {2, 3, 4, 8, 16});
  args.accepted_states = TensorView::dense(memory, DType::f32, {2, 7, 4, 8, 16});
  CHECK(pack(problem, args, params) == 2);
  CHECK(params.step_strides.token == 4 * 8 * 16);
  CHECK(params.accepted_strides.row == 7 * 4 * 8 * 16);
  CHECK(
      refused([](StepArgs& a) { a.step_states.strides[3] = 17; }).starts_with("step_states: stride 17 of dimension 3"));
}

TEST_CASE("without an output neither q nor o is a tensor of the call, and B comes from k") {
  StepProblem problem = small_problem();
  problem.write_output = false;
  problem.exact_batch = true;
  problem.batch = 3;
  StepArgs args = valid_args(2);
  args.q = args.o = {};
  for (const TensorSpec& spec : step_tensors(problem)) CHECK((spec.name != "q" && spec.name != "o"));
  StepParams params{};
  CHECK(message([&] { pack(problem, args, params); }) == "k: B=2, the plan was made for exactly B=3");
  problem.batch = 2;
  CHECK(pack(problem, args, params) == 2);
  CHECK(params.q == nullptr);
}

TEST_CASE("gathered arguments match the list of tensors, whatever the problem uses") {
  for (const StatePlace steps : {StatePlace::none, StatePlace::dense, StatePlace::pool}) {
    for (const StatePlace accepted : {StatePlace::none, StatePlace::dense, StatePlace::pool}) {
      for (const bool update : {false, true}) {
        for (const StateStore store : {StateStore::dense, StateStore::pool}) {
          if (store == StateStore::dense && (steps == StatePlace::pool || accepted == StatePlace::pool)) continue;
          const StepProblem problem = complete_step({.tokens = 4,
                                                     .state_store = store,
                                                     .state_steps = steps,
                                                     .num_accepted = accepted,
                                                     .tree = update,
                                                     .update_state = update});
          std::array<TensorView, kMaxStepTensors> tensors;
          CHECK(gather_step_args(problem, {}, tensors) == step_tensors(problem).size());
        }
      }
    }
  }
}

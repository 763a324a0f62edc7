#include <doctest/doctest.h>

#include <array>
#include <functional>
#include <string>

#include "codegen/gdn/options_names.h"
#include "codegen/gdn/recurrent.h"

using namespace gdnjit;
using namespace gdnjit::gdn;

namespace {

alignas(256) std::byte memory[1 << 16];

RecurrentProblem small_problem() {
  return complete_recurrent({.heads_k = 2, .heads_v = 4, .head_dim_k = 16, .head_dim_v = 8});
}

// Three ragged sequences of 9 tokens, or B = 3 of T = 3.
RecurrentArgs valid_args(bool ragged) {
  const std::int64_t B = ragged ? 1 : 3, T = ragged ? 9 : 3;
  RecurrentArgs args;
  args.q = TensorView::dense(memory, DType::bf16, {B, T, 2, 16});
  args.k = TensorView::dense(memory, DType::bf16, {B, T, 2, 16});
  args.v = TensorView::dense(memory, DType::bf16, {B, T, 4, 8});
  args.a = TensorView::dense(memory, DType::bf16, {B, T, 4});
  args.b = TensorView::dense(memory, DType::bf16, {B, T, 4});
  args.a_log = TensorView::dense(memory, DType::f32, {4});
  args.dt_bias = TensorView::dense(memory, DType::f32, {4});
  args.cu_seqlens = TensorView::dense(memory, DType::i32, {4});
  args.state_in = TensorView::dense(memory, DType::f32, {3, 4, 8, 16});
  args.state_out = TensorView::dense(memory + 8192, DType::f32, {3, 4, 8, 16});
  args.read_slot = args.write_slot = TensorView::dense(memory, DType::i32, {3});
  args.o = TensorView::dense(memory, DType::bf16, {B, T, 4, 8});
  return args;
}

std::int64_t pack(const RecurrentProblem& problem, const RecurrentArgs& args, StepParams& params) {
  std::array<TensorView, kMaxRecurrentTensors> tensors;
  const std::size_t count = gather_recurrent_args(problem, args, tensors);
  const StepConfig config = recurrent_config(problem, default_step_tiles(layer_of(problem), {}));
  return pack_recurrent(problem, config, std::span(tensors).first(count), params);
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

std::vector<std::string> names(const RecurrentProblem& problem) {
  std::vector<std::string> result;
  for (const TensorSpec& spec : recurrent_tensors(problem)) result.push_back(spec.name);
  return result;
}

}  // namespace

TEST_CASE("a call of any T becomes parameters, and gathered arguments match the list of tensors") {
  for (const bool ragged : {false, true}) {
    for (const StatePlace initial : {StatePlace::none, StatePlace::dense, StatePlace::pool}) {
      for (const StatePlace final : {StatePlace::none, StatePlace::dense, StatePlace::pool}) {
        RecurrentProblem problem = small_problem();
        problem.ragged = ragged;
        problem.initial_state = initial;
        problem.final_state = final;
        RecurrentArgs args = valid_args(ragged);
        if (final == StatePlace::none || (final == StatePlace::pool && initial == StatePlace::pool))
          args.state_out = {};
        std::array<TensorView, kMaxRecurrentTensors> tensors;
        CHECK(gather_recurrent_args(problem, args, tensors) == recurrent_tensors(problem).size());
        StepParams params{};
        CHECK(pack(problem, args, params) == 3);
        CHECK(params.q_strides.token == 32);
        CHECK(params.tokens == (ragged ? 9 : 3));
        CHECK((params.cu_seqlens.data != nullptr) == ragged);
        const bool one_pool = initial == StatePlace::pool && final == StatePlace::pool;
        if (one_pool) CHECK(params.state_out == args.state_in.data);
        if (final == StatePlace::dense) CHECK(params.state_out == args.state_out.data);
      }
    }
  }
}

TEST_CASE("only the tensors that a problem uses are taken, in order") {
  RecurrentProblem problem = small_problem();
  CHECK(names(problem) == std::vector<std::string>{"q", "k", "v", "a", "b", "a_log", "dt_bias", "state_out", "o"});
  problem.ragged = true;
  problem.initial_state = problem.final_state = StatePlace::pool;
  problem.write_output = false;
  problem.gate = Gate::none;
  CHECK(names(problem) == std::vector<std::string>{"k", "v", "b", "cu_seqlens", "state_in", "read_slot", "write_slot"});
}

TEST_CASE("an empty state_out means in place where both states are dense, and nowhere else") {
  RecurrentProblem problem = small_problem();
  problem.initial_state = StatePlace::dense;
  RecurrentArgs args = valid_args(false);
  args.state_out = {};
  StepParams params{};
  pack(problem, args, params);
  CHECK(params.state_out == args.state_in.data);
  problem.initial_state = StatePlace::none;
  CHECK(message([&] { pack(problem, args, params); }) == "state_out: is null; the problem needs it");
  problem.final_state = StatePlace::none;
  CHECK(message([&] { pack(problem, valid_args(false), params); }) ==
        "state_out: final_state=none drops the final state; leave it empty");
}

TEST_CASE("bad arguments are refused by name") {
  const auto refused = [](const std::function<void(RecurrentArgs&)>& spoil) {
    RecurrentProblem problem = small_problem();
    problem.ragged = true;
    problem.initial_state = StatePlace::dense;
    RecurrentArgs args = valid_args(true);
    spoil(args);
    StepParams params{};
    return message([&] { pack(problem, args, params); });
  };
  CHECK(refused([](RecurrentArgs& args) { args.cu_seqlens = {}; }) == "cu_seqlens: has rank 0, must be 1");
  CHECK(refused([](RecurrentArgs& args) { args.cu_seqlens.shape[0] = 0; }) ==
        "cu_seqlens: dimension 0 is 0, must be 1 more than the number of sequences");
  CHECK(refused([](RecurrentArgs& args) { args.state_in.shape[0] = 4; }) == "state_in: dimension 0 is 4, must be 3");
  CHECK(refused([](RecurrentArgs& args) { args.v.shape[1] = 8; }) == "v: dimension 1 is 8, must be 9");
  CHECK(refused([](RecurrentArgs& args) {
          args.q.strides[1] = 33;
        }).starts_with("q: stride 33 of dimension 1 is not a multiple of"));
}

TEST_CASE("tuning buckets round sequences and tokens, and one kernel serves every B and T") {
  const Operator& op = recurrent_operator();
  const FieldMap bucket = op.tuning_bucket(parse_fields("B=5 T=100"));
  CHECK(find_field(bucket, "B") == "8");
  CHECK(find_field(bucket, "T") == "128");
  CHECK(find_field(op.tuning_bucket(parse_fields("T=100000")), "T") == "1024");
  const FieldMap tiles = op.default_tiles(parse_fields("B=1"), {});
  const auto signature = [&](const char* text) {
    return op.instantiate(parse_fields(text), tiles, Target{})->kernels()[0].signature;
  };
  CHECK(signature("B=1 T=1") == signature("B=7 T=1000"));
  CHECK(signature("ragged=true") != signature("ragged=false"));
}

#include <doctest/doctest.h>

#include <array>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "codegen/gdn/chunk.h"
#include "codegen/gdn/chunk_names.h"
#include "tests/support/error_of.h"

using namespace gdnjit;
using namespace gdnjit::gdn;

namespace {

alignas(256) std::byte memory[1 << 20];

// Encodes nothing; a launch needs its size only.
class NoMaps : public TensorMapEncoder {
 public:
  TensorMap encode_tensor_map(const TensorMapSpec& spec) override {
    check_tensor_map(spec);
    ++encoded;
    return {};
  }
  int encoded = 0;
};

ChunkProblem small_problem() {
  return complete_chunk({.batch = 3, .tokens = 100, .heads_k = 2, .heads_v = 4, .head_dim_k = 16, .head_dim_v = 8});
}

// Three ragged sequences of 300 tokens, or B = 3 of T = 100.
ChunkArgs valid_args(const ChunkProblem& problem) {
  const std::int64_t B = problem.ragged ? 1 : 3, T = problem.ragged ? 300 : 100;
  ChunkArgs args;
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
  args.checkpoints = TensorView::dense(memory + 65536, DType::f32, {3, 2, 4, 8, 16});
  args.checkpoint_slot = TensorView::dense(memory, DType::i32, {3, 2});
  args.workspace = TensorView::dense(memory + (1 << 18), DType::u8, {workspace_bytes(problem, 3, T)});
  args.o = TensorView::dense(memory, DType::bf16, {B, T, 4, 8});
  return args;
}

// What a call launches, or what it says against it.
struct Packed {
  Call call;
  NoMaps maps;

  Packed(const ChunkProblem& problem, const ChunkArgs& args, const char* tiles = "path=mma block_v=16",
         const char* arch = "sm_90a") {
    std::array<TensorView, kMaxChunkTensors> tensors;
    const std::size_t count = gather_chunk_args(problem, args, tensors);
    const auto instance = chunk_operator().instantiate(to_fields(problem), parse_fields(tiles), Target{arch});
    instance->pack(std::span(tensors).first(count), maps, call);
  }
  const ChunkParams& params() const {
    return *reinterpret_cast<const ChunkParams*>(call.launches()[0].parameters.data());
  }
  std::uint32_t blocks(std::size_t kernel) const { return call.launches()[kernel].geometry.grid[0]; }
};

std::string message(const std::function<void()>& work) {
  const Error error = error_of(work);
  CHECK(error.code() == ErrorCode::invalid_argument);
  return error.what();
}

std::vector<std::string> names(const ChunkProblem& problem) {
  std::vector<std::string> result;
  for (const TensorSpec& spec : chunk_tensors(problem)) result.push_back(spec.name);
  return result;
}

constexpr StatePlace kPlaces[] = {StatePlace::none, StatePlace::dense, StatePlace::pool};

}  // namespace

TEST_CASE("gathered arguments match the list of tensors, and become parameters, in every combination of states") {
  for (const bool ragged : {false, true}) {
    for (const StatePlace initial : kPlaces) {
      for (const StatePlace final : kPlaces) {
        for (const StatePlace kept : kPlaces) {
          ChunkProblem problem = small_problem();
          problem.ragged = ragged;
          problem.initial_state = initial;
          problem.final_state = final;
          problem.checkpoints = kept;
          const bool pool = initial == StatePlace::pool || final == StatePlace::pool;
          if (kept == StatePlace::pool && !pool) continue;
          const bool one_pool = initial == StatePlace::pool && final == StatePlace::pool;
          ChunkArgs args = valid_args(problem);
          if (final == StatePlace::none || one_pool) args.state_out = {};
          std::array<TensorView, kMaxChunkTensors> tensors;
          CHECK(gather_chunk_args(problem, args, tensors) == chunk_tensors(problem).size());
          const Packed packed(problem, args);
          REQUIRE(packed.call.launches().size() == 2);
          const ChunkParams& params = packed.params();
          CHECK(params.sequences == 3);
          CHECK(params.tokens == (ragged ? 300 : 100));
          CHECK(params.q_strides.token == 32);
          CHECK(params.workspace == args.workspace.data);
          CHECK((params.cu_seqlens.data != nullptr) == ragged);
          if (one_pool) CHECK(params.state_out == args.state_in.data);
          if (final == StatePlace::dense) CHECK(params.state_out == args.state_out.data);
          CHECK(params.checkpoint_count == (kept == StatePlace::none ? 0 : 2));
          if (kept == StatePlace::dense) CHECK(params.checkpoints == args.checkpoints.data);
          if (kept == StatePlace::pool) {
            CHECK(params.checkpoints == (initial == StatePlace::pool ? args.state_in.data : args.state_out.data));
            CHECK(params.checkpoint_strides.row == 4 * 8 * 16);
          }
        }
      }
    }
  }
}

TEST_CASE("only the tensors that a problem uses are taken, in order") {
  ChunkProblem problem = small_problem();
  CHECK(names(problem) ==
        std::vector<std::string>{"q", "k", "v", "a", "b", "a_log", "dt_bias", "state_out", "workspace", "o"});
  problem.ragged = true;
  problem.initial_state = problem.final_state = StatePlace::pool;
  problem.checkpoints = StatePlace::pool;
  problem.write_output = false;
  problem.gate = Gate::none;
  CHECK(names(problem) == std::vector<std::string>{"k", "v", "b", "cu_seqlens", "state_in", "read_slot", "write_slot",
                                                   "checkpoint_slot", "workspace"});
  // A pool changes if anything is stored in it.
  problem.final_state = StatePlace::dense;
  for (const TensorSpec& spec : chunk_tensors(problem)) {
    if (spec.name == "state_in") CHECK(spec.role == TensorRole::in_out);
    if (spec.name == "workspace") CHECK(spec.role == TensorRole::scratch);
    if (spec.name == "checkpoint_slot") CHECK(spec.indexes == "state_in");
  }
}

TEST_CASE("grids follow the call: chunks and key heads, sequences and value heads and blocks of V") {
  ChunkProblem problem = small_problem();
  ChunkArgs args = valid_args(problem);
  const Packed dense(problem, args);
  CHECK(dense.blocks(0) == 3 * 2 * 2);  // 3 sequences of 2 chunks, 2 key heads
  CHECK(dense.blocks(1) == 3 * 4);
  CHECK_FALSE(dense.call.launches()[0].geometry.programmatic);
  CHECK(dense.call.launches()[1].geometry.programmatic);
  CHECK(dense.call.launches()[0].parameters.data() == dense.call.launches()[1].parameters.data());
  problem.ragged = true;
  args = valid_args(problem);
  const Packed ragged(problem, args);
  CHECK(ragged.blocks(0) == (300 / 64 + 3) * 2);
  CHECK(ragged.blocks(1) == 3 * 4);
  CHECK_FALSE(Packed(problem, args, "path=mma block_v=16", "sm_80").call.launches()[1].geometry.programmatic);

  // B = 0 needs no memory; with T = 0 states are passed on.
  problem.ragged = false;
  problem.initial_state = StatePlace::dense;
  args = valid_args(problem);
  args.o.shape[1] = args.q.shape[1] = args.k.shape[1] = args.v.shape[1] = args.a.shape[1] = args.b.shape[1] = 0;
  args.workspace = TensorView::dense(nullptr, DType::u8, {0});
  const Packed empty(problem, args);
  CHECK(empty.blocks(0) == 0);
  CHECK(empty.blocks(1) == 3 * 4);
  ChunkArgs nobody;
  nobody.o = TensorView::dense(nullptr, DType::bf16, {0, 100, 4, 8});
  CHECK(Packed(problem, nobody).call.launches().empty());
}

TEST_CASE("the wgmma path takes maps, and cuts long sequences in few heads") {
  ChunkProblem problem =
      complete_chunk({.tokens = 2048, .heads_k = 1, .heads_v = 1, .head_dim_k = 16, .head_dim_v = 8});
  const auto args_of = [&](std::int64_t B, std::int64_t T) {
    ChunkArgs args;
    args.q = args.k = TensorView::dense(memory, DType::bf16, {B, T, 1, 16});
    args.v = args.o = TensorView::dense(memory, DType::bf16, {B, T, 1, 8});
    args.a = args.b = TensorView::dense(memory, DType::bf16, {B, T, 1});
    args.a_log = args.dt_bias = TensorView::dense(memory, DType::f32, {1});
    args.state_out = TensorView::dense(memory, DType::f32, {B, 1, 8, 16});
    args.workspace = TensorView::dense(memory, DType::u8, {workspace_bytes(problem, B, T)});
    return args;
  };
  const Packed plain(problem, args_of(1, 2048), "path=wgmma");
  CHECK(plain.call.launches().size() == 2);
  CHECK(plain.maps.encoded == 4);  // q, k, v, o
  CHECK(plain.call.launches()[1].parameters.size() == sizeof(ChunkSm90Params));

  const char* const kCut = "path=wgmma segments=4";
  const Packed cut(problem, args_of(1, 2048), kCut);
  REQUIRE(cut.call.launches().size() == 5);
  CHECK(cut.blocks(1) == 0);  // the scan of whole sequences
  CHECK(cut.blocks(2) == 4 * 2);
  CHECK(cut.blocks(3) == 1);
  CHECK(cut.blocks(4) == 4);
  CHECK(cut.params().segment_chunks == 8);
  // Too short to be cut, or enough heads and sequences without.
  for (const auto& [B, T] : {std::pair{1, 960}, std::pair{100, 1024}}) {
    const Packed whole(problem, args_of(B, T), kCut);
    CHECK(whole.blocks(1) == static_cast<std::uint32_t>(B));
    CHECK(whole.blocks(2) + whole.blocks(3) + whole.blocks(4) == 0);
  }
}

TEST_CASE("with a warm-up segments are one launch of the scan, where they take less than the whole") {
  ChunkProblem problem =
      complete_chunk({.tokens = 2048, .heads_k = 1, .heads_v = 1, .head_dim_k = 16, .head_dim_v = 8, .warmup = 65});
  CHECK(problem.warmup == 128);
  const auto args_of = [&](std::int64_t T) {
    ChunkArgs args;
    args.q = args.k = TensorView::dense(memory, DType::bf16, {1, T, 1, 16});
    args.v = args.o = TensorView::dense(memory, DType::bf16, {1, T, 1, 8});
    args.a = args.b = TensorView::dense(memory, DType::bf16, {1, T, 1});
    args.a_log = args.dt_bias = TensorView::dense(memory, DType::f32, {1});
    if (problem.initial_state != StatePlace::none) {
      args.state_in = TensorView::dense(memory, DType::f32, {1, 1, 8, 16});
    }
    args.state_out = TensorView::dense(memory, DType::f32, {1, 1, 8, 16});
    args.workspace = TensorView::dense(memory, DType::u8, {workspace_bytes(problem, 1, T)});
    return args;
  };
  for (const char* const path : {"path=wgmma segments=4", "path=mma segments=4 block_v=16"}) {
    CAPTURE(std::string(path));
    problem.initial_state = StatePlace::none;
    const Packed cut(problem, args_of(2048), path);
    REQUIRE(cut.call.launches().size() == 3);
    CHECK(cut.blocks(1) == 0);
    CHECK(cut.blocks(2) == 4);
    CHECK(cut.params().segment_chunks == 8);
    CHECK(cut.params().warmup_chunks == 2);
    CHECK(cut.call.launches()[2].geometry.programmatic);
    problem.initial_state = StatePlace::dense;
    const Packed kept(problem, args_of(2048), path);
    REQUIRE(kept.call.launches().size() == 4);
    CHECK(kept.blocks(2) == 1);  // the initial state, eight rows of it
    CHECK(kept.blocks(3) == 4);
    const Packed whole(problem, args_of(960), path);  // too short
    CHECK(whole.blocks(1) == 1);
    CHECK(whole.blocks(2) + whole.blocks(3) == 0);
  }
  problem.warmup = 1024;  // two segments of 16 chunks take 32 of 32, three of 11 take 27
  CHECK_FALSE(chunk_cuts(ChunkLayout(problem), {.path = ChunkPath::wgmma, .segments = 2}, 1, 2048).cut);
  CHECK(chunk_cuts(ChunkLayout(problem), {.path = ChunkPath::wgmma, .segments = 3}, 1, 2048).chunks == 11);
}

TEST_CASE("the workspace's size is what its parts take, for any tiles, and grows with sequences and tokens") {
  const ChunkProblem problem = small_problem();
  const ChunkConfig config = ChunkLayout(problem).scan({}, ChunkPass::whole);
  // Too small for segments, so it holds records alone: here V has one block.
  const std::int64_t records = 3 * 2 * 4 * ChunkRecord::bytes(config);
  CHECK(workspace_bytes(problem, 3, 100) >= records);
  ChunkProblem many = problem;
  many.heads_v = 128;  // more than are ever cut
  CHECK(workspace_bytes(many, 3, 100) == 3 * 2 * 128 * ChunkRecord::bytes(config));
  ChunkProblem copied = many;
  copied.io_dtype = DType::f32;  // copies of q and k
  CHECK(workspace_bytes(copied, 3, 100) == workspace_bytes(many, 3, 100) + 3 * 2 * 2 * 2 * 64 * 16 * 2);
  CHECK(workspace_bytes(many, 0, 100) == 0);
  CHECK(workspace_bytes(many, 3, 0) == 0);
  CHECK(message([&] { workspace_bytes(many, -1, 0); }) == "sequences=-1: must not be negative");
  CHECK(message([&] { workspace_bytes(many, 1, -1); }) == "tokens=-1: must not be negative");

  for (const bool ragged : {false, true}) {
    for (const int heads : {1, 8, -8, 20, 64}) {  // negative: with a warm-up
      ChunkProblem any = complete_chunk({.ragged = ragged,
                                         .heads_k = 1,
                                         .heads_v = std::abs(heads),
                                         .head_dim_v = 104,
                                         .initial_state = StatePlace::dense,
                                         .warmup = heads < 0 ? 128 : 0});
      const ChunkLayout layout(any);
      for (const std::int64_t B : {1, 2, 3, 8, 100}) {
        for (const std::int64_t T : {1, 64, 1000, 3072, 65536}) {
          const std::int64_t bytes = workspace_bytes(any, B, T);
          CHECK(bytes <= workspace_bytes(any, B + 1, T));
          CHECK(bytes <= workspace_bytes(any, B, T + 64));
          for (int segments = 1; segments <= kMaxChunkSegments; ++segments) {
            const ChunkCuts cuts = chunk_cuts(layout, {.path = ChunkPath::wgmma, .segments = segments}, B, T);
            ChunkParams params{};
            params.sequences = B;
            params.tokens = T;
            CHECK_NOTHROW(place_workspace(layout, cuts, bytes, params));
          }
        }
      }
    }
  }
}

TEST_CASE("bad problems are refused by name, value and rule") {
  const auto refused = [](const char* text) { return message([&] { chunk_operator().complete(parse_fields(text)); }); };
  CHECK(refused("T=-1") == "T=-1: must be 0 to 2147483647");
  CHECK(refused("H=2 HV=3") == "HV=3: must be a multiple of H=2");
  CHECK(refused("checkpoint_every=100") == "checkpoint_every=100: must be a multiple of 64");
  CHECK(refused("checkpoint_every=0") == "checkpoint_every=0: must be a multiple of 64");
  CHECK(refused("checkpoints=pool") == "checkpoints=pool: needs initial_state=pool or final_state=pool");
  CHECK(refused("write_output=false final_state=none") ==
        "write_output=false: with final_state=none and checkpoints=none nothing is left to compute");
  CHECK(refused("warmup=-1") == "warmup=-1: must be 0 (exact) to 2147483583");
  CHECK(refused("warmup=2147483647") == "warmup=2147483647: must be 0 (exact) to 2147483583");
  CHECK(refused("warmup=64 gate=none") == "warmup=64: must be 0 with gate=none, whose states never fade");
  CHECK(refused("slot_dtype=u8") == "slot_dtype=u8: must be i32 or i64");
  CHECK(refused("io=u8") == "io=u8: must be f32, bf16 or f16");
}

TEST_CASE("bad arguments are refused by name") {
  const auto refused = [](const std::function<void(ChunkProblem&)>& change,
                          const std::function<void(ChunkArgs&)>& spoil) {
    ChunkProblem problem = small_problem();
    problem.ragged = true;
    problem.initial_state = StatePlace::dense;
    problem.checkpoints = StatePlace::dense;
    change(problem);
    ChunkArgs args = valid_args(problem);
    spoil(args);
    return message([&] { Packed(problem, args); });
  };
  const auto spoiled = [&](const std::function<void(ChunkArgs&)>& spoil) {
    return refused([](ChunkProblem&) {}, spoil);
  };
  CHECK(spoiled([](ChunkArgs& args) { args.workspace = {}; }) == "workspace: is null; the problem needs it");
  CHECK(spoiled([](ChunkArgs& args) { args.workspace.data = nullptr; }) == "workspace: is null; the problem needs it");
  CHECK(spoiled([](ChunkArgs& args) { args.workspace.dtype = DType::i32; }) ==
        "workspace: has dtype i32, the problem says u8");
  CHECK(spoiled([](ChunkArgs& args) { args.workspace.strides[0] = 2; }) ==
        "workspace: stride 2 of dimension 0 must be 1");
  CHECK(spoiled([](ChunkArgs& args) {
          args.workspace.data = static_cast<std::byte*>(args.workspace.data) + 64;
        }).ends_with(" is not a multiple of 128 bytes"));
  const std::string small = spoiled([](ChunkArgs& args) { args.workspace.shape[0] = 1000; });
  CHECK(small.starts_with("workspace: has 1000 bytes, 3 sequences with 300 tokens together need "));
  CHECK(small.ends_with("; gdn::workspace_bytes() says how many"));
  CHECK(spoiled([](ChunkArgs& args) { args.cu_seqlens = {}; }) == "cu_seqlens: has rank 0, must be 1");
  CHECK(spoiled([](ChunkArgs& args) { args.checkpoints.shape[0] = 2; }) == "checkpoints: dimension 0 is 2, must be 3");
  CHECK(spoiled([](ChunkArgs& args) { args.checkpoints.shape[1] = 0; }) ==
        "checkpoints: dimension 1 is 0, must be at least 1");
  CHECK(spoiled([](ChunkArgs& args) { args.q.strides[1] = 33; }) ==
        "q: stride 33 of dimension 1 is not a multiple of 8 elements; pad it or plan with a smaller io_alignment");
  CHECK(spoiled([](ChunkArgs& args) { args.v.strides[1] = 33; }) ==
        "v: stride 33 of dimension 1 is not a multiple of 8 elements; pad it or plan with a smaller io_alignment");
  CHECK(spoiled([](ChunkArgs& args) { args.o.strides[2] = 12; }) ==
        "o: stride 12 of dimension 2 is not a multiple of 8 elements; pad it or plan with a smaller io_alignment");
  // With what the message says it works.
  CHECK_NOTHROW([&] {
    ChunkProblem problem = small_problem();
    problem.io_alignment = 2;
    ChunkArgs args = valid_args(problem);
    args.q.strides[1] = args.v.strides[1] = 33;
    Packed(problem, args);
  }());
  const auto pooled = [](ChunkProblem& problem) {
    problem.initial_state = StatePlace::pool;
    problem.checkpoints = StatePlace::pool;
  };
  CHECK(refused(pooled, [](ChunkArgs& args) { args.checkpoint_slot.dtype = DType::i64; }) ==
        "checkpoint_slot: has dtype i64, the problem says i32");
  CHECK(refused(pooled, [](ChunkArgs& args) { args.checkpoint_slot.shape[0] = 4; }) ==
        "checkpoint_slot: dimension 0 is 4, must be 3");
}

TEST_CASE("a call describes its problem: B, T, columns and the pool's rows") {
  ChunkProblem problem = small_problem();
  problem.ragged = true;
  problem.initial_state = problem.final_state = problem.checkpoints = StatePlace::pool;
  ChunkArgs args = valid_args(problem);
  args.state_out = {};
  args.state_in = TensorView::dense(memory, DType::f32, {40, 4, 8, 16});
  args.checkpoint_slot = TensorView::dense(memory, DType::i32, {3, 7});
  std::array<TensorView, kMaxChunkTensors> tensors;
  const std::size_t count = gather_chunk_args(problem, args, tensors);
  problem.batch = 9, problem.tokens = 1;
  const CallDescription call = chunk_operator().describe_call(to_fields(problem), std::span(tensors).first(count));
  CHECK(find_field(call.problem, "B") == "3");
  CHECK(find_field(call.problem, "T") == "100");
  for (const TensorSpec& spec : call.tensors) {
    if (spec.name == "state_in") CHECK(spec.shape[0] == 40);
    if (spec.name == "checkpoint_slot") CHECK(spec.shape == std::vector<std::int64_t>{3, 7});
    if (spec.name == "k") CHECK(spec.shape[1] == 300);
    if (spec.name == "workspace") CHECK(spec.shape[0] == workspace_bytes(problem, 3, 300));
  }
}

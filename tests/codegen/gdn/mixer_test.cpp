// gdn.step as a mixer on the host: rules, tensors, tiles, and what the compiler makes of them.
#include <doctest/doctest.h>

#include <array>
#include <functional>
#include <string>

#include "codegen/gdn/mixer.h"
#include "codegen/gdn/options_names.h"
#include "codegen/gdn/step.h"
#include "codegen/nvrtc_compiler.h"
#include "codegen/registry.h"
#include "tests/codegen/nvrtc_fixture.h"

using namespace gdnjit;
using namespace gdnjit::gdn;

namespace {

alignas(256) std::byte memory[4096];

DeviceTraits device_of(const std::string& arch) {
  DeviceTraits device;
  device.arch = arch;
  return device;
}

StepProblem small_mixer() {
  return complete_step({.tokens = 2,
                        .heads_k = 2,
                        .heads_v = 4,
                        .head_dim_k = 16,
                        .head_dim_v = 8,
                        .conv_width = 4,
                        .conv_bias = true,
                        .gated_norm = GatedNorm::silu});
}

constexpr std::int64_t kChannels = 2 * 2 * 16 + 4 * 8;

StepArgs valid_args(std::int64_t B) {
  StepArgs args;
  args.q = args.k = TensorView::dense(memory, DType::bf16, {B, 2, 2, 16});
  args.v = args.z = args.o = TensorView::dense(memory, DType::bf16, {B, 2, 4, 8});
  args.a = args.b = TensorView::dense(memory, DType::bf16, {B, 2, 4});
  args.a_log = args.dt_bias = TensorView::dense(memory, DType::f32, {4});
  args.state_in = TensorView::dense(memory, DType::f32, {B, 4, 8, 16});
  args.conv_weight = TensorView::dense(memory, DType::bf16, {kChannels, 4});
  args.conv_bias = TensorView::dense(memory, DType::bf16, {kChannels});
  args.conv_state_in = TensorView::dense(memory, DType::bf16, {B, kChannels, 3});
  args.conv_ticket = TensorView::dense(memory, DType::i32, {B, 2});
  args.norm_weight = TensorView::dense(memory, DType::bf16, {8});
  return args;
}

std::int64_t pack(const StepProblem& problem, const StepArgs& args, MixerParams& params) {
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

}  // namespace

TEST_CASE("bad mixers are refused by name, value and rule") {
  const auto refused = [](const char* text) {
    return message([&] { complete_step(from_fields<StepProblem>(parse_fields(text))); });
  };
  CHECK(refused("conv_width=1") == "conv_width=1: must be 0 (none), 2, 3 or 4");
  CHECK(refused("conv_width=5") == "conv_width=5: must be 0 (none), 2, 3 or 4");
  CHECK(refused("conv_width=4 conv_state=i32") == "conv_state=i32: must be f32, bf16 or f16");
  CHECK(refused("gated_norm=silu gated_norm_eps=-1") == "gated_norm_eps=-1: must not be negative");
  CHECK(refused("gated_norm=silu write_output=false") ==
        "gated_norm=silu: needs write_output=true, there is no output to norm");
  CHECK(refused("gated_norm=gelu").starts_with("gated_norm=gelu: unknown value"));
  CHECK(refused("conv_width=4 T=16 K=1024 V=128") ==
        "conv_width: T=16 tokens of q, k, v and o in fp32 (K=1024, V=128) are more than 99 KB of shared memory");
}

TEST_CASE("tensors of a mixer become parameters with their strides") {
  const StepProblem problem = small_mixer();
  StepArgs args = valid_args(3);
  args.conv_state_in.strides[1] = 1;  // channels contiguous
  args.conv_state_in.strides[2] = kChannels;
  MixerParams params{};
  CHECK(pack(problem, args, params) == 3);
  CHECK(params.conv_in_strides.row == 3 * kChannels);
  CHECK(params.conv_in_strides.channel == 1);
  CHECK(params.conv_in_strides.input == kChannels);
  CHECK(params.conv_out == args.conv_state_in.data);
  CHECK(params.conv_out_strides.input == kChannels);
  CHECK(params.ticket_row == 2);
  CHECK(params.z_strides.token == 32);
  CHECK(params.z_strides.group == 8);
}

TEST_CASE("z lies in qkvz behind v") {
  StepProblem problem = small_mixer();
  problem.input_layout = InputLayout::qkvz;
  StepArgs args = valid_args(2);
  args.packed = TensorView::dense(memory, DType::bf16, {2, 2, 2 * (2 * 16 + 2 * 2 * 8)});
  args.a = TensorView::dense(memory, DType::bf16, {2, 2, 2, 4});
  MixerParams params{};
  pack(problem, args, params);
  CHECK(static_cast<const std::byte*>(params.z) - memory == (2 * 16 + 2 * 8) * 2);
  CHECK(params.z_strides.key_head == 2 * 16 + 2 * 2 * 8);
}

TEST_CASE("each bad argument of a mixer is refused by name before any device work") {
  const auto refused = [](const std::function<void(StepArgs&)>& spoil) {
    StepArgs args = valid_args(2);
    spoil(args);
    MixerParams params{};
    return message([&] { pack(small_mixer(), args, params); });
  };
  CHECK(refused([](StepArgs&) {}) == "no error");
  CHECK(refused([](StepArgs& a) { a.conv_weight = {}; }) == "conv_weight: is null; the problem needs it");
  CHECK(refused([](StepArgs& a) { a.conv_weight.shape[1] = 3; }) == "conv_weight: dimension 1 is 3, must be 4");
  CHECK(refused([](StepArgs& a) { a.conv_weight.strides[0] = 8; }).starts_with("conv_weight: stride 8 of dimension 0"));
  CHECK(refused([](StepArgs& a) { a.conv_weight.data = memory + 4; }).find("is not a multiple of 8 bytes") !=
        std::string::npos);
  CHECK(refused([](StepArgs& a) { a.conv_bias.shape[0] = 5; }) == "conv_bias: dimension 0 is 5, must be 96");
  CHECK(refused([](StepArgs& a) { a.conv_state_in.dtype = DType::f32; }) ==
        "conv_state_in: has dtype f32, the problem says bf16");
  CHECK(refused([](StepArgs& a) { a.conv_state_in.shape[2] = 4; }) == "conv_state_in: dimension 2 is 4, must be 3");
  CHECK(refused([](StepArgs& a) { a.conv_ticket = {}; }) == "conv_ticket: is null; the problem needs it");
  CHECK(refused([](StepArgs& a) { a.conv_ticket.dtype = DType::i64; }) ==
        "conv_ticket: has dtype i64, the problem says i32");
  CHECK(refused([](StepArgs& a) { a.z.shape[3] = 7; }) == "z: dimension 3 is 7, must be 8");
  CHECK(refused([](StepArgs& a) { a.norm_weight.strides[0] = 2; }).starts_with("norm_weight: stride 2"));
}

TEST_CASE("a pool of the convolution's states has the slots of the other, and no second one") {
  StepProblem problem = small_mixer();
  problem.state_store = StateStore::pool;
  StepArgs args = valid_args(2);
  args.read_slot = args.write_slot = TensorView::dense(memory, DType::i32, {2});
  args.state_in = TensorView::dense(memory, DType::f32, {3, 4, 8, 16});
  MixerParams params{};
  CHECK(message([&] { pack(problem, args, params); }) == "conv_state_in: dimension 0 is 2, must be 3");
  args.conv_state_in.shape[0] = 3;
  CHECK(pack(problem, args, params) == 2);
  CHECK(params.conv_steps == args.conv_state_in.data);
  args.conv_state_out = args.conv_state_in;
  args.conv_state_out.data = memory + 512;
  CHECK(message([&] { pack(problem, args, params); }) ==
        "conv_state_out: a pool is updated in place; leave it empty or pass conv_state_in");
}

TEST_CASE("gathered arguments match the list of tensors, whatever a mixer uses") {
  for (const StatePlace steps : {StatePlace::none, StatePlace::dense, StatePlace::pool}) {
    for (const StatePlace accepted : {StatePlace::none, StatePlace::dense, StatePlace::pool}) {
      for (const bool flag : {false, true}) {
        for (const InputLayout layout : {InputLayout::separate, InputLayout::mixed_qkv, InputLayout::qkvz}) {
          const bool pool = steps == StatePlace::pool || accepted == StatePlace::pool;
          const StepProblem problem = complete_step({.tokens = 4,
                                                     .state_store = pool ? StateStore::pool : StateStore::dense,
                                                     .input_layout = layout,
                                                     .state_steps = steps,
                                                     .num_accepted = accepted,
                                                     .tree = true,
                                                     .update_state = flag,
                                                     .conv_width = 3,
                                                     .conv_bias = flag,
                                                     .gated_norm = GatedNorm::sigmoid});
          std::array<TensorView, kMaxStepTensors> tensors;
          CHECK(gather_step_args(problem, {}, tensors) == step_tensors(problem).size());
        }
      }
    }
  }
}

TEST_CASE("without an output the convolution still takes q, to keep its inputs") {
  const StepProblem problem = complete_step({.write_output = false, .conv_width = 4});
  CHECK(step_tensors(problem).front().name == "q");
}

TEST_CASE("every mixer has a default that fits its architecture, and only candidates that do") {
  for (const char* arch : {"sm_90a", "sm_80", "sm_120"}) {
    const DeviceTraits device = device_of(arch);
    for (const int K : {1, 33, 60, 96, 128, 256}) {
      for (const int V : {1, 17, 60, 128, 192, 512}) {
        for (const int T : {1, 16}) {
          for (const StateLayout layout : {StateLayout::kv, StateLayout::vk}) {
            for (const int width : {0, 4}) {
              const StepProblem problem = complete_step({.batch = 8,
                                                         .tokens = T,
                                                         .head_dim_k = K,
                                                         .head_dim_v = V,
                                                         .state_layout = layout,
                                                         .conv_width = width,
                                                         .gated_norm = GatedNorm::silu});
              const std::vector<StepTiles> space = step_search_space(problem, device);
              CAPTURE(arch);
              CAPTURE(K);
              CAPTURE(V);
              CAPTURE(T);
              CHECK(space.front() == default_step_tiles(problem, device));
              for (const StepTiles& tiles : space) {
                const StepConfig config = step_config(problem, tiles);
                CHECK(config.fault() == nullptr);
                CHECK((config.cluster() == 1 || has_clusters(arch)));
              }
            }
          }
        }
      }
    }
  }
}

TEST_CASE(
    "a mixer sums over K as the bare step does, and by default one block has all of V where its lanes can hold it") {
  const auto mixer_of = [](StepProblem problem) {
    problem.conv_width = 4;
    problem.gated_norm = GatedNorm::silu;
    return complete_step(problem);
  };
  for (const char* arch : {"sm_90a", "sm_80"}) {
    const DeviceTraits device = device_of(arch);
    for (const std::int64_t B : {1, 8, 64}) {
      for (const int T : {1, 4}) {
        CAPTURE(B);
        CAPTURE(T);
        const StepTiles bare = default_step_tiles(complete_step({.batch = B, .tokens = T}), device);
        const StepProblem problem = mixer_of({.batch = B, .tokens = T});
        const StepTiles tiles = default_step_tiles(problem, device);
        // 64 elements of the state a lane, of several tokens 32.
        CHECK(tiles.lanes_k == bare.lanes_k);
        CHECK(tiles.block_k == bare.block_k);
        CHECK(step_config(problem, tiles).cluster() == 1);
        const bool turns = T > 1 && !has_clusters(arch);
        CHECK((tiles.turns > 1) == turns);
        CHECK(tiles.block_v * tiles.turns == 128);
        CHECK(tiles.warps == (T > 1 && !turns ? 16 : 8));
        if (T > 1) continue;
        const bool streams = tiles.cache_hint == device::CacheHint::streaming;
        CHECK(streams == (B < 64));
      }
    }
  }
  // K and V that are no powers of two, and vectors along V.
  const StepProblem uneven = mixer_of({.heads_k = 30, .heads_v = 30, .head_dim_k = 96, .head_dim_v = 192});
  CHECK(step_config(uneven, default_step_tiles(uneven, {})).blocks_v() == 1);
  const StepProblem kv = mixer_of({.batch = 64, .state_layout = StateLayout::kv});
  CHECK(step_config(kv, default_step_tiles(kv, {})).blocks_v() == 1);
  // A head that one block cannot hold is spread over a cluster, and without clusters takes turns.
  const StepProblem large = mixer_of({.heads_k = 6, .heads_v = 6, .head_dim_k = 256, .head_dim_v = 512});
  const StepConfig spread = step_config(large, default_step_tiles(large, {}));
  CHECK(spread.cluster() > 1);
  CHECK(spread.cluster() * spread.turns == spread.blocks_v());
  const StepConfig turning = step_config(large, default_step_tiles(large, device_of("sm_80")));
  CHECK(turning.cluster() == 1);
  CHECK(turning.turns > 1);
}

TEST_CASE("tiles of a mixer that its architecture or problem has no use for are refused") {
  const Operator& op = find_operator("gdn.step");
  const FieldMap clusters = parse_fields("block_v=16 block_k=128 lanes_k=16 warps=4 turns=1");
  CHECK(message([&] {
          op.instantiate(parse_fields("gated_norm=silu"), clusters, Target{"sm_80"});
        }).ends_with("sm_80 has no clusters, so with a gated norm one block serves a head: turns must be 8"));
  CHECK(message([&] {
          op.instantiate(parse_fields("B=1"), parse_fields("block_v=16 turns=2"), Target{});
        }).ends_with("turns must be 1 without a convolution or a gated norm"));
}

TEST_CASE("mixers compile for their default tiles without spills, in registers that let an SM hold 16 warps") {
  NvrtcCompiler compiler(machine_nvrtc(), TemplateSet::embedded());
  const Operator& op = find_operator("gdn.step");
  for (const char* arch : {"sm_90a", "sm_80"}) {
    for (const char* text : {"B=64", "B=1", "B=64 state=bf16", "B=64 state_layout=kv", "B=64 T=4", "B=64 T=8",
                             "B=64 T=16 state_store=pool state_steps=pool", "T=8 tree=true", "K=96 V=192 H=30 HV=30",
                             "K=256 V=512 H=6 HV=6", "gate=channel_raw"}) {
      CAPTURE(std::string(text));
      CAPTURE(std::string(arch));
      FieldMap problem = parse_fields(text);
      for (const auto& [name, value] : parse_fields("conv_width=4 gated_norm=silu input_layout=mixed_qkv")) {
        set_field(problem, name, value);
      }
      const auto instance = op.instantiate(problem, op.default_tiles(problem, device_of(arch)), Target{arch});
      CompileResult result = compiler.compile(instance->kernels()[0]);
      if (const auto* failure = std::get_if<CompileFailure>(&result)) FAIL(failure->first_error);
      const auto kernel = std::get<CompiledKernel>(std::move(result));
      CHECK(kernel.report.spill_store_bytes == 0);
      CHECK(kernel.report.stack_bytes == 0);
      const int threads = static_cast<int>(instance->geometries()[0].block[0]);
      const int blocks = 65536 / ((kernel.report.registers + 7) / 8 * 8 * threads);  // registers come in eights
      CHECK(blocks * threads / 32 >= 16);
    }
  }
}

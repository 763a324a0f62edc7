// gdn.recurrent against the double-precision reference: options pairwise, ragged batches, empty sequences, T = 0.
#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <map>

#include "autotune/device_tensors.h"
#include "tests/gdn/emulator_fixture.h"
#include "tests/gdn/host_call.h"
#include "tests/gdn/pairwise_check.h"

using namespace gdnjit;
using namespace gdnjit::tests;

namespace {

const std::vector<Axis>& axes() {
  static const std::vector<Axis> list{
      {"T", {"1", "7", "33", "0"}},
      {"shape",
       {"H=1 HV=2 K=128 V=64", "H=1 HV=3 K=64 V=64", "H=1 HV=4 K=64 V=32", "H=1 HV=8 K=32 V=16", "H=1 HV=1 K=96 V=192",
        "H=1 HV=1 K=256 V=96", "H=2 HV=2 K=60 V=60", "H=2 HV=2 K=100 V=100", "H=1 HV=2 K=33 V=17",
        "H=1 HV=1 K=1100 V=8"}},
      {"B", {"1", "3", "6"}},
      {"ragged", {"true", "false"}},
      {"initial_state", {"none", "dense", "pool"}},
      {"final_state", {"dense", "pool", "none"}},
      {"pad", {"negative zero i32", "zero skip i64", "negative skip i32"}},
      {"write_output", {"true", "false"}},
      {"programmatic", {"false", "true"}},
      {"io", {"bf16", "f32", "f16"}},
      {"state", {"f32", "bf16", "f16"}},
      {"state_layout", {"vk", "kv"}},
      {"gate", {"raw", "none", "log", "alpha", "channel_raw", "channel_sigmoid", "channel_log"}},
      {"beta", {"sigmoid", "none", "given", "two_sigmoid"}},
      {"norm", {"sumsq_eps", "none", "max_eps", "add_eps"}},
      {"head_map", {"grouped", "modulo"}},
      {"input_layout", {"separate", "mixed_qkv", "qkvz"}},
      {"inputs", {"typical", "brutal"}},
      {"tiles", {"default", "middle", "last"}},
      {"arch", {"sm_90a", "sm_80", "sm_100"}},
  };
  return list;
}

std::string chosen(const Case& built, std::string_view name) { return tests::chosen(axes(), built, name); }

bool allowed(const Case& built) {
  if (chosen(built, "input_layout") == "qkvz" && chosen(built, "gate").starts_with("channel")) return false;
  if (chosen(built, "arch") == "sm_80" && chosen(built, "programmatic") == "true") return false;
  if (chosen(built, "final_state") != "none") return true;
  return chosen(built, "write_output") != "false" && chosen(built, "shape").find("K=1100") == std::string::npos;
}

FieldMap problem_of(const Case& built) {
  FieldMap problem = parse_fields(chosen(built, "shape"));
  for (const char* name : {"T", "B", "ragged", "initial_state", "final_state", "write_output", "programmatic", "io",
                           "state", "state_layout", "gate", "beta", "norm", "head_map", "input_layout"}) {
    set_field(problem, name, chosen(built, name));
  }
  set_field(problem, "output", chosen(built, "io"));
  const std::vector<std::string> pad = split(chosen(built, "pad"), ' ');
  set_field(problem, "pad_sentinel", pad[0]);
  set_field(problem, "pad_policy", pad[1]);
  set_field(problem, "slot_dtype", pad[2]);
  return problem;
}

std::vector<reference::HostTensor> inputs_of(const FieldMap& fields, std::uint64_t seed) {
  return reference::make_workload("gdn.recurrent", recurrent().complete(fields), reference::Inputs::typical, seed)
      ->tensors();
}

}  // namespace

TEST_CASE("every pair of options is right on the emulator") {
  const auto tiles_of = [](const Case& built, const FieldMap& problem,
                           const DeviceTraits& device) -> std::optional<FieldMap> {
    const auto space = recurrent().search_space(problem, device);
    if (chosen(built, "tiles") == "middle") return space[space.size() / 2];
    if (chosen(built, "tiles") == "last") return space.back();
    return std::nullopt;
  };
  check_every_pair(recurrent(), axes(), allowed, 2027, problem_of, tiles_of);
}

TEST_CASE("empty sequences in every position keep their states, and the others are right") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap fields =
      parse_fields("B=4 T=5 ragged=true H=1 HV=2 K=64 V=32 output=f32 initial_state=dense final_state=dense");
  const auto plan = make_plan(*runtime, recurrent(), fields);
  const std::vector<reference::HostTensor> inputs = inputs_of(fields, 3);
  HostCall one(inputs);  // all 20 tokens as the second sequence
  const std::int32_t alone[5] = {0, 0, 20, 20, 20};
  std::memcpy(one["cu_seqlens"].bytes.data(), alone, sizeof(alone));
  plan->run(one.views(), nullptr);
  const std::size_t row = one["state_in"].bytes.size() / 4;
  const auto state = [&](HostCall& call, std::string_view name, std::size_t b) {
    const auto begin = call[name].bytes.begin() + static_cast<std::ptrdiff_t>(b * row);
    return std::vector<std::byte>(begin, begin + static_cast<std::ptrdiff_t>(row));
  };
  for (const std::size_t b : {std::size_t{0}, std::size_t{2}, std::size_t{3}}) {
    CHECK(state(one, "state_out", b) == state(one, "state_in", b));
  }

  // The same tokens as another sequence, from the same state: the same bits.
  for (const std::size_t place : {std::size_t{0}, std::size_t{2}, std::size_t{3}}) {
    HostCall other(inputs);
    std::int32_t starts[5] = {};
    for (std::size_t i = place + 1; i < 5; ++i) starts[i] = 20;
    std::memcpy(other["cu_seqlens"].bytes.data(), starts, sizeof(starts));
    const std::vector<std::byte> initial = state(one, "state_in", 1);
    std::memcpy(other["state_in"].bytes.data() + place * row, initial.data(), row);
    plan->run(other.views(), nullptr);
    CHECK(other["o"].bytes == one["o"].bytes);
    CHECK(state(other, "state_out", place) == state(one, "state_out", 1));
  }
}

TEST_CASE("chained calls give the bits of one call, wherever the cut") {
  const auto runtime = emulator_runtime("sm_90a");
  for (const char* text : {"B=2 T=19 H=1 HV=2 K=64 V=32 output=f32", "B=1 T=40 H=1 HV=1 K=1100 V=8 output=f32",
                           "B=2 T=9 H=1 HV=2 K=64 V=32 output=f32 gate=channel_raw state_layout=kv"}) {
    CAPTURE(text);
    FieldMap fields = parse_fields(text);
    set_field(fields, "initial_state", "dense");
    const auto plan = make_plan(*runtime, recurrent(), fields);
    const std::vector<reference::HostTensor> inputs = inputs_of(fields, 7);
    HostCall whole(inputs);
    plan->run(whole.views(), nullptr);
    const std::int64_t T = whole["q"].spec.shape[1];
    for (const std::int64_t cut : {std::int64_t{1}, T / 2, T - 1}) {
      HostCall parts(inputs);
      parts["state_out"].bytes = parts["state_in"].bytes;
      for (const auto& [first, count] : {std::pair{std::int64_t{0}, cut}, std::pair{cut, T - cut}}) {
        plan->run(parts.views_for(*plan,
                                  [&, first = first, count = count](std::string_view name, const TensorView& view) {
                                    if (name == "state_in") return parts.view("state_out");
                                    return has_tokens(name) ? slice(view, 1, first, count) : view;
                                  }),
                  nullptr);
      }
      CHECK(parts["o"].bytes == whole["o"].bytes);
      CHECK(parts["state_out"].bytes == whole["state_out"].bytes);
    }
  }
}

TEST_CASE("no tokens: the final state is the initial one, or zeros; no sequences: nothing is launched") {
  const auto runtime = emulator_runtime("sm_90a");
  for (const char* initial : {"dense", "none"}) {
    const FieldMap fields = parse_fields(fmt::format("B=2 T=3 H=1 HV=2 K=32 V=16 initial_state={}", initial));
    const auto plan = make_plan(*runtime, recurrent(), fields);
    HostCall call(inputs_of(fields, 5));
    plan->run(call.views_for(*plan,
                             [](std::string_view name, TensorView view) {
                               if (!has_tokens(name)) return view;
                               view.shape[1] = 0;
                               view.data = nullptr;
                               return view;
                             }),
              nullptr);
    const std::vector<std::byte> zeros(call["state_out"].bytes.size());
    CHECK(call["state_out"].bytes == (call.has("state_in") ? call["state_in"].bytes : zeros));

    const auto launches = runtime->device().last_counters()->blocks;
    plan->run(call.views_for(*plan,
                             [](std::string_view name, TensorView view) {
                               if (has_tokens(name) || name.starts_with("state")) view.shape[0] = 0;
                               return view;
                             }),
              nullptr);
    CHECK(runtime->device().last_counters()->blocks == launches);
  }
}

TEST_CASE("the state is read once and written once, whatever T") {
  const auto runtime = emulator_runtime("sm_90a");
  for (const char* text : {"T=1", "T=16", "T=16 ragged=true", "T=8 state_layout=kv state=bf16"}) {
    CAPTURE(std::string(text));
    const FieldMap fields =
        recurrent().complete(parse_fields(fmt::format("B=4 H=2 HV=4 initial_state=dense {}", text)));
    const auto plan = make_plan(*runtime, recurrent(), fields);
    const std::vector<reference::HostTensor> inputs = inputs_of(fields, 5);
    autotune::DeviceTensors tensors(runtime->device(), inputs, 256);
    tensors.upload(inputs, nullptr);
    plan->run(tensors.views(), nullptr);
    const double sectors = static_cast<double>(HostCall(inputs)["state_in"].bytes.size()) / 32;
    for (const BufferTraffic& buffer : runtime->device().last_traffic()) {
      if (buffer.name == "state_in")
        CHECK(static_cast<double>(buffer.sectors_read) == doctest::Approx(sectors).epsilon(0.02));
      if (buffer.name == "state_out") {
        CHECK(static_cast<double>(buffer.sectors_written) == doctest::Approx(sectors).epsilon(0.02));
        CHECK(buffer.sectors_read == 0);
      }
    }
  }
}

TEST_CASE("bad problems and arguments are refused by name, value and rule") {
  const auto runtime = emulator_runtime("sm_90a");
  const auto refused = [](const char* text) { return thrown([&] { recurrent().complete(parse_fields(text)); }); };
  CHECK(refused("T=-1") == "T=-1: must be 0 to 2147483647");
  CHECK(refused("H=2 HV=3") == "HV=3: must be a multiple of H=2");
  CHECK(refused("final_state=none write_output=false") ==
        "write_output=false: with final_state=none nothing is left to compute");
  CHECK(thrown([&] {
          make_plan(*runtime, recurrent(), parse_fields("K=2048 V=8 final_state=none"));
        }).find("needs memory for the final state") != std::string::npos);

  const FieldMap fields = parse_fields("B=2 T=4 ragged=true H=1 HV=1 K=32 V=16");
  const auto plan = make_plan(*runtime, recurrent(), fields);
  const auto spoiled = [&](std::string_view wanted, const std::function<void(TensorView&)>& spoil) {
    HostCall call(inputs_of(fields, 5));
    return thrown([&] {
      plan->run(call.views_for(*plan,
                               [&](std::string_view name, TensorView view) {
                                 if (name == wanted) spoil(view);
                                 return view;
                               }),
                nullptr);
    });
  };
  CHECK(spoiled("o", [](TensorView& view) { view.shape[0] = 2; }) ==
        "o: dimension 0 is 2, must be 1: a ragged batch is one row of tokens");
  CHECK(spoiled("cu_seqlens", [](TensorView& view) { view.dtype = DType::i64; }) ==
        "cu_seqlens: has dtype i64, the problem says i32");
  CHECK(spoiled("cu_seqlens", [](TensorView& view) { view.data = nullptr; }) ==
        "cu_seqlens: is null; the problem needs it");
  CHECK(spoiled("k", [](TensorView& view) { view.shape[1] = 7; }) == "k: dimension 1 is 7, must be 8");
  CHECK(spoiled("state_out", [](TensorView& view) { view.shape[0] = 3; }) == "state_out: dimension 0 is 3, must be 2");
}

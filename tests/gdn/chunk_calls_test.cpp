// Calls of gdn.chunk on the emulator: gates per channel and wide heads, segments, empty sequences, calls in a row, no
// tokens, and how it agrees with gdn.recurrent.
#include <doctest/doctest.h>

#include <cstring>
#include <functional>

#include "tests/gdn/emulator_fixture.h"
#include "tests/gdn/host_call.h"

using namespace gdnjit;
using namespace gdnjit::tests;

namespace {

std::vector<reference::HostTensor> inputs_of(const FieldMap& fields, std::uint64_t seed) {
  return reference::make_workload("gdn.chunk", chunk().complete(fields), reference::Inputs::typical, seed)->tensors();
}

}  // namespace

TEST_CASE("every gate per channel, and heads that take several warps or blocks to a row, are right") {
  for (const char* text : {"gate=channel_sigmoid T=70", "gate=channel_log T=129 state_layout=kv norm=none",
                           "gate=channel_raw T=66 initial_state=dense write_output=false", "K=200 V=24 T=66",
                           "K=256 V=40 T=65 io=f16 initial_state=dense", "K=128 V=130 T=64 state=bf16"}) {
    for (const char* arch : {"sm_90a", "sm_86"}) {
      CAPTURE(std::string(text));
      CAPTURE(std::string(arch));
      const FieldMap problem = parse_fields(fmt::format("H=1 HV=2 K=48 V=40 {}", text));
      CHECK(check_problem(*emulator_runtime(arch), chunk(), problem, std::nullopt, reference::Inputs::typical, 5) ==
            "");
    }
  }
}

TEST_CASE("sequences that are cut into segments are right, wherever they end") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap tiles = parse_fields("path=wgmma block_v=64 stages=2 segments=4");
  for (const char* text :
       {"T=2048", "T=2100", "T=1023 B=2", "T=1024 initial_state=dense checkpoints=dense checkpoint_every=320",
        "T=1100 B=3 ragged=true initial_state=pool final_state=pool checkpoints=pool"}) {
    CAPTURE(std::string(text));
    const FieldMap problem = parse_fields(fmt::format("H=1 HV=1 K=16 V=24 {}", text));
    CHECK(check_problem(*runtime, chunk(), problem, tiles, reference::Inputs::typical, 3) == "");
  }
}

TEST_CASE("empty sequences in every position keep their states, and the others do not see where they lie") {
  for (const char* arch : {"sm_90a", "sm_80"}) {
    CAPTURE(std::string(arch));
    const auto runtime = emulator_runtime(arch);
    const FieldMap fields = parse_fields("B=4 T=20 ragged=true H=1 HV=1 K=32 V=16 output=f32 initial_state=dense");
    const auto plan = make_plan(*runtime, chunk(), fields);
    const std::vector<reference::HostTensor> inputs = inputs_of(fields, 3);
    std::vector<std::byte> output, final_state;
    for (std::size_t place = 0; place < 4; ++place) {  // all 80 tokens as this sequence, from the same state
      HostCall call(inputs);
      std::int32_t starts[5] = {};
      for (std::size_t i = place + 1; i < 5; ++i) starts[i] = 80;
      std::memcpy(call["cu_seqlens"].bytes.data(), starts, sizeof(starts));
      const std::size_t row = call["state_in"].bytes.size() / 4;
      const auto state = [&](std::string_view name, std::size_t b) {
        const auto begin = call[name].bytes.begin() + static_cast<std::ptrdiff_t>(b * row);
        return std::vector<std::byte>(begin, begin + static_cast<std::ptrdiff_t>(row));
      };
      const std::vector<std::byte> initial = state("state_in", 0);
      std::copy(initial.begin(), initial.end(),
                call["state_in"].bytes.begin() + static_cast<std::ptrdiff_t>(place * row));
      plan->run(call.views(), nullptr);
      if (place == 0) {
        output = call["o"].bytes;
        final_state = state("state_out", 0);
      }
      CHECK(call["o"].bytes == output);
      CHECK(final_state != initial);
      for (std::size_t b = 0; b < 4; ++b) {
        CHECK(state("state_out", b) == (b == place ? final_state : state("state_in", b)));
      }
    }
  }
}

TEST_CASE("calls that are cut at whole chunks give the bits of one call") {
  for (const char* arch : {"sm_90a", "sm_80"}) {
    CAPTURE(std::string(arch));
    const auto runtime = emulator_runtime(arch);
    const FieldMap fields = parse_fields("B=2 T=200 H=1 HV=2 K=32 V=40 output=f32 initial_state=dense");
    const auto plan = make_plan(*runtime, chunk(), fields);
    const std::vector<reference::HostTensor> inputs = inputs_of(fields, 7);
    HostCall whole(inputs), parts(inputs);
    plan->run(whole.views(), nullptr);
    parts["state_out"].bytes = parts["state_in"].bytes;
    for (const auto& [first, count] : {std::pair{0, 64}, std::pair{64, 128}, std::pair{192, 8}}) {
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

TEST_CASE("no tokens: the final state is the initial one, or zeros; no sequences: nothing is launched") {
  const auto runtime = emulator_runtime("sm_90a");
  for (const char* initial : {"dense", "none"}) {
    const FieldMap fields = parse_fields(fmt::format("B=2 T=3 H=1 HV=2 K=32 V=16 initial_state={}", initial));
    const auto plan = make_plan(*runtime, chunk(), fields);
    HostCall call(inputs_of(fields, 5));
    const auto run = [&](const std::function<void(std::string_view, TensorView&)>& change) {
      std::size_t launches = 0;
      const LaunchObserver observer = [&](std::size_t) { ++launches; };
      plan->run(call.views_for(*plan,
                               [&](std::string_view name, TensorView view) {
                                 change(name, view);
                                 return view;
                               }),
                nullptr, &observer);
      return launches;
    };
    CHECK(run([](std::string_view name, TensorView& view) {
            if (has_tokens(name)) view.shape[1] = 0;
            if (name == "workspace") view.shape[0] = 0;
            if (has_tokens(name) || name == "workspace") view.data = nullptr;
          }) == 1);
    const std::vector<std::byte> zeros(call["state_out"].bytes.size());
    CHECK(call["state_out"].bytes == (call.has("state_in") ? call["state_in"].bytes : zeros));
    CHECK(run([](std::string_view name, TensorView& view) {
            if (has_tokens(name) || name.starts_with("state")) view.shape[0] = 0;
          }) == 0);
  }
}

TEST_CASE("gdn.recurrent and gdn.chunk agree on the same call") {
  const auto runtime = emulator_runtime("sm_80");
  const FieldMap fields =
      parse_fields("B=3 T=70 ragged=true H=1 HV=3 K=64 V=32 output=f32 initial_state=pool final_state=pool");
  const auto workload = reference::make_workload("gdn.chunk", chunk().complete(fields), reference::Inputs::typical, 11);
  HostCall call(workload->tensors());
  const auto plan = make_plan(*runtime, recurrent(), fields);
  plan->run(call.views_for(*plan, [](std::string_view, const TensorView& view) { return view; }), nullptr);
  std::vector<reference::HostTensor> results = workload->tensors();
  for (reference::HostTensor& result : results) result.bytes = call[result.spec.name].bytes;
  for (const reference::OutputError& error : workload->compare(results)) {
    CAPTURE(error.tensor);
    CHECK(error.rms_ratio < 1e-5);
  }
}

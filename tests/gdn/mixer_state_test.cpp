// What a mixer does to the states of its convolution: in place, in any layout, once, and with the bits of decoding.
#include <doctest/doctest.h>

#include <cstring>

#include "autotune/device_tensors.h"
#include "tests/gdn/emulator_fixture.h"
#include "tests/gdn/host_call.h"

using namespace gdnjit;
using namespace gdnjit::tests;
using reference::HostTensor;

namespace {

FieldMap with(FieldMap fields, std::string_view changes) {
  for (const auto& [name, value] : parse_fields(changes)) set_field(fields, name, value);
  return fields;
}

std::vector<HostTensor> inputs_of(const FieldMap& fields, std::uint64_t seed) {
  return reference::make_workload("gdn.step", step().complete(fields), reference::Inputs::typical, seed)->tensors();
}

struct Results {
  std::vector<std::byte> o, state, conv_state;
  friend bool operator==(const Results&, const Results&) = default;
};

Results results_of(HostCall& call) { return {call["o"].bytes, call["state_out"].bytes, call["conv_state_out"].bytes}; }

// All tokens of a dense problem in one call.
Results run(Runtime::Impl& runtime, const FieldMap& fields, const std::optional<FieldMap>& tiles,
            const std::vector<HostTensor>& tensors) {
  HostCall call(tensors);
  make_plan(runtime, step(), fields, tiles)->run(call.views(), nullptr);
  return results_of(call);
}

// The same in calls of one token, both states in place.
Results decode(Runtime::Impl& runtime, const FieldMap& fields, std::int64_t tokens,
               const std::vector<HostTensor>& tensors) {
  HostCall call(tensors);
  const auto plan = make_plan(runtime, step(), with(fields, "T=1"));
  call["state_out"].bytes = call["state_in"].bytes;
  call["conv_state_out"].bytes = call["conv_state_in"].bytes;
  for (std::int64_t t = 0; t < tokens; ++t) {
    plan->run(call.views_for(*plan,
                             [&](std::string_view name, const TensorView& view) {
                               if (name == "state_in") return call.view("state_out");
                               if (name == "conv_state_in") return call.view("conv_state_out");
                               return has_tokens(name) ? slice(view, 1, t, 1) : view;
                             }),
              nullptr);
  }
  return results_of(call);
}

std::int64_t number(const FieldMap& fields, std::string_view name) {
  std::int64_t value = 0;
  parse_field(name, *find_field(fields, name), value);
  return value;
}

}  // namespace

TEST_CASE("several tokens in one call give the bits of one call each, the convolution's state included") {
  std::uint64_t seed = 40;
  for (const char* arch : {"sm_90a", "sm_80"}) {
    const auto runtime = emulator_runtime(arch);
    for (const char* text :
         {"B=2 H=1 HV=2 T=2 conv_width=4 gated_norm=silu output=f32",
          "B=1 H=1 HV=3 K=64 V=64 T=16 conv_width=4 conv_bias=true gated_norm=sigmoid output=f32 "
          "input_layout=mixed_qkv",
          "B=2 H=1 HV=2 K=64 V=48 T=5 conv_width=3 gated_norm=silu output=f32 state_layout=kv input_layout=qkvz",
          "B=2 H=1 HV=1 K=60 V=100 T=9 conv_width=2 output=f32 io=f32 conv_state=f32"}) {
      CAPTURE(text);
      const FieldMap fields = parse_fields(text);
      const std::vector<HostTensor> inputs = inputs_of(fields, ++seed);
      CHECK(run(*runtime, fields, std::nullopt, inputs) == decode(*runtime, fields, number(fields, "T"), inputs));
    }
  }
}

TEST_CASE("tiles of equal lanes_k give equal bits: the norm's sum does not depend on blocks, clusters and turns") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap fields =
      parse_fields("B=1 H=1 HV=2 K=64 V=96 T=2 conv_width=4 gated_norm=silu output=f32 sum_lanes=8");
  const std::vector<HostTensor> inputs = inputs_of(fields, 3);
  const Results expected = run(*runtime, fields, std::nullopt, inputs);
  std::size_t clusters = 0, turns = 0;
  for (const FieldMap& tiles : step().search_space(fields, runtime->device().info().traits)) {
    INFO(fields_text(tiles));
    CHECK(run(*runtime, fields, tiles, inputs) == expected);
    clusters += step().instantiate(fields, tiles, Target{})->geometries()[0].cluster[0] > 1 ? 1 : 0;
    turns += number(tiles, "turns") > 1 ? 1 : 0;
  }
  CHECK(clusters > 2);
  CHECK(turns > 0);
}

TEST_CASE("both states may be updated in place, and the tickets are zero again") {
  for (const char* arch : {"sm_90a", "sm_80"}) {
    const auto runtime = emulator_runtime(arch);
    for (const char* text :
         {"B=2 H=1 HV=3 K=64 V=64 conv_width=4 gated_norm=silu", "B=2 H=2 HV=2 K=32 V=16 conv_width=4",
          "B=2 H=1 HV=4 K=32 V=64 T=3 conv_width=2 gated_norm=sigmoid"}) {
      CAPTURE(text);
      const FieldMap fields = parse_fields(text);
      const std::vector<HostTensor> inputs = inputs_of(fields, 8);
      const Results apart = run(*runtime, fields, std::nullopt, inputs);
      HostCall call(inputs);
      const auto plan = make_plan(*runtime, step(), fields);
      plan->run(call.views_for(*plan,
                               [&](std::string_view name, const TensorView& view) {
                                 if (name == "state_out") return call.view("state_in");
                                 if (name == "conv_state_out") return call.view("conv_state_in");
                                 return view;
                               }),
                nullptr);
      CHECK(call["o"].bytes == apart.o);
      CHECK(call["state_in"].bytes == apart.state);
      CHECK(call["conv_state_in"].bytes == apart.conv_state);
      const std::vector<std::byte> zeros(call["conv_ticket"].bytes.size());
      CHECK(call["conv_ticket"].bytes == zeros);
    }
  }
}

TEST_CASE("the convolution's states take any strides: engines keep the channels contiguous, or longer states") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap fields = parse_fields("B=2 H=1 HV=2 K=32 V=16 conv_width=4 gated_norm=silu");
  const std::vector<HostTensor> inputs = inputs_of(fields, 8);
  const Results expected = run(*runtime, fields, std::nullopt, inputs);
  const auto plan = make_plan(*runtime, step(), fields);
  constexpr std::int64_t kChannels = 2 * 32 + 2 * 16;
  // Rows of 5 inputs, of which the state is the 3 in the middle.
  for (const auto& [channel, input] : {std::pair<std::int64_t, std::int64_t>{1, kChannels}, {5, 1}}) {
    HostCall call(inputs);
    std::vector<std::uint16_t> strided(2 * kChannels * 5, 0xffff);
    const auto at = [&, channel = channel, input = input](std::int64_t b, std::int64_t c, std::int64_t j) {
      return static_cast<std::size_t>(b * kChannels * 5 + c * channel + (j + 1) * input);
    };
    const auto* dense = reinterpret_cast<const std::uint16_t*>(call["conv_state_in"].bytes.data());
    const auto* result = reinterpret_cast<const std::uint16_t*>(expected.conv_state.data());
    for (std::int64_t i = 0; i < 2 * kChannels * 3; ++i)
      strided[at(i / 3 / kChannels, i / 3 % kChannels, i % 3)] = dense[i];
    TensorView states = TensorView::dense(strided.data() + input, DType::bf16, {2, kChannels, 3});
    states.strides[0] = kChannels * 5;
    states.strides[1] = channel;
    states.strides[2] = input;
    plan->run(
        call.views_for(*plan, [&](std::string_view name,
                                  const TensorView& view) { return name.starts_with("conv_state") ? states : view; }),
        nullptr);
    CHECK(call["o"].bytes == expected.o);
    std::size_t inside = 0;
    for (std::int64_t i = 0; i < 2 * kChannels * 3; ++i) {
      inside += strided[at(i / 3 / kChannels, i / 3 % kChannels, i % 3)] == result[i] ? 1 : 0;
    }
    CHECK(inside == 2 * kChannels * 3);
    CHECK(std::count(strided.begin(), strided.end(), 0xffff) == 2 * kChannels * 2);
  }
}

TEST_CASE("rolling back with num_accepted gives the bits of never having gone further") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap fields = parse_fields(
      "B=4 H=1 HV=2 K=64 V=32 T=3 output=f32 state_steps=dense update_state=false conv_width=4 gated_norm=silu");
  HostCall first(inputs_of(fields, 31));
  make_plan(*runtime, step(), fields)->run(first.views(), nullptr);

  // The next call starts from 0, 1, 2 and 3 accepted tokens.
  const FieldMap next = with(fields, "num_accepted=dense");
  HostCall second(inputs_of(next, 32));
  const std::int32_t accepted[4] = {0, 1, 2, 3};
  std::memcpy(second["num_accepted"].bytes.data(), accepted, sizeof(accepted));
  second["state_in"].bytes = first["state_in"].bytes;
  second["conv_state_in"].bytes = first["conv_state_in"].bytes;
  second["accepted_states"].bytes = first["step_states"].bytes;
  second["accepted_conv_states"].bytes = first["step_conv_states"].bytes;
  for (const char* shared : {"conv_weight", "norm_weight", "a_log", "dt_bias"}) {
    second[shared].bytes = first[shared].bytes;
  }
  make_plan(*runtime, step(), next)->run(second.views(), nullptr);

  HostCall replay(second);
  const auto plan = make_plan(*runtime, step(), with(fields, "T=1 state_steps=none update_state=true"));
  for (std::int64_t b = 0; b < 4; ++b) {
    HostTensor state = first["state_in"], conv_state = first["conv_state_in"], ticket = first["conv_ticket"];
    const auto token = [&](HostCall& call, std::int64_t t) {
      plan->run(call.views_for(*plan,
                               [&](std::string_view name, const TensorView& view) {
                                 if (name.starts_with("state")) return slice(view_of(state), 0, b, 1);
                                 if (name.starts_with("conv_state")) return slice(view_of(conv_state), 0, b, 1);
                                 if (name == "conv_ticket") return slice(view_of(ticket), 0, b, 1);
                                 return has_tokens(name) ? slice(slice(view, 0, b, 1), 1, t, 1) : view;
                               }),
                nullptr);
    };
    for (std::int64_t t = 0; t < accepted[b]; ++t) token(first, t);
    for (std::int64_t t = 0; t < 3; ++t) token(replay, t);
  }
  CHECK(replay["o"].bytes == second["o"].bytes);
}

// Engines that draft tokens keep, for each channel, one row of inputs: the initial state and the call's tokens behind
// it.
TEST_CASE("tokens' states may be views of one window of inputs, and the next call may start from and overwrite it") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap fields = parse_fields(
      "B=2 H=1 HV=2 K=32 V=16 T=3 output=f32 state_steps=dense update_state=false conv_width=4 num_accepted=dense");
  constexpr std::int64_t kChannels = 2 * 32 + 2 * 16, kWindow = 3 + 3;
  const std::int32_t accepted[2] = {1, 3};
  HostCall apart(inputs_of(fields, 6));
  std::memcpy(apart["num_accepted"].bytes.data(), accepted, sizeof(accepted));
  HostCall windowed = apart;
  const auto plan = make_plan(*runtime, step(), fields);
  plan->run(apart.views(), nullptr);

  std::vector<std::uint16_t> window(2 * kChannels * kWindow, 0xffff);
  // State after t + 1 tokens: inputs t + 1 .. t + 3 of the window.
  TensorView states = TensorView::dense(window.data() + 1, DType::bf16, {2, 3, kChannels, 3});
  states.strides = {kChannels * kWindow, 1, kWindow, 1};
  const auto at = [&](std::int64_t b, std::int64_t t, std::int64_t c, std::int64_t j) -> std::uint16_t& {
    return window[static_cast<std::size_t>((b * kChannels + c) * kWindow + 1 + t + j)];
  };
  const auto element = [&](HostCall& call, std::string_view name, std::int64_t b, std::int64_t t, std::int64_t c,
                           std::int64_t j) {
    return reinterpret_cast<const std::uint16_t*>(call[name].bytes.data())[((b * 3 + t) * kChannels + c) * 3 + j];
  };
  for (std::int64_t i = 0; i < 2 * kChannels * 3; ++i) {
    const std::int64_t b = i / 3 / kChannels, c = i / 3 % kChannels, j = i % 3, t = accepted[b] - 1;
    at(b, t, c, j) = element(windowed, "accepted_conv_states", b, t, c, j);
  }
  plan->run(windowed.views_for(*plan,
                               [&](std::string_view name, const TensorView& view) {
                                 const bool step_or_accepted = name.ends_with("_conv_states");
                                 return step_or_accepted ? states : view;
                               }),
            nullptr);
  CHECK(windowed["o"].bytes == apart["o"].bytes);
  std::size_t equal = 0;
  for (std::int64_t i = 0; i < 2 * 3 * kChannels * 3; ++i) {
    const std::int64_t j = i % 3, c = i / 3 % kChannels, t = i / 3 / kChannels % 3, b = i / 9 / kChannels;
    equal += at(b, t, c, j) == element(apart, "step_conv_states", b, t, c, j) ? 1 : 0;
  }
  CHECK(equal == 2 * 3 * kChannels * 3);
}

TEST_CASE("a padded row touches no state and no ticket, and zeroes its output or leaves it") {
  const auto runtime = emulator_runtime("sm_90a");
  for (const char* policy : {"zero", "skip"}) {
    const FieldMap fields = with(parse_fields("B=3 H=1 HV=2 K=32 V=64 conv_width=4 gated_norm=silu state_store=pool"),
                                 std::string("pad_policy=") + policy);
    HostCall call(inputs_of(fields, 5));
    const std::int32_t slots[3] = {-1, -1, -1};
    std::memcpy(call["read_slot"].bytes.data(), slots, sizeof(slots));
    const std::vector<std::byte> state = call["conv_state_in"].bytes, o = call["o"].bytes;
    make_plan(*runtime, step(), fields)->run(call.views(), nullptr);
    CHECK(call["conv_state_in"].bytes == state);
    CHECK(call["conv_ticket"].bytes == std::vector<std::byte>(call["conv_ticket"].bytes.size()));
    CHECK(call["o"].bytes == (std::string_view(policy) == "skip" ? o : std::vector<std::byte>(o.size())));
  }
}

TEST_CASE("the recurrent state is moved as without a mixer, that of the convolution written once") {
  for (const char* arch : {"sm_90a", "sm_80"}) {
    const auto runtime = emulator_runtime(arch);
    for (const char* text : {"B=4 H=4 HV=8", "B=4 H=4 HV=8 T=4", "B=4 H=2 HV=4 state_layout=kv"}) {
      CAPTURE(text);
      const FieldMap fields = with(parse_fields(text), "conv_width=4 gated_norm=silu input_layout=mixed_qkv");
      const std::vector<HostTensor> inputs = inputs_of(fields, 1);
      autotune::DeviceTensors tensors(runtime->device(), inputs, 256);
      tensors.upload(inputs, nullptr);
      make_plan(*runtime, step(), fields)->run(tensors.views(), nullptr);
      double read = 0, written = 0, conv_written = 0;
      for (const BufferTraffic& buffer : runtime->device().last_traffic()) {
        const bool conv = buffer.name.starts_with("conv_state");
        if (conv) conv_written += static_cast<double>(buffer.sectors_written);
        if (!buffer.name.starts_with("state")) continue;
        read += static_cast<double>(buffer.sectors_read);
        written += static_cast<double>(buffer.sectors_written);
      }
      const double H = static_cast<double>(number(fields, "H")), HV = static_cast<double>(number(fields, "HV"));
      CHECK(read == doctest::Approx(4 * HV * 128 * 128 * 4 / 32).epsilon(0.02));
      CHECK(written == doctest::Approx(4 * HV * 128 * 128 * 4 / 32).epsilon(0.02));
      // Three bf16 inputs a channel, written one by one: 32 lanes' stores of one input touch 6 sectors.
      CHECK(conv_written == doctest::Approx(4 * (2 * H + HV) * 128 / 32 * 3 * 6).epsilon(0.05));
    }
  }
}

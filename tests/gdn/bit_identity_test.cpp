// Verifying T tokens gives the bits of decoding them one by one, whatever the options and the tiles, as long as lanes_k
// is the same; gdn.recurrent gives them too.
#include <doctest/doctest.h>

#include <cstring>

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

std::int64_t number(const FieldMap& fields, std::string_view name) {
  std::int64_t value = 0;
  parse_field(name, *find_field(fields, name), value);
  return value;
}

// What a call leaves: the output, and the state after its last token.
struct Results {
  std::vector<std::byte> o, state;
  friend bool operator==(const Results&, const Results&) = default;
};

// `fields` has a dense fp32 state. All T tokens in one call.
Results verify(Runtime::Impl& runtime, const FieldMap& fields, const std::optional<FieldMap>& tiles,
               const std::vector<HostTensor>& tensors) {
  HostCall call(tensors);
  make_plan(runtime, step(), fields, tiles)->run(call.views(), nullptr);
  return {call["o"].bytes, call["state_out"].bytes};
}

// T calls of one token, the state in place.
Results decode(Runtime::Impl& runtime, const FieldMap& fields, const std::optional<FieldMap>& tiles,
               const std::vector<HostTensor>& tensors) {
  HostCall call(tensors);
  const auto plan = make_plan(runtime, step(), with(fields, "T=1"), tiles);
  call["state_out"].bytes = call["state_in"].bytes;
  for (std::int64_t t = 0; t < number(fields, "T"); ++t) {
    plan->run(call.views_for(*plan,
                             [&](std::string_view name, const TensorView& view) {
                               if (name == "state_in") return call.view("state_out");
                               return has_tokens(name) ? slice(view, 1, t, 1) : view;
                             }),
              nullptr);
  }
  return {call["o"].bytes, call["state_out"].bytes};
}

// The same tokens by gdn.recurrent.
Results recur(Runtime::Impl& runtime, FieldMap fields, const std::optional<FieldMap>& tiles,
              const std::vector<HostTensor>& tensors) {
  HostCall call(tensors);
  std::erase_if(fields, [](const auto& field) { return field.first == "T"; });
  const auto plan =
      make_plan(runtime, find_operator("gdn.recurrent"), with(fields, "initial_state=dense final_state=dense"), tiles);
  plan->run(call.views_for(*plan, [](std::string_view, const TensorView& view) { return view; }), nullptr);
  return {call["o"].bytes, call["state_out"].bytes};
}

std::vector<HostTensor> inputs_of(const FieldMap& fields, std::uint64_t seed) {
  return reference::make_workload("gdn.step", step().complete(fields), reference::Inputs::typical, seed)->tensors();
}

// Candidates with the lanes of `tiles`, and one that takes the state in two passes if a lane's keys can be halved.
std::vector<FieldMap> tiles_of_equal_lanes(const FieldMap& problem, const FieldMap& tiles, const DeviceTraits& device) {
  std::vector<FieldMap> result;
  for (const FieldMap& candidate : step().search_space(problem, device)) {
    if (find_field(candidate, "lanes_k") == find_field(tiles, "lanes_k")) result.push_back(candidate);
  }
  const FieldMap halves = with(tiles, fmt::format("block_k={}", number(tiles, "block_k") / 2));
  try {
    step().instantiate(problem, halves, Target{device.arch});
    result.push_back(halves);
  } catch (const Error&) {
    // One chunk of keys a lane: nothing to halve.
    CHECK(number(tiles, "block_k") / number(tiles, "lanes_k") <= 8);
  }
  return result;
}

}  // namespace

TEST_CASE("default tiles: T tokens in one call give the bits of T calls, and so does gdn.recurrent") {
  const auto runtime = emulator_runtime("sm_90a");
  std::uint64_t seed = 0;
  for (const char* text : {
           "B=2 H=2 HV=4 T=2",
           "B=2 H=2 HV=4 T=7 output=f32",
           "B=1 H=1 HV=3 T=16 state_layout=kv output=f32",
           "B=2 H=1 HV=2 K=64 V=64 T=3 norm=none gate=none beta=none io=f32 output=f32",
           "B=1 H=2 HV=2 K=96 V=192 T=4 beta=two_sigmoid norm=max_eps io=f16 output=f32",
           "B=1 H=1 HV=2 K=60 V=60 T=5 gate=log beta=given output=f32",
           "B=2 H=1 HV=1 K=100 V=100 T=3 gate=alpha norm=add_eps state_layout=kv output=f32",
           "B=1 H=2 HV=2 T=4 gate=channel_raw output=f32",
           "B=1 H=1 HV=2 K=64 V=32 T=6 gate=channel_sigmoid state_layout=kv output=f32",
           "B=1 H=1 HV=1 K=256 V=64 T=4 gate=channel_log io=f32 output=f32",
           "B=1 H=1 HV=1 K=33 V=17 T=4 output=f32",
           "B=1 H=1 HV=1 K=512 V=32 T=4 output=f32",
           "B=1 H=1 HV=1 K=1100 V=16 T=3 output=f32",
           "B=2 H=2 HV=4 K=64 V=32 T=4 input_layout=mixed_qkv head_map=modulo output=f32",
           "B=2 H=1 HV=3 K=64 V=32 T=4 input_layout=qkvz output=f32",
       }) {
    CAPTURE(text);
    const FieldMap fields = parse_fields(text);
    const std::vector<HostTensor> inputs = inputs_of(fields, ++seed);
    const Results expected = decode(*runtime, fields, std::nullopt, inputs);
    CHECK(verify(*runtime, fields, std::nullopt, inputs) == expected);
    CHECK(recur(*runtime, fields, std::nullopt, inputs) == expected);
  }
}

TEST_CASE("tiles of equal lanes_k give equal bits, in registers and in passes") {
  const auto runtime = emulator_runtime("sm_90a");
  const DeviceTraits device = runtime->device().info().traits;
  for (const char* text : {"B=1 H=1 HV=2 K=64 V=64 T=3 output=f32", "B=1 H=1 HV=1 T=2 state_layout=kv output=f32",
                           "B=1 H=1 HV=1 K=64 V=32 T=3 gate=channel_raw output=f32"}) {
    const FieldMap fields = parse_fields(text);
    const std::vector<HostTensor> inputs = inputs_of(fields, 11);
    const FieldMap tiles = step().default_tiles(fields, device);
    const Results expected = decode(*runtime, fields, tiles, inputs);
    const std::vector<FieldMap> others = tiles_of_equal_lanes(fields, tiles, device);
    CHECK(others.size() >= 4);
    for (const FieldMap& other : others) {
      INFO(text << ", tiles " << fields_text(other));
      CHECK(verify(*runtime, fields, other, inputs) == expected);
      CHECK(decode(*runtime, fields, other, inputs) == expected);
      CHECK(recur(*runtime, fields, other, inputs) == expected);
    }
  }
}

TEST_CASE("sum_lanes makes different default tiles agree, and another value of it shows") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap fields = parse_fields("B=1 H=1 HV=2 T=3 output=f32");
  const std::vector<HostTensor> inputs = inputs_of(fields, 5);
  const auto tiles = [&](std::string_view changes) {
    return step().default_tiles(with(fields, changes), runtime->device().info().traits);
  };
  CHECK_FALSE(verify(*runtime, fields, tiles("sum_lanes=8"), inputs) ==
              verify(*runtime, fields, tiles("sum_lanes=16"), inputs));
  const FieldMap one = tiles("B=1 sum_lanes=8"), many = tiles("B=4096 sum_lanes=8");
  REQUIRE(one != many);
  CHECK(verify(*runtime, fields, one, inputs) == verify(*runtime, fields, many, inputs));
}

TEST_CASE("layouts of the state change where numbers lie and nothing else") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap fields = parse_fields("B=1 H=1 HV=1 K=64 V=64 T=3 norm=none io=f32 output=f32 sum_lanes=8");
  const auto transposed = [](const std::vector<std::byte>& bytes) {
    std::vector<std::byte> result(bytes.size());
    for (std::size_t row = 0; row < 64; ++row) {
      for (std::size_t column = 0; column < 64; ++column) {
        std::memcpy(result.data() + (column * 64 + row) * 4, bytes.data() + (row * 64 + column) * 4, 4);
      }
    }
    return result;
  };
  const std::vector<HostTensor> inputs = inputs_of(fields, 5);
  std::vector<HostTensor> turned = inputs;
  for (HostTensor& tensor : turned) {
    if (tensor.spec.name == "state_in") tensor.bytes = transposed(tensor.bytes);
  }
  // Chunks of four keys in both: 16 bytes of an fp32 state, 16 bytes of fp32 keys.
  const Results vk = verify(*runtime, fields, std::nullopt, inputs);
  const Results kv = verify(*runtime, with(fields, "state_layout=kv"), std::nullopt, turned);
  CHECK(kv.o == vk.o);
  CHECK(transposed(kv.state) == vk.state);
}

TEST_CASE("every token of a tree has the bits of decoding its path") {
  const auto runtime = emulator_runtime("sm_90a");
  std::uint64_t seed = 20;
  for (const char* text :
       {"B=3 H=1 HV=2 K=64 V=32 T=8 output=f32 state_steps=dense", "B=3 H=1 HV=2 K=64 V=32 T=8 output=f32",
        "B=2 H=1 HV=1 K=64 V=16 T=16 state_layout=kv output=f32",
        "B=2 H=1 HV=1 K=1100 V=8 T=5 output=f32 state_steps=dense",
        "B=2 H=1 HV=1 K=64 V=16 T=6 gate=channel_raw output=f32 state_steps=dense"}) {
    CAPTURE(text);
    const FieldMap fields = with(parse_fields(text), "tree=true");
    const std::vector<HostTensor> inputs = inputs_of(fields, ++seed);
    HostCall call(inputs);
    make_plan(*runtime, step(), fields)->run(call.views(), nullptr);

    HostCall path(inputs);
    const auto plan = make_plan(*runtime, step(), with(parse_fields(text), "T=1 state_steps=none"));
    const auto* parents = reinterpret_cast<const std::int32_t*>(call["parent"].bytes.data());
    const std::int64_t B = number(fields, "B"), T = number(fields, "T");
    for (std::int64_t b = 0; b < B; ++b) {
      for (std::int64_t token = 0; token < T; ++token) {
        std::vector<std::int64_t> tokens;
        for (std::int64_t t = token; t >= 0; t = parents[b * T + t]) tokens.insert(tokens.begin(), t);
        path["state_out"].bytes = path["state_in"].bytes;
        for (const std::int64_t t : tokens) {
          plan->run(path.views_for(*plan,
                                   [&](std::string_view name, const TensorView& view) {
                                     if (name == "state_in" || name == "state_out")
                                       return slice(path.view("state_out"), 0, b, 1);
                                     return has_tokens(name) ? slice(slice(view, 0, b, 1), 1, t, 1) : view;
                                   }),
                    nullptr);
        }
        const auto same = [&](std::string_view left, std::string_view right, std::int64_t from, std::int64_t to) {
          const std::size_t bytes = call[left].bytes.size() /
                                    static_cast<std::size_t>(call[left].spec.shape[0] * (left == "state_out" ? 1 : T));
          return std::memcmp(call[left].bytes.data() + static_cast<std::size_t>(from) * bytes,
                             path[right].bytes.data() + static_cast<std::size_t>(to) * bytes, bytes) == 0;
        };
        CAPTURE(token);
        CHECK(same("o", "o", b * T + token, b * T + token));
        if (call.has("step_states")) CHECK(same("step_states", "state_out", b * T + token, b));
        if (token == T - 1) CHECK(same("state_out", "state_out", b, b));
      }
    }
  }
}

TEST_CASE("rolling back with num_accepted gives the bits of never having gone further") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap fields = parse_fields("B=4 H=1 HV=2 K=64 V=32 T=3 output=f32 state_steps=dense update_state=false");
  HostCall first(inputs_of(fields, 31));
  make_plan(*runtime, step(), fields)->run(first.views(), nullptr);

  // The next call starts from 0, 1, 2 and 3 accepted tokens.
  const FieldMap next = with(fields, "num_accepted=dense");
  HostCall second(inputs_of(next, 32));
  const std::int32_t accepted[4] = {0, 1, 2, 3};
  std::memcpy(second["num_accepted"].bytes.data(), accepted, sizeof(accepted));
  second["state_in"].bytes = first["state_in"].bytes;
  second["accepted_states"].bytes = first["step_states"].bytes;
  make_plan(*runtime, step(), next)->run(second.views(), nullptr);

  HostCall replay(inputs_of(next, 32));
  const auto plan = make_plan(*runtime, step(), parse_fields("B=4 H=1 HV=2 K=64 V=32 T=1 output=f32"));
  for (std::int64_t b = 0; b < 4; ++b) {
    HostTensor state = first["state_in"];
    const auto run = [&](HostCall& call, std::int64_t t) {
      plan->run(call.views_for(*plan,
                               [&](std::string_view name, const TensorView& view) {
                                 if (name.starts_with("state")) return slice(view_of(state), 0, b, 1);
                                 return has_tokens(name) ? slice(slice(view, 0, b, 1), 1, t, 1) : view;
                               }),
                nullptr);
    };
    for (std::int64_t t = 0; t < accepted[b]; ++t) run(first, t);
    for (std::int64_t t = 0; t < 3; ++t) run(replay, t);
  }
  CHECK(replay["o"].bytes == second["o"].bytes);
}

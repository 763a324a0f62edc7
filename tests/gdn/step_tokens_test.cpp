// gdn.step with several tokens: every two values of what may happen to tokens and states meet in at least one case.
#include <doctest/doctest.h>

#include <array>
#include <cstring>
#include <functional>
#include <map>

#include "runtime/build.h"
#include "tests/gdn/emulator_fixture.h"
#include "tests/gdn/host_call.h"
#include "tests/gdn/pairwise_check.h"

using namespace gdnjit;
using namespace gdnjit::tests;

namespace {

const std::vector<Axis>& axes() {
  static const std::vector<Axis> list{
      {"T", {"1", "2", "3", "5", "8", "16"}},
      {"shape",
       {"H=1 HV=2 K=128 V=128", "H=1 HV=3 K=64 V=64", "H=1 HV=4 K=64 V=32", "H=1 HV=8 K=32 V=16", "H=1 HV=1 K=96 V=192",
        "H=1 HV=1 K=256 V=96", "H=2 HV=2 K=60 V=60", "H=2 HV=2 K=100 V=100", "H=1 HV=2 K=33 V=17",
        "H=1 HV=1 K=1100 V=8"}},
      {"B", {"1", "3", "5"}},
      {"store", {"dense", "pool negative zero i32", "pool zero skip i64"}},
      {"state_steps", {"none", "dense", "pool"}},
      {"num_accepted", {"none", "dense", "pool"}},
      {"tree", {"false", "true"}},
      {"update_state", {"true", "false"}},
      {"write_output", {"true", "false"}},
      {"programmatic", {"false", "true"}},
      {"io", {"bf16", "f32", "f16"}},
      {"state", {"f32", "bf16", "f16"}},
      {"state_layout", {"vk", "kv"}},
      {"gate", {"raw", "none", "alpha", "channel_raw", "channel_sigmoid"}},
      {"beta", {"sigmoid", "none", "given"}},
      {"norm", {"sumsq_eps", "none", "max_eps"}},
      {"input_layout", {"separate", "mixed_qkv", "qkvz"}},
      {"inputs", {"typical", "brutal"}},
      {"tiles", {"default", "middle", "last", "passes"}},
      {"arch", {"sm_90a", "sm_80", "sm_120"}},
  };
  return list;
}

std::string chosen(const Case& built, std::string_view name) { return tests::chosen(axes(), built, name); }

bool allowed(const Case& built) {
  if (chosen(built, "input_layout") == "qkvz" && chosen(built, "gate").starts_with("channel")) return false;
  if (chosen(built, "store") == "dense") {
    if (chosen(built, "state_steps") == "pool" || chosen(built, "num_accepted") == "pool") return false;
  }
  if (chosen(built, "arch") == "sm_80" && chosen(built, "programmatic") == "true") return false;
  return !(chosen(built, "update_state") == "false" && chosen(built, "write_output") == "false" &&
           chosen(built, "state_steps") == "none");
}

FieldMap problem_of(const Case& built) {
  FieldMap problem = parse_fields(chosen(built, "shape"));
  for (const char* name : {"T", "B", "state_steps", "num_accepted", "tree", "update_state", "write_output",
                           "programmatic", "io", "state", "state_layout", "gate", "beta", "norm", "input_layout"}) {
    set_field(problem, name, chosen(built, name));
  }
  set_field(problem, "output", chosen(built, "io"));
  const std::vector<std::string> store = split(chosen(built, "store"), ' ');
  set_field(problem, "state_store", store[0]);
  if (store.size() > 1) {
    set_field(problem, "pad_sentinel", store[1]);
    set_field(problem, "pad_policy", store[2]);
    set_field(problem, "slot_dtype", store[3]);
  }
  return problem;
}

// "passes": the default in half-size passes, where a lane's keys can be halved.
std::optional<FieldMap> tiles_of(const Case& built, const FieldMap& problem, const DeviceTraits& device) {
  const std::string choice = chosen(built, "tiles");
  if (choice == "default") return std::nullopt;
  const std::vector<FieldMap> space = step().search_space(problem, device);
  if (choice != "passes") return choice == "middle" ? space[space.size() / 2] : space.back();
  FieldMap tiles = space.front();
  int block_k = 0;
  parse_field("block_k", *find_field(tiles, "block_k"), block_k);
  set_field(tiles, "block_k", std::to_string(block_k / 2));
  try {
    step().instantiate(problem, tiles, Target{device.arch});
  } catch (const Error&) {
    return std::nullopt;
  }
  return tiles;
}

}  // namespace

TEST_CASE("every pair of token and state options is right on the emulator") {
  check_every_pair(step(), axes(), allowed, 2026, problem_of, tiles_of);
}

TEST_CASE("every candidate of a verify step's search space is right") {
  const auto runtime = emulator_runtime("sm_90a");
  for (const char* text : {"B=1 H=1 HV=1 T=3", "B=1 H=1 HV=1 T=3 state=bf16 state_layout=kv tree=true"}) {
    const FieldMap problem = parse_fields(text);
    for (const FieldMap& tiles : step().search_space(problem, runtime->device().info().traits)) {
      INFO(text << ", tiles " << fields_text(tiles));
      CHECK(check_step(*runtime, problem, tiles, reference::Inputs::typical, 5) == "");
    }
  }
}

TEST_CASE("tokens may lie apart: strided views of packed projections") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap fields = parse_fields("B=2 H=1 HV=2 K=64 V=32 T=4");
  const auto workload = reference::make_workload("gdn.step", step().complete(fields), reference::Inputs::typical, 9);
  const auto plan = make_plan(*runtime, step(), fields);
  HostCall dense(workload->tensors());
  plan->run(dense.views(), nullptr);

  // The same tokens as every second one of twice as many; what lies between is NaN.
  std::vector<reference::HostTensor> wide = workload->tensors();
  for (reference::HostTensor& tensor : wide) {
    if (!has_tokens(tensor.spec.name)) continue;
    const reference::HostTensor narrow = tensor;
    const std::size_t token = narrow.bytes.size() / 8;  // B * T
    tensor.bytes.assign(narrow.bytes.size() * 2, std::byte{0xff});
    tensor.spec.shape[1] *= 2;
    for (std::size_t i = 0; i < 8; ++i) {
      std::memcpy(tensor.bytes.data() + i * 2 * token, narrow.bytes.data() + i * token, token);
    }
  }
  HostCall strided(wide);
  plan->run(strided.views_for(*plan,
                              [](std::string_view name, TensorView view) {
                                if (!has_tokens(name)) return view;
                                view.shape[1] = 4;
                                view.strides[1] *= 2;
                                return view;
                              }),
            nullptr);
  CHECK(strided["state_out"].bytes == dense["state_out"].bytes);
  const std::size_t token = dense["o"].bytes.size() / 8;
  for (std::size_t i = 0; i < 8; ++i) {
    CHECK(std::memcmp(strided["o"].bytes.data() + i * 2 * token, dense["o"].bytes.data() + i * token, token) == 0);
  }
}

TEST_CASE("a tree whose parents come too late ends, as if they were the initial state") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap fields = parse_fields("B=1 H=1 HV=1 K=32 V=16 T=4 tree=true");
  const auto workload = reference::make_workload("gdn.step", step().complete(fields), reference::Inputs::typical, 9);
  const auto plan = make_plan(*runtime, step(), fields);
  const auto run = [&](std::array<std::int32_t, 4> parents) {
    HostCall call(workload->tensors());
    std::memcpy(call["parent"].bytes.data(), parents.data(), sizeof(parents));
    plan->run(call.views(), nullptr);
    return call["o"].bytes;
  };
  CHECK(run({3, 1, 1000, 2}) == run({-1, -1, -1, 2}));
}

TEST_CASE("bad token options are refused by name, value and rule") {
  const auto refused = [](const char* text) { return thrown([&] { step().complete(parse_fields(text)); }); };
  CHECK(refused("T=0") == "T=0: must be 1 to 16; gdn.recurrent serves any T");
  CHECK(refused("T=17") == "T=17: must be 1 to 16; gdn.recurrent serves any T");
  CHECK(refused("state_steps=pool") == "state_steps=pool: needs state_store=pool");
  CHECK(refused("num_accepted=pool") == "num_accepted=pool: needs state_store=pool");
  CHECK(refused("sum_lanes=3") == "sum_lanes=3: must be 0 (any) or a power of two up to 32");
  CHECK(refused("sum_lanes=64") == "sum_lanes=64: must be 0 (any) or a power of two up to 32");
  CHECK(refused("write_output=false update_state=false") ==
        "write_output=false: with update_state=false and state_steps=none nothing is left to compute");
  const FieldMap programmatic = parse_fields("programmatic=true");
  CHECK(thrown([&] { step().instantiate(programmatic, step().default_tiles(programmatic, {}), Target{"sm_89"}); }) ==
        "programmatic=true: sm_89 has no programmatic dependent launch, sm_90 and later do");
}

TEST_CASE("only a programmatic kernel waits for the grid before it, and its launch says so") {
  for (const bool programmatic : {false, true}) {
    const auto runtime = emulator_runtime("sm_90a");
    for (const char* text : {"T=1", "T=4", "T=1 K=1100 V=16", "T=3 state_store=pool"}) {
      FieldMap problem = step().complete(parse_fields(text));
      set_field(problem, "programmatic", programmatic ? "true" : "false");
      const auto plan = make_plan(*runtime, step(), problem);
      CHECK(plan->instance().geometries()[0].programmatic == programmatic);
      const std::string& ptx = build_kernel(*runtime, step(), problem, plan->instance().kernels()[0]).binary->ptx;
      CHECK((ptx.find("griddepcontrol.wait") != std::string::npos) == programmatic);
      CHECK((ptx.find("griddepcontrol.launch_dependents") != std::string::npos) == programmatic);
      // The state is loaded before the wait, unless it takes passes.
      const bool in_passes = std::string_view(text).find("K=1100") != std::string_view::npos;
      if (programmatic && !in_passes) CHECK(ptx.find(".v4") < ptx.find("griddepcontrol.wait"));
    }
  }
}

// Every two option values of gdn.step meet in at least one case, over the shapes of the models and of odd sizes,
// every architecture's code and all kinds of tiles, against the double-precision reference.
#include <doctest/doctest.h>

#include <map>

#include "tests/gdn/emulator_fixture.h"
#include "tests/gdn/pairwise_check.h"

using namespace gdnjit;
using namespace gdnjit::tests;

namespace {

const std::vector<Axis>& axes() {
  static const std::vector<Axis> list{
      {"shape",
       {"H=2 HV=4 K=128 V=128", "H=1 HV=3 K=128 V=128", "H=1 HV=8 K=64 V=64", "H=3 HV=3 K=96 V=192",
        "H=1 HV=1 K=256 V=512", "H=2 HV=2 K=60 V=60", "H=2 HV=4 K=100 V=100", "H=1 HV=2 K=33 V=17",
        "H=2 HV=2 K=512 V=32", "H=1 HV=2 K=1 V=5"}},
      {"B", {"1", "3", "5"}},
      {"io", {"bf16", "f16", "f32"}},
      {"state", {"f32", "bf16", "f16"}},
      {"output", {"bf16", "f16", "f32"}},
      {"gate_dtype", {"f32", "bf16", "f16"}},
      {"beta_dtype", {"f32", "bf16", "f16"}},
      {"a_log_dtype", {"f32", "bf16"}},
      {"dt_bias_dtype", {"f32", "bf16", "f16"}},
      {"scale", {"0", "1", "0.1"}},
      {"norm", {"none", "sumsq_eps", "max_eps", "add_eps"}},
      {"norm_eps", {"1e-06", "0.001"}},
      {"gate", {"none", "log", "alpha", "raw", "channel_log", "channel_raw", "channel_sigmoid"}},
      {"beta", {"given", "sigmoid", "two_sigmoid", "none"}},
      {"head_map", {"grouped", "modulo"}},
      {"state_layout", {"kv", "vk"}},
      {"store",
       {"dense", "pool negative zero i32", "pool zero skip i64", "pool negative skip i64", "pool zero zero i32"}},
      {"input_layout", {"separate", "mixed_qkv", "qkvz"}},
      {"alignment", {"state_alignment=16 io_alignment=16", "state_alignment=4 io_alignment=4"}},
      {"exact_batch", {"false", "true"}},
      {"inputs", {"typical", "brutal"}},
      {"tiles", {"default", "first", "middle", "last"}},
      {"arch", {"sm_80", "sm_90a", "sm_100", "sm_120"}},
  };
  return list;
}

std::string chosen(const Case& built, std::string_view name) { return tests::chosen(axes(), built, name); }

// ba of qkvz holds one a and one b per value head, of one dtype.
bool allowed(const Case& built) {
  if (chosen(built, "input_layout") != "qkvz") return true;
  if (chosen(built, "gate").starts_with("channel")) return false;
  const std::string gate_dtype = chosen(built, "gate_dtype");
  const std::string beta_dtype = chosen(built, "beta_dtype");
  return gate_dtype.empty() || beta_dtype.empty() || gate_dtype == beta_dtype;
}

FieldMap problem_of(const Case& built) {
  FieldMap problem = parse_fields(chosen(built, "shape") + " " + chosen(built, "alignment"));
  for (const char* name :
       {"B", "io", "state", "output", "gate_dtype", "beta_dtype", "a_log_dtype", "dt_bias_dtype", "scale", "norm",
        "norm_eps", "gate", "beta", "head_map", "state_layout", "input_layout", "exact_batch"}) {
    set_field(problem, name, chosen(built, name));
  }
  const std::vector<std::string> store = split(chosen(built, "store"), ' ');
  set_field(problem, "state_store", store[0]);
  if (store.size() > 1) {
    set_field(problem, "pad_sentinel", store[1]);
    set_field(problem, "pad_policy", store[2]);
    set_field(problem, "slot_dtype", store[3]);
  }
  return problem;
}

std::optional<FieldMap> tiles_of(const Case& built, const FieldMap& problem, const DeviceTraits& device) {
  const std::string choice = chosen(built, "tiles");
  if (choice == "default") return std::nullopt;
  const std::vector<FieldMap> space = step().search_space(problem, device);
  if (choice == "first") return space[std::min<std::size_t>(1, space.size() - 1)];
  return choice == "middle" ? space[space.size() / 2] : space.back();
}

}  // namespace

TEST_CASE("every pair of options is right on the emulator") {
  check_every_pair(step(), axes(), allowed, 2026, problem_of, tiles_of);
}

TEST_CASE("every candidate of the search space is right") {
  const auto runtime = emulator_runtime("sm_90a");
  for (const char* text :
       {"B=2 H=1 HV=2", "B=2 H=1 HV=2 state=bf16 state_layout=kv", "B=1 H=1 HV=1 K=256 V=64 gate=channel_raw"}) {
    const FieldMap problem = parse_fields(text);
    for (const FieldMap& tiles : step().search_space(problem, runtime->device().info().traits)) {
      INFO(text << ", tiles " << fields_text(tiles));
      CHECK(check_step(*runtime, problem, tiles, reference::Inputs::typical, 5) == "");
    }
  }
}

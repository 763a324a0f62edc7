// gdn.step as a mixer: every two values of the convolution, the gated norm and what may happen to tokens and states
// meet in at least one case.
#include <doctest/doctest.h>

#include <map>

#include "tests/gdn/emulator_fixture.h"
#include "tests/gdn/pairwise_check.h"

using namespace gdnjit;
using namespace gdnjit::tests;

namespace {

const std::vector<Axis>& axes() {
  static const std::vector<Axis> list{
      {"conv", {"0", "2", "3 bias", "4"}},
      {"gated_norm", {"none", "silu", "sigmoid"}},
      {"T", {"1", "2", "4", "16"}},
      {"shape",
       {"H=1 HV=2 K=128 V=128", "H=1 HV=3 K=64 V=64", "H=2 HV=2 K=60 V=100", "H=1 HV=8 K=32 V=16", "H=1 HV=2 K=33 V=17",
        "H=1 HV=1 K=512 V=24"}},
      {"B", {"1", "3", "5"}},
      {"store", {"dense", "pool negative zero i32", "pool zero skip i64"}},
      {"state_steps", {"none", "dense", "pool"}},
      {"num_accepted", {"none", "dense", "pool"}},
      {"tree", {"false", "true"}},
      {"update_state", {"true", "false"}},
      {"write_output", {"true", "false"}},
      {"programmatic", {"false", "true"}},
      {"io", {"bf16", "f32", "f16"}},
      {"conv_state", {"bf16", "f32", "f16"}},
      {"conv_dtype", {"bf16", "f32"}},
      {"gated_norm_dtype", {"bf16", "f32", "f16"}},
      {"state", {"f32", "bf16"}},
      {"state_layout", {"vk", "kv"}},
      {"gate", {"raw", "none", "channel_raw"}},
      {"norm", {"sumsq_eps", "none"}},
      {"head_map", {"grouped", "modulo"}},
      {"input_layout", {"separate", "mixed_qkv", "qkvz"}},
      {"alignment", {"state_alignment=16 io_alignment=16", "state_alignment=4 io_alignment=4"}},
      {"inputs", {"typical", "brutal"}},
      {"tiles", {"default", "second", "middle", "last"}},
      {"arch", {"sm_90a", "sm_80", "sm_120"}},
  };
  return list;
}

std::string chosen(const Case& built, std::string_view name) { return tests::chosen(axes(), built, name); }

bool allowed(const Case& built) {
  const std::string conv = chosen(built, "conv"), gated_norm = chosen(built, "gated_norm");
  if (conv == "0" && gated_norm == "none") return false;
  if (chosen(built, "write_output") == "false" && !gated_norm.empty() && gated_norm != "none") return false;
  if (chosen(built, "input_layout") == "qkvz" && chosen(built, "gate").starts_with("channel")) return false;
  if (chosen(built, "store") == "dense") {
    if (chosen(built, "state_steps") == "pool" || chosen(built, "num_accepted") == "pool") return false;
  }
  if (chosen(built, "arch") == "sm_80" && chosen(built, "programmatic") == "true") return false;
  return !(chosen(built, "update_state") == "false" && chosen(built, "write_output") == "false" &&
           chosen(built, "state_steps") == "none");
}

FieldMap problem_of(const Case& built) {
  FieldMap problem = parse_fields(chosen(built, "shape") + " " + chosen(built, "alignment"));
  for (const char* name : {"gated_norm", "T", "B", "state_steps", "num_accepted", "tree", "update_state",
                           "write_output", "programmatic", "io", "conv_state", "conv_dtype", "gated_norm_dtype",
                           "state", "state_layout", "gate", "norm", "head_map", "input_layout"}) {
    set_field(problem, name, chosen(built, name));
  }
  set_field(problem, "output", chosen(built, "io"));
  const std::vector<std::string> conv = split(chosen(built, "conv"), ' ');
  set_field(problem, "conv_width", conv[0]);
  set_field(problem, "conv_bias", conv.size() > 1 ? "true" : "false");
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
  if (choice == "second") return space[std::min<std::size_t>(1, space.size() - 1)];
  return choice == "middle" ? space[space.size() / 2] : space.back();
}

}  // namespace

TEST_CASE("every pair of mixer options is right on the emulator") {
  check_every_pair(step(), axes(), allowed, 2026, problem_of, tiles_of);
}

TEST_CASE("candidates of a mixer's search space are right, with clusters and without") {
  for (const auto& [arch, lanes_k] : {std::pair{"sm_90a", "lanes_k=16"}, {"sm_86", "lanes_k=8"}}) {
    const auto runtime = emulator_runtime(arch);
    const FieldMap problem = parse_fields("B=1 H=1 HV=2 K=64 V=96 conv_width=4 gated_norm=silu");
    for (const FieldMap& tiles : step().search_space(problem, runtime->device().info().traits)) {
      if (fields_text(tiles).find(lanes_k) == std::string::npos) continue;
      INFO(arch << ", tiles " << fields_text(tiles));
      CHECK(check_step(*runtime, problem, tiles, reference::Inputs::typical, 5) == "");
    }
  }
}

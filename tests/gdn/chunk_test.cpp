// gdn.chunk against the double-precision reference: options pairwise (in the sweep), on both paths.
#include <doctest/doctest.h>

#include "tests/gdn/emulator_fixture.h"
#include "tests/gdn/pairwise_check.h"

using namespace gdnjit;
using namespace gdnjit::tests;

namespace {

const std::vector<Axis>& axes() {
  static const std::vector<Axis> list{
      {"T", {"65", "1", "128", "0"}},
      {"shape",
       {"H=1 HV=2 K=64 V=64", "H=1 HV=3 K=32 V=32", "H=2 HV=2 K=60 V=100", "H=1 HV=2 K=33 V=17", "H=1 HV=1 K=96 V=72",
        "H=2 HV=4 K=16 V=8"}},
      {"B", {"1", "3", "5"}},
      {"ragged", {"true", "false"}},
      {"initial_state", {"none", "dense", "pool"}},
      {"final_state", {"dense", "pool", "none"}},
      {"checkpoints", {"none", "dense", "pool"}},
      {"checkpoint_every", {"64", "128"}},
      {"pad", {"negative zero i32", "zero skip i64", "negative skip i32"}},
      {"write_output", {"true", "false"}},
      {"programmatic", {"false", "true"}},
      {"io", {"bf16", "f32", "f16"}},
      {"output", {"bf16", "f32", "f16"}},
      {"state", {"f32", "bf16", "f16"}},
      {"state_layout", {"vk", "kv"}},
      {"gate", {"raw", "none", "log", "alpha", "channel_raw"}},
      {"beta", {"sigmoid", "none", "given", "two_sigmoid"}},
      {"norm", {"sumsq_eps", "none", "max_eps", "add_eps"}},
      {"head_map", {"grouped", "modulo"}},
      {"input_layout", {"separate", "mixed_qkv", "qkvz"}},
      {"io_alignment", {"16", "4"}},
      {"inputs", {"typical", "brutal"}},
      {"tiles", {"default", "middle", "last"}},
      {"arch", {"sm_90a", "sm_80", "sm_120"}},
  };
  return list;
}

std::string chosen(const Case& built, std::string_view name) { return tests::chosen(axes(), built, name); }

bool allowed(const Case& built) {
  const auto is = [&](std::string_view name, std::string_view value) { return chosen(built, name) == value; };
  if (is("arch", "sm_80") && is("programmatic", "true")) return false;
  const bool no_pool = (is("initial_state", "none") || is("initial_state", "dense")) &&
                       (is("final_state", "none") || is("final_state", "dense"));
  if (is("checkpoints", "pool") && no_pool) return false;
  if (is("input_layout", "qkvz") && is("gate", "channel_raw")) return false;
  // Rows that are packed as they are begin at multiples of 4 bytes only where the dimensions say so.
  if (is("io_alignment", "16") && !is("input_layout", "separate")) return false;
  return !(is("final_state", "none") && is("write_output", "false") && is("checkpoints", "none"));
}

FieldMap problem_of(const Case& built) {
  FieldMap problem = parse_fields(chosen(built, "shape"));
  for (const char* name : {"T", "B", "ragged", "initial_state", "final_state", "checkpoints", "checkpoint_every",
                           "write_output", "programmatic", "io", "output", "state", "state_layout", "gate", "beta",
                           "norm", "head_map", "input_layout", "io_alignment"}) {
    set_field(problem, name, chosen(built, name));
  }
  const std::vector<std::string> pad = split(chosen(built, "pad"), ' ');
  set_field(problem, "pad_sentinel", pad[0]);
  set_field(problem, "pad_policy", pad[1]);
  set_field(problem, "slot_dtype", pad[2]);
  return problem;
}

std::optional<FieldMap> tiles_of(const Case& built, const FieldMap& problem, const DeviceTraits& device) {
  const auto space = chunk().search_space(problem, device);
  if (chosen(built, "tiles") == "middle") return space[space.size() / 2];
  if (chosen(built, "tiles") == "last") return space.back();
  return std::nullopt;
}

std::vector<Case> pairs() { return pairwise_cases(axes(), allowed, 2031); }

}  // namespace

TEST_CASE("every option is right on the emulator") {
  check_cases(chunk(), axes(), every_value(pairs()), problem_of, tiles_of);
}

TEST_CASE("every pair of options is right on the emulator" * doctest::test_suite("sweep")) {
  check_cases(chunk(), axes(), pairs(), problem_of, tiles_of);
}
